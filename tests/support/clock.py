"""A clock that a test moves by hand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ManualClock:
    """Seconds; calling it reads it."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now
