"""The embedded queue: SQLite in one file, written by one thread that commits everything waiting at once."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Self, TypeVar

from eventsink.router.queue.delivery_log import DeliveryFilter, DeliveryRecord, DeliveryState
from eventsink.router.queue.posts import PostRef
from eventsink.router.queue.protocol import (
    MAX_TAKE_BYTES,
    Arrival,
    Batch,
    DeadLetter,
    Delivery,
    Depth,
    QueueError,
    QueueFull,
    QueueUnavailable,
    Retry,
    Waiting,
)
from eventsink.router.queue.sqlite import dead_letters as dead
from eventsink.router.queue.sqlite.counts import Counts
from eventsink.router.queue.sqlite.dead_letters import CHUNK_ROWS, Death
from eventsink.router.queue.sqlite.file import QueueFile
from eventsink.router.queue.sqlite.housekeeping import Housekeeping
from eventsink.router.queue.sqlite.outcomes import Outcomes
from eventsink.router.queue.sqlite.posts import announced
from eventsink.router.queue.sqlite.puts import Puts, reject
from eventsink.router.queue.sqlite.reader import PageCheck, Reader, Reading
from eventsink.router.queue.sqlite.schema import unusable
from eventsink.router.queue.sqlite.settings import QueueSettings
from eventsink.router.queue.sqlite.store import Store, StoreChange
from eventsink.router.queue.sqlite.writer import RETRY_WRITE_SECONDS, Bind, QueueWrite, TransactionResult, Writer
from eventsink.router.queue.states import AlertState, GroupState, SinkReport, SinkState
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.sinks.post import Post

STATUSES_KNOWN_SECONDS = 900.0
"""A queue that was out of use for longer may be a copy, with which it goes on where another one ended."""

RESOLVED_AT_ONCE = 4
"""Callers that go on in one turn of the event loop: each may send the message that it bound, a quarter of a millisecond."""

T = TypeVar("T")
K = TypeVar("K")


class SqliteQueue:
    """A `Queue` in a file. Make it with `open`."""

    def __init__(
        self, settings: QueueSettings, file: QueueFile, store: Store, monotonic: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._file = file
        self._monotonic = monotonic
        self._wall = wall
        self._clock_offset: float = store.clock - monotonic()
        self._loop = asyncio.get_running_loop()
        self._listeners: list[Callable[[Sequence[Delivery]], None]] = []
        self._dispatch_reader = Reading(settings.path, store.id, "queue-reader")
        self._people_reader = Reading(settings.path, store.id, "queue-look-up")
        """One for each purpose: a long list for a person does not keep dispatch waiting."""
        self._counts = Counts(settings, store)
        unused = store.unused_seconds
        self._statuses_known = unused is not None and abs(unused) < STATUSES_KNOWN_SECONDS
        self._write_error = ""
        self._done: deque[tuple[asyncio.Future[StoreChange], StoreChange]] = deque()
        """Changes that were made, whose callers wait yet."""
        self._resolving = False
        self._closed = False
        self._writer = Writer(store, file, settings.min_free_bytes, self.clock, self._report)
        self._writer.start()
        self._puts = Puts(settings, file, self._counts, self._writer)
        self._outcomes = Outcomes(self._writer)
        self._failure_log = Repeated(60.0)
        self._housekeeping = Housekeeping(settings, file, self._counts, self.clock, self._change)
        self._housekeeper = self._loop.create_task(self._housekeeping.run(), name="queue-housekeeping")
        self._check = PageCheck(settings.path, file) if file.interrupted else None

    @classmethod
    async def open(
        cls,
        settings: QueueSettings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        on_wait: Callable[[str], None] = lambda _holder: None,
        by_tenant: bool = False,
    ) -> Self:
        """Open the file, or make it, as soon as no other process has it.

        Parameters
        ----------
        on_wait
            Called with whoever has it, when the wait begins.
        by_tenant
            Whether what waits is counted by tenant, too (`waiting_of`), which costs a little for each delivery.

        Raises
        ------
        QueueUnavailable
            Another process still has it open, or it cannot be used; the text says what to do.
        """
        file = await QueueFile.open(
            settings.path, accept_loss=settings.accept_loss, lock_timeout=settings.lock_timeout, on_wait=on_wait
        )
        try:
            store = Store(settings.path, expected=file.expected, wall=wall, by_tenant=by_tenant)
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
            self._check_open()
            put, is_first = self._puts.add(batch, undo, now=self._wall(), clock=self.clock())
        except BaseException:
            if undo is not None:
                undo()
            raise
        if is_first:
            # What is put in one turn of the event loop is handed over at once: the more share a commit, the less each costs.
            self._loop.call_soon(self._hand_over_puts)
        return put.future

    async def take(self, sink: str, *, after: int, limit: int, max_bytes: int = MAX_TAKE_BYTES) -> list[Delivery]:
        return await self._read(lambda reader: reader.take(sink, after, limit, max_bytes))

    async def read_bodies(self, seqs: Sequence[int]) -> dict[int, bytes]:
        return await self._read(lambda reader: reader.bodies(seqs))

    async def sinks_waiting(self) -> dict[str, int]:
        return dict(self._counts.waiting_by_sink)

    async def settle(self, delivered: Sequence[int], arrival: Arrival | None = None) -> None:
        if arrival is None:
            self._outcomes.settle(delivered)
            return
        self._check_open()
        self._hand_over()
        self._outcomes.arrived(delivered, arrival, now=self._wall(), clock=self.clock())

    async def retry(self, retries: Sequence[Retry]) -> None:
        self._outcomes.retry(retries)

    async def dead_letter(self, dead_letters: Sequence[DeadLetter]) -> None:
        death = Death(self.clock(), self._wall())
        self._outcomes.hand_over()  # the attempts before this one are counted first
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
        await self._do(Bind(seqs, batch, self._loop.create_future()))

    async def keep_house(self) -> None:
        await self._housekeeping.look()

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
        return self._counts.depth(damaged=bool(self._file.damage))

    def waiting_of(self, tenant: str) -> Waiting:
        return self._counts.waiting_of(tenant)

    def tenants_changed(self) -> set[str]:
        return self._counts.tenants_changed()

    def waiting_for(self, sink: str) -> int:
        return self._counts.waiting_by_sink.get(sink, 0)

    def is_writing(self) -> bool:
        return self._writer.is_busy()

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

    def are_statuses_known(self) -> bool:
        return self._statuses_known

    async def report(self, reports: Sequence[SinkReport], *, removed: Sequence[str] = ()) -> None:
        await self._change(lambda store: store.report(reports, removed), rows=len(reports) + len(removed))

    def has_room_for_bodies(self, *, needed: bool = False) -> bool:
        return self._counts.has_room_for_bodies(needed=needed)

    async def alert_bodies(self, rows: Sequence[int]) -> dict[int, bytes]:
        return await self._read(lambda reader: reader.alert_bodies(rows))

    async def waiting_keys(self, sink: str, *, limit: int) -> set[str]:
        return await self._read(lambda reader: reader.waiting_keys(sink, limit))

    async def forget(self, *, states: Sequence[int] = (), groups: Sequence[int] = (), sinks: Sequence[str] = ()) -> None:
        await self._change(lambda store: store.forget(states, groups, sinks), keep=True)

    async def announced(self, sink: str, destination: str, alerts: Sequence[str]) -> dict[str, PostRef]:
        found: dict[str, PostRef] = {}

        def find(store: Store) -> StoreChange:
            found.update(announced(store.connection, sink, destination, alerts))
            return StoreChange()

        self._outcomes.hand_over()
        await self._change(find)  # by the writer, and so after what was settled before
        return found

    async def post(self, sink: str, identifier: int) -> Post | None:
        return await self._read(lambda reader: reader.post(sink, identifier))

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
        while self._done:
            self._resolve_some()
        self._file.release()

    def _end(self) -> None:
        """The writer last: it, unlike readers, may put the write-ahead log into the file and remove it."""
        if self._check is not None:
            self._check.end()
        self._dispatch_reader.close()
        self._people_reader.close()
        self._writer.end()

    # ---- in the event loop

    async def _change(self, apply: Callable[[Store], StoreChange], *, keep: bool = False, rows: int = 1) -> StoreChange:
        return await self._do(QueueWrite(apply, self._loop.create_future(), keep, rows))

    async def _do(self, change: Bind | QueueWrite) -> StoreChange:
        self._check_open()
        self._puts.hand_over()
        self._writer.do(change)
        return await asyncio.shield(change.future)

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

    def _hand_over_puts(self) -> None:
        self._outcomes.hand_over_with_others()
        self._puts.hand_over()

    def _hand_over(self) -> None:
        """Give the writer all that it has not got yet."""
        self._outcomes.hand_over()
        self._puts.hand_over()

    def _finished(self, outcome: TransactionResult) -> None:
        """The writer's report of one transaction: step the counts, call the listeners, resolve the callers' futures."""
        self._counts.add(outcome.change, outcome.used_bytes)
        committed = self._puts.committed(outcome.puts)
        if outcome.change.new:
            for listener in self._listeners:
                listener(outcome.change.new)
        for put in committed:
            _resolve(put.future, None)
        if outcome.done:
            self._done.extend(outcome.done)
            if not self._resolving:
                self._resolve_some()
        if not isinstance(outcome.error, QueueFull):
            self._write_error = str(outcome.error) if outcome.error is not None else ""
        if outcome.error is not None:
            self._fail(outcome.error, outcome)

    def _resolve_some(self) -> None:
        for _ in range(min(RESOLVED_AT_ONCE, len(self._done))):
            future, change = self._done.popleft()
            _resolve(future, change)
        self._resolving = bool(self._done)
        if self._resolving:
            self._loop.call_soon(self._resolve_some)

    def _fail(self, error: QueueError, outcome: TransactionResult) -> None:
        suppressed = None if isinstance(error, QueueFull) else self._failure_log.due()
        if suppressed is not None:
            get_logger().error("the queue cannot be written", reason=str(error), more=suppressed)
        if outcome.puts_failed:
            self._puts.fail(error)
        for future in outcome.failed:
            reject(future, error)

    def _report(self, outcome: TransactionResult) -> None:
        """In the writer's thread."""
        try:
            self._loop.call_soon_threadsafe(self._finished, outcome)
        except RuntimeError:
            pass  # the loop has ended


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)
