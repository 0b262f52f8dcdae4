"""Compares what waits in the queue with what the lanes know of it: a delivery that no lane knows would wait for ever, without a sign.

Nothing should ever be found: the order in which lanes are filled rules it out. What is found in two successive looks is a defect; the lane
is read from the queue again, which is logged and counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from eventsink.router.dispatch.lane import Lane
from eventsink.router.dispatch.worker import SinkWorker
from eventsink.router.metrics import DispatchMetrics
from eventsink.router.queue.protocol import Delivery, DeliveryQueue
from eventsink.router.queue.repeat import repeat
from eventsink.runtime.logs import get_logger

MORE_CHECKED = 100
"""A sink's oldest deliveries are compared with its lane: so many more than the lane has, of which some are unknown if any is."""


class LaneCheck:
    """Looks for deliveries that no lane knows.

    Parameters
    ----------
    interval
        Seconds between two looks.
    workers
        Sinks at work, by uid.
    dead_letter_stray
        Called with the uid of a sink that has deliveries and no worker.
    pump
        Called with a worker whose lane is to be read again.
    """

    def __init__(
        self,
        interval: float,
        queue: DeliveryQueue,
        workers: Mapping[str, SinkWorker],
        dead_letter_stray: Callable[[str], Awaitable[None]],
        pump: Callable[[SinkWorker], object],
        metrics: DispatchMetrics,
    ) -> None:
        self._interval = interval
        self._queue = queue
        self._workers = workers
        self._dead_letter_stray = dead_letter_stray
        self._pump = pump
        self._metrics = metrics
        self._suspects: dict[str, set[int]] = {}
        """uid -> deliveries that its lane did not know at the last look."""
        self._strays: set[str] = set()

    async def run(self) -> None:
        """Compare until cancelled."""
        failed = "could not compare the lanes with the queue; it is tried again"
        await repeat(self._look, interval=self._interval, failed=failed)

    async def _look(self) -> None:
        await self._queue.flush()
        waiting = await self._queue.sinks_waiting()
        strays = {uid for uid in waiting if uid not in self._workers}
        for uid in strays & self._strays:
            await self._dead_letter_stray(uid)
        self._strays = strays
        suspects: dict[str, set[int]] = {}
        for uid, count in waiting.items():
            worker = self._workers.get(uid)
            if worker is None or worker.reloading or not (uid in self._suspects or may_lack_some(worker.lane, count)):
                continue
            oldest = await self._queue.take(uid, after=0, limit=len(worker.lane) + MORE_CHECKED, max_bytes=0)
            now = self._queue.clock()
            unknown = {delivery.seq for delivery in oldest if is_unknown(worker.lane, delivery, now)}
            if unknown & self._suspects.get(uid, set()):
                self._repair(worker, len(unknown))
            elif unknown:
                suspects[uid] = unknown
        self._suspects = suspects

    def _repair(self, worker: SinkWorker, unknown: int) -> None:
        get_logger().error("deliveries were unknown to dispatch; they are read again", count=unknown, **worker.names())
        self._metrics.lanes_repaired.inc()
        worker.reload()
        self._pump(worker)


def may_lack_some(lane: Lane, waiting: int) -> bool:
    """Whether a closer look at a lane is worth while.

    Parameters
    ----------
    waiting
        Deliveries of the sink in the queue.
    """
    return lane.lagging or waiting > len(lane)


def is_unknown(lane: Lane, delivery: Delivery, now: float) -> bool:
    """Whether a lane neither has a waiting delivery nor will read it, and it is not just too old."""
    if lane.knows(delivery.seq) or delivery.expires <= now:
        return False
    return delivery.seq <= lane.last_seq or not lane.lagging
