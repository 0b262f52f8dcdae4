"""Which sinks begin to send what was committed, and when: everybody's first at once, the rest of a tenant's with many a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable

from eventsink.router.dispatch.shares import WaitingLine
from eventsink.router.dispatch.worker import SinkWorker
from eventsink.runtime.turns import LongWork

AT_ONCE = 2
"""Sinks of a tenant that begin at once."""
MESSAGE_SECONDS = 0.0003
"""About what a message takes of the event loop from here on: to be bound and composed, to leave, and to be settled."""


class Starts:
    """Has sinks begin to send. An alert may be for a thousand of them, and begun at once they would stop the event loop for half a second.

    So all but the first `AT_ONCE` of a tenant wait until others have nothing to do, as long work does: tenants take turns, and each message
    counts as what it will take, not as the little that it takes to begin it.

    Parameters
    ----------
    pump
        Sends what may leave of a sink; returns how many messages.
    spawn
        Runs in the background what nobody waits for.
    """

    def __init__(
        self, pump: Callable[[SinkWorker], int], long_work: LongWork, spawn: Callable[[Coroutine[None, None, None]], object]
    ) -> None:
        self._pump = pump
        self._long_work = long_work
        self._spawn = spawn
        self._line: WaitingLine[tuple[str, SinkWorker]] = WaitingLine()
        """With the tenant for which each waits: the sink may get another. Each is in it once, however much was committed for it meanwhile."""
        self._running = False

    def begin(self, workers: Iterable[SinkWorker]) -> None:
        """Have these send what waits for them, soon."""
        begun: dict[str, int] = {}
        for worker in workers:
            tenant = worker.sink.tenant
            count = begun.get(tenant, 0)
            if tenant in self._line or count >= AT_ONCE:
                self._line.join(tenant, (tenant, worker), 0)
            else:
                begun[tenant] = count + 1
                self._pump(worker)
        if self._line and not self._running:
            self._running = True
            self._spawn(self._run())

    async def _run(self) -> None:
        try:
            while self._line:
                until = await self._long_work.turn()
                messages = max(1, round((until - self._long_work.clock()) / MESSAGE_SECONDS))
                while (first := self._line.first()) is not None:
                    tenant, worker = first
                    self._line.leave(tenant, first)
                    if tenant in self._line:
                        self._line.used(tenant, 0)  # behind the other tenants
                    messages -= self._pump(worker)
                    if messages <= 0 or self._long_work.clock() >= until:
                        break
        finally:
            self._running = False
