"""The router's configuration: one file, composed of what each part documents beside its own code."""

from __future__ import annotations

from pydantic import Field

from eventsink.destinations.settings import with_destinations
from eventsink.kube.settings import KubernetesSettings
from eventsink.router.admin.server import AdminSettings
from eventsink.router.dispatch.settings import DispatchSettings
from eventsink.router.intake.settings import IntakeSettings
from eventsink.router.planning.quota_settings import QuotaSettings
from eventsink.router.planning.state_settings import StateSettings
from eventsink.router.queue.sqlite import QueueSettings
from eventsink.router.reports.settings import ReportSettings
from eventsink.router.sources import ClusterName, PostingSourceSettings
from eventsink.runtime.logs import LogSettings
from eventsink.runtime.monitor import MonitorSettings
from eventsink.runtime.settings import ProcessSettings, Seconds, Settings
from eventsink.sinks.egress import EgressSettings
from eventsink.sinks.http1 import TransportSettings


class ShutdownSettings(Settings):
    """What happens at SIGTERM: readiness ends first, then the intake, then the messages on their way."""

    unready: Seconds = 3.0
    """How long alerts are still accepted after readiness ended, until load balancers have noticed."""
    grace: Seconds = 20.0
    """How long requests that are being accepted may take, and then how long messages on their way may. `unready` and twice this stay below
    the pod's terminationGracePeriodSeconds."""


@with_destinations("ROUTER_SETTINGS")
class RouterSettings(ProcessSettings):
    """All settings of `eventsink router`."""

    sinks_namespace: str = Field(default="eventsink-system-sinks", min_length=1, max_length=63)
    """The namespace that holds the compiled sinks and nothing else."""
    cluster: ClusterName = ""
    """Name of the cluster that alerts are from, for people who read one channel for many; empty: none."""
    sources: tuple[PostingSourceSettings, ...] = ()
    """Who may send alerts."""
    intake: IntakeSettings = IntakeSettings()
    queue: QueueSettings = QueueSettings()
    state: StateSettings = StateSettings()
    quotas: QuotaSettings = QuotaSettings()
    dispatch: DispatchSettings = DispatchSettings()
    transport: TransportSettings = TransportSettings()
    reports: ReportSettings = ReportSettings()
    egress: EgressSettings = EgressSettings()
    admin: AdminSettings = AdminSettings()
    monitor: MonitorSettings = MonitorSettings()
    log: LogSettings = LogSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
