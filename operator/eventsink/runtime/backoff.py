"""How long to wait before trying again what failed: longer after each failure, bounded, and random so that many do not come back at once."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

Chance = Callable[[], float]
"""Gives numbers from 0 to 1; tests give their own."""

MAX_DOUBLINGS = 30
"""More of them overflow nothing and change nothing: the longest wait is reached long before."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double up to a bound.

    Parameters
    ----------
    first
        Seconds after the first failure, before jitter.
    longest
        The longest wait, in seconds.
    jitter
        The share of each wait that is random: 0 none of it, 0.5 the upper half, 1 all ("full jitter").
    """

    first: float
    longest: float
    jitter: float = 0.0

    def wait(self, failures: int, chance: Chance = random.random) -> float:
        """Seconds to wait after the `failures`-th failure in a row, from 1."""
        whole = min(self.first * 2.0 ** min(max(failures - 1, 0), MAX_DOUBLINGS), self.longest)
        return whole * (1.0 - self.jitter + self.jitter * chance()) if self.jitter else whole
