"""Which status is written next. It decides and does nothing: times are given by the caller."""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum

from eventsink.router.dispatch.health import NOTHING_SENT, DeliveringState, SinkHealth
from eventsink.router.queue.states import SinkReport

REFRESHED_SECONDS = 300.0
"""Between two writes to one sink without a change of `Delivering`: of when the last message arrived, and of the last error."""
REPEATED_SECONDS = 6 * 3600.0
"""After this a status is written again although nothing is new, in case somebody else changed it. Where nobody did, nothing is stored."""


class Urgency(IntEnum):
    """What a report is about; the lowest goes first."""

    FAILURE = 0
    """Messages arrive no more, or arrive again."""
    CHANGE = 1
    """Another change of `Delivering`."""
    REFRESH = 2
    """Nobody waits for it."""


def urgency(health: SinkHealth, written: SinkReport | None, now: float) -> Urgency | None:
    """Whether a status is to be written, and how soon.

    Parameters
    ----------
    written
        What the status says; None: nothing yet, since the sink is new.
    now
        Queue clock.
    """
    nothing_sent = health.reason == NOTHING_SENT.reason
    if written is None and nothing_sent:
        return Urgency.REFRESH
    if written is not None:
        if not written.state and nothing_sent:
            return None  # the status may say more than that
        if (health.state.value, health.reason) == (written.state, written.reason):
            news = (health.last_delivered, health.last_error) != (written.last_delivered, written.last_error)
            return Urgency.REFRESH if now - written.at >= (REFRESHED_SECONDS if news else REPEATED_SECONDS) else None
    fails = health.state is DeliveringState.FALSE or (written is not None and written.state == DeliveringState.FALSE.value)
    return Urgency.FAILURE if fails else Urgency.CHANGE


class ReportLine:
    """Sinks whose statuses are to be written, in order: by urgency, then those first that have waited longest."""

    def __init__(self) -> None:
        self._lines: dict[Urgency, OrderedDict[str, None]] = {
            one: OrderedDict() for one in Urgency
        }  # a dict is slow at its front
        self._places: dict[str, Urgency] = {}

    def put(self, uid: str, urgency: Urgency | None) -> None:
        """A sink's status is to be written; None: it is not. Whoever waits already keeps the place while the urgency is the same."""
        place = self._places.get(uid)
        if place is urgency:
            return
        if place is not None:
            del self._lines[place][uid]
            del self._places[uid]
        if urgency is not None:
            self._lines[urgency][uid] = None
            self._places[uid] = urgency

    def first(self, *, refreshes: bool = True) -> tuple[str, Urgency] | None:
        """Who is next, and stays in the line.

        Parameters
        ----------
        refreshes
            Whether it may be one that nobody waits for.
        """
        for one in Urgency:
            if one is not Urgency.REFRESH or refreshes:
                for uid in self._lines[one]:
                    return uid, one
        return None

    def waiting(self, urgency: Urgency) -> int:
        """How many there are."""
        return len(self._lines[urgency])


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
