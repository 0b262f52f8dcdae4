"""The thread that writes the queue's file: everything that waits shares one commit."""

from __future__ import annotations

import asyncio
import queue as thread_queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from eventsink.router.queue.protocol import Batch, QueueUnavailable
from eventsink.router.queue.sqlite.store import Store, StoreChange
from eventsink.runtime.logs import get_logger

MAX_COMMIT_ROWS = 2000
"""Rows that share one commit: about 10 ms of work."""
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
class QueueWrite:
    """Any other change; `keep`: must be done once storage works again, since what it records has happened already."""

    apply: Callable[[Store], StoreChange]
    future: asyncio.Future[StoreChange]
    keep: bool
    rows: int = 1
    """About how many it changes."""


@dataclass(slots=True)
class TransactionResult:
    """What the writer reports to the loop of one transaction."""

    puts: int = 0
    change: StoreChange = field(default_factory=StoreChange)
    done: list[tuple[asyncio.Future[StoreChange], StoreChange]] = field(default_factory=list)
    failed: list[asyncio.Future[StoreChange]] = field(default_factory=list)
    error: QueueUnavailable | None = None
    puts_failed: bool = False
    used_bytes: int | None = None


class Writer:
    """Does what it is given, in order; the store is its own.

    Parameters
    ----------
    clock
        The queue clock, recorded with each commit.
    report
        Called in the writer's thread with the result of each transaction.
    """

    def __init__(self, store: Store, clock: Callable[[], float], report: Callable[[TransactionResult], None]) -> None:
        self._store = store
        self._clock = clock
        self._report = report
        self._failed_epoch = -1
        self._work: thread_queue.SimpleQueue[Put | QueueWrite | None] = thread_queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="queue-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def do(self, work: Put | QueueWrite) -> None:
        """Hand over; from any thread."""
        self._work.put(work)

    def end(self) -> None:
        """Return when everything handed over was tried and the file is closed."""
        self._work.put(None)
        self._thread.join()

    def _write(self) -> None:
        kept: list[QueueWrite] = []
        while True:
            work, closing = self._gather(kept)
            kept = []
            if work:
                kept = self._transact(work)
            if closing:
                self._store.connection.close()
                return

    def _gather(self, kept: list[QueueWrite]) -> tuple[list[Put | QueueWrite], bool]:
        """Everything that waits, up to a bound; blocks while there is nothing."""
        work: list[Put | QueueWrite] = list(kept)
        try:
            one = self._work.get(timeout=RETRY_WRITE_SECONDS if kept else None)
        except thread_queue.Empty:
            return work, False
        rows = 0
        while one is not None:
            if not isinstance(one, Put):
                work.append(one)
                rows += one.rows
            elif one.epoch > self._failed_epoch:
                work.append(one)
                rows += len(one.batch.deliveries) + len(one.batch.states) + 1
            if rows >= MAX_COMMIT_ROWS:
                return work, False
            try:
                one = self._work.get_nowait()
            except thread_queue.Empty:
                return work, False
        return work, True

    def _transact(self, work: list[Put | QueueWrite]) -> list[QueueWrite]:
        """Do it all in one transaction and report; returns what has to be tried again."""
        outcome = TransactionResult()
        store = self._store
        try:
            store.begin()
            for one in work:
                if isinstance(one, Put):
                    change = store.put(one.batch, now=one.now, clock=one.clock)
                    outcome.puts += 1
                else:
                    change = one.apply(store)
                    outcome.done.append((one.future, change))
                _add(outcome.change, change)
            outcome.used_bytes = store.used_bytes()
            store.commit(self._clock(), outcome.change)
        except sqlite3.Error as error:
            return self._roll_back(work, QueueUnavailable(f"the storage failed: {error}"))
        except Exception as error:  # a defect must not end the thread: callers would wait for ever
            get_logger().exception("a change of the queue failed")
            return self._roll_back(work, QueueUnavailable(f"the change could not be made: {type(error).__name__}"), drop=True)
        self._report(outcome)
        return []

    def _roll_back(self, work: list[Put | QueueWrite], error: QueueUnavailable, *, drop: bool = False) -> list[QueueWrite]:
        try:
            self._store.rollback()
        except sqlite3.Error:
            pass  # the connection has rolled back by itself, or will at the next begin
        epochs = [one.epoch for one in work if isinstance(one, Put)]
        self._failed_epoch = max(epochs, default=self._failed_epoch)
        operations = [one for one in work if isinstance(one, QueueWrite)]
        kept = [one for one in operations if one.keep and not drop]
        failed = [one.future for one in operations if one not in kept]
        self._report(TransactionResult(error=error, failed=failed, puts_failed=bool(epochs)))
        return kept


def _add(total: StoreChange, change: StoreChange) -> None:
    for uid, waiting in change.waiting.items():
        total.count(uid, waiting)
    total.dead += change.dead
    total.arrived += change.arrived
    total.evicted += change.evicted
    total.new += change.new
