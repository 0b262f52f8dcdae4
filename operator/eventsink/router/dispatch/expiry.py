"""Dead-letters what could not be delivered within its sink's maxAge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

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
        while True:
            in_flight = {seq for worker in self._workers.values() for seq in worker.lane.seqs_in_flight()}
            expired = await self._queue.expire(
                reason="MaxAge",
                detail="it could not be delivered within the sink's maxAge",
                limit=MAX_EXPIRED_AT_ONCE,
                spare=in_flight,
            )
            for uid, seqs in expired.items():
                self._settlement.expired(len(seqs))
                worker = self._workers.get(uid)
                if worker is None:
                    continue
                void = [one for seq in seqs for one in worker.lane.expire(seq)[1]]
                if void:
                    await self._queue.bind(void, "")
                self._pump(worker)
            if not expired:
                return
