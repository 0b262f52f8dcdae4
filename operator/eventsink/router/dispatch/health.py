"""How delivery to one sink goes, as dispatch sees it and as the status of the EventSink tells it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DeliveringState(StrEnum):
    """The status of the condition `Delivering`."""

    UNKNOWN = "Unknown"
    """Nothing was sent yet."""
    TRUE = "True"
    FALSE = "False"


@dataclass(frozen=True, slots=True)
class SinkHealth:
    """What is told of a sink. Times are wall clock, seconds since the epoch; none of the texts holds a credential."""

    state: DeliveringState
    reason: str
    """CamelCase: `Delivered`, `NothingSent`, `Suspended`, `Withdrawn`, or that of the failure."""
    message: str
    last_delivered: float | None = None
    last_error: str = ""
    """`<reason>: <message>` of the last failure that no success followed; empty: none."""
    waiting: int = 0
