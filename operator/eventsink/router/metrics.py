"""What the router measures of deliveries and of itself; the intake measures itself (`router.intake`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from eventsink.runtime.counts import Counts, Durations
from eventsink.sinks.shares import Bound

NAMESPACE = "eventsink_router"
MAX_NAMED_TENANTS = 100
"""Tenants that are named in a metric."""


class DispatchMetrics:
    """Counters of dispatch. Labels are bounded: kinds, classes and reasons, never a sink or a tenant."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counts(
            f"{NAMESPACE}_attempts", "Messages sent, by kind of sink and outcome.", ["kind", "outcome"], registry
        )
        self.delivered = Counts(f"{NAMESPACE}_deliveries_delivered", "Deliveries that arrived.", ["kind"], registry)
        self.dead = Counter(f"{NAMESPACE}_deliveries_dead", "Deliveries that became dead letters.", ["reason"], registry=registry)
        self.failures = Counter(
            f"{NAMESPACE}_attempt_failures",
            "Attempts that failed, by class and reason.",
            ["failure", "reason"],
            registry=registry,
        )
        self.latency = Durations(
            f"{NAMESPACE}_delivery_latency_seconds",
            "From the commit of a delivery to its arrival.",
            (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300, 3600, 86400),
            registry,
        )
        self.share_waits = Counter(
            f"{NAMESPACE}_share_waits",
            "Sinks that had to wait for a share of the messages in flight, by whose share was taken up (tenant or all).",
            ["share"],
            registry=registry,
        )
        self.deferred = Counter(
            f"{NAMESPACE}_deliveries_deferred",
            "Deliveries that came outside of activeTimes or within muteTimes of their sink, and wait until they may be sent.",
            registry=registry,
        )
        self.edit_waits = Counter(
            f"{NAMESPACE}_edit_waits",
            "Changes of messages that were put off, since the destination takes only so many in a minute (Slack: 50 of a workspace and app).",
            registry=registry,
        )
        self.lanes_repaired = Counter(
            f"{NAMESPACE}_lanes_repaired",
            "Sinks whose waiting deliveries were read again since some of them were unknown to dispatch: a defect of the router.",
            registry=registry,
        )
        # `labels` costs more than `inc`; the values are few.
        self.waits = cache(self.share_waits.labels)


class FormMetrics:
    """Counters of the forms in which messages are sent."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._plain = Counter(
            f"{NAMESPACE}_messages_sent_plain",
            "Messages whose form the receiver rejected, so that they were sent once more as text alone, by reason: a defect of the program.",
            ["reason"],
            registry=registry,
        )

    def plain(self, reason: str) -> None:
        """Count one."""
        self._plain.labels(reason).inc()


class PlanningMetrics:
    """Counters of what sinks are not notified of."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._suppressed = Counter(
            f"{NAMESPACE}_notifications_suppressed",
            "Alerts of which a sink was not notified, or an end of which nobody was, by reason (docs/sources.md).",
            ["reason"],
            registry=registry,
        )
        self._of = cache(self._suppressed.labels)

    def suppressed(self, reason: str, count: int) -> None:
        """Count them."""
        self._of(reason).inc(count)


class QuotaMetrics:
    """Counters of what is over the quotas of tenants."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._not_queued = Counter(
            f"{NAMESPACE}_over_quota",
            "Alerts that were not queued for a sink since its tenant is over its quota, by tenant (the first 100 that are over theirs, and "
            "none for the others), limit, and outcome: deferred (its newest state is sent when there is room) or dropped (an event).",
            ["tenant", "limit", "outcome"],
            registry=registry,
        )
        self._named: set[str] = set()

    def not_queued(self, tenant: str, limit: str, outcome: str, count: int) -> None:
        """Count them."""
        if tenant not in self._named:
            if len(self._named) < MAX_NAMED_TENANTS:
                self._named.add(tenant)
            else:
                tenant = ""
        self._not_queued.labels(tenant, limit, outcome).inc(count)


class ReportMetrics:
    """How the statuses of EventSinks are written."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.writes = Counter(
            f"{NAMESPACE}_status_writes",
            "Statuses written, by what was new: failure (messages arrive no more, or again), change (another one of Delivering), again (a "
            "change of a sink that changes all the time), new (a first one), refresh.",
            ["about"],
            registry=registry,
        )
        self.failures = Counter(f"{NAMESPACE}_status_write_failures", "Statuses that could not be written.", registry=registry)
        self.waiting = Gauge(
            f"{NAMESPACE}_status_changes_waiting", "Changes of Delivering that are not written yet.", registry=registry
        )


class TemplateMetrics:
    """Counters of sinks' own templates."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.templates_not_used = Counter(
            f"{NAMESPACE}_templates_not_used",
            "Messages that were not as their sink's templates say, by reason (TemplateFailed, TemplatesLimited): Slack's are the built-in ones, "
            "those of a webhook become dead letters or wait.",
            ["reason"],
            registry=registry,
        )

    def not_used(self, reason: str) -> None:
        """A message is not as the templates say."""
        self.templates_not_used.labels(reason).inc()


class TransportMetrics:
    """Counters of outgoing connections."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connection_waits = Counter(
            f"{NAMESPACE}_connection_waits",
            "Messages that had to wait for a connection, by whose share was taken up (sink, tenant or all).",
            ["share"],
            registry=registry,
        )
        self._waits = {bound: self.connection_waits.labels(bound.value) for bound in Bound}

    def waits(self, bound: Bound) -> None:
        """A message has to wait for a connection."""
        self._waits[bound].inc()


class GaugeReader(Collector):
    """Gauges that are read when they are asked for.

    Parameters
    ----------
    read
        Gives (name without namespace, help, value) of each.
    """

    def __init__(self, registry: CollectorRegistry, read: Callable[[], Iterable[tuple[str, str, float]]]) -> None:
        self._read = read
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        for name, text, value in self._read():
            family = GaugeMetricFamily(f"{NAMESPACE}_{name}", text)
            family.add_metric([], value)
            yield family
