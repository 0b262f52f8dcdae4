"""How many Events about one object with one reason are sent, and how many were not."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from eventsink.events.config import RateSettings
from eventsink.events.event import Subject

MAX_SUBJECTS = 20_000
"""Of so many objects and reasons it is known how many Events were sent, some 400 bytes each; the one that was seen longest ago makes room, and
may be sent as one that was never seen."""


class _Bucket(msgspec.Struct):
    tokens: float
    at: float
    suppressed: int = 0


class RateLimit:
    """A token bucket for each object and reason."""

    def __init__(self, settings: RateSettings, clock: Callable[[], float] = time.monotonic, most: int = MAX_SUBJECTS) -> None:
        self._burst = settings.burst
        self._interval = settings.interval
        self._clock = clock
        self._most = most
        self._buckets: OrderedDict[Subject, _Bucket] = OrderedDict()

    def take(self, subject: Subject) -> int | None:
        """Whether one more is sent: how many were not since the last one that was; None: it is not, and is counted."""
        now = self._clock()
        bucket = self._buckets.get(subject)
        if bucket is None:
            if len(self._buckets) >= self._most:
                self._buckets.popitem(last=False)
            bucket = self._buckets[subject] = _Bucket(float(self._burst), now)
        else:
            self._buckets.move_to_end(subject)
            bucket.tokens = min(float(self._burst), bucket.tokens + (now - bucket.at) / self._interval)
            bucket.at = now
        if bucket.tokens < 1.0:
            bucket.suppressed += 1
            return None
        bucket.tokens -= 1.0
        suppressed, bucket.suppressed = bucket.suppressed, 0
        return suppressed
