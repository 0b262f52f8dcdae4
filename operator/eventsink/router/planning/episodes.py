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
from eventsink.router.planning.heartbeats import MAX_REPLICAS
from eventsink.router.queue.states import AlertState

BY_ITSELF = ""
"""The sender of notifications that the router makes of its own record."""
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
    overdue: bool = False,
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
    overdue
        Of a source that sends what fires all the time: whether it has not sent this alert in time, so that an end may have been missed.

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
        if repeats is Repeats.HEARTBEAT:
            return _beats(before, alert, starts_at, firing, ended, sender, now, ha_window, overdue)
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
    return _fires_again(before, starts_at, sender, now, ha_window, replicas=tuple(firing))


def _beats(
    before: AlertState | None,
    alert: Alert,
    starts_at: int,
    firing: Collection[str],
    ended: Collection[str],
    sender: str,
    now: float,
    ha_window: float,
    overdue: bool,
) -> tuple[Effect, AlertState]:
    """As `_fires`, of a source that sends what fires all the time. The episode keeps its start: each replica has a start of its own, which
    is a later one after the replica was restarted."""
    alone: dict[str, object] = {"replicas": tuple(firing), "replica_starts": (starts_at,) * len(firing)}
    if before is None:
        return Effect.STARTED, _changed(_new(alert, starts_at, now), **alone)
    if before.status != Status.FIRING:
        return _fires_again(before, starts_at, sender, now, ha_window, **alone)
    starts = dict(zip(before.replicas, before.replica_starts, strict=False))
    if overdue and any(starts_at > starts.get(one, starts_at) for one in firing):
        # The end of the episode before was missed. Other replicas come to this one as they are heard.
        return Effect.STARTED, _changed(before, starts_at=starts_at, held_until=0.0, **alone)
    starts = {one: starts.get(one, before.starts_at) for one in before.replicas if one not in ended}
    starts |= dict.fromkeys(firing, starts_at)
    some = dict(list(starts.items())[-MAX_REPLICAS:])
    after = _changed(before, replicas=tuple(some), replica_starts=tuple(some.values()))
    if not before.held_until:
        return Effect.FIRING, after
    if sender == before.ended_by or now >= before.held_until:
        return Effect.STARTED, _changed(after, held_until=0.0)
    return Effect.HELD, after


def _fires_again(
    before: AlertState, starts_at: int, sender: str, now: float, ha_window: float, **replicas: object
) -> tuple[Effect, AlertState]:
    """It had ended. From another sender within the window, this may have been on its way since before the end."""
    late = (
        starts_at <= before.ends_at
        and sender != before.ended_by
        and before.ended_by != BY_ITSELF
        and now - before.received_at <= ha_window
    )
    after = _changed(
        before,
        status=Status.FIRING.value,
        starts_at=starts_at,
        received_at=now,
        held_until=before.received_at + ha_window if late else 0.0,
        **replicas,
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
        starts = dict(zip(before.replicas, before.replica_starts, strict=False))
        return Effect.FIRING_ELSEWHERE, _changed(
            before, replicas=left, replica_starts=tuple(starts[one] for one in left if one in starts)
        )
    # The window of what comes late counts from the end that sinks were notified of, not from one that was suppressed.
    received_at = min(now, before.held_until - ha_window) if before.held_until else now
    return Effect.HELD_ENDED if before.held_until else Effect.ENDED, _changed(
        before,
        status=Status.RESOLVED.value,
        ends_at=ends_at,
        ended_by=sender,
        replicas=(),
        replica_starts=(),
        expires_at=0.0,
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
