"""A queue of keys to reconcile: each key once, never by two workers at a time, with back-off for those that fail."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from eventsink.runtime.backoff import Backoff, Chance

BACKOFF = Backoff(first=0.5, longest=300.0, jitter=0.5)

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Level-based: adding a key that waits changes nothing, adding one that is worked on has it worked on again."""

    def __init__(self, *, chance: Chance = random.random) -> None:
        self._chance = chance
        self._waiting: deque[K] = deque()
        self._queued: set[K] = set()
        self._active: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is worked on (keys with a delay do not count)."""
        return not self._waiting and not self._active

    def add(self, key: K) -> None:
        """Have a key worked on soon."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._waiting.append(key)
            self._changed.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Have a key worked on after a while; the earlier of two such wishes counts."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    async def get(self) -> K:
        """The next key; the caller says `done` or `failed` when it has worked on it."""
        while not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        key = self._waiting.popleft()
        self._queued.discard(key)
        self._active.add(key)
        return key

    def done(self, key: K) -> None:
        """The key was worked on."""
        self._failures.pop(key, None)
        self._finish(key)

    def failed(self, key: K) -> float:
        """The key could not be worked on: it comes again; returns after how many seconds. At once where it was added meanwhile."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        if key in self._again:
            self._finish(key)
            return 0.0
        wait = BACKOFF.wait(failures, self._chance)
        self._active.discard(key)
        self.add_after(key, wait)
        return wait

    def _finish(self, key: K) -> None:
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)
