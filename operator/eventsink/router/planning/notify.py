"""Decides whether a sink is notified of an alert, from what it was notified of last and what the source says now."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from eventsink.alerts.alert import Status
from eventsink.alerts.formats.format import Repeats
from eventsink.router.planning.episodes import Effect
from eventsink.router.queue.states import Notified


class Suppression(StrEnum):
    """Why a sink is not notified of an alert that was received for it; the values are metric labels."""

    UNCHANGED = "Unchanged"
    """It fires as before, and the notification was sent because of something else; or, of a heartbeat and of an event whose count has
    grown, the repeatInterval has not passed."""
    DUPLICATE = "Duplicate"
    """The other half of a highly available pair has sent it."""
    HELD = "Held"
    """It may be a late duplicate of what has ended: it is held for the window."""
    HELD_ENDED = "LateDuplicate"
    """It was held, and its end arrived."""
    FIRING_ELSEWHERE = "FiringInAnotherReplica"
    KNOWN_END = "EndKnown"
    """It had ended before, or no sink was notified of it."""
    STALE_END = "StaleEnd"
    """The end of an earlier episode, from a source that sends what fires all the time."""
    OUTSIDE_TIMES = "OutsideTimes"
    """It is outside of activeTimes or within muteTimes of the sink, which drops alerts then (outsideTimes)."""
    MUTED = "Muted"
    """It matches one of the sink's mutes."""
    NOT_WANTED = "ResolvedNotWanted"
    """The sink's sendResolved is false."""


class Received(msgspec.Struct, frozen=True, gc=False):
    """What is known of the notification that an alert is in."""

    sender: str
    at: float
    """Queue clock."""
    repeats: Repeats
    ha_window: float
    """Seconds."""
    repeat: bool = False
    """Whether nothing in the whole notification is new: the source repeats itself."""
    duplicate: bool = False
    """Whether it repeats, within the window, the group's notification from another sender."""


def of_firing(
    effect: Effect,
    last: Notified | None,
    received: Received,
    *,
    starts_at: int,
    appeared: bool,
    repeat_interval: float | None,
    count: int = 0,
) -> Suppression | None:
    """Whether a sink is notified of a firing alert that it wants, or of an event.

    Parameters
    ----------
    effect
        What the notification means for the alert.
    last
        What the sink was notified of; None: nothing.
    starts_at
        Of the alert, in microseconds since the epoch.
    appeared
        Whether the last notification of its group, if any is known, did not name it as firing.
    repeat_interval
        Of the sink, in seconds, for sources that send what fires all the time, and for events that are counted; None: it is not notified
        again.
    count
        As in `Alert`.

    Returns
    -------
    Suppression or None
        None: it is notified.
    """
    if effect is Effect.EVENT:
        if last is None:
            return None
        if count <= last.count:
            return Suppression.DUPLICATE
        return None if _is_time(last, received, repeat_interval) else Suppression.UNCHANGED
    if effect is Effect.HELD:
        return Suppression.HELD
    if last is None or last.status != Status.FIRING or effect is Effect.STARTED:
        return None
    if received.repeats is Repeats.HEARTBEAT:
        # Replicas differ in its start; that of a new episode has the effect STARTED.
        return None if _is_time(last, received, repeat_interval) else Suppression.UNCHANGED
    moved = starts_at > last.starts_at  # its end may have been lost
    if not (appeared or received.repeat or moved):
        return Suppression.UNCHANGED
    duplicate = last.sender != received.sender and received.at - last.at <= received.ha_window
    return Suppression.DUPLICATE if duplicate or received.duplicate else None


def _is_time(last: Notified, received: Received, repeat_interval: float | None) -> bool:
    return repeat_interval is not None and received.at - last.at >= repeat_interval


def of_end(effect: Effect) -> Suppression | None:
    """Whether those that were notified of an alert are notified of its end; None: they are."""
    return _ENDS[effect]


def is_new(effect: Effect) -> bool:
    """Whether a notification that has this effect on one of its alerts says something new, so that it is no repeat."""
    return effect in _NEW


_NEW = frozenset({Effect.STARTED, Effect.ENDED, Effect.HELD_ENDED, Effect.FIRING_ELSEWHERE, Effect.HELD})
_ENDS = {
    Effect.ENDED: None,
    Effect.HELD_ENDED: Suppression.HELD_ENDED,
    Effect.FIRING_ELSEWHERE: Suppression.FIRING_ELSEWHERE,
    Effect.KNOWN_END: Suppression.KNOWN_END,
    Effect.STALE_END: Suppression.STALE_END,
}
