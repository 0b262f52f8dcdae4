"""The embedded queue: SQLite in one file, written by one thread that commits everything waiting at once."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from typing import Any, Self, TypeVar

from eventsink.router.queue.protocol import (
    MAX_TAKE_BYTES,
    Arrival,
    Batch,
    DeadLetter,
    Delivery,
    DeliveryFilter,
    DeliveryRecord,
    DeliveryState,
    Depth,
    QueueDamaged,
    QueueError,
    QueueFull,
    QueueUnavailable,
    Retry,
)
from eventsink.router.queue.sqlite import dead_letters as dead
from eventsink.router.queue.sqlite.dead_letters import CHUNK_ROWS, Death
from eventsink.router.queue.sqlite.file import QueueFile
from eventsink.router.queue.sqlite.reader import PageCheck, Reader, Reading
from eventsink.router.queue.sqlite.schema import unusable
from eventsink.router.queue.sqlite.settings import QueueSettings
from eventsink.router.queue.sqlite.store import Store, StoreChange
from eventsink.router.queue.sqlite.writer import RETRY_WRITE_SECONDS, Put, QueueWrite, Settled, TransactionResult, Writer
from eventsink.router.queue.states import AlertState, GroupState, SinkReport, SinkState
from eventsink.runtime.logs import Repeated, get_logger

SETTLE_WITHIN_SECONDS = 0.05
"""What arrived is recorded with the next commit, at the latest after this: a crash in between sends it again."""
HOUSEKEEPING_SECONDS = 5.0
"""Between two looks at the file and the dead letters, and two writes of the clock when nothing else is written."""

DEAD_LETTERS_UP_TO = 0.7
"""Part of `max_bytes` beyond which dead letters make room, the oldest first, however few they are."""
BODIES_UP_TO = 0.5
"""Part of `max_bytes` beyond which the bodies of firing alerts are not kept: what has to be delivered needs the rest."""
NEEDED_BODIES_UP_TO = 0.6
"""The same of bodies that nobody sends again: of held alerts, and of ends that suspended sinks have yet to be notified of."""

T = TypeVar("T")
K = TypeVar("K")


class SqliteQueue:
    """A `Queue` in a file. Make it with `open`."""

    def __init__(
        self, settings: QueueSettings, file: QueueFile, store: Store, monotonic: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._file = file
        self._monotonic = monotonic
        self._wall = wall
        self._clock_offset: float = store.clock - monotonic()
        self._loop = asyncio.get_running_loop()
        self._listeners: list[Callable[[Sequence[Delivery]], None]] = []
        self._pending: deque[Put] = deque()
        self._pending_deliveries = 0
        self._pending_bytes = 0
        self._put_now: list[Put] = []
        """Those of `_pending` that the writer has not got yet."""
        self._epoch = 0
        self._settled: list[int] = []
        self._retries: list[Retry] = []
        self._settle_timer: asyncio.TimerHandle | None = None
        self._dispatch_reader = Reading(settings.path, store.id, "queue-reader")
        self._people_reader = Reading(settings.path, store.id, "queue-look-up")
        """One for each purpose: a long list for a person does not keep dispatch waiting."""
        self._by_sink = store.waiting
        self._waiting, self._dead = sum(self._by_sink.values()), store.dead
        self._used_bytes = store.used_bytes()
        self._write_error = ""
        self._closed = False
        self._writer = Writer(store, file, settings.min_free_bytes, self.clock, self._report)
        self._writer.start()
        self._failure_log = Repeated(60.0)
        self._evicted = 0
        self._sinks_seen = 0
        """Of the sinks in the file, where the last look for those that nothing refers to ended."""
        self._housekeeper = self._loop.create_task(self._keep_house(), name="queue-housekeeping")
        self._check = PageCheck(settings.path, file) if file.interrupted else None

    @classmethod
    async def open(
        cls,
        settings: QueueSettings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        on_wait: Callable[[str], None] = lambda _holder: None,
    ) -> Self:
        """Open the file, or make it, as soon as no other process has it.

        Parameters
        ----------
        on_wait
            Called with whoever has it, when the wait begins.

        Raises
        ------
        QueueUnavailable
            Another process still has it open, or it cannot be used; the text says what to do.
        """
        file = await QueueFile.open(
            settings.path, accept_loss=settings.accept_loss, lock_timeout=settings.lock_timeout, on_wait=on_wait
        )
        try:
            store = Store(settings.path, expected=file.expected)
            file.opened(store.id)
            return cls(settings, file, store, monotonic, wall)
        except sqlite3.Error as error:
            file.release()
            raise unusable(settings.path, error) from None
        except BaseException:
            file.release()
            raise

    # ---- the contract: see router.queue.protocol

    def clock(self) -> float:
        return self._monotonic() + self._clock_offset

    def subscribe(self, listener: Callable[[Sequence[Delivery]], None]) -> None:
        self._listeners.append(listener)

    async def put(self, batch: Batch, undo: Callable[[], None] | None = None) -> None:
        # The commit goes on when the caller is cancelled.
        await asyncio.shield(self.submit(batch, undo))

    def submit(self, batch: Batch, undo: Callable[[], None] | None = None) -> asyncio.Future[None]:
        try:
            payload_bytes = self._admit(batch)
        except BaseException:
            if undo is not None:
                undo()
            raise
        put = Put(batch, self._wall(), self.clock(), self._epoch, self._loop.create_future(), undo, payload_bytes)
        self._pending.append(put)
        self._pending_deliveries += len(batch.deliveries)
        self._pending_bytes += payload_bytes
        # What is put in one turn of the event loop is handed over at once: the more share a commit, the less each costs.
        if not self._put_now:
            self._loop.call_soon(self._hand_over)
        self._put_now.append(put)
        return put.future

    async def take(self, sink: str, *, after: int, limit: int, max_bytes: int = MAX_TAKE_BYTES) -> list[Delivery]:
        return await self._read(lambda reader: reader.take(sink, after, limit, max_bytes))

    async def read_bodies(self, seqs: Sequence[int]) -> dict[int, bytes]:
        return await self._read(lambda reader: reader.bodies(seqs))

    async def sinks_waiting(self) -> dict[str, int]:
        return dict(self._by_sink)

    async def settle(self, delivered: Sequence[int], arrival: Arrival | None = None) -> None:
        if arrival is not None:
            now, clock = self._wall(), self.clock()
            self._check_open()
            self._hand_over()
            self._writer.do(self._arrive(delivered, arrival, now, clock))
            return
        self._settled.extend(delivered)
        self._settle_soon()

    async def retry(self, retries: Sequence[Retry]) -> None:
        self._retries.extend(retries)
        self._settle_soon()

    async def dead_letter(self, dead_letters: Sequence[DeadLetter]) -> None:
        death = Death(self.clock(), self._wall())
        await self._change(lambda store: dead.dead_letter(store, dead_letters, death), keep=True)

    async def dead_letter_sink(self, sink: str, *, reason: str, detail: str) -> int:
        count = 0
        while died := await self.dead_letter_oldest(sink, reason=reason, detail=detail, limit=CHUNK_ROWS):
            count += len(died)
        return count

    async def dead_letter_oldest(
        self, sink: str, *, reason: str, detail: str, limit: int, spare: Collection[int] = frozenset()
    ) -> list[int]:
        death, limit = Death(self.clock(), self._wall(), reason, detail), min(limit, CHUNK_ROWS)
        change = await self._change(
            lambda store: dead.dead_letter_oldest(store, sink, death, limit=limit, spare=spare), keep=True, rows=limit
        )
        return change.died.get(sink, [])

    async def expire(self, *, reason: str, detail: str, limit: int, spare: Collection[int] = frozenset()) -> dict[str, list[int]]:
        death, limit = Death(self.clock(), self._wall(), reason, detail), min(limit, CHUNK_ROWS)
        return (await self._change(lambda store: dead.expire(store, death, limit=limit, spare=spare), rows=limit)).died

    async def bind(self, seqs: Sequence[int], batch: str) -> None:
        await self._change(lambda store: store.bind(seqs, batch))

    async def replay(self, wanted: DeliveryFilter, *, max_age: float, limit: int) -> int:
        if wanted.state not in (None, DeliveryState.DEAD) or wanted.message is not None:
            return 0
        expires, replayed, after = self.clock() + max_age, 0, 0
        # What is replayed gets newer numbers than these: none is replayed twice, though it dies again meanwhile.
        until = (await self._change(lambda store: StoreChange(last=store.seq))).last
        while replayed < limit:
            change = await self._change(
                lambda store, after=after, more=limit - replayed: dead.replay(  # type: ignore[misc]
                    store, wanted, after=after, until=until, expires=expires, limit=more
                ),
                rows=CHUNK_ROWS,
            )
            if not change.new:
                break
            replayed += len(change.new)
            after = change.last
        return replayed

    async def look_up(self, wanted: DeliveryFilter, *, after: int = 0, limit: int) -> list[DeliveryRecord]:
        return await self._read(lambda reader: reader.look_up(wanted, after, limit), self._people_reader)

    def depth(self) -> Depth:
        bounds = self._settings
        fill = max(self._waiting / bounds.max_waiting, self._used_bytes / bounds.max_bytes)
        return Depth(self._waiting, self._dead, self._used_bytes, self._evicted, fill, bool(self._file.damage))

    def problem(self) -> str:
        return self._file.damage or self._write_error

    async def alert_states(self) -> AsyncIterator[AlertState]:
        async for one in self._pages(Reader.alert_states, 0):
            yield one

    async def group_states(self) -> AsyncIterator[GroupState]:
        async for one in self._pages(Reader.group_states, 0):
            yield one

    async def sink_states(self) -> AsyncIterator[SinkState]:
        async for one in self._pages(Reader.sink_states, ""):
            yield one

    async def sink_reports(self) -> AsyncIterator[SinkReport]:
        async for one in self._pages(Reader.sink_reports, ""):
            yield one

    async def report(self, reports: Sequence[SinkReport], *, removed: Sequence[str] = ()) -> None:
        await self._change(lambda store: store.report(reports, removed), rows=len(reports) + len(removed))

    def has_room_for_bodies(self, *, needed: bool = False) -> bool:
        return self._used_bytes <= (NEEDED_BODIES_UP_TO if needed else BODIES_UP_TO) * self._settings.max_bytes

    async def alert_bodies(self, rows: Sequence[int]) -> dict[int, bytes]:
        return await self._read(lambda reader: reader.alert_bodies(rows))

    async def waiting_keys(self, sink: str, *, limit: int) -> set[str]:
        return await self._read(lambda reader: reader.waiting_keys(sink, limit))

    async def forget(self, *, states: Sequence[int] = (), groups: Sequence[int] = (), sinks: Sequence[str] = ()) -> None:
        await self._change(lambda store: store.forget(states, groups, sinks), keep=True)

    async def flush(self) -> None:
        self._hand_over()
        await self._change(lambda _: StoreChange(), keep=True)

    async def close(self) -> None:
        if self._closed:
            return
        self._housekeeper.cancel()
        try:
            async with asyncio.timeout(RETRY_WRITE_SECONDS * 5):
                await self.flush()
        except TimeoutError:
            get_logger().error("the queue was closed with changes that could not be written; they will happen again")
        self._hand_over()  # what came while the rest was written
        self._closed = True
        await self._loop.run_in_executor(None, self._end)
        await asyncio.sleep(0)
        self._file.release()

    def _end(self) -> None:
        """The writer last: it, unlike readers, may put the write-ahead log into the file and remove it."""
        if self._check is not None:
            self._check.end()
        self._dispatch_reader.close()
        self._people_reader.close()
        self._writer.end()

    # ---- in the event loop

    def _admit(self, batch: Batch) -> int:
        """The batch's `payload_bytes`; QueueFull, QueueUnavailable if it cannot be stored now."""
        self._check_open()
        if self._file.damage:
            raise QueueDamaged(self._file.damage)
        payload_bytes = batch.payload_bytes
        # One that is larger by itself is taken while nothing else waits.
        if self._pending_bytes and self._pending_bytes + payload_bytes > self._settings.max_pending_bytes:
            raise QueueFull(f"{self._settings.max_pending_bytes} bytes wait for the disk (queue.maxPendingBytes)")
        if not batch.deliveries:
            return payload_bytes
        if self._waiting + self._pending_deliveries + len(batch.deliveries) > self._settings.max_waiting:
            raise QueueFull(f"the queue is full: {self._settings.max_waiting} deliveries wait (queue.maxWaiting)")
        if self._used_bytes + self._pending_bytes > self._settings.max_bytes:
            raise QueueFull(f"the queue is full: its file holds {self._settings.max_bytes} bytes (queue.maxBytes)")
        return payload_bytes

    async def _change(self, apply: Callable[[Store], StoreChange], *, keep: bool = False, rows: int = 1) -> StoreChange:
        self._check_open()
        operation = QueueWrite(apply, self._loop.create_future(), keep, rows)
        self._hand_over_puts()
        self._writer.do(operation)
        return await asyncio.shield(operation.future)

    def _check_open(self) -> None:
        if self._closed:
            raise QueueUnavailable("the queue is closed")

    async def _read(self, read: Callable[[Reader], T], reading: Reading | None = None) -> T:
        self._check_open()
        reading = reading or self._dispatch_reader
        try:
            return await self._loop.run_in_executor(reading.thread, read, reading.reader)
        except sqlite3.Error as error:
            raise self._file.failed(error, "read") from None

    async def _pages(self, read: Callable[[Reader, K], tuple[list[T], K]], position: K) -> AsyncIterator[T]:
        while True:
            page, after = await self._read(lambda reader, position=position: read(reader, position))  # type: ignore[misc]
            if not page:
                return
            position = after
            for one in page:
                yield one

    def _hand_over(self) -> None:
        """Give the writer all that it has not got yet."""
        self._hand_over_settled()
        self._hand_over_puts()

    def _hand_over_puts(self) -> None:
        puts, self._put_now = self._put_now, []
        for put in puts:
            self._writer.do(put)

    def _hand_over_settled(self) -> None:
        if self._settle_timer is not None:
            self._settle_timer.cancel()
            self._settle_timer = None
        if self._closed:
            return
        if self._retries:
            retries, self._retries = self._retries, []
            self._writer.do(
                QueueWrite(lambda store: store.retry(retries), self._loop.create_future(), keep=False, rows=len(retries))
            )
        if self._settled:
            seqs, self._settled = self._settled, []
            self._writer.do(Settled(seqs))

    def _settle_soon(self) -> None:
        if self._settle_timer is None:
            self._settle_timer = self._loop.call_later(SETTLE_WITHIN_SECONDS, self._hand_over_settled)

    def _arrive(self, seqs: Sequence[int], arrival: Arrival, now: float, clock: float) -> QueueWrite:
        """Record what arrived in one message, whenever storage works; nobody waits for it."""
        write = QueueWrite(
            lambda store: store.arrive(seqs, arrival, now=now, clock=clock), self._loop.create_future(), keep=True, rows=len(seqs)
        )
        if len(seqs) > 1:
            write.parts = lambda: [self._arrive([seq], arrival, now, clock) for seq in seqs]
        return write

    def _finished(self, outcome: TransactionResult) -> None:
        """The writer's report of one transaction: step the counts, call the listeners, resolve the callers' futures."""
        for uid, change_of_sink in outcome.change.waiting.items():
            self._waiting += change_of_sink
            waiting = self._by_sink.get(uid, 0) + change_of_sink
            if waiting:
                self._by_sink[uid] = waiting
            else:
                self._by_sink.pop(uid, None)
        self._dead += outcome.change.dead
        self._evicted += outcome.change.evicted
        if outcome.used_bytes is not None:
            self._used_bytes = outcome.used_bytes
        committed = [self._pending.popleft() for _ in range(outcome.puts)]
        self._pending_deliveries -= sum(len(put.batch.deliveries) for put in committed)
        self._pending_bytes -= sum(put.payload_bytes for put in committed)
        if outcome.change.new:
            for listener in self._listeners:
                listener(outcome.change.new)
        for put in committed:
            _resolve(put.future, None)
        for future, change in outcome.done:
            _resolve(future, change)
        if not isinstance(outcome.error, QueueFull):
            self._write_error = str(outcome.error) if outcome.error is not None else ""
        if outcome.error is not None:
            self._fail(outcome.error, outcome.failed, puts=outcome.puts_failed)

    def _fail(self, error: QueueError, operations: Iterable[asyncio.Future[StoreChange]], *, puts: bool) -> None:
        suppressed = None if isinstance(error, QueueFull) else self._failure_log.due()
        if suppressed is not None:
            get_logger().error("the queue cannot be written", reason=str(error), more=suppressed)
        failed: list[Put] = []
        if puts:
            # All that are pending: the writer skips those of this epoch that it has not come to yet.
            self._epoch += 1
            failed = list(self._pending)
            self._pending.clear()
            self._pending_deliveries = 0
            self._pending_bytes = 0
        for put in reversed(failed):
            if put.undo is not None:
                put.undo()
        futures: list[asyncio.Future[Any]] = [put.future for put in failed]
        for future in [*futures, *operations]:
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen: the caller may be gone

    async def keep_house(self) -> None:
        """Look for the file, and drop what is too much, too old or in the way; done by itself every few seconds.

        Raises
        ------
        QueueUnavailable
            Nothing could be dropped.
        """
        self._file.check_still_there()
        evicted = 0
        while (change := await self._change(self._evict, rows=2 * CHUNK_ROWS)).evicted or change.arrived:
            evicted += change.evicted
        if evicted:
            get_logger().warning("dead letters were dropped: too many or too old", count=evicted)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            try:
                await self.keep_house()
            except QueueUnavailable:
                pass  # it is tried again, and whatever else fails is logged

    def _evict(self, store: Store) -> StoreChange:
        clock, settings = self.clock(), self._settings
        crowded = self._used_bytes > DEAD_LETTERS_UP_TO * settings.max_bytes
        change = dead.evict_dead(store, keep=0 if crowded else settings.max_dead, before=clock - settings.dead_letter_age)
        change.arrived = -dead.evict_arrived(store, keep=settings.max_arrived, before=clock - settings.arrived_age)
        self._sinks_seen = dead.evict_sinks(store, self._sinks_seen)
        return change

    def _report(self, outcome: TransactionResult) -> None:
        """In the writer's thread."""
        try:
            self._loop.call_soon_threadsafe(self._finished, outcome)
        except RuntimeError:
            pass  # the loop has ended


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)
