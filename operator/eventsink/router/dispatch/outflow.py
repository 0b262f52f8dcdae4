"""What leaves, and when: takes messages off the lanes while there is room for them, sends them, and goes on with what landed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from eventsink.router.dispatch.attempts import AttemptWatchers, notify
from eventsink.router.dispatch.following import Following
from eventsink.router.dispatch.health import REPORT_WAIT_SECONDS
from eventsink.router.dispatch.outgoing import OutgoingMessage
from eventsink.router.dispatch.rate_limiter import RateLimiter
from eventsink.router.dispatch.sending import Sending
from eventsink.router.dispatch.settings import DispatchSettings
from eventsink.router.dispatch.settlement import Settlement
from eventsink.router.dispatch.shares import MAX_TRIES, InFlight, ShareLimit
from eventsink.router.dispatch.window import Windows
from eventsink.router.dispatch.worker import SinkWorker
from eventsink.router.metrics import DispatchMetrics
from eventsink.router.queue.protocol import Queue, QueueError
from eventsink.runtime.logs import get_logger
from eventsink.runtime.turns import in_turns

REPORTED_AT_ONCE = 100
"""Sinks that say that they wait, before others have their turn in the event loop: a few milliseconds."""


class Outflow:
    """Sends what may leave.

    Parameters
    ----------
    workers
        Of all sinks, by uid.
    """

    def __init__(
        self,
        settings: DispatchSettings,
        queue: Queue,
        workers: Mapping[str, SinkWorker],
        windows: Windows,
        sending: Sending,
        settlement: Settlement,
        rate_limiter: RateLimiter,
        following: Following,
        metrics: DispatchMetrics,
    ) -> None:
        self._rate_limit_interval = settings.rate_limit_interval
        self._queue = queue
        self._workers = workers
        self._windows = windows
        self._sending = sending
        self._settlement = settlement
        self._rate_limiter = rate_limiter
        self._following = following
        self._metrics = metrics
        self.in_flight: InFlight[str] = InFlight(settings.max_in_flight, settings.max_in_flight_bytes)
        self.watchers = AttemptWatchers()
        self.loaded = False
        """Whether it is known what waits since before the start."""
        self.stopping = False
        """Whether nothing new may leave."""

    def pump(self, worker: SinkWorker) -> int:
        """Send what may leave now, and wake up for what may leave later; returns how many messages begin to leave."""
        taken = self._take(worker)
        for outgoing in taken:
            self._start(worker, outgoing)
        return len(taken)

    def _start(self, worker: SinkWorker, outgoing: OutgoingMessage) -> None:
        # The tenant for which it was counted: the sink may get another before the task begins.
        task = asyncio.get_running_loop().create_task(self._send(worker, outgoing, worker.sink.tenant))
        worker.tasks.add(task)
        task.add_done_callback(worker.tasks.discard)

    def _take(self, worker: SinkWorker) -> list[OutgoingMessage]:
        """What may leave now, counted as in flight; wakes up for what may leave later."""
        if self.stopping or self._workers.get(worker.sink.uid) is not worker:
            return []
        lane = worker.lane
        if worker.gathers(self._queue.clock()):
            return []  # it is woken up when all is there
        if worker.reloading:
            worker.landed()
        worker.waits_for = None
        if lane.idle and not lane.lagging:
            worker.waits_since = None
            worker.wake_in(None, self.pump)
            self._leave_turns(worker)
            self._following.leave(worker)
            return []
        if (closed := worker.closed()) is not None:
            worker.waits_since = None
            self._leave_turns(worker)
            self._following.leave(worker)
            worker.wake_in(worker.reopens_in(closed), self.pump)
            return []
        taken: list[OutgoingMessage] = []
        now = self._queue.clock()
        while not worker.reloading:
            if lane.idle:
                self._leave_turns(worker)
                self._following.leave(worker)
                break
            if (worker.rate_limit_key or not self.in_flight.ample) and not self._may_send(worker, now):
                break
            if (outgoing := lane.pick(now)) is None:
                break
            self.in_flight.take(worker.sink.tenant, worker.in_flight, outgoing.size)
            taken.append(outgoing)
        if worker.waits_for is None:
            worker.waits_since = None
        if self.loaded and lane.lagging and self._windows.wants_more(lane):
            self.refill(worker)
        wake = None if worker.waits_for is not None or worker.reloading else lane.wake_at()
        worker.wake_in(max(wake, worker.turn_at) - now if wake is not None else None, self.pump)
        return taken

    def _may_send(self, worker: SinkWorker, now: float) -> bool:
        """Whether a sink has something to send, its share of the messages in flight, and its turn among those with its rate-limit key."""
        if (size := worker.lane.next_size(now)) is None:
            self._leave_turns(worker)
            return False
        if limit := self.in_flight.limit_reached(worker.sink.tenant, worker.in_flight, size):
            self._wait_for_share(worker, limit, now)
            return False
        if not worker.rate_limit_key:
            return True
        turn = self._rate_limiter.turn(worker.rate_limit_key, worker.sink.uid, now)
        worker.turn_at = turn or 0.0
        return turn is None

    def _wait_for_share(self, worker: SinkWorker, limit: ShareLimit, now: float) -> None:
        """As much is in flight as the sink may have there: it goes on when others have landed."""
        worker.waits_for = limit
        if worker.waits_since is None:
            worker.waits_since = now
            self._metrics.waits(limit.value).inc()
        self.in_flight.wait(worker.sink.tenant, worker.sink.uid)

    def _pump_next(self) -> None:
        """Something landed: those that waited longest may send, first of the tenants with the least in flight."""
        line, in_flight = self.in_flight.line, self.in_flight
        refused = 0
        while refused < MAX_TRIES and not in_flight.full and (uid := line.first()) is not None:
            worker = self._workers[uid]
            tenant = worker.sink.tenant
            if in_flight.limit_reached(tenant, worker.in_flight, 0) is None:  # whatever it would send
                line.leave(tenant, uid)
                before = in_flight.total.messages
                self.pump(worker)
                if in_flight.total.messages == before and worker.waits_for is not None:
                    line.defer(tenant, uid)  # what it would send is too large for what is free
                    refused += 1
            elif not worker.in_flight.messages and in_flight.number_reached(tenant, worker.in_flight):
                return  # nor may those who have more
            else:
                line.defer(tenant, uid)
                refused += 1

    async def report_waits(self) -> None:
        """Have sinks say that they wait for a share of the messages in flight, until cancelled."""
        while True:
            await asyncio.sleep(REPORT_WAIT_SECONDS)
            now = self._queue.clock()
            async for uids in in_turns(self.in_flight.line.everyone(), REPORTED_AT_ONCE):
                for uid in uids:
                    if worker := self._workers.get(uid):
                        worker.waits(now)

    def refill(self, worker: SinkWorker) -> None:
        """Read more of what waits for a sink."""
        if not self.stopping:
            self._windows.refill(worker)

    def leave_lines(self, worker: SinkWorker) -> None:
        """The sink is another one from now on, or gone: it waits for nothing."""
        self._leave_turns(worker)
        self._following.leave(worker)
        self.in_flight.line.leave(worker.sink.tenant, worker.sink.uid)

    def _leave_turns(self, worker: SinkWorker) -> None:
        worker.turn_at = 0.0
        if worker.rate_limit_key:
            self._rate_limiter.leave(worker.rate_limit_key, worker.sink.uid)

    async def _send(self, worker: SinkWorker, outgoing: OutgoingMessage, tenant: str) -> None:
        """Send a message, and others after it while some may leave: a task for each would cost as much as what it does."""
        sender, taken = worker.sender, [outgoing]
        while taken and worker.sender is sender:
            for other in taken[1:]:
                self._start(worker, other)
            try:
                await self._attempt(worker, taken[0], tenant)
            except BaseException:
                self.pump(worker)
                raise
            taken, tenant = self._take(worker), worker.sink.tenant
        for other in taken:
            self._start(worker, other)  # the sender before is closed when the tasks are done that began with it

    async def _attempt(self, worker: SinkWorker, outgoing: OutgoingMessage, tenant: str) -> None:
        """One attempt to send a message, and what follows from it."""
        size = outgoing.size  # as it was counted
        sink = worker.sink  # it may be another one when the outcome is known
        sent = True
        try:
            outcome = await self._sending.send(worker, outgoing)
            sent = outcome is not None
            if outcome is not None:
                # Who begins to watch while this is recorded means a later attempt.
                watchers = self.watchers.of(worker.sink.uid)
                await self._settlement.settle(worker, sink, outgoing, outcome, watched=bool(watchers))
                if watchers:
                    notify(watchers, outgoing, outcome, slow=worker.lane.pace.slow)
        except QueueError as error:
            get_logger().error("could not record the outcome; the message is sent again", reason=str(error), sink=worker.sink.uid)
        finally:
            self.in_flight.give_back(tenant, worker.in_flight, size)
            if worker.rate_limit_key and not sent:
                self._rate_limiter.give_back(worker.rate_limit_key, self._queue.clock())
            elif worker.rate_limit_key:
                # Counted from the response: however long the way there takes, two messages never arrive closer together.
                self._rate_limiter.pause(worker.rate_limit_key, self._queue.clock() + self._rate_limit_interval)
            if self.in_flight.line:
                self._pump_next()  # before the sink that sent this: it would take the place again, and again
