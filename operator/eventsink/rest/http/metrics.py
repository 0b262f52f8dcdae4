"""Metrics of the REST API."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram


class RestMetrics:
    """Read by Prometheus; no label names a tenant."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter("eventsink_rest_requests", "Responses sent.", ["operation", "status"], registry=registry)
        self.seconds = Histogram(
            "eventsink_rest_request_seconds",
            "Time to the response; creates and updates wait for the operator's verdict.",
            ["operation"],
            buckets=(0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 20),
            registry=registry,
        )
