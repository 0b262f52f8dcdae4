"""Going through many records in slices, so that everybody else has a turn in the event loop in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from eventsink.router.queue.states import AlertState
from eventsink.runtime.turns import SCANNED_AT_ONCE

ENTRIES_AT_ONCE = 20_000
"""Entries of the notification log that are gone through before others have their turn: one for each sink that an alert was sent to."""


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
