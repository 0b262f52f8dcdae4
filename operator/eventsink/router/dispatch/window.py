"""How many waiting deliveries are in memory, and the reading of those behind them from the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from eventsink.router.dispatch.lane import Lane
from eventsink.router.dispatch.settings import DispatchSettings
from eventsink.router.dispatch.worker import SinkWorker
from eventsink.router.queue.protocol import DeliveryQueue, QueueError
from eventsink.runtime.logs import get_logger

MIN_WINDOW = 16
"""Deliveries of each sink that may be in memory, however many others are."""
COUNT_EVERY_SECONDS = 0.1
"""How old the count of deliveries in memory may be."""
READ_AGAIN_SECONDS = 5.0
"""After the queue could not be read."""


class Windows:
    """The windows of all lanes.

    Parameters
    ----------
    workers
        Sinks at work, by uid.
    spawn
        Runs what is read in the background.
    pump
        Called with a worker whose window was filled.
    """

    def __init__(
        self,
        settings: DispatchSettings,
        queue: DeliveryQueue,
        workers: Mapping[str, SinkWorker],
        spawn: Callable[[Awaitable[object]], None],
        pump: Callable[[SinkWorker], None],
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._workers = workers
        self._spawn = spawn
        self._pump = pump
        self._in_memory = 0
        self._count_again_at = 0.0

    def room(self, lane: Lane) -> int:
        """How many deliveries the lane may hold in memory."""
        now = asyncio.get_running_loop().time()
        if now >= self._count_again_at:
            self._count_again_at = now + COUNT_EVERY_SECONDS
            self._in_memory = sum(len(worker.lane) for worker in self._workers.values())
        return max(MIN_WINDOW, min(self._settings.window, len(lane) + self._settings.max_in_memory - self._in_memory))

    def refill(self, worker: SinkWorker) -> None:
        """Read what waits behind the window, unless that is under way."""
        if not worker.refilling:
            worker.refilling = True
            self._spawn(self._refilled(worker))

    async def _refilled(self, worker: SinkWorker) -> None:
        lane = worker.lane
        try:
            while lane.lagging and (limit := self.room(lane) - len(lane)) > 0:
                worker.missed = False
                more = await self._queue.take(worker.sink.uid, after=lane.last_seq, limit=limit)
                lane.add(more)
                # What is committed while this reads is not in it, and not in the window either: read again.
                lane.lagging = len(more) == limit or worker.missed
        except QueueError as error:
            get_logger().warning("could not read waiting deliveries; it is tried again", reason=str(error), sink=worker.sink.uid)
            await asyncio.sleep(READ_AGAIN_SECONDS)
        finally:
            worker.refilling = False
        self._pump(worker)
