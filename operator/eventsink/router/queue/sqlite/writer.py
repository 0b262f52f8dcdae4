"""The thread that writes the queue's file: everything that waits shares one commit."""

from __future__ import annotations

import asyncio
import queue as thread_queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from eventsink.router.queue.protocol import Batch, QueueDamaged, QueueError, QueueFull, QueueUnavailable
from eventsink.router.queue.sqlite.file import QueueFile
from eventsink.router.queue.sqlite.store import Store, StoreChange
from eventsink.runtime.logs import get_logger

MAX_COMMIT_ROWS = 2000
"""Rows that share one commit: about 10 ms of work."""
ROW_BYTES = 300
"""About what a row takes with its indexes."""
LOOK_AT_SIZE_SECONDS = 0.1
"""Between two looks at the size of the file: three statements that a commit of few rows would feel."""
RETRY_WRITE_SECONDS = 1.0
"""After a failed commit, for changes that must not get lost."""


@dataclass(eq=False, slots=True)
class Put:
    batch: Batch
    now: float
    clock: float
    epoch: int
    future: asyncio.Future[None]
    undo: Callable[[], None] | None
    payload_bytes: int
    """`batch.payload_bytes`."""


@dataclass(eq=False, slots=True)
class Settled:
    """Deliveries that arrived and are to be removed, as soon as storage works; nobody waits for it.

    All of a transaction are removed at once before everything else: what is put in the same transaction cannot have arrived.
    """

    seqs: Sequence[int]


@dataclass(eq=False, slots=True)
class Bind:
    """Deliveries that are sent in the message `batch`; empty: in any."""

    seqs: Sequence[int]
    batch: str
    future: asyncio.Future[StoreChange]


@dataclass(eq=False, slots=True)
class QueueWrite:
    """Any other change; `keep`: must be done once storage works again, since what it records has happened already."""

    apply: Callable[[Store], StoreChange]
    future: asyncio.Future[StoreChange]
    keep: bool
    rows: int = 1
    """About how many it changes."""
    parts: Callable[[], Sequence[QueueWrite]] | None = None
    """Gives the same in smaller parts, of which a damaged file may take some."""


Change = Bind | QueueWrite | Settled
Work = Put | Change


@dataclass(slots=True)
class TransactionResult:
    """What the writer reports to the loop of one transaction."""

    puts: int = 0
    change: StoreChange = field(default_factory=StoreChange)
    done: list[tuple[asyncio.Future[StoreChange], StoreChange]] = field(default_factory=list)
    failed: list[asyncio.Future[StoreChange]] = field(default_factory=list)
    error: QueueError | None = None
    puts_failed: bool = False
    used_bytes: int | None = None


