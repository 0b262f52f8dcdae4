"""Which Events say that a sink stopped delivering, and that it recovered: one for each, whatever restarts in between.

The router reports `Delivering` and may write nothing else, so the operator, which sees each status, writes the Events. It knows by itself
only what it saw since it started: an Event's name follows from what it says, so that the same one is never written twice.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from eventsink.kube.api import Key
from eventsink.resources.eventsink import EventSinkObject
from eventsink.resources.status import DELIVERING, Condition
from eventsink.runtime.times import parse_time

SINK_SECONDS = 300.0
"""In this time two of these Events for one sink: one that stops and recovers all the time says so once in a while."""
EVENT_SECONDS = 0.1
"""Between two for all sinks, as a mean: a receiver that many sinks share stops all of them at once."""
BURST = 50
"""So many at once, before that mean counts."""
MAX_WAIT_SECONDS = 600.0
"""One that would have to wait longer is left out; the status says the same."""
KEPT = timedelta(hours=1)
"""How long API servers keep Events by default (`--event-ttl`): what stopped before is not announced by an operator that starts."""
QUIET_REASONS = frozenset({"Withdrawn", "Suspended"})
"""`Ready` says why, and has an Event of its own."""


@dataclass(frozen=True, slots=True)
class DeliveryEvent:
    """An Event to record."""

    type: str
    """`Normal` or `Warning`."""
    reason: str
    message: str
    name: str
    """The end of its name: the same for the same change of the same sink."""


@dataclass(slots=True)
class _Announced:
    uid: str
    stopped: bool
    """What the last Event said; before the first, what people expect: that it delivers."""
    due: float
    """Monotonic clock: when the next Event of this sink may be written; reserved, where one is waiting."""
    waiting: bool = False
    last: float = float("-inf")
    """Monotonic clock: when the last one was written."""


class DeliveryEvents:
    """Decides when which sink gets an Event. Of each sink only its latest state counts.

    Parameters
    ----------
    now
        Wall clock.
    left_out
        Called for each Event that is not written, since too many others wait.
    clock
        Monotonic, seconds.
    """

    def __init__(
        self, now: Callable[[], datetime], left_out: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._left_out = left_out
        self._now = now
        self._clock = clock
        self._announced: dict[Key, _Announced] = {}
        self._next = clock() - BURST * EVENT_SECONDS
        """When the next Event would be written if they came at the mean rate."""

    def forget(self, key: Key) -> None:
        """The sink is gone."""
        self._announced.pop(key, None)

    def look(self, sink: EventSinkObject) -> tuple[DeliveryEvent | None, float | None]:
        """The Event to record now, and otherwise after how many seconds to look again; both None: nothing is to be said."""
        key = (sink.namespace, sink.name)
        condition = sink.status.condition(DELIVERING)
        known = self._announced.get(key)
        if known is None or known.uid != sink.uid:
            known = _Announced(sink.uid, stopped=self._is_old_news(condition), due=self._clock())
        stopped = _stopped(condition, known.stopped)
        now = self._clock()
        if stopped == known.stopped:
            known.waiting = False
            if stopped or now < known.last + SINK_SECONDS:
                self._announced[key] = known
            else:
                self.forget(key)
            return None, None
        self._announced[key] = known
        if not known.waiting:
            if (wait := self._reserve(known, now)) is None:
                known.stopped = stopped
                self._left_out()
                return None, None
            known.due, known.waiting = now + wait, True
        if now < known.due:
            return None, known.due - now
        assert condition is not None
        known.stopped, known.waiting = stopped, False
        known.due, known.last = known.last + SINK_SECONDS, now
        return _event(sink.uid, condition, stopped=stopped), None

    def _reserve(self, known: _Announced, now: float) -> float | None:
        """Seconds until an Event may be written; None: too many others are waiting."""
        self._next = max(self._next, now - BURST * EVENT_SECONDS)
        wait = max(known.due - now, self._next - now, 0.0)
        if self._next - now > MAX_WAIT_SECONDS:
            return None
        self._next += EVENT_SECONDS
        return wait

    def _is_old_news(self, condition: Condition | None) -> bool:
        """Whether a sink had stopped long before it was seen first."""
        return (
            condition is not None
            and condition.status == "False"
            and self._now() - parse_time(condition.last_transition_time) > KEPT
        )


def _stopped(condition: Condition | None, before: bool) -> bool:
    """Whether people are to know that a sink does not deliver; what is not known, or said elsewhere, changes nothing."""
    if condition is None or condition.status == "Unknown" or condition.reason in QUIET_REASONS:
        return before
    return condition.status == "False"


def _event(uid: str, condition: Condition, *, stopped: bool) -> DeliveryEvent:
    digest = hashlib.sha256(f"{uid} {condition.status} {condition.last_transition_time}".encode()).hexdigest()[:16]
    if stopped:
        return DeliveryEvent("Warning", condition.reason, f"Delivering is False: {condition.message}", digest)
    return DeliveryEvent("Normal", condition.reason, "Delivering is True again: the last message arrived", digest)
