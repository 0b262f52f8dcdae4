"""What was read of the API server and is not sent yet: in order, bounded in number and bytes, so that reading waits for sending."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import msgspec

from eventsink.events.event import characters_of

MAX_EVENTS = 1000
MAX_BYTES = 8 * 1024**2
"""Of the Events that wait, about."""
EVENT_BYTES = 1024
"""What an Event takes beside its texts, about."""


class Read(msgspec.Struct):
    """A step of reading: an Event, or that there was nothing to send."""

    collection: str
    """The namespace that is read; empty: all."""
    version: str
    """Once this is sent, everything up to this resourceVersion is; empty: that cannot be said yet, in the middle of a list."""
    event: dict[str, Any] | None = None
    uid: str = ""
    suppressed: int = 0
    """How many others of its object and reason were not sent since the last one that was."""

    @property
    def size(self) -> int:
        """Bytes, about."""
        return EVENT_BYTES + characters_of(self.event) if self.event is not None else 0


class Window:
    """One task puts for each collection, and one takes."""

    def __init__(self, most: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._most = most
        self._max_bytes = max_bytes
        self._waiting: deque[Read] = deque()
        self._bytes = 0
        self._changed = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._waiting)

    async def put(self, read: Read) -> None:
        """Add a step; waits while there is no room for an Event."""
        async with self._changed:
            last = self._waiting[-1] if self._waiting else None
            if read.event is None and last is not None and last.collection == read.collection:
                last.version = read.version or last.version
                return
            await self._changed.wait_for(lambda: len(self._waiting) < self._most and self._bytes < self._max_bytes)
            self._waiting.append(read)
            self._bytes += read.size
            self._changed.notify_all()

    async def take(self, most: int, max_bytes: int) -> list[Read]:
        """The next steps, at most `most`, and none any more once they have `max_bytes`; waits until there is one."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._waiting))
            taken: list[Read] = []
            size = 0
            while self._waiting and len(taken) < most and size < max_bytes:
                taken.append(self._waiting.popleft())
                size += taken[-1].size
            self._bytes -= size
            self._changed.notify_all()
            return taken
