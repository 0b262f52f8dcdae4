"""The configuration of `eventsink run`: the router's, and what of the operator's makes sense without a cluster."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from eventsink.controller.config import OperatorSettings, TenancySettings
from eventsink.destinations.settings import with_destinations
from eventsink.rest.config import FacadeSettings
from eventsink.router.admin.server import AdminSettings
from eventsink.router.config import RouterSettings, ShutdownSettings
from eventsink.router.dispatch.settings import DispatchSettings
from eventsink.router.intake.settings import IntakeSettings
from eventsink.router.planning.quota_settings import QuotaSettings
from eventsink.router.planning.state_settings import StateSettings
from eventsink.router.queue.sqlite import QueueSettings
from eventsink.router.sources import ClusterName, PostingSourceSettings
from eventsink.runtime.logs import LogSettings
from eventsink.runtime.monitor import MonitorSettings
from eventsink.runtime.settings import ProcessSettings, Seconds, Settings
from eventsink.sinks.egress import EgressSettings
from eventsink.sinks.http1 import TransportSettings

SINKS_NAMESPACE = "_sinks"
TOKENS_NAMESPACE = "_tokens"
"""No document can be in a namespace with such a name, so none can refer to what is kept there."""


class FolderSettings(Settings):
    """How the folder of documents is watched."""

    poll: Seconds = Field(default=1.0, ge=0.05, le=3600)
    """Interval between polls of the folder; longer in a very large one, so that polling takes a tenth of a processor at most. A change takes
    effect once two polls in a row have seen it."""


class OpenTenancySettings(TenancySettings):
    """Who may claim a tenant. Whoever may write into the folder is trusted more than a tenant of a cluster."""

    allow_unowned: bool = True
    """Whether a sink may claim a tenant that no Namespace document owns (label eventsink.dev/tenant)."""


class TerminalLogSettings(LogSettings):
    """What is logged, and how it looks."""

    format: Literal["json", "text"] = "text"
    """`json`: one object a line, for machines; `text`: for a person at a terminal."""


class QuickShutdownSettings(ShutdownSettings):
    """What happens at SIGTERM: readiness goes first, then the intake, then what is on its way."""

    unready: Seconds = 0.0
    """How long alerts are still accepted after readiness ended, until load balancers have noticed; by default there are none here."""


class LocalFacadeSettings(FacadeSettings):
    """The REST API."""

    default_namespace: str = Field(default="default", max_length=63, pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")
    """Namespace for sinks of tenants that own none; empty: such sinks are rejected."""


@with_destinations("ROUTER_SETTINGS", "OPERATOR_SETTINGS")
class StandaloneSettings(ProcessSettings):
    """All settings of `eventsink run`."""

    folder: FolderSettings = FolderSettings()
    cluster: ClusterName = ""
    """Name of the cluster that alerts are from, for people who read one channel for many; empty: none."""
    sources: tuple[PostingSourceSettings, ...] = ()
    """Who may send alerts; none: one source alertmanager, whose token is created at the first start."""
    tenancy: OpenTenancySettings = OpenTenancySettings()
    egress: EgressSettings = EgressSettings()
    credential_grace: Seconds = 600.0
    """How long a sink stays active without the Secret of its credential: a tool may just be rewriting the file."""
    intake: IntakeSettings = IntakeSettings()
    queue: QueueSettings = QueueSettings()
    state: StateSettings = StateSettings()
    quotas: QuotaSettings = QuotaSettings()
    dispatch: DispatchSettings = DispatchSettings()
    transport: TransportSettings = TransportSettings()
    admin: AdminSettings = AdminSettings()
    rest: LocalFacadeSettings = LocalFacadeSettings()
    monitor: MonitorSettings = MonitorSettings()
    log: TerminalLogSettings = TerminalLogSettings()
    shutdown: QuickShutdownSettings = QuickShutdownSettings()

    def router(self) -> RouterSettings:
        """The router's half."""
        shared = {name: getattr(self, name) for name in RouterSettings.model_fields if name in type(self).model_fields}
        return RouterSettings(**shared, sinks_namespace=SINKS_NAMESPACE)

    def operator(self) -> OperatorSettings:
        """The operator's half."""
        shared = {name: getattr(self, name) for name in OperatorSettings.model_fields if name in type(self).model_fields}
        return OperatorSettings(**shared, sinks_namespace=SINKS_NAMESPACE)
