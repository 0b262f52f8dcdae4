"""Dead-letters what could not be delivered within its sink's maxAge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from eventsink.router.dispatch.settlement import Settlement
from eventsink.router.dispatch.worker import SinkWorker
from eventsink.router.queue.protocol import Queue
from eventsink.router.queue.repeat import repeat

EXPIRED_AT_ONCE = 1000


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
        pump: Callable[[SinkWorker], object],
    ) -> None:
        self._interval = interval
        self._queue = queue
        self._workers = workers
        self._settlement = settlement
        self._pump = pump
        self._landing: dict[str, list[int]] = {}
        """uid -> what left while it became a dead letter: it is taken out of the lane unless it arrives."""

    async def run(self) -> None:
        """Dead-letter what becomes too old, until cancelled."""
        await repeat(self._expire, interval=self._interval, failed="could not look for expired deliveries; it is tried again")

    async def _expire(self) -> None:
        """Go on until nothing is too old."""
        void = [seq for uid, seqs in list(self._landing.items()) for seq in self._discard(uid, seqs)]
        while True:
            in_flight = {seq for worker in self._workers.values() for seq in worker.lane.seqs_in_flight()}
            expired = await self._queue.expire(
                reason="MaxAge",
                detail="it could not be delivered within the sink's maxAge",
                limit=EXPIRED_AT_ONCE,
                spare=in_flight,
            )
            for uid, seqs in expired.items():
                self._settlement.dead("MaxAge", len(seqs))
                void += self._discard(uid, seqs)
            if void:
                await self._queue.bind(void, "")
                void = []
            if not expired:
                return

    def _discard(self, uid: str, seqs: Iterable[int]) -> list[int]:
        """Take dead letters out of a lane; returns the seqs of stored compositions that are void now."""
        self._landing.pop(uid, None)
        worker = self._workers.get(uid)
        if worker is None:
            return []
        in_flight, void = worker.lane.discard(seqs)
        if in_flight:
            self._landing[uid] = in_flight
        self._pump(worker)
        return void
