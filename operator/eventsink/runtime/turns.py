"""Going through many items in slices, so that everybody else has a turn in the event loop in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

SCANNED_AT_ONCE = 500
"""Records that are gone through before others have their turn in the event loop: less than a millisecond."""

T = TypeVar("T")


async def in_turns(items: Sequence[T], at_once: int = SCANNED_AT_ONCE) -> AsyncIterator[Sequence[T]]:
    """The items in slices, between which everybody else has a turn in the event loop."""
    for start in range(0, len(items), at_once):
        yield items[start : start + at_once]
        await asyncio.sleep(0)
