"""Going through many records in slices, so that everybody else has a turn in the event loop in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from eventsink.router.queue.states import AlertState

SCANNED_AT_ONCE = 500
"""Records that are gone through before others have their turn in the event loop: less than a millisecond."""

ENTRIES_AT_ONCE = 20_000
"""The same of entries of the notification log: an alert has one for each sink that was notified of it."""

T = TypeVar("T")


async def in_turns(items: Sequence[T], at_once: int = SCANNED_AT_ONCE) -> AsyncIterator[Sequence[T]]:
    """The items in slices, between which everybody else has a turn in the event loop."""
    for start in range(0, len(items), at_once):
        yield items[start : start + at_once]
        await asyncio.sleep(0)


async def states_in_turns(states: Sequence[AlertState]) -> AsyncIterator[Sequence[AlertState]]:
    """As `in_turns`, of records whose entries are gone through."""
    some: list[AlertState] = []
    entries = 0
    for state in states:
        some.append(state)
        entries += len(state.notified)
        if len(some) >= SCANNED_AT_ONCE or entries >= ENTRIES_AT_ONCE:
            yield some
            await asyncio.sleep(0)
            some, entries = [], 0
    if some:
        yield some
        await asyncio.sleep(0)
