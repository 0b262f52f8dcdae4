"""Which Events say that a sink stopped delivering, and that it recovered: one for each, whatever restarts in between.

The router reports `Delivering` and may write nothing else, so the operator, which sees each status, writes the Events. It knows by itself
only what it saw since it started or took the lead. But a status says when it changed, and whether messages had failed before; and an Event's
name follows from what it says. So whoever leads writes what is missing, and the same Event is never written twice.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from eventsink.controller.events import RETRY, TRIES
from eventsink.kube.api import Key
from eventsink.resources.eventsink import EventSinkObject
from eventsink.resources.status import DELIVERING, DELIVERS_AGAIN, Condition
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
"""How long API servers keep Events by default (`--event-ttl`): what changed before is not announced by an operator that starts."""
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
    stopped: bool
    """Whether it says that the sink stopped; else that it recovered."""


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
    failures: int = 0
    """How often the one that is waiting could not be written."""


class DeliveryEvents:
    """Decides when which sink gets an Event. Of each sink only its latest state counts, and an Event until it is `recorded`.

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
        """The Event to record now, and otherwise after how many seconds to look again; both None: nothing is to be said.

        Whoever gets an Event calls `recorded` or `failed`.
        """
        key = (sink.namespace, sink.name)
        condition = sink.status.condition(DELIVERING)
        known = self._announced.get(key)
        if known is None or known.uid != sink.uid:
            known = _Announced(sink.uid, stopped=self._known_by_others(condition), due=self._clock())
        stopped = _stopped(condition, known.stopped)
        now = self._clock()
        if stopped == known.stopped:
            known.waiting = False
            # Of one that is forgotten, the status has to be enough to know that nothing is to be said.
            if stopped or now < known.last + SINK_SECONDS or self._known_by_others(condition) != stopped:
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
            known.due, known.waiting, known.failures = now + wait, True, 0
        if now < known.due:
            return None, known.due - now
        assert condition is not None
        return _event(sink.uid, condition, stopped=stopped), None

    def recorded(self, key: Key, event: DeliveryEvent) -> None:
        """The Event is there."""
        known = self._announced.get(key)
        if known is not None:
            known.stopped, known.waiting = event.stopped, False
            known.due, known.last = known.last + SINK_SECONDS, self._clock()

    def failed(self, key: Key, event: DeliveryEvent) -> float | None:
        """The Event could not be written: after how many seconds to look again; None: it is left out, since it failed too often."""
        known = self._announced.get(key)
        if known is None:
            return None
        known.failures += 1
        if known.failures >= TRIES:
            self._left_out()
            self.recorded(key, event)
            return None
        wait = RETRY.wait(known.failures)
        known.due = self._clock() + wait
        return wait

    def _reserve(self, known: _Announced, now: float) -> float | None:
        """Seconds until an Event may be written; None: too many others are waiting."""
        self._next = max(self._next, now - BURST * EVENT_SECONDS)
        wait = max(known.due - now, self._next - now, 0.0)
        if self._next - now > MAX_WAIT_SECONDS:
            return None
        self._next += EVENT_SECONDS
        return wait

    def _known_by_others(self, condition: Condition | None) -> bool:
        """What people know, as far as can be said, of a sink that is seen for the first time: whether it had stopped."""
        if condition is not None and self._is_news(condition):
            # What it was before: an Event says so, or nobody could write one.
            return condition.status == "True" and condition.message.startswith(DELIVERS_AGAIN)
        return _stopped(condition, False)

    def _is_news(self, condition: Condition | None) -> bool:
        """Whether it changed so lately that an Event about that would still be there."""
        return condition is not None and self._now() - parse_time(condition.last_transition_time) <= KEPT


def _stopped(condition: Condition | None, before: bool) -> bool:
    """Whether people are to know that a sink does not deliver; what is not known, or said elsewhere, changes nothing."""
    if condition is None or condition.status == "Unknown" or condition.reason in QUIET_REASONS:
        return before
    return condition.status == "False"


def _event(uid: str, condition: Condition, *, stopped: bool) -> DeliveryEvent:
    digest = hashlib.sha256(f"{uid} {condition.status} {condition.last_transition_time}".encode()).hexdigest()[:16]
    if stopped:
        return DeliveryEvent("Warning", condition.reason, f"Delivering is False: {condition.message}", digest, stopped)
    return DeliveryEvent("Normal", condition.reason, "Delivering is True again: the last message arrived", digest, stopped)
