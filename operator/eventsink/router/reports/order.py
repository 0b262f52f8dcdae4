"""Which status is written next. It decides and does nothing: times are given by the caller."""

from __future__ import annotations

import re
from collections import OrderedDict
from enum import IntEnum

from eventsink.router.dispatch.health import DELIVERED, NOTHING_SENT, DeliveringState, SinkHealth, notes_of
from eventsink.router.queue.states import SinkReport

REFRESHED_SECONDS = 300.0
"""Between two writes to one sink without a change of `Delivering`: of when the last message arrived, and of the last error."""
REPEATED_SECONDS = 6 * 3600.0
"""After this a status is written again although nothing is new, in case somebody else changed it. Where nobody did, nothing is stored."""
FLAPPING_CHANGES = 2
FLAPPING_SECONDS = 60.0
"""A sink of which so many changes were written in this time flaps: what changes of it next may wait for others."""

_SECONDS = re.compile(r"\b\d+(?:\.\d+)? s\b")
_GENERAL_REASONS = frozenset({NOTHING_SENT.reason, DELIVERED.reason})
"""Their messages, but for the notes, say no more than the reason does; after a restart it may be in other words."""


class Urgency(IntEnum):
    """What a report is about; the lowest goes first as a rule, see `TURNS`."""

    FAILURE = 0
    """Messages arrive no more, or arrive again."""
    CHANGE = 1
    """Another change of `Delivering`."""
    AGAIN = 2
    """A change of a sink that flaps."""
    NEW = 3
    """Nothing was sent yet, and what the status says is not known."""
    REFRESH = 4
    """Nobody waits for it."""


CHANGES = (Urgency.FAILURE, Urgency.CHANGE, Urgency.AGAIN)
TURNS = (
    Urgency.FAILURE,
    Urgency.CHANGE,
    Urgency.FAILURE,
    Urgency.AGAIN,
    Urgency.FAILURE,
    Urgency.NEW,
    Urgency.FAILURE,
    Urgency.REFRESH,
)
"""Whose turn it is where all of them wait: nobody waits for ever, whatever fails. A turn that nobody needs is for what is most urgent."""


def urgency(health: SinkHealth, written: SinkReport | None, now: float, *, flaps: bool = False) -> Urgency | None:
    """Whether a status is to be written, and how soon.

    Parameters
    ----------
    written
        What the status says; None, or without a state: it is not known.
    now
        Queue clock.
    flaps
        Whether the sink changes all the time.
    """
    if (written is None or not written.state) and health.reason == NOTHING_SENT.reason:
        return Urgency.NEW
    stays = written is not None and (health.state.value, health.reason) == (written.state, written.reason)
    if written is not None and stays and same_message(health, written.message):
        news = (health.last_delivered, health.last_error) != (written.last_delivered, written.last_error)
        return Urgency.REFRESH if now - written.at >= (REFRESHED_SECONDS if news else REPEATED_SECONDS) else None
    if flaps:
        return Urgency.AGAIN
    stops = health.state is DeliveringState.FALSE
    recovers = written is not None and written.state == DeliveringState.FALSE.value
    return Urgency.FAILURE if (stops or recovers) and not stays else Urgency.CHANGE


def same_message(health: SinkHealth, written: str) -> bool:
    """Whether a message that was written says what people need to know still: how many seconds something took changes all the time."""
    if health.message == written:
        return True
    if health.reason in _GENERAL_REASONS:
        return notes_of(health.message) == notes_of(written)
    return _SECONDS.sub("", health.message) == _SECONDS.sub("", written)


class Flapping:
    """Which sinks change all the time."""

    def __init__(self) -> None:
        self._changes: OrderedDict[str, tuple[float, ...]] = OrderedDict()
        """uid -> when its last changes were written; the sink that changed last is at the end."""

    def changed(self, uid: str, now: float) -> None:
        """A change of a sink was written."""
        self._changes[uid] = (*self._changes.pop(uid, ()), now)[-FLAPPING_CHANGES:]
        while self._changes[first := next(iter(self._changes))][-1] <= now - FLAPPING_SECONDS:
            del self._changes[first]

    def flaps(self, uid: str, now: float) -> bool:
        """Whether a sink does."""
        changes = self._changes.get(uid, ())
        return len(changes) == FLAPPING_CHANGES and changes[0] > now - FLAPPING_SECONDS


class ReportLine:
    """Sinks whose statuses are to be written: tenants take turns, and of each those sinks go first that have waited longest."""

    def __init__(self) -> None:
        self._lines: dict[Urgency, OrderedDict[str, OrderedDict[str, None]]] = {
            one: OrderedDict() for one in Urgency
        }  # by tenant; a dict is slow at its front
        self._places: dict[str, tuple[Urgency, str]] = {}
        self._counts = dict.fromkeys(Urgency, 0)
        self._turn = 0

    def put(self, uid: str, tenant: str, urgency: Urgency | None) -> None:
        """A sink's status is to be written; None: it is not. Whoever waits already keeps the place while the urgency is the same."""
        if self._places.get(uid) == (urgency, tenant):
            return
        self.drop(uid)
        if urgency is not None:
            self._lines[urgency].setdefault(tenant, OrderedDict())[uid] = None
            self._places[uid] = (urgency, tenant)
            self._counts[urgency] += 1

    def drop(self, uid: str) -> None:
        """Nothing is to be written, or the sink is gone."""
        place = self._places.pop(uid, None)
        if place is None:
            return
        urgency, tenant = place
        sinks = self._lines[urgency][tenant]
        del sinks[uid]
        self._counts[urgency] -= 1
        if not sinks:
            del self._lines[urgency][tenant]

    def take(self, *, refreshes: bool = True) -> tuple[str, Urgency] | None:
        """Who is next, and is in the line no more; None: nobody.

        Parameters
        ----------
        refreshes
            Whether it may be one that nobody waits for.
        """
        for one in (TURNS[self._turn], *Urgency):
            if self._counts[one] and (refreshes or one is not Urgency.REFRESH):
                tenants = self._lines[one]
                tenant = next(iter(tenants))
                uid = next(iter(tenants[tenant]))
                tenants.move_to_end(tenant)
                self.drop(uid)
                self._turn = (self._turn + 1) % len(TURNS)
                return uid, one
        return None

    def waiting(self, urgency: Urgency) -> int:
        """How many there are."""
        return self._counts[urgency]


class Allowance:
    """How often something may be done.

    Parameters
    ----------
    per_second
        On average.
    saved
        Seconds of which what was not used is kept: so much may be done at once.
    """

    def __init__(self, per_second: float, saved: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second * saved)
        self._left = self._most
        self._at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until it may be done once more; 0: now."""
        self._left = min(self._most, self._left + max(0.0, now - self._at) * self._per_second)
        self._at = now
        return max(0.0, (1.0 - self._left) / self._per_second)

    def use(self) -> None:
        """It is done, as `wait` allowed."""
        self._left -= 1.0
