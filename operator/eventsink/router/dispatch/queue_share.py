"""Keeps what nobody takes from filling the queue: when it is nearly full, sinks that do not get on make room.

A full queue means that nothing is accepted of anybody. Before that, the tenant with the most waiting for sinks that fail, wait for their
active times or have long been behind, gives up the oldest of what waits for the worst of them: those become dead letters, which can be
replayed. Sinks that keep up lose nothing; where they alone fill the queue, sources get a 503 as before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from eventsink.router.dispatch.health import QUEUE_SHARE
from eventsink.router.dispatch.settlement import Settlement
from eventsink.router.dispatch.worker import SinkWorker
from eventsink.router.queue.protocol import Queue
from eventsink.router.queue.repeat import repeat
from eventsink.runtime.logs import Repeated, get_logger

NEARLY_FULL = 0.8
"""Of the queue's bounds, from which on room is made."""
ENOUGH_ROOM = 0.75
"""Until when."""
LOOK_SECONDS = 1.0
AT_ONCE = 1000
BEHIND = 1000
"""So many waiting deliveries, for so long, mean that a sink does not get on."""
BEHIND_SECONDS = 300.0
DETAIL = (
    "the queue was nearly full, and this had waited longest among the sinks of its tenant to which delivery fails, waits for active times or is "
    "far behind"
)


@dataclass(frozen=True, slots=True)
class Holder:
    """A sink that does not get on, and how much waits for it."""

    uid: str
    tenant: str
    waiting: int


def next_to_give(holders: Iterable[Holder]) -> Holder | None:
    """Whose deliveries make room: of the tenant for which most waits the sink for which most waits; None: nobody's."""
    of_tenants: dict[str, int] = {}
    largest: dict[str, Holder] = {}
    for one in holders:
        of_tenants[one.tenant] = of_tenants.get(one.tenant, 0) + one.waiting
        if one.tenant not in largest or (one.waiting, one.uid) > (largest[one.tenant].waiting, largest[one.tenant].uid):
            largest[one.tenant] = one
    if not of_tenants:
        return None
    return largest[max(of_tenants, key=lambda tenant: (of_tenants[tenant], tenant))]


class QueueShare:
    """Makes room in the queue.

    Parameters
    ----------
    workers
        Sinks at work, by uid.
    pump
        Called with a worker whose lane may go on.
    """

    def __init__(
        self, queue: Queue, workers: Mapping[str, SinkWorker], settlement: Settlement, pump: Callable[[SinkWorker], object]
    ) -> None:
        self._queue = queue
        self._workers = workers
        self._settlement = settlement
        self._pump = pump
        self._log = Repeated(60.0)
        self._behind_since: dict[str, float] = {}
        """uid -> queue clock since which much has waited for the sink."""

    async def run(self) -> None:
        """Make room whenever the queue is nearly full, until cancelled."""
        await repeat(self._look, interval=LOOK_SECONDS, failed="could not make room in the queue; it is tried again")

    async def _look(self) -> None:
        now = self._queue.clock()
        waiting = await self._queue.sinks_waiting()
        behind = self._behind_since
        self._behind_since = {uid: behind.get(uid, now) for uid, count in waiting.items() if count >= BEHIND}
        if self._queue.depth().fill < NEARLY_FULL or len(self._workers) < 2:
            return  # there is room, or nobody to make it for
        await self._queue.keep_house()
        while (depth := self._queue.depth()).fill > ENOUGH_ROOM:
            holder = next_to_give(self._holders(await self._queue.sinks_waiting(), now))
            surplus = math.ceil(depth.waiting * (1 - ENOUGH_ROOM / depth.fill))
            if holder is None or not await self._give_up(holder.uid, min(surplus, AT_ONCE)):
                return  # nobody has anything to give that is not in flight
            await self._queue.keep_house()

    def _holders(self, waiting: Mapping[str, int], now: float) -> Iterable[Holder]:
        for uid, count in waiting.items():
            worker = self._workers.get(uid)
            if worker is None:
                continue
            lane = worker.lane
            waits = lane.pace.slow or lane.blocked or worker.closed() is not None
            if waits or now - self._behind_since.get(uid, now) >= BEHIND_SECONDS:
                yield Holder(uid, worker.sink.tenant, count)

    async def _give_up(self, uid: str, limit: int) -> int:
        """Dead-letter some of a sink's oldest deliveries; returns how many."""
        worker = self._workers[uid]
        spare = set(worker.lane.seqs_in_flight())
        seqs = await self._queue.dead_letter_oldest(uid, reason="QueueShare", detail=DETAIL, limit=limit, spare=spare)
        if not seqs:
            return 0
        self._settlement.dead(QUEUE_SHARE, len(seqs))
        worker.gave_up(len(seqs))
        if (more := self._log.due()) is not None:
            get_logger().error("the queue is nearly full: deliveries become dead letters", more=more, **worker.names())
        worker.lane.given_up_to = seqs[-1]
        _, void = worker.lane.discard(seqs)
        if void:
            await self._queue.bind(void, "")
        self._pump(worker)
        return len(seqs)
