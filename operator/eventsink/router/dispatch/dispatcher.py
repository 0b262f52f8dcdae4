"""Sends what waits: one worker for each sink, so that a slow or dead one delays no other."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from eventsink.router.directory import SinkChange, SinkDirectory
from eventsink.router.dispatch.attempts import Attempted
from eventsink.router.dispatch.check import LaneCheck
from eventsink.router.dispatch.expiry import Expiry
from eventsink.router.dispatch.following import Following
from eventsink.router.dispatch.forms import Forms
from eventsink.router.dispatch.health import NOTHING_SENT, DeliveringState, SinkHealth
from eventsink.router.dispatch.lane import Lane
from eventsink.router.dispatch.outflow import Outflow
from eventsink.router.dispatch.pace import Pace
from eventsink.router.dispatch.queue_share import QueueShare
from eventsink.router.dispatch.rate_limiter import RateLimiter
from eventsink.router.dispatch.sending import Sending
from eventsink.router.dispatch.settings import DispatchSettings
from eventsink.router.dispatch.settlement import Settlement
from eventsink.router.dispatch.starts import Starts
from eventsink.router.dispatch.window import Windows
from eventsink.router.dispatch.worker import HealthChanged, OpenSender, SinkWorker
from eventsink.router.metrics import DispatchMetrics
from eventsink.router.queue.protocol import Delivery, Queue, QueueError
from eventsink.router.queue.states import SinkReport
from eventsink.router.sources import Source
from eventsink.runtime.logs import get_logger
from eventsink.runtime.turns import LongWork
from eventsink.sinks.sender import Sender

SPREAD_SECONDS = 5.0
"""After a start, sinks to which everything failed before are tried at random times within this, and not all at once."""
GATHER_SECONDS = 1.0
"""For so long a sink waits for the rest of a notification, of which messages of several alerts are composed."""
EDIT_INTERVAL_SECONDS = 1.2
"""Between two changes of messages with one key: Slack's tier 3 is 50 in a minute and more."""


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
    long_work
        Of the router: one slice at a time of whatever takes long.
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
        long_work: LongWork | None = None,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._directory = directory
        self._open_sender = open_sender
        self._health_changed = health_changed
        self._reported = reported
        self._wall = wall
        self._chance = chance
        self._metrics = metrics
        self._workers: dict[str, SinkWorker] = {}
        rate_limiter = RateLimiter(settings.rate_limit_interval)
        self._background: set[asyncio.Task[None]] = set()
        following = Following(queue, RateLimiter(EDIT_INTERVAL_SECONDS), metrics)
        self._settlement = Settlement(queue, metrics, rate_limiter, following, wall, self._spawn)
        self._windows = Windows(settings, queue, self._workers, self._spawn, lambda worker: self._pump(worker))
        sending = Sending(queue, Forms(sources, lambda: directory.tenancy.owners), following, self._settlement, metrics)
        self._outflow = Outflow(
            settings, queue, self._workers, self._windows, sending, self._settlement, rate_limiter, following, metrics
        )
        self._pump = self._outflow.pump
        self._starts = Starts(self._pump, long_work or LongWork(queue.is_writing), self._spawn)
        self._expiry = Expiry(settings.expiry_interval, queue, self._workers, self._settlement, self._pump)
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
        return sum(bool(worker.lane.pace.held) for worker in self._workers.values())

    def closed_sinks(self) -> int:
        """How many sinks are outside of the times at which they are sent to."""
        return sum(worker.closed() is not None for worker in self._workers.values())

    def oldest(self) -> float:
        """Age in seconds of the oldest waiting delivery."""
        ages = [created for worker in self._workers.values() if (created := worker.lane.oldest()) is not None]
        return max(0.0, self._wall() - min(ages)) if ages else 0.0

    @property
    def in_flight(self) -> int:
        return self._outflow.in_flight.total.messages

    @property
    def bytes_in_flight(self) -> int:
        """Bodies of the messages in flight."""
        return self._outflow.in_flight.total.bytes

    @property
    def bytes_in_memory(self) -> int:
        """Bodies of the deliveries in memory."""
        return self._windows.memory.bytes

    def blocked(self, uid: str) -> str:
        """Why nothing may be sent to a sink, whatever waits; empty: it may."""
        worker = self._workers.get(uid)
        if worker is None:
            return "the sink is gone"
        if worker.lane.blocked:
            return worker.condition.message
        return worker.health().message if worker.closed() is not None else ""

    def last_error(self, uid: str) -> str:
        """`<reason>: <message>` of the last failure that no success followed; empty: none."""
        worker = self._workers.get(uid)
        return worker.last_error if worker is not None else ""

    def watch(self, uid: str, attempted: Attempted) -> Callable[[], None]:
        """Have `attempted` called after each attempt to send to a sink; returns what ends that."""
        return self._outflow.watchers.watch(uid, attempted)

    def probe(self, uid: str) -> None:
        """Retry a sink at once to which everything failed, to find out whether it is fixed."""
        worker = self._workers.get(uid)
        if worker is not None:
            worker.lane.pace.probe(self._queue.clock())
            self._pump(worker)

    def resume(self, report: SinkReport) -> None:
        """Go on with what the status of a sink says, where nothing is known of it yet: an earlier process found that out."""
        worker = self._workers.get(report.uid)
        if worker is not None and worker.condition is NOTHING_SENT:
            worker.resume(report)

    # ---- life

    async def load(self) -> None:
        """Take up what waits since before the start; the directory is loaded."""
        self._outflow.loaded = True
        waiting = await self._queue.sinks_waiting()
        now = self._queue.clock()
        for uid, worker in self._workers.items():
            if worker.condition.state is DeliveringState.FALSE:
                worker.lane.pace.not_before = now + SPREAD_SECONDS * self._chance()
            if uid in waiting or worker.missed:
                self._outflow.refill(worker)
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
            group.create_task(self._outflow.report_waits())

    async def stop(self, grace: float) -> None:
        """Send nothing new, and let the messages in flight finish, for `grace` seconds at most."""
        self._outflow.stopping = True
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

    def gather(self, sinks: Collection[str]) -> Callable[[], None]:
        """Send these sinks nothing until what is returned is called, or for `GATHER_SECONDS`: more for the same messages is being stored."""
        workers = [worker for uid in sinks if (worker := self._workers.get(uid)) is not None]
        now = self._queue.clock()
        for worker in workers:
            if not worker.gathering:
                worker.gathers_until = now + GATHER_SECONDS
            worker.gathering += 1
        released = False

        def release() -> None:
            nonlocal released
            waited.cancel()
            if released:
                return
            released = True
            for worker in workers:
                worker.gathering -= 1
            now = self._queue.clock()
            self._starts.begin([worker for worker in workers if not worker.gathers(now)])

        waited = asyncio.get_running_loop().call_later(GATHER_SECONDS, release)
        return release

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
        workers = [worker for worker, _ in touched.values()]
        if closed := {worker.sink.uid for worker in workers if worker.closed() is not None}:
            self._metrics.deferred.inc(sum(delivery.sink in closed for delivery in deliveries))
        self._starts.begin(workers)

    def _changed(self, change: SinkChange) -> None:
        sink = change.after
        if sink is None:
            assert change.before is not None
            self._remove(change.before.uid)
            return
        worker = self._workers.get(sink.uid)
        if worker is None:
            lane = Lane(Pace(self._settings.retry, self._chance), self._windows.memory)
            worker = self._workers[sink.uid] = SinkWorker(sink, lane, self._health_changed, self._wall)
            if (report := self._reported(sink.uid)) is not None:
                worker.resume(report)
            lane.lagging = True  # something may wait, also what was committed just before `load`: it is read first
            if self._outflow.loaded:
                self._outflow.refill(worker)
        else:
            worker.recompiled = True
        self._outflow.leave_lines(worker)
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
        worker.wake_in(None, self._pump)
        self._outflow.leave_lines(worker)
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

    def _spawn(self, work: Awaitable[object]) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work
            except QueueError as error:
                get_logger().error("could not change the queue", reason=str(error))

        task = asyncio.get_running_loop().create_task(guarded())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


async def _close_after(sender: Sender, tasks: set[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks)
    await sender.close()


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
