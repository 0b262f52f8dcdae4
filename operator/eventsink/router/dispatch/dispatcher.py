"""Sends what waits: one lane for each sink, so that a slow or dead one delays no other."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from eventsink.destinations.senders import UnsupportedSink
from eventsink.router.directory import SinkChange, SinkDirectory
from eventsink.router.dispatch.health import DeliveringState, SinkHealth
from eventsink.router.dispatch.lane import Item, Lane, Limits, Parcel
from eventsink.router.dispatch.rate_limiter import Pace
from eventsink.router.dispatch.window import LOOK_UP_AGAIN_SECONDS, Windows
from eventsink.router.dispatch.worker import DispatchSettings, Station
from eventsink.router.metrics import DispatchMetrics
from eventsink.router.queue.protocol import Arrival, DeadLetter, Delivery, PayloadKind, Queue, QueueError, Retry
from eventsink.runtime.logs import get_logger
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, Outcome, Sender
from eventsink.sinks.sink import Sink

EXPIRED_AT_ONCE = 500

OpenSender = Callable[[Sink], Sender]
Attempted = Callable[[Sequence[str], Outcome, bool], None]
"""Hears of one attempt: the keys of the deliveries in the message, what became of it, and whether everything to the sink fails."""


class Dispatcher:
    """Hears of committed deliveries from the queue, of sinks from the directory, and sends.

    Parameters
    ----------
    open_sender
        Opens a sink's sender; raises `UnsupportedSink`.
    health_changed
        Called with the sink when what is told of it changed.
    on_gone
        Called with the uid of a sink that is gone, after its deliveries were dead-lettered.
    """

    def __init__(
        self,
        settings: DispatchSettings,
        queue: Queue,
        directory: SinkDirectory,
        open_sender: OpenSender,
        metrics: DispatchMetrics,
        *,
        health_changed: Callable[[Sink, SinkHealth], None] = lambda _sink, _health: None,
        on_gone: Callable[[str], None] = lambda _uid: None,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._directory = directory
        self._open_sender = open_sender
        self._metrics = metrics
        self._health_changed = health_changed
        self._on_gone = on_gone
        self._wall = wall
        self._chance = chance
        self._stations: dict[str, Station] = {}
        self._in_flight = 0
        self._full: dict[str, None] = {}
        """Sinks that wait for a place among all messages on their way, in order."""
        self._pace = Pace(settings.rate_limit_interval)
        self._background: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._loaded = False
        self._watchers: dict[str, list[Attempted]] = {}
        self._windows = Windows(settings, queue, self._stations, self._spawn, self._pump)
        queue.subscribe(self._committed)
        directory.subscribe(self._changed)

    # ---- what others ask

    def health(self, uid: str) -> SinkHealth | None:
        """How delivery to a sink goes; None for an unknown one."""
        station = self._stations.get(uid)
        return station.health() if station is not None else None

    def held_sinks(self) -> int:
        """How many sinks are held because of a failure."""
        return sum(bool(station.lane.held) for station in self._stations.values())

    def oldest(self) -> float:
        """Age in seconds of the oldest waiting delivery."""
        ages = [created for station in self._stations.values() if (created := station.lane.oldest()) is not None]
        return max(0.0, self._wall() - min(ages)) if ages else 0.0

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def blocked(self, uid: str) -> str:
        """Why nothing may be sent to a sink, whatever waits; empty: it may."""
        station = self._stations.get(uid)
        if station is None:
            return "the sink is gone"
        return station.message if station.lane.blocked else ""

    def last_error(self, uid: str) -> str:
        """`<reason>: <message>` of the last failure that no success followed; empty: none."""
        station = self._stations.get(uid)
        return station.last_error if station is not None else ""

    def watch(self, uid: str, attempted: Attempted) -> Callable[[], None]:
        """Have `attempted` called after each attempt to send to a sink; returns what ends that."""
        watchers = self._watchers.setdefault(uid, [])
        watchers.append(attempted)

        def end() -> None:
            watchers.remove(attempted)
            if not watchers and self._watchers.get(uid) is watchers:
                del self._watchers[uid]

        return end

    def probe(self, uid: str) -> None:
        """Try a sink at once to which everything failed: somebody wants to know whether it is mended."""
        station = self._stations.get(uid)
        if station is not None:
            station.lane.probe(self._queue.clock())
            self._pump(station)

    # ---- life

    async def load(self) -> None:
        """Take up what waits since before the start; the directory is loaded."""
        self._loaded = True
        for uid in await self._queue.sinks_waiting():
            station = self._stations.get(uid)
            if station is not None:
                station.lane.lagging = True
                self._refill(station)
            elif uid not in self._directory.withheld:
                await self._dead_letter_sink(uid)
        for uid in await self._queue.held():
            if uid not in self._stations:
                await self._queue.hold(uid, "")

    async def watch_expiry(self) -> None:
        """Dead-letter what has become too old, for ever."""
        while True:
            await asyncio.sleep(self._settings.expiry_interval)
            try:
                await self._expire()
            except QueueError as error:
                get_logger().warning("old deliveries could not be looked for", reason=str(error))

    async def stop(self, grace: float) -> None:
        """Send nothing new, let what is on its way finish, for `grace` seconds at most."""
        self._stopping = True
        for station in self._stations.values():
            if station.timer is not None:
                station.timer.cancel()
        sending = [task for station in self._stations.values() for task in station.tasks]
        if sending:
            _, late = await asyncio.wait(sending, timeout=grace)
            await _cancel(late)
        await _cancel(self._background)
        for station in self._stations.values():
            if station.sender is not None:
                await station.sender.close()

    # ---- what is heard

    def _committed(self, deliveries: Sequence[Delivery]) -> None:
        touched: dict[str, tuple[Station, int]] = {}
        """Sink -> its station, and how many deliveries it may have in memory."""
        gone: set[str] = set()
        for delivery in deliveries:
            known = touched.get(delivery.sink)
            if known is None:
                station = self._stations.get(delivery.sink)
                if station is None:
                    gone.add(delivery.sink)
                    continue
                known = touched[delivery.sink] = (station, self._windows.room(station.lane))
            station, room = known
            lane = station.lane
            if delivery.seq <= lane.last_seq:
                continue  # it was read from the queue a moment ago
            if lane.lagging or len(lane) >= room:
                lane.lagging = station.missed = True
            else:
                lane.add((delivery,))
        for uid in gone - self._directory.withheld:
            self._spawn(self._dead_letter_sink(uid))
        for station, _ in touched.values():
            self._pump(station)

    def _changed(self, change: SinkChange) -> None:
        sink = change.after
        if sink is None:
            assert change.before is not None
            self._remove(change.before.uid)
            return
        station = self._stations.get(sink.uid)
        if station is None:
            station = self._stations[sink.uid] = Station(sink, Lane(self._settings.retry, self._chance))
            if self._loaded:
                station.lane.lagging = True  # something may wait: the sink may have been unreadable for a while
                self._refill(station)
        self._open(station, sink)
        if station.lane.held:
            self._spawn(self._queue.hold(sink.uid, ""))
        station.lane.mended()
        self._pump(station)

    def _open(self, station: Station, sink: Sink) -> None:
        """Use the sink as it is now; what is on its way finishes with the old sender."""
        old, station.sender, station.sink = station.sender, None, sink
        lane = station.lane
        if station.place:
            self._pace.leave(station.place, sink.uid)
        station.place = sink.dispatch.rate_limit_key if sink.target is not None else ""
        lane.limits = Limits(sink.dispatch.concurrency or self._settings.concurrency, sink.dispatch.batch)
        lane.blocked = ""
        if sink.suspend:
            lane.blocked = "Suspended"
            self._tell(station, DeliveringState.UNKNOWN, "Suspended", "the sink is suspended: nothing is queued and nothing sent")
        elif sink.withdrawn is not None:
            lane.blocked = "Withdrawn"
            text = f"the sink may not send at present ({sink.withdrawn.reason}); its deliveries are held"
            self._tell(station, DeliveringState.FALSE, "Withdrawn", text)
        else:
            try:
                station.sender = self._open_sender(sink)
            except UnsupportedSink as error:
                lane.blocked = "Unsupported"
                self._tell(station, DeliveringState.FALSE, "Unsupported", str(error))
            else:
                if station.reason in ("Suspended", "Withdrawn", "Unsupported"):
                    self._tell(station, DeliveringState.UNKNOWN, "NothingSent", "nothing was sent since the sink was changed")
        if old is not None:
            self._spawn(_close_after(old, set(station.tasks)))

    def _remove(self, uid: str) -> None:
        station = self._stations.pop(uid, None)
        if station is None:
            return
        if station.timer is not None:
            station.timer.cancel()
        if station.place:
            self._pace.leave(station.place, uid)
        for task in station.tasks:
            task.cancel()
        if station.sender is not None:
            self._spawn(_close_after(station.sender, set(station.tasks)))
        self._full.pop(uid, None)
        self._spawn(self._dead_letter_sink(uid))

    async def _dead_letter_sink(self, uid: str) -> None:
        count = await self._queue.dead_letter_sink(
            uid, reason="SinkDeleted", detail="the EventSink was deleted before this was delivered"
        )
        self._on_gone(uid)
        if count:
            self._metrics.dead.labels("SinkDeleted").inc(count)
            get_logger().info("the deliveries of a deleted sink became dead letters", sink=uid, count=count)

    # ---- sending

    def _pump(self, station: Station) -> None:
        """Send what may leave now, and wake up for what may leave later."""
        if self._stopping or self._stations.get(station.sink.uid) is not station:
            return
        lane = station.lane
        while self._in_flight < self._settings.max_in_flight:
            now = self._queue.clock()
            parcel = lane.pick(now) if self._may_send(station, now) else None
            if parcel is None:
                break
            self._in_flight += 1
            task = asyncio.get_running_loop().create_task(self._send(station, parcel))
            station.tasks.add(task)
            task.add_done_callback(station.tasks.discard)
        else:
            self._full[station.sink.uid] = None
        if lane.lagging and len(lane) <= self._windows.room(lane) // 2:
            self._refill(station)
        self._set_timer(station)

    def _refill(self, station: Station) -> None:
        if not self._stopping:
            self._windows.refill(station)

    def _may_send(self, station: Station, now: float) -> bool:
        """Whether the sink has its turn at the place that it shares with others, if there is one."""
        if not station.place:
            return True
        station.turn_at = 0.0
        wake = station.lane.wake_at()
        if wake is None or wake > now:
            self._pace.leave(station.place, station.sink.uid)
            return False
        turn = self._pace.turn(station.place, station.sink.uid, now)
        station.turn_at = turn or 0.0
        return turn is None

    def _set_timer(self, station: Station) -> None:
        if station.timer is not None:
            station.timer.cancel()
            station.timer = None
        wake = station.lane.wake_at()
        if wake is not None:
            wait = max(0.0, max(wake, station.turn_at) - self._queue.clock())
            station.timer = asyncio.get_running_loop().call_later(wait, self._pump, station)

    async def _send(self, station: Station, parcel: Parcel) -> None:
        """One attempt of one parcel, and what follows from it."""
        try:
            outcome = await self._attempt(station, parcel)
            if outcome is not None:
                # Who begins to watch while this is recorded means a later attempt.
                watchers = tuple(self._watchers.get(station.sink.uid, ()))
                await self._settle(station, parcel, outcome)
                self._tell_watchers(watchers, station, parcel, outcome)
        except QueueError as error:
            get_logger().error(
                "what became of a message could not be noted; it is sent again", reason=str(error), sink=station.sink.uid
            )
        finally:
            self._in_flight -= 1
            if station.place:
                # Counted from the answer: however long the way there takes, two messages never arrive closer together.
                self._pace.hold(station.place, self._queue.clock() + self._settings.rate_limit_interval)
            self._pump(station)
            self._pump_next()

    async def _attempt(self, station: Station, parcel: Parcel) -> Outcome | None:
        """Send a parcel; None: it was not sent, and does not wait any longer or waits as before."""
        sink, sender = station.sink, station.sender
        strangers = [item for item in parcel.items if (item.delivery.sink, item.delivery.tenant) != (sink.uid, sink.tenant)]
        if strangers:
            station.lane.drop(parcel)
            await self._dead_letter_strangers(parcel)
            return None
        try:
            if sender is None:
                station.lane.returned(parcel)
                return None
            if station.lane.limits.batch > 1 and not parcel.bound and self._is_of_alerts(parcel):
                await self._queue.bind(parcel.seqs, parcel.id)
                parcel.bound = True
            outcome = await sender.send(message_of(parcel, batching=parcel.bound))
        except QueueError:
            station.lane.returned(parcel, not_before=self._queue.clock() + LOOK_UP_AGAIN_SECONDS)
            raise
        except Exception as error:  # a sender must not raise; if one does, its parcel must not come back at once, for ever
            get_logger().exception("a sender failed", **_names(sink))
            outcome = Failed(FailureClass.TRANSIENT, "InternalError", f"the router failed to send it ({type(error).__name__})")
        except BaseException:
            station.lane.returned(parcel)
            raise
        self._metrics.attempt(sink.type, "delivered" if isinstance(outcome, Delivered) else outcome.failure.value).inc()
        return outcome

    @staticmethod
    def _is_of_alerts(parcel: Parcel) -> bool:
        return parcel.items[0].delivery.kind is PayloadKind.ALERT

    async def _settle(self, station: Station, parcel: Parcel, outcome: Outcome) -> None:
        if isinstance(outcome, Delivered):
            await self._arrived(station, parcel, outcome)
            return
        self._metrics.failures.labels(outcome.failure.value, outcome.reason).inc()
        lane, now = station.lane, self._queue.clock()
        station.last_error = f"{outcome.reason}: {outcome.message}"
        if outcome.failure is FailureClass.MESSAGE:
            await self._refused(station, parcel, outcome)
        elif outcome.failure is FailureClass.SINK:
            was_held = lane.held
            due = lane.failed_for_the_sink(parcel, outcome, now)
            self._tell(
                station, DeliveringState.FALSE, outcome.reason, f"{outcome.message}; everything waits, and it is tried again"
            )
            if was_held != outcome.reason:
                get_logger().warning("a sink is held", reason=outcome.reason, **_names(station.sink))
                await self._queue.hold(station.sink.uid, outcome.reason)
            await self._queue.retry([Retry(seq, due, outcome.reason) for seq in parcel.seqs])
        else:
            if lane.held:
                await self._queue.hold(station.sink.uid, "")
            due = lane.failed_transiently(parcel, outcome, now)
            if station.place and outcome.retry_after:
                self._pace.hold(station.place, now + outcome.retry_after)
            if lane.slow:
                self._tell(station, DeliveringState.FALSE, outcome.reason, f"{outcome.message}; it is tried again")
            await self._queue.retry([Retry(seq, due, outcome.reason) for seq in parcel.seqs])

    async def _arrived(self, station: Station, parcel: Parcel, delivered: Delivered) -> None:
        was_held = station.lane.held
        station.lane.delivered(parcel)
        now = self._wall()
        for item in parcel.items:
            self._metrics.latency.observe(max(0.0, now - item.delivery.created))
        self._metrics.delivered_of(station.sink.type).inc(len(parcel.items))
        station.last_delivered, station.last_error = now, ""
        self._tell(station, DeliveringState.TRUE, "Delivered", "the last message arrived")
        if was_held:
            get_logger().info("a sink is no longer held", **_names(station.sink))
            await self._queue.hold(station.sink.uid, "")
        arrival = Arrival(parcel.id, delivered.reference) if station.sink.dispatch.keeps_receipts else None
        await self._queue.settle(parcel.seqs, arrival)

    async def _refused(self, station: Station, parcel: Parcel, failed: Failed) -> None:
        dead = station.lane.failed_for_good(parcel)
        if not dead:
            await self._queue.bind(parcel.seqs, "")  # taken apart: each is sent alone
            return
        await self._dead_letter(dead, failed.reason, failed.message)
        get_logger().warning("a message became a dead letter", reason=failed.reason, delivery=parcel.id, **_names(station.sink))

    async def _dead_letter_strangers(self, parcel: Parcel) -> None:
        get_logger().error("a delivery does not belong to its sink and was not sent", delivery=parcel.id)
        await self._dead_letter(parcel.items, "TenantMismatch", "the sink's tenant is not the one that this was queued for")

    async def _dead_letter(self, items: Iterable[Item], reason: str, detail: str) -> None:
        dead_letters = [DeadLetter(item.delivery.seq, reason, detail) for item in items]
        self._metrics.dead.labels(reason).inc(len(dead_letters))
        await self._queue.dead_letter(dead_letters)

    def _pump_next(self) -> None:
        """A place became free: whoever waited longest for one gets it."""
        while self._full and self._in_flight < self._settings.max_in_flight:
            uid = next(iter(self._full))
            del self._full[uid]
            station = self._stations.get(uid)
            if station is not None:
                self._pump(station)

    async def _expire(self) -> None:
        old = await self._queue.expired(limit=EXPIRED_AT_ONCE)
        for delivery in old:
            station = self._stations.get(delivery.sink)
            if station is not None and station.lane.knows(delivery.seq):
                item, void = station.lane.expire(delivery.seq)
                if item is None:
                    continue  # on its way
                if void:
                    await self._queue.bind(void, "")
            await self._dead_letter([Item(delivery)], "MaxAge", "it could not be delivered within the sink's maxAge")
            if station is not None:
                self._pump(station)

    # ---- telling

    def _tell(self, station: Station, state: DeliveringState, reason: str, message: str) -> None:
        changed = (state, reason) != (station.state, station.reason)
        station.state, station.reason, station.message = state, reason, message
        if changed:
            self._health_changed(station.sink, station.health())

    @staticmethod
    def _tell_watchers(watchers: Iterable[Attempted], station: Station, parcel: Parcel, outcome: Outcome) -> None:
        if isinstance(outcome, Failed) and outcome.failure is FailureClass.MESSAGE and len(parcel.items) > 1:
            return  # it is taken apart: which of them was meant shows later
        keys = [item.delivery.key for item in parcel.items]
        for attempted in watchers:
            attempted(keys, outcome, station.lane.slow)

    def _spawn(self, work: Awaitable[object]) -> None:
        async def guarded() -> None:
            try:
                await work
            except QueueError as error:
                get_logger().error("the queue could not be changed", reason=str(error))

        task = asyncio.get_running_loop().create_task(guarded())
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def message_of(parcel: Parcel, *, batching: bool) -> Message:
    """What is sent of a parcel: the same each time."""
    first = parcel.items[0].delivery
    if first.kind is PayloadKind.GROUP:
        return Message(id=parcel.id, group=first.body)
    return Message(id=parcel.id, alerts=[item.delivery.body for item in parcel.items], batched=batching)


def _names(sink: Sink) -> dict[str, str]:
    return {"sink": f"{sink.namespace}/{sink.name}", "uid": sink.uid, "tenant": sink.tenant}


async def _close_after(sender: Sender, tasks: set[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks)
    await sender.close()


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
