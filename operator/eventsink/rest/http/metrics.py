"""Metrics of the facade."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram


class RestMetrics:
    """What Prometheus reads; no tenant stands in a label."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "eventsink_rest_requests", "Requests that were answered.", ["operation", "status"], registry=registry
        )
        self.seconds = Histogram(
            "eventsink_rest_request_seconds",
            "Time to the answer; creates and updates wait for the operator's verdict.",
            ["operation"],
            buckets=(0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 20),
            registry=registry,
        )
