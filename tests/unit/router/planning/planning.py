"""Planning over a real queue: what tests post, and what is queued for which sink."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from eventsink.router.directory import SinkChange, SinkDirectory
from eventsink.router.planning.accept import Acceptor
from eventsink.router.planning.alert_states import AlertStates
from eventsink.router.planning.catch_up import CatchUp
from eventsink.router.planning.growth import Growth
from eventsink.router.planning.match import SinkIndex
from eventsink.router.planning.quota_settings import QuotaSettings
from eventsink.router.planning.quotas import Quotas
from eventsink.router.planning.rounds import Rounds
from eventsink.router.planning.state_settings import StateSettings
from eventsink.router.planning.timeouts import LOOK_SECONDS, Timeouts
from eventsink.router.queue.protocol import Delivery
from eventsink.router.queue.sqlite import SqliteQueue
from eventsink.router.sources import PostingSource
from eventsink.sinks.sink import Sink
from tests.support.clock import ManualClock
from tests.support.parts import notification
from tests.unit.router.sinks import source as alertmanager
from tests.unit.router.sinks import uid

Start = Callable[..., Awaitable["PlanningUnderTest"]]
"""Starts planning over sinks."""
HALF_A, HALF_B = "10.0.0.1", "10.0.0.2"


class PlanningUnderTest:
    """An acceptor and what follows the directory, over a real queue."""

    def __init__(
        self,
        queue: SqliteQueue,
        clock: ManualClock,
        known: SinkDirectory,
        *,
        source: PostingSource | None = None,
        quotas: QuotaSettings | None = None,
        **settings: Any,
    ) -> None:
        self.queue = queue
        self.clock = clock
        self.directory = known
        self.names = {one.uid: one.name for one in known.sinks.values()}
        self.index = SinkIndex(wall=lambda: clock.now)
        for one in known.sinks.values():
            self.index.change(SinkChange(None, one))
        known.subscribe(self.index.change)
        self.states = AlertStates(queue, StateSettings(**settings))
        self.suppressed: Counter[str] = Counter()
        self.not_queued: Counter[tuple[str, str, str]] = Counter()
        self.quotas = Quotas(quotas, queue, self._count_not_queued) if quotas is not None else None
        self.source = source or alertmanager()
        self.catch_up = CatchUp(known, self.index, self.states, queue, {self.source.name}, self.quotas)
        self.timeouts = Timeouts(known, self.states, queue, {self.source.name: self.source}, quotas=self.quotas)
        rounds = Rounds(self.timeouts, queue)
        self.of_acceptor = (known, self.index, self.states, queue, self._count, self.quotas, rounds)
        self.acceptor = Acceptor(*self.of_acceptor)
        self.growth = Growth(known, self.index, self.states, queue)
        self.queued: list[Delivery] = []
        queue.subscribe(self.queued.extend)
        self._catching_up: asyncio.Task[None] | None = None

    def _count(self, reason: str, count: int) -> None:
        self.suppressed[reason] += count

    def _count_not_queued(self, tenant: str, limit: str, outcome: str, count: int) -> None:
        self.not_queued[tenant, limit, outcome] += count

    async def start(self, *, caught_up: bool = True) -> None:
        """Read what is on disk, and catch up with all sinks, as a router does when its directory is loaded; or do not come to that."""
        await self.states.load()
        self.timeouts.begin()
        await self.growth.begin()
        for one in self.directory.sinks.values():
            self.catch_up.change(SinkChange(None, one))
        if not caught_up:
            return
        self._catching_up = asyncio.create_task(self.catch_up.run())
        await self.settled()

    async def stop(self) -> None:
        """Stop catching up."""
        if self._catching_up is not None:
            self._catching_up.cancel()
            await asyncio.wait([self._catching_up])

    async def settled(self) -> list[tuple[str, str]]:
        """Wait until every sink is caught up: (sink, status) of what was queued since the last request."""
        async with asyncio.timeout(30):
            while not self.catch_up.idle:
                await asyncio.sleep(0.001)
        return self.shown()

    def shown(self) -> list[tuple[str, str]]:
        """(sink, status) of the deliveries that were queued."""
        return [(self.names[one.sink], one.status) for one in self.queued]

    async def post(self, *alerts: dict[str, Any], sender: str = HALF_A, **members: Any) -> list[tuple[str, str]]:
        """Post a notification: (sink, status) of the deliveries that were queued."""
        return await self.send(json.dumps(notification(*alerts, **members)).encode(), sender=sender)

    async def send(self, body: bytes, sender: str = HALF_A) -> list[tuple[str, str]]:
        """Post bytes: (sink, status) of the deliveries that were queued."""
        self.queued.clear()
        await self.acceptor.accept_bytes(self.source, body, sender)
        return self.shown()

    async def make_room(self, *names: str) -> list[tuple[str, str]]:
        """Everything that waits for these sinks is delivered, and time passes: (sink, status) of what others are caught up with."""
        for name in names:
            await self.deliver_all(name)
        self.queued.clear()
        self.later(60.0)
        self.catch_up.look_at_behind()
        return await self.settled()

    async def put(self, sink: Sink) -> list[tuple[str, str]]:
        """Create or change a sink: (sink, status) of the deliveries that were queued for it."""
        self.queued.clear()
        self.names[sink.uid] = sink.name
        self.directory.put(sink)
        return await self.settled()

    async def remove(self, name: str) -> None:
        """Delete a sink."""
        self.directory.remove(uid(name))
        await self.settled()

    async def deliver_all(self, name: str) -> None:
        """Everything that waits for a sink is delivered."""
        await self.queue.settle([one.seq for one in await self.queue.take(uid(name), after=0, limit=1000)])
        await self.queue.flush()

    def later(self, seconds: float) -> None:
        """Let the queue clock go on."""
        self.clock.now += seconds
        self.catch_up.wake()

    async def look_at_events(self) -> list[tuple[str, str]]:
        """Notify of events that have grown: (sink, status) of the deliveries that were queued."""
        self.queued.clear()
        await self.growth.look()
        return self.shown()

    async def pass_time(self, seconds: float) -> list[tuple[str, str]]:
        """Let the queue clock go on, and end what is not sent any more: (sink, status) of the deliveries that were queued."""
        self.queued.clear()
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + 10 * LOOK_SECONDS)
            await self.timeouts.look()
        self.catch_up.wake()
        return await self.settled()
