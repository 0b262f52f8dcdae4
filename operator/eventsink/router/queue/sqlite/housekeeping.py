"""Every few seconds: looks whether the file is still there, and drops what is too much, too old or in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from eventsink.router.queue.protocol import QueueUnavailable
from eventsink.router.queue.sqlite import dead_letters as dead
from eventsink.router.queue.sqlite import posts
from eventsink.router.queue.sqlite.counts import Counts
from eventsink.router.queue.sqlite.dead_letters import CHUNK_ROWS
from eventsink.router.queue.sqlite.file import QueueFile
from eventsink.router.queue.sqlite.settings import QueueSettings
from eventsink.router.queue.sqlite.store import Store, StoreChange
from eventsink.runtime.logs import get_logger

HOUSEKEEPING_SECONDS = 5.0
"""Between two looks, and between two writes of the clock when nothing else is written."""


class Change(Protocol):
    """Has the writer make a change, and returns what it changed."""

    def __call__(self, apply: Callable[[Store], StoreChange], *, rows: int) -> Awaitable[StoreChange]: ...


class Housekeeping:
    """Keeps the queue within its bounds; `clock` is the queue clock."""

    def __init__(
        self, settings: QueueSettings, file: QueueFile, counts: Counts, clock: Callable[[], float], change: Change
    ) -> None:
        self._settings = settings
        self._file = file
        self._counts = counts
        self._clock = clock
        self._change = change
        self._sinks_seen = 0
        """Of the sinks in the file, where the last look for those that nothing refers to ended."""

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            try:
                await self.look()
            except QueueUnavailable:
                pass  # it is tried again, and whatever else fails is logged

    async def look(self) -> None:
        """As `DeadLetters.keep_house`.

        Raises
        ------
        QueueUnavailable
            Nothing could be dropped.
        """
        self._file.check_still_there()
        evicted = 0
        while (change := await self._change(self._evict, rows=2 * CHUNK_ROWS)).evicted or change.arrived or change.posts_evicted:
            evicted += change.evicted
        if evicted:
            get_logger().warning("dead letters were dropped: too many or too old", count=evicted)

    def _evict(self, store: Store) -> StoreChange:
        """In the writer's thread."""
        clock, bounds = self._clock(), self._settings
        keep = 0 if self._counts.crowded() else bounds.max_dead
        change = dead.evict_dead(store, keep=keep, before=clock - bounds.dead_letter_age)
        change.arrived = -dead.evict_arrived(store, keep=bounds.max_arrived, before=clock - bounds.arrived_age)
        change.posts_evicted = posts.evict_posts(store.connection, keep=bounds.max_posted, keep_bytes=bounds.max_posted_bytes)
        self._sinks_seen = dead.evict_sinks(store, self._sinks_seen)
        return change
