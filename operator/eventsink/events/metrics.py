"""What `eventsink events` measures."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

NAMESPACE = "eventsink_events"


class EventsMetrics:
    """Counters and gauges of the part."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.leader = Gauge(f"{NAMESPACE}_leader", "Whether this replica leads (1) or waits (0).", registry=registry)
        self.read = Counter(
            f"{NAMESPACE}_read", "Events read from the API server, also those whose count has grown.", registry=registry
        )
        self.filtered = Counter(f"{NAMESPACE}_filtered", "Events not sent, as the filter says.", registry=registry)
        self.suppressed = Counter(
            f"{NAMESPACE}_suppressed",
            "Events not sent, since too many about the same object had the same reason.",
            registry=registry,
        )
        self.old = Counter(
            f"{NAMESPACE}_old", "Events not sent at a start without a checkpoint, since they happened before firstStartAge.",
            registry=registry,
        )  # fmt: skip
        self.sent = Counter(f"{NAMESPACE}_sent", "Events that the router has accepted.", registry=registry)
        self.rejected = Counter(
            f"{NAMESPACE}_rejected", "Events that the router does not accept, most often for want of a tenant.", registry=registry
        )
        self.requests = Counter(
            f"{NAMESPACE}_requests", "Requests to the router, by status code (0: no response).", ["code"], registry=registry
        )
        self.waiting = Gauge(f"{NAMESPACE}_waiting", "Events that were read and are not sent yet.", registry=registry)
        self.relists = Counter(
            f"{NAMESPACE}_relists",
            "Times that all Events were listed, since a watch could not go on where it was.",
            registry=registry,
        )
        self.watches_down = Gauge(f"{NAMESPACE}_watches_down", "Watches that do not reach the API server.", registry=registry)
        self.sending_failed = Gauge(
            f"{NAMESPACE}_sending_failed_since_timestamp_seconds",
            "Since when the router has not accepted what is sent to it; 0: it does.",
            registry=registry,
        )
        self.checkpoint = Gauge(
            f"{NAMESPACE}_checkpoint_timestamp_seconds", "When the checkpoint was last written.", registry=registry
        )


class ReportsMetrics:
    """Counters and gauges of reports of policies."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{NAMESPACE}_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"{NAMESPACE}_{name}", text, registry=registry)

        self.known = gauge("reports_known", "Reports of policies in the cluster.")
        self.waiting = gauge("reports_waiting", "Reports that have changed, or are due in a round, and are not posted yet.")
        self.read = counter("reports_read", "Reports read from the API server.")
        self.unchanged = counter("reports_unchanged", "Reports not posted, since nothing but times of results had changed.")
        self.remembered = gauge("results_remembered", "Failing results of which it is posted at once when they are gone.")
        self.left_out = counter("results_left_out", "Failing results not posted, since their report has too many.")
        self.sent = counter("results_sent", "Results that the router has accepted.")
        self.rejected = counter("results_rejected", "Results that the router does not accept, most often for want of a tenant.")
        self.requests = counter(
            "reports_requests", "Requests to the router about reports, by status code (0: no response).", "code"
        )
        self.watches_down = gauge("reports_watches_down", "Watches of reports that do not reach the API server.")
        self.sending_failed = gauge(
            "reports_sending_failed_since_timestamp_seconds",
            "Since when the router has not accepted reports; 0: it does.",
        )
        self.rounds = counter("report_rounds", "Rounds in which all reports were posted.")
        self.round_ended = gauge("report_round_timestamp_seconds", "When the last round of reports ended.")
