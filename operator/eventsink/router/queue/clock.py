"""The queue's own time.

The *queue clock* counts the seconds for which a process has had the queue open, kept across restarts. It moves with the
monotonic clock only, so a jump of the wall clock expires nothing, and downtime of the router uses up nobody's `maxAge`.
"""

from __future__ import annotations

from typing import Protocol


class QueueClock(Protocol):
    """The clock that every time in the queue is of, unless it says wall clock."""

    def clock(self) -> float:
        """Seconds on the queue clock."""
        ...
