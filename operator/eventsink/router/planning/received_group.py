"""The group of a notification: what fired in it when it was received last, and whether this notification says anything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from eventsink.alerts.alert import Status
from eventsink.router.planning.alert_states import AlertStates, StateChange
from eventsink.router.planning.assign import Merged
from eventsink.router.queue.states import GroupState

RECORDS = 16
"""How often the group is recorded at most while the parts of a notification are stored: each holds all its firing alerts."""
RECEIVED_WITHIN_SECONDS = 300.0
"""How old the recorded time of receipt of a group, or of an alert, may be while nothing else of it changes."""

_NOTHING: frozenset[str] = frozenset()


class ReceivedGroup:
    """The group of one notification, while it is planned.

    Parameters
    ----------
    key
        None: the notification has no group, and nothing of it is recorded.
    sender
        Who sent the notification.
    merged
        Its alerts that have a tenant.
    others
        Identity of each of its other alerts -> whether it fires.
    """

    def __init__(
        self, key: bytes | None, sender: str, merged: Sequence[Merged], others: Mapping[str, bool], states: AlertStates
    ) -> None:
        self._key = key
        self._sender = sender
        self._merged = merged
        self._others = others
        self._states = states
        self._before: GroupState | None = None
        self._fired = _NOTHING
        """What it says, as a set."""
        self._unrecorded: list[Merged] = []
        """What was planned since the group was last recorded."""

    def look(self) -> None:
        """Look at what is recorded now."""
        before = self._states.group(self._key) if self._key is not None else None
        if before is None:
            self._fired = _NOTHING
        elif self._before is None or before.firing is not self._before.firing:
            self._fired = frozenset(before.firing)
        self._before = before

    def appeared(self, identity: str) -> bool:
        """Whether the last notification of the group, if any is known, did not name an alert as firing."""
        return self._key is not None and identity not in self._fired

    def was_notified_by_another(self, now: float, window: float) -> bool:
        """Whether another sender has sent the group within so many seconds."""
        before = self._before
        return before is not None and before.notified_by != self._sender and now - before.notified_at <= window

    def differs(self) -> bool:
        """Whether something else fires than when it was received last: this is why the notification may have been sent."""
        if self._key is None:
            return False
        for identity, fires in self._others.items():
            if fires is not (identity in self._fired):
                return True
        return any((merged.one.alert.status is Status.FIRING) is not (merged.identity in self._fired) for merged in self._merged)

    def record(self, change: StateChange, now: float, *, duplicate: bool) -> None:
        """Record what the whole notification said of the group."""
        if self._key is None:
            return
        firing, before = self._firing(), self._before
        if before is None or not duplicate:
            self._put(change, firing, now)
        elif firing != before.firing or now - before.at >= RECEIVED_WITHIN_SECONDS:
            self._states.put_group(change, msgspec.structs.replace(before, firing=firing, at=now))

    def record_part(self, change: StateChange, now: float, part: Sequence[Merged]) -> None:
        """Record what a part said of the group: if the rest cannot be stored, and the source sends it all again, this is known of it."""
        self._unrecorded += part
        if self._key is None or not part or len(self._unrecorded) * RECORDS < len(self._merged):
            return
        fires = dict.fromkeys(self._before.firing if self._before is not None else (), True)
        fires |= {one.identity: one.one.alert.status is Status.FIRING for one in self._unrecorded}
        self._unrecorded = []
        self._put(change, tuple(identity for identity, still in fires.items() if still), now)

    def _put(self, change: StateChange, firing: tuple[str, ...], now: float) -> None:
        assert self._key is not None
        row = self._before.row if self._before is not None else 0
        self._states.put_group(change, GroupState(row, self._key, firing, now, now, self._sender))

    def _firing(self) -> tuple[str, ...]:
        """Identities of what fires in the whole notification; of those that are known the very objects of their states."""
        found = []
        for merged in self._merged:
            alert = merged.one.alert
            if alert.status is Status.FIRING:
                state = self._states.get(alert.tenant, merged.identity)
                found.append(state.identity if state is not None else merged.identity)
        found += [identity for identity, fires in self._others.items() if fires]
        return tuple(found)
