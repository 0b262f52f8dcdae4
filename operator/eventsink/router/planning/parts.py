"""How much of a notification is planned and committed at once, so that nobody waits long for another's: in alerts, sinks and time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import msgspec

TURN_MICROSECONDS = 10_000
"""About how long a part may take the event loop at most, ..."""
ALERT_MICROSECONDS = 10
"""... if an alert takes so much ..."""
SINK_MICROSECONDS = 1.5
"""... and each sink that may want it so much more: 870 alerts if one does."""
TURN_SECONDS = 0.002
"""Of a processor, after which what is left is the next part, so that nobody waits for the expensive expressions of one tenant; unless a sink
gets the part as one group."""
LEAST_ALERTS = 16
"""In a part at least, whatever time they take, where as many may be ..."""
MOST_ALERTS = 64
"""... and at most, for each of them takes time after it was matched, too ..."""
DELIVERIES_OF_ALERT = 4
"""... and after so many deliveries for each that may be in it, no further one is; unless, again, a sink gets them as one group."""
PART_SINKS = 32
"""As many are notified of one alert in a part, and the others in the next ones, where the notification is the only one."""


class PartSize(msgspec.Struct, frozen=True):
    """How large a part may be."""

    alerts: int
    sinks: int | None = None
    """How many are notified of one alert in it; None: all."""


class Part:
    """What is in a part so far, and whether more may be.

    Parameters
    ----------
    left
        Alerts of the notification that are in no part yet.
    """

    def __init__(self, size: PartSize, left: int) -> None:
        self._size = size
        self.sinks = size.sinks
        """How many are notified of one alert in it; None: all."""
        self._least = min(LEAST_ALERTS, size.alerts)
        self._alerts = 0
        self._work = 0.0
        self._until = time.thread_time() + TURN_SECONDS if left > self._least else math.inf
        self.deliveries = 0

    def takes(self, candidates: int, sends_group: Callable[[], bool]) -> bool:
        """Whether one more alert is in it, which so many sinks may want; `sends_group`: whether a sink gets what is in it as one group."""
        work = ALERT_MICROSECONDS + SINK_MICROSECONDS * candidates
        if self._alerts and (self._work + work > TURN_MICROSECONDS or (self._is_full() and not sends_group())):
            return False
        self._work += work
        self._alerts += 1
        return True

    def _is_full(self) -> bool:
        most = self._size.alerts
        if self._alerts >= most or self.deliveries >= DELIVERIES_OF_ALERT * most:
            return True
        return self._alerts >= self._least and time.thread_time() > self._until
