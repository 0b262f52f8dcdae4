"""Long work in the event loop, a little at a time, so that everybody else has a turn in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from typing import TypeVar

SCANNED_AT_ONCE = 500
"""Records that are gone through before others have their turn in the event loop: less than a millisecond."""
SLICE_SECONDS = 0.0003
"""How long a slice of long work lasts: about as long as what a message of somebody else takes in the event loop ..."""
MOST_SLICE_SECONDS = 0.002
"""... and at most, where others left it no time."""
SLICE_OF_WAIT = 1 / 3
"""A slice lasts so large a part of the time that it waited for others."""
QUIET_SECONDS = 0.0001
"""In a turn of the event loop that was shorter, nobody had anything to do."""
PAUSE_SECONDS = 0.001
"""How long a thread is left alone, the shortest time of the event loop's clock."""
MOST_TURNS = 4
"""Turns of others that a slice waits for."""

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Work in steps of some microseconds, after each of which it may be interrupted; it returns its result."""


def at_once(steps: Steps[T]) -> T:
    """The result of steps, without a turn for anybody in between."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def begun(steps: Steps[T]) -> Steps[T]:
    """The steps after the first one, which is done at once: it may take long, and be done in a thread."""
    try:
        next(steps)
    except StopIteration as end:
        return _no_more(end.value)
    return steps


def _no_more(result: T) -> Steps[T]:
    yield
    return result


async def in_turns(items: Sequence[T], at_once: int = SCANNED_AT_ONCE) -> AsyncIterator[Sequence[T]]:
    """The items in slices, between which everybody else has a turn in the event loop."""
    for start in range(0, len(items), at_once):
        yield items[start : start + at_once]
        await asyncio.sleep(0)


class LongWork:
    """Does long work in slices when nobody else has anything to do, and one slice at a time.

    Others come first, but not for ever: a slice waits for `MOST_TURNS` turns of the event loop at most, and is longer if they were.

    Parameters
    ----------
    busy
        Whether a thread works for others, which needs the GIL again and again.
    clock
        The clock of the slices, in seconds.
    """

    def __init__(self, busy: Callable[[], bool] = lambda: False, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._busy = busy
        self.clock = clock
        self._one = asyncio.Lock()

    async def turn(self) -> float:
        """Wait for a slice; returns until when it lasts, on `clock`."""
        async with self._one:
            began = now = self.clock()
            for _ in range(MOST_TURNS):
                before, busy = now, self._busy()
                await asyncio.sleep(PAUSE_SECONDS if busy else 0)
                now = self.clock()
                if now - before < QUIET_SECONDS and not busy:
                    break
        return now + min(MOST_SLICE_SECONDS, max(SLICE_SECONDS, SLICE_OF_WAIT * (now - began)))

    async def run(self, steps: Steps[T]) -> T:
        """The result of steps, done in slices."""
        try:
            while True:
                until = await self.turn()
                next(steps)  # also where another process had the core until the slice was over
                while self.clock() < until:
                    next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
