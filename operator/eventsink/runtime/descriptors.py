"""File descriptors: as many as the system allows, and shared out so that clients never take those that delivery needs."""

from __future__ import annotations

import resource

from eventsink.runtime.logs import get_logger

OTHERS = 256
"""Kept for everything else: the queue, the log, the monitor's and the admin API's connections, those to the API server and to Slack."""
FEWEST = 16
"""What a listener gets in any case."""


def raise_limit() -> int:
    """Raise the soft limit on open files to the hard one; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft  # some systems have a lower one that they do not say
    return hard if hard != resource.RLIM_INFINITY else 1 << 30


class Descriptors:
    """What is left of the descriptors of a process.

    Parameters
    ----------
    limit
        How many files it may have open.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit - OTHERS

    def reserve(self, count: int) -> None:
        """Keep descriptors for outgoing connections."""
        self._left -= count

    def grant(self, setting: str, wanted: int) -> int:
        """How many connections a listener may have: those wanted, or three quarters of what is left, which is logged."""
        granted = min(wanted, max(FEWEST, self._left * 3 // 4))
        self._left -= granted
        if granted < wanted:
            get_logger().warning(
                "fewer connections are accepted than configured: raise the limit on open files (ulimit -n)",
                setting=setting,
                wanted=wanted,
                granted=granted,
                open_files=self._limit,
            )
        return granted
