"""The contract of every kind of destination: a sender takes a message and says what became of it.

One file per kind implements `Sender`; `senders.open_sender` picks it by the sink's kind. A sender holds no queue, makes no
retries and keeps no state about messages: what to do after a failure is decided by the router from the failure's class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class FailureClass(StrEnum):
    """What a failure says about the future of the message and of its sink (DESIGN: the promise)."""

    TRANSIENT = "transient"
    """The same message may succeed later: retry with back-off."""
    MESSAGE = "message"
    """This message can never succeed, others can: dead letter."""
    SINK = "sink"
    """Nothing can succeed until somebody mends the sink: hold its queue and probe slowly."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination took the message."""

    status_code: int | None = None
    reference: str = ""
    """The destination's own name for the message, where it gives one (Slack: channel and timestamp)."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The destination did not take the message, or it is not known to have."""

    failure: FailureClass
    reason: str
    """CamelCase, of a small fixed set (a metric label and a condition's reason): `HTTP503`, `Timeout`, `ConnectionRefused`."""
    message: str
    """A sentence for a person; shows of a URL its scheme and host only, and nothing of what the receiver answered."""
    status_code: int | None = None
    retry_after: float | None = None
    """Seconds that the receiver asked to wait."""


Outcome = Delivered | Failed


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent at once: some alerts, or one group as the source wrote it.

    A retry carries the same id and the same content.
    """

    id: str
    alerts: Sequence[bytes] = ()
    """JSON of each `Alert` (camelCase), oldest first; empty where `group` is set."""
    group: bytes | None = None
    """A notification in Alertmanager's webhook format (version 4), for sinks of that format."""
    batched: bool = False
    """Sent as a list even where it is one alert: the sink asked for more than one in a message."""


class Sender(Protocol):
    """One open destination of one compiled sink."""

    async def send(self, message: Message) -> Outcome:
        """Send once and tell what became of it.

        Never raises but `asyncio.CancelledError`: whatever goes wrong is a `Failed`. Bounded by the sink's own timeout.
        """
        ...

    async def close(self) -> None:
        """Give back what the sender holds. Calls of `send` under way may be cut off."""
        ...
