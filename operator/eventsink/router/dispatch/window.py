"""How many waiting deliveries are in memory, and the reading of those behind them from the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from eventsink.router.dispatch.health import DeliveringState
from eventsink.router.dispatch.lane import Lane
from eventsink.router.dispatch.memory import WindowMemory
from eventsink.router.dispatch.settings import DispatchSettings
from eventsink.router.dispatch.worker import SinkWorker
from eventsink.router.queue.protocol import DeliveryQueue, QueueError
from eventsink.runtime.logs import get_logger

MIN_WINDOW = 16
"""Deliveries of each sink that may be in memory, however many others are."""
MAX_PUT_OFF = 500
"""Deliveries of a sink that wait for a time and take no room in its window: what is behind them may leave before."""
RECLAIM_EVERY_SECONDS = 0.1
"""Between two looks for bodies that nobody needs soon, while memory is scarce."""
READS_AT_ONCE = 2
"""Windows that are read at the same time: what each reads counts as memory only once it is there."""
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
        spawn: Callable[[Awaitable[object]], object],
        pump: Callable[[SinkWorker], object],
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._workers = workers
        self._spawn = spawn
        self._pump = pump
        self.memory = WindowMemory(settings.max_bytes_in_memory, settings.window_bytes)
        self._reclaim_again_at = 0.0
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    def room(self, lane: Lane) -> int:
        """How many deliveries the lane may hold in memory."""
        memory = self.memory
        if memory.scarce:
            self._reclaim()
        room = len(lane) + self._settings.max_in_memory - memory.deliveries
        return max(MIN_WINDOW, min(self._settings.window, room)) + min(lane.put_off_now, MAX_PUT_OFF)

    def wants_more(self, lane: Lane) -> bool:
        """Whether it is time to read what waits behind the window."""
        put_off = min(lane.put_off_now, MAX_PUT_OFF)
        return lane.lagging and (lane.stuck or len(lane) - put_off <= (self.room(lane) - put_off) // 2)

    def _reclaim(self) -> None:
        """Take the bodies of lanes that send nothing at present, so that the others have room."""
        now = asyncio.get_running_loop().time()
        if now < self._reclaim_again_at:
            return
        self._reclaim_again_at = now + RECLAIM_EVERY_SECONDS
        for worker in self._workers.values():
            if worker.lane.bytes and (worker.lane.pace.slow or worker.lane.blocked or worker.closed() is not None):
                worker.lane.drop_bodies()

    def refill(self, worker: SinkWorker) -> None:
        """Read what waits behind the window, unless that is under way."""
        if not worker.refilling:
            worker.refilling = True
            self._spawn(self._refilled(worker))

    async def _refilled(self, worker: SinkWorker) -> None:
        lane = worker.lane
        try:
            while self._workers.get(worker.sink.uid) is worker and not worker.reloading and self._missing(lane) > 0:
                async with self._reads:
                    await self._read(worker)
                worker.readable()
        except QueueError as error:
            worker.unreadable()
            get_logger().warning("could not read waiting deliveries; it is tried again", reason=str(error), sink=worker.sink.uid)
            await asyncio.sleep(READ_AGAIN_SECONDS)
        finally:
            worker.refilling = False
        self._pump(worker)

    async def _read(self, worker: SinkWorker) -> None:
        lane, memory = worker.lane, self.memory
        if worker.unsettled:
            worker.unsettled = False
            await self._queue.flush()
        worker.missed = False
        started, limit = lane.started, max(1, self._missing(lane))  # others may have taken the room meanwhile
        max_bytes = max(0, min(memory.max_bytes - memory.bytes, memory.max_lane_bytes - lane.bytes))
        more = await self._queue.take(worker.sink.uid, after=lane.last_seq, limit=limit, max_bytes=max_bytes)
        if lane.started != started:
            return  # the window is read from the start again
        # What is too old, or was given up, is dead-lettered where it is: a moment ago, perhaps, and after this was read.
        now = self._queue.clock()
        asked = max((delivery.due for delivery in more), default=0.0)
        if asked > now and worker.recompiled:
            more = [msgspec.structs.replace(delivery, due=min(delivery.due, now)) for delivery in more]
        elif asked > now and worker.condition.state is not DeliveringState.TRUE:
            lane.pace.asked_to_wait(asked)  # before a restart; a receiver that has responded well since has changed its mind
        lane.add(delivery for delivery in more if delivery.expires > now and delivery.seq > lane.given_up_to)
        if more:
            lane.last_seq = more[-1].seq
        # What is committed while this reads is not in it, and not in the window either: read again.
        if len(more) < limit and not worker.missed:
            lane.caught_up()

    def _missing(self, lane: Lane) -> int:
        """How many deliveries to read."""
        return max(self.room(lane) - len(lane), MIN_WINDOW if lane.stuck else 0) if lane.lagging else 0
