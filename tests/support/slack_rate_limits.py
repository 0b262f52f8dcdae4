"""The clock of the stand-in for Slack, and how often it lets a channel be posted to and channels be listed."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field

LIST_WINDOW_SECONDS = 60.0
_ROUNDING_SECONDS = 1e-6
"""Sums of seconds since the epoch are exact to less than this."""


class SlackClock:
    """Seconds since the epoch; a test moves it on instead of waiting.

    Parameters
    ----------
    stopped
        Time passes by `advance` alone.
    """

    def __init__(self, *, stopped: bool = False) -> None:
        self._stopped_at = time.time() if stopped else None
        self._moved = 0.0

    def __call__(self) -> float:
        return (time.time() if self._stopped_at is None else self._stopped_at) + self._moved

    def advance(self, seconds: float) -> None:
        """Let that much time pass at once."""
        self._moved += seconds


@dataclass
class MessageRateLimit:
    """One message each `interval` seconds and channel, after a burst of `burst`; an interval of 0 counts nothing."""

    interval: float
    burst: int = 1
    _spent: dict[str, float] = field(default_factory=dict)

    def take(self, channel: str, now: float) -> int:
        """0: let it through; else the whole seconds to wait. A rejected message spends nothing."""
        # The time at which all that was let through is paid for (GCRA): a burst may run ahead of it.
        paid = max(self._spent.get(channel, now), now)
        wait = paid - now - (self.burst - 1) * self.interval
        if wait > _ROUNDING_SECONDS:
            return max(1, math.ceil(wait))
        self._spent[channel] = paid + self.interval
        return 0


@dataclass
class CallRateLimit:
    """At most `limit` calls in any minute, each team for itself; 0 counts nothing."""

    limit: int
    _calls: dict[str, deque[float]] = field(default_factory=dict)

    def take(self, team_id: str, now: float) -> int:
        """0: let it through; else the whole seconds to wait."""
        calls = self._calls.setdefault(team_id, deque())
        while calls and calls[0] <= now - LIST_WINDOW_SECONDS:
            calls.popleft()
        if self.limit and len(calls) >= self.limit:
            return max(1, math.ceil(calls[0] + LIST_WINDOW_SECONDS - now))
        calls.append(now)
        return 0