class Writer:
    """Does what it is given, in order; the store is its own.

    Parameters
    ----------
    min_free_bytes
        Of the disk; below it nothing new is stored, so that what arrives can still be recorded.
    clock
        The queue clock, recorded with each commit.
    report
        Called in the writer's thread with the result of each transaction.
    """

    def __init__(
        self,
        store: Store,
        file: QueueFile,
        min_free_bytes: int,
        clock: Callable[[], float],
        report: Callable[[TransactionResult], None],
    ) -> None:
        self._store = store
        self._file = file
        self._min_free_bytes = min_free_bytes
        self._clock = clock
        self._report = report
        self._used_bytes = store.used_bytes()
        self._looked_at = time.monotonic()
        self._failed_epoch = -1
        self._given = self._taken = self._tried = 0
        """How much it was given, how much of that it has begun to write, and how much it has tried to."""
        self._work: thread_queue.SimpleQueue[Work | None] = thread_queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="queue-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def do(self, work: Work) -> None:
        """Hand over; from one thread."""
        self._given += 1
        self._work.put(work)

    def is_busy(self) -> bool:
        """Whether it has not tried yet to write all that it was given."""
        return self._tried != self._given

    def end(self) -> None:
        """Return when everything handed over was tried and the file is closed."""
        self._work.put(None)
        self._thread.join()

    def _write(self) -> None:
        kept: list[Work] = []
        retry_at = 0.0
        closing = False
        while not closing:
            self._tried = self._taken
            work, closing = self._gather(max(0.0, retry_at - time.monotonic()) if kept else None)
            if work:
                failed = self._transact(work)
                if failed and not kept:
                    retry_at = 0.0  # at once, and alone: what came with it may be what the disk has no room for
                kept += failed
            if kept and (closing or time.monotonic() >= retry_at):
                kept = list(self._transact(kept))
                retry_at = time.monotonic() + RETRY_WRITE_SECONDS
        self._store.connection.close()

    def _gather(self, wait: float | None) -> tuple[list[Work], bool]:
        """Everything that waits, up to a bound; while there is nothing, blocks for so many seconds at most (None: for ever)."""
        work: list[Work] = []
        try:
            one = self._work.get(timeout=wait)
        except thread_queue.Empty:
            return work, False
        rows = 0
        while one is not None:
            self._taken += 1
            if isinstance(one, (Settled, Bind)):
                work.append(one)
                rows += len(one.seqs)
            elif isinstance(one, QueueWrite):
                work.append(one)
                rows += one.rows
            elif one.epoch > self._failed_epoch:
                work.append(one)
                rows += one.batch.rows + 1
            if rows >= MAX_COMMIT_ROWS:
                return work, False
            try:
                one = self._work.get_nowait()
            except thread_queue.Empty:
                return work, False
        return work, True

    def _transact(self, work: Sequence[Work]) -> list[Change]:
        """Do it all in one transaction and report; returns what has to be tried again."""
        puts = [one for one in work if isinstance(one, Put)]
        changes = [one for one in work if not isinstance(one, Put)]
        refusal = self._refusal(puts)
        if refusal is not None:
            self._refuse(puts, refusal)
            work, puts = changes, []
            if not work:
                return []
        outcome = TransactionResult()
        store = self._store
        try:
            if store.connection.in_transaction:
                store.rollback()  # one that failed, and could not be rolled back then
            settled = [seq for one in work if isinstance(one, Settled) for seq in one.seqs]
            if settled:
                outcome.change = store.remove(settled)
            for one in work:
                if isinstance(one, Put):
                    store.put(one.batch, outcome.change, now=one.now, clock=one.clock)
                    outcome.puts += 1
                elif isinstance(one, Bind):
                    store.bind(one.seqs, one.batch)
                    outcome.done.append((one.future, StoreChange()))
                elif isinstance(one, QueueWrite):
                    store.write_rows()
                    change = one.apply(store)
                    outcome.done.append((one.future, change))
                    _add(outcome.change, change)
            store.commit(self._clock(), outcome.change)
        except sqlite3.Error as error:
            return self._failed(puts, changes, error)
        except Exception as error:  # a defect must not end the thread: callers would wait for ever
            get_logger().exception("a change of the queue failed")
            self._roll_back()
            self._refuse(puts, QueueUnavailable(f"the change could not be made: {type(error).__name__}"), changes)
            return []
        outcome.used_bytes = self._count_bytes(puts)
        if outcome.puts:
            try:
                self._file.check_still_there()
            except QueueDamaged as gone:
                # Committed to a file that nobody can open again.
                outcome.puts, outcome.change.new = 0, []
                self._report(outcome)
                self._refuse(puts, gone)
                return []
        self._report(outcome)
        return []

    def _count_bytes(self, puts: Sequence[Put]) -> int:
        """What is in the file after these were committed: looked up now and then, in between what was put is added."""
        now = time.monotonic()
        if puts and now - self._looked_at < LOOK_AT_SIZE_SECONDS:
            self._used_bytes += sum([_bytes_of(put) for put in puts]) // 2
            return self._used_bytes
        try:
            self._used_bytes, self._looked_at = self._store.used_bytes(), now
        except sqlite3.Error:
            pass  # what is wrong is said of the next commit; this one was made
        return self._used_bytes

    def _refusal(self, puts: Sequence[Put]) -> QueueError | None:
        """Why these may not be stored."""
        if not puts:
            return None
        if self._file.damage:
            return QueueDamaged(self._file.damage)
        needed = sum(_bytes_of(one) for one in puts)
        free = self._file.room(self._used_bytes) if needed else 0
        if needed and free - needed < self._min_free_bytes:
            return QueueFull(f"the disk of the queue is full: {free} bytes are free (queue.minFreeBytes: {self._min_free_bytes})")
        return None

    def _failed(self, puts: Sequence[Put], changes: Sequence[Change], error: sqlite3.Error) -> list[Change]:
        """The transaction failed; returns what has to be tried again."""
        self._roll_back()
        failure = self._file.failed(error, "written")
        if not isinstance(failure, QueueDamaged):
            self._make_room(error)
            kept: list[Change] = [
                one for one in changes if isinstance(one, Settled) or (isinstance(one, QueueWrite) and one.keep)
            ]
            self._refuse(puts, failure, [one for one in changes if one not in kept])
            return kept
        self._refuse(puts, failure)
        # One unreadable page keeps no other change from being made.
        parts = changes if len(changes) > 1 else _parts(changes[0]) if changes else []
        for part in parts:
            self._transact([part])
        if not parts:
            self._refuse([], failure, changes)
        return []

    def _make_room(self, error: sqlite3.Error) -> None:
        """On a full disk, have the write-ahead log begin again where it is: what records arrivals needs no more space then."""
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            try:
                self._store.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.Error:
                pass  # it is tried again with the next commit

    def _refuse(self, puts: Sequence[Put], error: QueueError, changes: Sequence[Change] = ()) -> None:
        """Report that these were not stored, and never will be."""
        if puts:
            self._failed_epoch = max(self._failed_epoch, *(one.epoch for one in puts))
        failed = [one.future for one in changes if not isinstance(one, Settled)]
        self._report(TransactionResult(error=error, failed=failed, puts_failed=bool(puts)))

    def _roll_back(self) -> None:
        try:
            self._store.rollback()
        except sqlite3.Error:
            pass  # the connection has rolled back by itself, or will before the next transaction


def _parts(change: Change) -> Sequence[Change]:
    """The same in smaller parts; none if it has none."""
    if isinstance(change, Settled):
        return [Settled([seq]) for seq in change.seqs] if len(change.seqs) > 1 else []
    return change.parts() if isinstance(change, QueueWrite) and change.parts is not None else []


def _bytes_of(put: Put) -> int:
    """About what a batch takes, in the file and in its write-ahead log."""
    return 2 * (put.payload_bytes + ROW_BYTES * put.batch.rows)


def _add(total: StoreChange, change: StoreChange) -> None:
    for uid, waiting in change.waiting.items():
        total.count(uid, waiting)
    for tenant, (deliveries, size) in change.tenants.items():
        total.count_of_tenant(tenant, deliveries, size)
    total.dead += change.dead
    total.arrived += change.arrived
    total.evicted += change.evicted
    total.posts_evicted += change.posts_evicted
    total.new += change.new
