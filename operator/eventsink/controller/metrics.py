"""What the operator measures."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

NAMESPACE = "eventsink_operator"


class OperatorMetrics:
    """Counters and gauges of the operator."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.leader = Gauge(f"{NAMESPACE}_leader", "Whether this replica leads (1) or waits (0).", registry=registry)
        self.reconciles = Counter(f"{NAMESPACE}_reconciles", "Reconciles by outcome.", ["outcome"], registry=registry)
        self.duration = Histogram(f"{NAMESPACE}_reconcile_duration_seconds", "How long a reconcile took.", registry=registry)
        self.waiting = Gauge(f"{NAMESPACE}_workqueue_depth", "EventSinks that wait to be reconciled.", registry=registry)
        self.eventsinks = Gauge(f"{NAMESPACE}_eventsinks", "EventSinks by the status of Ready.", ["ready"], registry=registry)
        self.compiled = Gauge(f"{NAMESPACE}_compiled_sinks", "Compiled sinks.", registry=registry)
        self.over_quota = Gauge(
            f"{NAMESPACE}_sinks_over_quota",
            "EventSinks that are more than their tenants may have (tenancy.maxSinks).",
            registry=registry,
        )
        self.namespaces_denied = Gauge(
            f"{NAMESPACE}_namespaces_denied", "Namespaces of the setting `namespaces` that cannot be read.", registry=registry
        )
        self.admissions = Counter(
            f"{NAMESPACE}_admissions",
            "EventSinks that were reviewed while they were applied, by outcome: accepted, warned, refused, failed.",
            ["outcome"],
            registry=registry,
        )
        self.admission_duration = Histogram(
            f"{NAMESPACE}_admission_duration_seconds", "How long such a review took.", registry=registry
        )
        self.admission_expires = Gauge(
            f"{NAMESPACE}_admission_certificate_expiry_timestamp_seconds",
            "When the certificate that the operator made for its admission webhook expires; 0: it made none.",
            registry=registry,
        )
        self.events_left_out = Counter(
            f"{NAMESPACE}_events_left_out",
            "Events left out: of sinks that stopped or recovered in a storm, or those that the API server did not take for minutes.",
            registry=registry,
        )
        self.sweeps = Counter(f"{NAMESPACE}_sweeps", "Comparisons of everything, by result.", ["result"], registry=registry)
