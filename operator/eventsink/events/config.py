"""The configuration of `eventsink events`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from eventsink.kube.lease import LeaderElectionSettings
from eventsink.kube.settings import KubernetesSettings
from eventsink.runtime.logs import LogSettings
from eventsink.runtime.monitor import MonitorSettings
from eventsink.runtime.settings import ProcessSettings, Seconds, Settings

Wildcard = Annotated[str, StringConstraints(pattern=r"^[-a-zA-Z0-9.*]+$", max_length=253)]
NamespaceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
MAX_NAMESPACES = 100
"""Each has a watch, so a connection to the API server."""


INTAKE_URL = r"^https?://[^\s/?#]+/v1/alerts/[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


class SourceSettings(Settings):
    """The source at the router that Events are posted to."""

    url: str = Field(
        default="http://eventsink-router:8080/v1/alerts/kubernetes-events",
        max_length=2048,
        pattern=INTAKE_URL,
    )
    """The intake of the router and the name of a source of the format kubernetes-events."""
    token_file: Path = Path("/etc/eventsink-tokens/kubernetes-events")
    """File with the source's token; read again when it changes."""
    ca_file: Path | None = None
    """PEM of the authority of the intake's certificate, where it is no public one; read at the start."""
    timeout: Seconds = Field(default=30.0, gt=0)
    """For one request."""


class ReportsSourceSettings(SourceSettings):
    """The source at the router that reports are posted to: of its own, for each cluster another one, and nobody else posts to it."""

    url: str = Field(default="http://eventsink-router:8080/v1/alerts/policy-reports", max_length=2048, pattern=INTAKE_URL)
    """The intake of the router and the name of a source of the format policy-report."""
    token_file: Path = Path("/etc/eventsink-tokens/policy-reports")
    """File with the source's token; read again when it changes."""


class PolicyReportsSettings(Settings):
    """Whether the reports of policy engines are posted, too."""

    groups: tuple[Literal["wgpolicyk8s.io", "openreports.io"], ...] = Field(default=(), max_length=2)
    """API groups whose reports are followed: wgpolicyk8s.io (v1alpha2), openreports.io (v1alpha1). Those that the API server does not have are
    waited for. Empty: none."""
    round_interval: Seconds = Field(default=6 * 3600.0, ge=60, le=86_400)
    """So often all of them are posted again: results that fail all the time are repeated no more often, whatever a sink's repeatInterval is."""
    router: ReportsSourceSettings = ReportsSourceSettings()


class SelectionSettings(Settings):
    """Some Events."""

    reasons: tuple[Wildcard, ...] = Field(default=(), max_length=256)
    """Reasons."""
    kinds: tuple[Wildcard, ...] = Field(default=(), max_length=256)
    """Kinds of the objects that they regard, such as Pod."""
    namespaces: tuple[Wildcard, ...] = Field(default=(), max_length=256)
    """Namespaces. Objects without one, such as nodes, have none that matches, nor are they left out for it."""


class IncludeSettings(SelectionSettings):
    """What is sent; of each list that is not empty, one has to match. Wildcards such as `Failed*`."""


class ExcludeSettings(SelectionSettings):
    """What is not sent, although it is included; one match in any list suffices. Wildcards, too."""


class FilterSettings(Settings):
    """Which Events are sent: those of a type that is listed, or with a reason that always counts, that are included and not excluded."""

    types: tuple[str, ...] = ("Warning",)
    """Types: Warning, Normal."""
    also_reasons: tuple[Wildcard, ...] = Field(default=("NodeNotReady",), max_length=256)
    """Reasons of Events that count whatever their type is. If it is empty and there is one type, the API server itself leaves the others out."""
    include: IncludeSettings = IncludeSettings()
    exclude: ExcludeSettings = ExcludeSettings()

    @field_validator("types")
    @classmethod
    def _are_types(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        if not types or not set(types) <= {"Normal", "Warning"}:
            raise ValueError("list Warning, Normal or both")
        return types


class RateSettings(Settings):
    """How many Events about one object with one reason are sent."""

    burst: int = Field(default=10, ge=1, le=10_000)
    """So many at once ..."""
    interval: Seconds = Field(default=60.0, gt=0)
    """... and then one in this time. The others are counted, and the next one that is sent says how many they are."""


class CheckpointSettings(Settings):
    """Up to where Events have been sent: a ConfigMap, from which the next leader goes on."""

    namespace: str = Field(default="", max_length=63)
    """Its namespace; empty: that of the pod, or eventsink-system outside of a cluster."""
    name: str = Field(default="eventsink-events-checkpoint", min_length=1, max_length=253)
    """Its name."""
    interval: Seconds = Field(default=5.0, ge=1, le=300)
    """It is written at most so often, and at the end. What was sent after it was written is sent again after a kill: the router knows it."""


class EventsElectionSettings(LeaderElectionSettings):
    """Which of several replicas sends. When the leader stops, another one goes on at once, and when it was killed, after leaseDuration."""

    lease_name: str = Field(default="eventsink-events-leader", min_length=1, max_length=253)
    """Name of the Lease."""


class EventsSettings(ProcessSettings):
    """All settings of `eventsink events`."""

    router: SourceSettings = SourceSettings()
    namespaces: tuple[NamespaceName, ...] = Field(default=(), max_length=MAX_NAMESPACES)
    """The only namespaces whose Events and reports are read; Roles in them suffice then, and what is in no namespace is not read. Empty: all."""
    filter: FilterSettings = FilterSettings()
    rate: RateSettings = RateSettings()
    first_start_age: Seconds = 300.0
    """At the first start, when there is no checkpoint: what happened longer ago is not sent."""
    checkpoint: CheckpointSettings = CheckpointSettings()
    policy_reports: PolicyReportsSettings = PolicyReportsSettings()
    leader_election: EventsElectionSettings = EventsElectionSettings()
    monitor: MonitorSettings = MonitorSettings()
    log: LogSettings = LogSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()

    @field_validator("namespaces")
    @classmethod
    def _are_different(cls, namespaces: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(namespaces)) < len(namespaces):
            raise ValueError("a namespace is there twice")
        return namespaces
