"""What was put and is not on disk yet: admitted within the bounds, given to the writer together, undone in reverse if a commit fails."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from eventsink.router.queue.protocol import Batch, QueueDamaged, QueueError, QueueFull
from eventsink.router.queue.sqlite.counts import Counts
from eventsink.router.queue.sqlite.file import QueueFile
from eventsink.router.queue.sqlite.settings import QueueSettings
from eventsink.router.queue.sqlite.writer import Put, Writer


class Puts:
    """Batches from the call of `put` to their commit, in order.

    Parameters
    ----------
    counts
        What is in the queue already.
    """

    def __init__(self, settings: QueueSettings, file: QueueFile, counts: Counts, writer: Writer) -> None:
        self._settings = settings
        self._file = file
        self._counts = counts
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._pending: deque[Put] = deque()
        self._pending_deliveries = 0
        self._pending_bytes = 0
        self._kept_back: list[Put] = []
        """Those of `_pending` that the writer has not got yet."""
        self._epoch = 0

    def add(self, batch: Batch, undo: Callable[[], None] | None, *, now: float, clock: float) -> tuple[Put, bool]:
        """A batch is to be committed; also gives whether it is the first since `hand_over`, which has to be called soon.

        Raises
        ------
        QueueFull, QueueDamaged
            It cannot be stored now.
        """
        put = Put(batch, now, clock, self._epoch, self._loop.create_future(), undo, self._admit(batch))
        self._pending.append(put)
        self._pending_deliveries += len(batch.deliveries)
        self._pending_bytes += put.payload_bytes
        self._kept_back.append(put)
        return put, len(self._kept_back) == 1

    def hand_over(self) -> None:
        """Give the writer what it has not got yet."""
        puts, self._kept_back = self._kept_back, []
        for put in puts:
            self._writer.do(put)

    def committed(self, number: int) -> list[Put]:
        """So many are on disk, the oldest; their futures are the caller's to resolve."""
        done = [self._pending.popleft() for _ in range(number)]
        self._pending_deliveries -= sum([len(put.batch.deliveries) for put in done])
        self._pending_bytes -= sum([put.payload_bytes for put in done])
        return done

    def fail(self, error: QueueError) -> None:
        """A commit failed: so does all that is pending. The writer skips those of this epoch that it has not come to yet."""
        self._epoch += 1
        failed = list(self._pending)
        self._pending.clear()
        self._pending_deliveries = 0
        self._pending_bytes = 0
        for put in reversed(failed):
            if put.undo is not None:
                put.undo()
        for put in failed:
            reject(put.future, error)

    def _admit(self, batch: Batch) -> int:
        """The batch's `payload_bytes`."""
        if self._file.damage:
            raise QueueDamaged(self._file.damage)
        bounds = self._settings
        payload_bytes = batch.payload_bytes
        # One that is larger by itself is taken while nothing else waits.
        if self._pending_bytes and self._pending_bytes + payload_bytes > bounds.max_pending_bytes:
            raise QueueFull(f"{bounds.max_pending_bytes} bytes wait for the disk (queue.maxPendingBytes)")
        if not batch.deliveries:
            return payload_bytes
        if self._counts.waiting + self._pending_deliveries + len(batch.deliveries) > bounds.max_waiting:
            raise QueueFull(f"the queue is full: {bounds.max_waiting} deliveries wait (queue.maxWaiting)")
        if self._counts.used_bytes + self._pending_bytes > bounds.max_bytes:
            raise QueueFull(f"the queue is full: its file holds {bounds.max_bytes} bytes (queue.maxBytes)")
        return payload_bytes


def reject(future: asyncio.Future[Any], error: QueueError) -> None:
    """Have a caller's future fail, also where the caller is gone."""
    if not future.done():
        future.set_exception(error)
        future.exception()  # seen
