"""What a received alert means for the alert's state: whether an episode starts, goes on or ends.

Of Alertmanager, every end counts, also one from before the start of what goes on (one half was slow, or its notification had to be
sent again). What a pair sends last is what it takes its receivers to know: if the alert fires in truth, it sees that it has sent
"resolved" last and notifies again within a group interval; if it does not, nothing would come after this end any more.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

import msgspec

from eventsink.alerts.alert import Alert, Status, epoch_micros
from eventsink.alerts.formats.format import Repeats
from eventsink.router.queue.states import AlertState

ONE_REPLICA = ("",)
"""The replicas of an alert whose source drops no labels."""


class Effect(Enum):
    """What became of an alert's episode."""

    STARTED = "started"
    FIRING = "firing"
    HELD = "held"
    """It fires, and may be a late duplicate of what has ended: nobody is notified before its window is over."""
    ENDED = "ended"
    HELD_ENDED = "held, then ended"
    """It ended while it was held: only sinks that have not been notified of the end before it are notified of this one."""
    FIRING_ELSEWHERE = "firing elsewhere"
    """It ended in one replica and fires in another."""
    KNOWN_END = "known end"
    """It had ended before, or nothing was known of it."""
    STALE_END = "stale end"
    """The end of an earlier episode than the one that goes on, from a source that sends what fires all the time."""
    EVENT = "event"


def step(
    before: AlertState | None,
    alert: Alert,
    *,
    firing: Collection[str] = ONE_REPLICA,
    ended: Collection[str] = (),
    sender: str,
    now: float,
    ha_window: float,
    repeats: Repeats = Repeats.BY_SOURCE,
) -> tuple[Effect, AlertState]:
    """The state of an alert after a notification.

    Parameters
    ----------
    before
        None: nothing is known of it.
    alert
        As received; one that represents all its replicas in the notification.
    firing, ended
        The replicas in which the notification says that it fires, and those in which it ended.
    sender
        Who sent the notification.
    now
        Queue clock.
    ha_window
        Seconds.
    repeats
        Of the source's format.

    Returns
    -------
    Effect
        What it means.
    AlertState
        Equal to `before` where nothing changed; the time of receipt counts as a change by the caller's rule.
    """
    starts_at = epoch_micros(alert.starts_at)
    if alert.status is Status.EVENT:
        return Effect.EVENT, before or _new(alert, starts_at, now)
    if alert.status is Status.FIRING:
        return _fires(before, alert, starts_at, firing, ended, sender, now, ha_window)
    return _ends(before, alert, starts_at, ended, sender, now, ha_window, repeats)


def _fires(
    before: AlertState | None,
    alert: Alert,
    starts_at: int,
    firing: Collection[str],
    ended: Collection[str],
    sender: str,
    now: float,
    ha_window: float,
) -> tuple[Effect, AlertState]:
    if before is None:
        return Effect.STARTED, _new(alert, starts_at, now, replicas=tuple(firing))
    if before.status == Status.FIRING:
        replicas = _replicas(before.replicas, firing, ended)
        if before.held_until:
            if sender == before.ended_by or now >= before.held_until:
                return Effect.STARTED, _changed(before, starts_at=starts_at, replicas=replicas, held_until=0.0)
            return Effect.HELD, _changed(before, starts_at=starts_at, replicas=replicas)
        return Effect.FIRING, _changed(before, starts_at=starts_at, replicas=replicas)
    # It had ended. From another sender within the window, this may have been on its way since before the end.
    late = starts_at <= before.ends_at and sender != before.ended_by and now - before.received_at <= ha_window
    after = _changed(
        before,
        status=Status.FIRING.value,
        starts_at=starts_at,
        replicas=tuple(firing),
        received_at=now,
        held_until=before.received_at + ha_window if late else 0.0,
    )
    return Effect.HELD if late else Effect.STARTED, after


def _ends(
    before: AlertState | None,
    alert: Alert,
    starts_at: int,
    ended: Collection[str],
    sender: str,
    now: float,
    ha_window: float,
    repeats: Repeats,
) -> tuple[Effect, AlertState]:
    ends_at = (
        epoch_micros(alert.ends_at)
        if alert.ends_at is not None
        else max(starts_at, before.starts_at if before is not None else 0)
    )
    if before is None:
        # Recorded, so that its firing notification, should it come late, is known for what it is.
        return Effect.KNOWN_END, _new(alert, starts_at, now, ends_at=ends_at, ended_by=sender)
    if before.status != Status.FIRING:
        return Effect.KNOWN_END, before
    if repeats is not Repeats.BY_SOURCE and ends_at < before.starts_at:  # what fires is sent again anyway
        return Effect.STALE_END, before
    left = () if "" in ended else tuple(one for one in before.replicas if one and one not in ended)
    if left:
        return Effect.FIRING_ELSEWHERE, _changed(before, replicas=left)
    # The window of what comes late counts from the end that sinks were notified of, not from one that was suppressed.
    received_at = min(now, before.held_until - ha_window) if before.held_until else now
    return Effect.HELD_ENDED if before.held_until else Effect.ENDED, _changed(
        before,
        status=Status.RESOLVED.value,
        ends_at=ends_at,
        ended_by=sender,
        replicas=(),
        held_until=0.0,
        received_at=received_at,
    )


def _replicas(before: tuple[str, ...], firing: Collection[str], ended: Collection[str]) -> tuple[str, ...]:
    if not ended and all(one in before for one in firing):
        return before
    return tuple(sorted({*before, *firing} - set(ended)))


def _changed(before: AlertState, **members: object) -> AlertState:
    if all(getattr(before, name) == value for name, value in members.items()):
        return before
    return msgspec.structs.replace(before, **members)


def _new(
    alert: Alert, starts_at: int, now: float, *, replicas: tuple[str, ...] = (), ends_at: int = 0, ended_by: str = ""
) -> AlertState:
    return AlertState(
        0, alert.identity, alert.tenant, alert.source, alert.status.value, starts_at, ends_at, ended_by, now, 0.0, replicas
    )
