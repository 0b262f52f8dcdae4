"""Sends what waits: one worker for each sink, so that a slow or dead one delays no other."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from eventsink.router.directory import SinkChange, SinkDirectory
from eventsink.router.dispatch.attempts import Attempted, AttemptWatchers, notify
from eventsink.router.dispatch.check import LaneCheck
from eventsink.router.dispatch.expiry import Expiry
from eventsink.router.dispatch.forms import Forms
from eventsink.router.dispatch.health import NOTHING_SENT, REPORT_WAIT_SECONDS, DeliveringState, SinkHealth
from eventsink.router.dispatch.lane import Lane
from eventsink.router.dispatch.outgoing import OutgoingMessage
from eventsink.router.dispatch.queue_share import QueueShare
from eventsink.router.dispatch.rate_limiter import RateLimiter
from eventsink.router.dispatch.sending import Sending
from eventsink.router.dispatch.settings import DispatchSettings
from eventsink.router.dispatch.settlement import Settlement
from eventsink.router.dispatch.shares import MAX_TRIES, InFlight, ShareLimit
from eventsink.router.dispatch.window import Windows
from eventsink.router.dispatch.worker import HealthChanged, OpenSender, SinkWorker
from eventsink.router.metrics import DispatchMetrics
from eventsink.router.queue.protocol import Delivery, Queue, QueueError
from eventsink.router.queue.states import SinkReport
from eventsink.router.sources import Source
from eventsink.runtime.logs import get_logger
from eventsink.runtime.turns import in_turns
from eventsink.sinks.sender import Sender

SPREAD_SECONDS = 5.0
"""After a start, sinks to which everything failed before are tried at random times within this, and not all at once."""
REPORTED_AT_ONCE = 100
"""Sinks that say that they wait, before others have their turn in the event loop: a few milliseconds."""


class Dispatcher:
    """Sends the deliveries that the queue commits to the sinks of the directory.

    Parameters
    ----------
    open_sender
        Opens a sink's sender; raises `UnsupportedSink`.
    sources
        The sources by name.
    health_changed
        Called with the sink when its condition `Delivering` changed.
    reported
        What an earlier process reported of the sink with this uid.
    """

    def __init__(
        self,
        settings: DispatchSettings,
        queue: Queue,
        directory: SinkDirectory,
        open_sender: OpenSender,
        metrics: DispatchMetrics,
        *,
        sources: Mapping[str, Source] = MappingProxyType({}),
        health_changed: HealthChanged = lambda _sink, _health: None,
        reported: Callable[[str], SinkReport | None] = lambda _uid: None,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._directory = directory
        self._open_sender = open_sender
        self._metrics = metrics
        self._health_changed = health_changed
        self._reported = reported
        self._wall = wall
        self._chance = chance
        self._workers: dict[str, SinkWorker] = {}
        self._in_flight: InFlight[str] = InFlight(settings.max_in_flight, settings.max_in_flight_bytes)
        self._rate_limiter = RateLimiter(settings.rate_limit_interval)
        self._background: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._loaded = False
        self._watchers = AttemptWatchers()
        self._settlement = Settlement(queue, metrics, self._rate_limiter, wall, self._spawn)
        self._expiry = Expiry(settings.expiry_interval, queue, self._workers, self._settlement, self._pump)
        self._windows = Windows(settings, queue, self._workers, self._spawn, self._pump)
        self._sending = Sending(queue, Forms(sources), self._settlement, metrics)
        self._queue_share = QueueShare(queue, self._workers, self._settlement, self._pump)
        self._check = LaneCheck(settings.check_interval, queue, self._workers, self._dead_letter_stray, self._pump, metrics)
        queue.subscribe(self._committed)
        directory.subscribe(self._changed)

    # ---- what others ask

    def health(self, uid: str) -> SinkHealth | None:
        """How delivery to a sink goes; None for an unknown one."""
        worker = self._workers.get(uid)
        return worker.health() if worker is not None else None

    def held_sinks(self) -> int:
        """How many sinks are held because of a failure."""
        return sum(bool(worker.lane.held) for worker in self._workers.values())

    def oldest(self) -> float:
        """Age in seconds of the oldest waiting delivery."""
        ages = [created for worker in self._workers.values() if (created := worker.lane.oldest()) is not None]
        return max(0.0, self._wall() - min(ages)) if ages else 0.0

    @property
    def in_flight(self) -> int:
        return self._in_flight.total.messages

    @property
    def bytes_in_flight(self) -> int:
        """Bodies of the messages in flight."""
        return self._in_flight.total.bytes

    @property
    def bytes_in_memory(self) -> int:
        """Bodies of the deliveries in memory."""
        return self._windows.memory.bytes

    def blocked(self, uid: str) -> str:
        """Why nothing may be sent to a sink, whatever waits; empty: it may."""
        worker = self._workers.get(uid)
        if worker is None:
            return "the sink is gone"
        return worker.condition.message if worker.lane.blocked else ""

    def last_error(self, uid: str) -> str:
        """`<reason>: <message>` of the last failure that no success followed; empty: none."""
        worker = self._workers.get(uid)
        return worker.last_error if worker is not None else ""

    def watch(self, uid: str, attempted: Attempted) -> Callable[[], None]:
        """Have `attempted` called after each attempt to send to a sink; returns what ends that."""
        return self._watchers.watch(uid, attempted)

    def probe(self, uid: str) -> None:
        """Retry a sink at once to which everything failed, to find out whether it is fixed."""
        worker = self._workers.get(uid)
        if worker is not None:
            worker.lane.probe(self._queue.clock())
            self._pump(worker)

    def resume(self, report: SinkReport) -> None:
        """Go on with what the status of a sink says, where nothing is known of it yet: an earlier process found that out."""
        worker = self._workers.get(report.uid)
        if worker is not None and worker.condition is NOTHING_SENT:
            worker.resume(report)

    # ---- life

    async def load(self) -> None:
        """Take up what waits since before the start; the directory is loaded."""
        self._loaded = True
        waiting = await self._queue.sinks_waiting()
        now = self._queue.clock()
        for uid, worker in self._workers.items():
            if worker.condition.state is DeliveringState.FALSE:
                worker.lane.not_before = now + SPREAD_SECONDS * self._chance()
            if uid in waiting or worker.missed:
                self._refill(worker)
            elif not worker.refilling and not len(worker.lane):
                worker.lane.caught_up()  # nothing waits, and nothing was committed meanwhile
        for uid in waiting:
            await self._dead_letter_stray(uid)

    async def watch_expiry(self) -> None:
        """Dead-letter what becomes too old, until cancelled."""
        await self._expiry.run()

    async def watch_lanes(self) -> None:
        """Compare the lanes with the queue, make room in it, and report who waits, until cancelled; everything is loaded."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._check.run())
            group.create_task(self._queue_share.run())
            group.create_task(self._report_waits())

    async def stop(self, grace: float) -> None:
        """Send nothing new, and let the messages in flight finish, for `grace` seconds at most."""
        self._stopping = True
        for worker in self._workers.values():
            worker.wake_in(None, self._pump)
        sending = [task for worker in self._workers.values() for task in worker.tasks]
        if sending:
            _, late = await asyncio.wait(sending, timeout=grace)
            await _cancel(late)
        await asyncio.sleep(0)  # what was to be recorded at last is with the queue then, and the rest has begun at least
        await _cancel(self._background)
        for worker in self._workers.values():
            if worker.sender is not None:
                await worker.sender.close()

    # ---- what the queue and the directory report

    def _committed(self, deliveries: Sequence[Delivery]) -> None:
        touched: dict[str, tuple[SinkWorker, int]] = {}
        """Sink -> its worker, and how many deliveries it may have in memory."""
        gone: set[str] = set()
        for delivery in deliveries:
            known = touched.get(delivery.sink)
            if known is None:
                worker = self._workers.get(delivery.sink)
                if worker is None:
                    gone.add(delivery.sink)
                    continue
                known = touched[delivery.sink] = (worker, self._windows.room(worker.lane))
            worker, room = known
            lane = worker.lane
            if delivery.seq <= lane.last_seq:
                continue  # it was read from the queue a moment ago
            if lane.lagging or len(lane) >= room:
                lane.lagging = worker.missed = True
            else:
                lane.add((delivery,))
        for uid in gone - self._directory.withheld:
            self._spawn(self._settlement.dead_letter_sink(uid))
        for worker, _ in touched.values():
            self._pump(worker)

    def _changed(self, change: SinkChange) -> None:
        sink = change.after
        if sink is None:
            assert change.before is not None
            self._remove(change.before.uid)
            return
        worker = self._workers.get(sink.uid)
        if worker is None:
            lane = Lane(self._settings.retry, self._chance, self._windows.memory)
            worker = self._workers[sink.uid] = SinkWorker(sink, lane, self._health_changed)
            if (report := self._reported(sink.uid)) is not None:
                worker.resume(report)
            lane.lagging = True  # something may wait, also what was committed just before `load`: it is read first
            if self._loaded:
                self._refill(worker)
        else:
            worker.recompiled = True
        self._leave_turns(worker)
        self._in_flight.line.leave(worker.sink.tenant, sink.uid)
        old = worker.use(sink, self._open_sender, self._settings.concurrency)
        if old is not None:
            self._spawn(_close_after(old, set(worker.tasks)))
        worker.lane.recompiled()
        self._pump(worker)

    def _remove(self, uid: str) -> None:
        worker = self._workers.pop(uid, None)
        if worker is None:
            return
        worker.lane.forget()
        self._in_flight.line.leave(worker.sink.tenant, uid)
        worker.wake_in(None, self._pump)
        self._leave_turns(worker)
        for task in worker.tasks:
            # Not before it has begun: it would give nothing back of what was counted as in flight.
            asyncio.get_running_loop().call_soon(task.cancel)
        if worker.sender is not None:
            self._spawn(_close_after(worker.sender, set(worker.tasks)))
        self._spawn(self._settlement.dead_letter_sink(uid))

    async def _dead_letter_stray(self, uid: str) -> None:
        """Dead-letter what waits for a sink that is gone, if it is."""
        if uid not in self._workers and uid not in self._directory.withheld:
            await self._settlement.dead_letter_sink(uid)

    # ---- sending

    def _pump(self, worker: SinkWorker) -> None:
        """Send what may leave now, and wake up for what may leave later."""
        for outgoing in self._take(worker):
            self._start(worker, outgoing)

    def _start(self, worker: SinkWorker, outgoing: OutgoingMessage) -> None:
        # The tenant for which it was counted: the sink may get another before the task begins.
        task = asyncio.get_running_loop().create_task(self._send(worker, outgoing, worker.sink.tenant))
        worker.tasks.add(task)
        task.add_done_callback(worker.tasks.discard)

    def _take(self, worker: SinkWorker) -> list[OutgoingMessage]:
        """What may leave now, counted as in flight; wakes up for what may leave later."""
        if self._stopping or self._workers.get(worker.sink.uid) is not worker:
            return []
        lane = worker.lane
        if worker.reloading:
            worker.landed()
        worker.waits_for = None
        if lane.idle and not lane.lagging:
            worker.waits_since = None
            worker.wake_in(None, self._pump)
            self._leave_turns(worker)
            return []
        taken: list[OutgoingMessage] = []
        now = self._queue.clock()
        while not worker.reloading:
            if lane.idle:
                self._leave_turns(worker)
                break
            if (worker.rate_limit_key or not self._in_flight.ample) and not self._may_send(worker, now):
                break
            if (outgoing := lane.pick(now)) is None:
                break
            self._in_flight.take(worker.sink.tenant, worker.in_flight, outgoing.size)
            taken.append(outgoing)
        if worker.waits_for is None:
            worker.waits_since = None
        if self._loaded and lane.lagging and self._windows.wants_more(lane):
            self._refill(worker)
        wake = None if worker.waits_for is not None or worker.reloading else lane.wake_at()
        worker.wake_in(max(wake, worker.turn_at) - now if wake is not None else None, self._pump)
        return taken

    def _may_send(self, worker: SinkWorker, now: float) -> bool:
        """Whether a sink has something to send, its share of the messages in flight, and its turn among those with its rate-limit key."""
        if (size := worker.lane.next_size(now)) is None:
            self._leave_turns(worker)
            return False
        if limit := self._in_flight.limit_reached(worker.sink.tenant, worker.in_flight, size):
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
        self._in_flight.wait(worker.sink.tenant, worker.sink.uid)

    def _pump_next(self) -> None:
        """Something landed: those that waited longest may send, first of the tenants with the least in flight."""
        line, in_flight = self._in_flight.line, self._in_flight
        refused = 0
        while refused < MAX_TRIES and not in_flight.full and (uid := line.first()) is not None:
            worker = self._workers[uid]
            tenant = worker.sink.tenant
            if in_flight.limit_reached(tenant, worker.in_flight, 0) is None:  # whatever it would send
                line.leave(tenant, uid)
                before = in_flight.total.messages
                self._pump(worker)
                if in_flight.total.messages == before and worker.waits_for is not None:
                    line.defer(tenant, uid)  # what it would send is too large for what is free
                    refused += 1
            elif not worker.in_flight.messages and in_flight.number_reached(tenant, worker.in_flight):
                return  # nor may those who have more
            else:
                line.defer(tenant, uid)
                refused += 1

    async def _report_waits(self) -> None:
        while True:
            await asyncio.sleep(REPORT_WAIT_SECONDS)
            now = self._queue.clock()
            async for uids in in_turns(self._in_flight.line.everyone(), REPORTED_AT_ONCE):
                for uid in uids:
                    if worker := self._workers.get(uid):
                        worker.waits(now)

    def _refill(self, worker: SinkWorker) -> None:
        if not self._stopping:
            self._windows.refill(worker)

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
                self._pump(worker)
                raise
            taken, tenant = self._take(worker), worker.sink.tenant
        for other in taken:
            self._start(worker, other)  # the sender before is closed when the tasks are done that began with it

    async def _attempt(self, worker: SinkWorker, outgoing: OutgoingMessage, tenant: str) -> None:
        """One attempt to send a message, and what follows from it."""
        size = outgoing.size  # as it was counted
        try:
            outcome = await self._sending.send(worker, outgoing)
            if outcome is not None:
                # Who begins to watch while this is recorded means a later attempt.
                watchers = self._watchers.of(worker.sink.uid)
                await self._settlement.settle(worker, outgoing, outcome, watched=bool(watchers))
                if watchers:
                    notify(watchers, outgoing, outcome, slow=worker.lane.slow)
        except QueueError as error:
            get_logger().error("could not record the outcome; the message is sent again", reason=str(error), sink=worker.sink.uid)
        finally:
            self._in_flight.give_back(tenant, worker.in_flight, size)
            if worker.rate_limit_key:
                # Counted from the response: however long the way there takes, two messages never arrive closer together.
                self._rate_limiter.pause(worker.rate_limit_key, self._queue.clock() + self._settings.rate_limit_interval)
            if self._in_flight.line:
                self._pump_next()  # before the sink that sent this: it would take the place again, and again

    def _spawn(self, work: Awaitable[object]) -> None:
        async def guarded() -> None:
            try:
                await work
            except QueueError as error:
                get_logger().error("could not change the queue", reason=str(error))

        task = asyncio.get_running_loop().create_task(guarded())
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _close_after(sender: Sender, tasks: set[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks)
    await sender.close()


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
