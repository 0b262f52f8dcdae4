"""How many waiting deliveries are in memory, and the reading of those behind them from the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from eventsink.router.dispatch.lane import Lane
from eventsink.router.dispatch.worker import DispatchSettings, Station
from eventsink.router.queue.protocol import Queue, QueueError
from eventsink.runtime.logs import get_logger

MIN_WINDOW = 16
"""Deliveries of each sink that may be in memory, however many others are."""
COUNT_EVERY_SECONDS = 0.1
"""How old the count of deliveries in memory may be."""
LOOK_UP_AGAIN_SECONDS = 5.0
"""After the queue could not be read."""


class Windows:
    """The windows of all lanes.

    Parameters
    ----------
    stations
        Sinks at work, by uid.
    spawn
        Runs what is read in the background.
    pump
        Called with a station whose window was filled.
    """

    def __init__(
        self,
        settings: DispatchSettings,
        queue: Queue,
        stations: Mapping[str, Station],
        spawn: Callable[[Awaitable[object]], None],
        pump: Callable[[Station], None],
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._stations = stations
        self._spawn = spawn
        self._pump = pump
        self._in_memory = 0
        self._count_again_at = 0.0

    def room(self, lane: Lane) -> int:
        """How many deliveries the lane may hold in memory."""
        now = asyncio.get_running_loop().time()
        if now >= self._count_again_at:
            self._count_again_at = now + COUNT_EVERY_SECONDS
            self._in_memory = sum(len(station.lane) for station in self._stations.values())
        return max(MIN_WINDOW, min(self._settings.window, len(lane) + self._settings.max_in_memory - self._in_memory))

    def refill(self, station: Station) -> None:
        """Read what waits behind the window, unless that is under way."""
        if not station.refilling:
            station.refilling = True
            self._spawn(self._refilled(station))

    async def _refilled(self, station: Station) -> None:
        lane = station.lane
        try:
            while lane.lagging and (limit := self.room(lane) - len(lane)) > 0:
                station.missed = False
                more = await self._queue.take(station.sink.uid, after=lane.last_seq, limit=limit)
                lane.add(more)
                # What is committed while this reads is not in it, and not in the window either: read again.
                lane.lagging = len(more) == limit or station.missed
        except QueueError as error:
            get_logger().warning("waiting deliveries could not be read", reason=str(error), sink=station.sink.uid)
            await asyncio.sleep(LOOK_UP_AGAIN_SECONDS)
        finally:
            station.refilling = False
        self._pump(station)
