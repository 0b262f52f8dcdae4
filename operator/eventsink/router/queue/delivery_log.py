"""Deliveries as people look them up: without their content."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class DeliveryState(StrEnum):
    """The state of a delivery. One that arrived leaves the queue, unless its message has a name at the receiver."""

    WAITING = "waiting"
    DEAD = "dead"
    ARRIVED = "arrived"
    """Kept for a while without its content, so that an alert is found by the message that carried it, and the message by the alert."""


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """A delivery as people see it: without its content."""

    seq: int
    id: str
    sink: str
    tenant: str
    """Of its alerts; of the sink where they are of several."""
    name: str
    status: str
    state: DeliveryState
    created: float
    """Wall clock, seconds since the epoch."""
    attempts: int
    reason: str
    """Of the last failure, or why it is dead; empty: none yet."""
    detail: str
    died: float | None
    """Wall clock, seconds since the epoch."""
    arrived: float | None = None
    """Wall clock, seconds since the epoch."""
    message: str = ""
    """Id of the message in which it arrived."""
    reference: str = ""
    """The receiver's own name for that message."""


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries to look up or replay; every member that is set must be fulfilled."""

    state: DeliveryState | None = None
    """None: those in the queue, and of those that arrived only what `ids` or `message` names."""
    tenant: str | None = None
    sink: str | None = None
    ids: frozenset[str] | None = None
    reason: str | None = None
    message: str | None = None
    """Id of the message in which they arrived."""


class DeliveryLog(Protocol):
    """Deliveries as people look at them."""

    async def look_up(self, wanted: DeliveryFilter, *, after: int = 0, limit: int) -> list[DeliveryRecord]:
        """Deliveries with a `seq` above `after`, in order, at most `limit`."""
        ...
