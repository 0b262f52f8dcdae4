"""The operator's configuration."""

from __future__ import annotations

from pydantic import Field, model_validator

from eventsink.destinations.settings import with_destinations
from eventsink.kube.http import KubernetesSettings
from eventsink.resources.namespaces import ListedNamespaces
from eventsink.runtime.logs import LogSettings
from eventsink.runtime.monitor import MonitorSettings
from eventsink.runtime.settings import ProcessSettings, Seconds, Settings
from eventsink.sinks.egress import EgressSettings


class TenancySettings(Settings):
    """Who may claim a tenant."""

    allow_unowned: bool = False
    """Whether a sink may claim a tenant that no namespace owns (label eventsink.dev/tenant)."""


@with_destinations("OPERATOR_SETTINGS")
class OperatorSettings(ProcessSettings):
    """All settings of `eventsink operator`."""

    sinks_namespace: str = Field(default="eventsink-system-sinks", min_length=1, max_length=63)
    """The namespace for compiled sinks; it holds nothing else."""
    namespaces: ListedNamespaces = ()
    """The only namespaces to work in, with the tenant that owns each; Roles in them suffice then. None: all, as their labels say."""
    tenancy: TenancySettings = TenancySettings()
    egress: EgressSettings = EgressSettings()
    credential_grace: Seconds = 600.0
    """How long a sink goes on with a credential whose Secret is gone: a GitOps tool may just be re-creating it."""
    workers: int = Field(default=8, ge=1, le=64)
    """EventSinks that are reconciled at once."""
    sweep_interval: Seconds = Field(default=60.0, gt=0)
    """Between two comparisons of everything compiled with everything that there is."""
    monitor: MonitorSettings = MonitorSettings()
    log: LogSettings = LogSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()

    @model_validator(mode="after")
    def _keeps_compiled_sinks_apart(self) -> OperatorSettings:
        if any(one.name == self.sinks_namespace for one in self.namespaces):
            raise ValueError("namespaces: the namespace of compiled sinks (sinksNamespace) cannot be a tenant's")
        return self
