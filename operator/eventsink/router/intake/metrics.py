"""What is counted at the intake."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from eventsink.runtime.counts import Counts, Durations


class IntakeMetrics:
    """What is counted at the intake."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counts(
            "eventsink_router_intake_requests",
            "Requests by source (empty: unauthenticated) and status code.",
            ["source", "code"],
            registry,
        )
        self.alerts = Counts("eventsink_router_alerts_accepted", "Alerts accepted, by source.", ["source"], registry)
        self.rejected = Counter(
            "eventsink_router_alerts_rejected",
            "Alerts not accepted, by source and reason.",
            ["source", "reason"],
            registry=registry,
        )
        self.deliveries = Counts("eventsink_router_deliveries_queued", "Deliveries queued, by source.", ["source"], registry)
        self.truncated = Counter(
            "eventsink_router_alerts_truncated",
            "Alerts that exceeded a limit: something in them was cut or left out, by source.",
            ["source"],
            registry=registry,
        )
        self.left_out = Counter(
            "eventsink_router_alerts_left_out_by_source",
            "Alerts that a source says that it left out of its notifications (Alertmanager: truncatedAlerts), by source.",
            ["source"],
            registry=registry,
        )
        self.expanded = Counter(
            "eventsink_router_intake_expanded_bytes",
            "Bytes that compressed bodies were expanded to, by source.",
            ["source"],
            registry=registry,
        )
        self.under_way = Gauge("eventsink_router_intake_under_way", "Requests being accepted at this moment.", registry=registry)
        self.duration = Durations(
            "eventsink_router_intake_duration_seconds",
            "From the whole request to its response, which waits for the disk.",
            (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry,
        )
