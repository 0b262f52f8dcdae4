"""Dead-letters what could not be delivered within its sink's maxAge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from eventsink.router.dispatch.lane import Item
from eventsink.router.dispatch.settlement import Settlement
from eventsink.router.dispatch.worker import SinkWorker
from eventsink.router.queue.protocol import Queue, QueueError
from eventsink.runtime.logs import get_logger

MAX_EXPIRED_AT_ONCE = 500


class Expiry:
    """Looks for deliveries that are too old.

    Parameters
    ----------
    interval
        Seconds between two looks.
    workers
        Sinks at work, by uid.
    pump
        Called with a worker whose lane may go on.
    """

    def __init__(
        self,
        interval: float,
        queue: Queue,
        workers: Mapping[str, SinkWorker],
        settlement: Settlement,
        pump: Callable[[SinkWorker], None],
    ) -> None:
        self._interval = interval
        self._queue = queue
        self._workers = workers
        self._settlement = settlement
        self._pump = pump

    async def run(self) -> None:
        """Dead-letter what becomes too old, until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._expire()
            except QueueError as error:
                get_logger().warning("could not look for expired deliveries; it is tried again", reason=str(error))

    async def _expire(self) -> None:
        for delivery in await self._queue.expired(limit=MAX_EXPIRED_AT_ONCE):
            worker = self._workers.get(delivery.sink)
            if worker is not None and worker.lane.knows(delivery.seq):
                item, void = worker.lane.expire(delivery.seq)
                if item is None:
                    continue  # in flight
                if void:
                    await self._queue.bind(void, "")
            await self._settlement.dead_letter([Item(delivery)], "MaxAge", "it could not be delivered within the sink's maxAge")
            if worker is not None:
                self._pump(worker)
