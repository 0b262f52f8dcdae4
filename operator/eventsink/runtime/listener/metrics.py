"""What is counted at listeners."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter


class Ended(StrEnum):
    """Why a connection was ended, or not accepted, by a limit."""

    TOO_MANY_CONNECTIONS = "TooManyConnections"
    HEAD_TOO_LARGE = "HeadTooLarge"
    BODY_TOO_LARGE = "BodyTooLarge"
    TOO_MUCH_HELD = "TooMuchHeld"
    READ_TIMEOUT = "ReadTimeout"
    WRITE_TIMEOUT = "WriteTimeout"
    TLS_FAILED = "TlsFailed"
    NOT_HTTP = "NotHttp"


class ListenerMetrics:
    """Of all listeners of a process.

    Parameters
    ----------
    part
        `operator`, `router` ...
    """

    def __init__(self, registry: CollectorRegistry, part: str) -> None:
        self.ended = Counter(
            f"eventsink_{part}_listener_ended",
            "Connections that a limit ended or kept out, by listener and reason.",
            ["listener", "reason"],
            registry=registry,
        )

    def counting(self, listener: str) -> Callable[[Ended], None]:
        """Counts for one listener."""
        return lambda reason: self.ended.labels(listener, reason.value).inc()
