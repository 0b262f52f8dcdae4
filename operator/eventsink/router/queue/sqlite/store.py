"""The statements that change the queue's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from eventsink.router.queue.protocol import (
    Arrival,
    Batch,
    DeadLetter,
    Delivery,
    DeliveryFilter,
    DeliveryState,
    NotificationLogEntry,
    Retry,
)
from eventsink.router.queue.sqlite.reader import conditions, delivery_id, select_deliveries
from eventsink.router.queue.sqlite.schema import (
    DELETE_LOG_ENTRY,
    DELETE_LOG_OF_SINK,
    UPSERT_LOG_ENTRY,
    connect,
    prepare,
    unusable,
)

EVICTED_AT_ONCE = 1000
VARIABLES_PER_STATEMENT = 500
"""Below SQLite's own limit of values in one statement, and few enough to be prepared quickly."""


@dataclass(slots=True)
class StoreChange:
    """What one transaction changed in the counts."""

    waiting: int = 0
    dead: int = 0
    new: list[Delivery] = field(default_factory=list)
    """Deliveries that wait from now on."""
    evicted: int = 0
    """Dead letters that were dropped for newer ones."""


class Store:
    """The writing half: each method is part of a transaction that the caller begins and commits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = connect(path)
        try:
            prepare(self.connection, path)
        except BaseException as error:
            self.connection.close()
            if isinstance(error, sqlite3.Error):
                raise unusable(path, error) from None
            raise
        self.id, self.clock, self.seq = self.connection.execute("SELECT store, clock, seq FROM meta").fetchone()
        shared = self.connection.execute("SELECT payload, count(*) FROM deliveries GROUP BY payload HAVING count(*) > 1")
        self._shared: dict[int, int] = dict(shared)
        self._next_payload = self.connection.execute("SELECT coalesce(max(id), 0) + 1 FROM payloads").fetchone()[0]
        self._before: dict[int, int | None] = {}
        """What the open transaction changed in `_shared`, as it was before."""
        self._committed = (self.seq, self._next_payload)

    def begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(self, clock: float) -> None:
        self.connection.execute("UPDATE meta SET clock = ?, seq = ?", (clock, self.seq))
        self.connection.execute("COMMIT")
        self._committed = (self.seq, self._next_payload)
        self._before.clear()

    def rollback(self) -> None:
        """Undo everything since `begin`, in the file and in what is counted beside it."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        self.seq, self._next_payload = self._committed
        for payload, count in self._before.items():
            self._set_shared(payload, count)
        self._before.clear()

    def put(self, batch: Batch, *, now: float, clock: float) -> StoreChange:
        first = self._next_payload
        references = [0] * len(batch.payloads)
        rows = []
        change = StoreChange(waiting=len(batch.deliveries))
        for new in batch.deliveries:
            self.seq += 1
            references[new.payload] += 1
            payload = batch.payloads[new.payload]
            expires = clock + new.max_age
            rows.append((self.seq, first + new.payload, new.sink, new.tenant, new.key, new.status, now, expires))
            change.new.append(
                Delivery(
                    seq=self.seq,
                    id=delivery_id(self.id, self.seq),
                    sink=new.sink,
                    tenant=new.tenant,
                    key=new.key,
                    status=new.status,
                    kind=payload.kind,
                    body=payload.body,
                    created=now,
                    expires=expires,
                )
            )
        used = [(first + n, p.kind.value, p.name, p.body) for n, p in enumerate(batch.payloads) if references[n]]
        self._next_payload += len(batch.payloads)
        for number, count in enumerate(references, first):
            if count > 1:
                self._count(number, count)
        execute = self.connection.executemany
        execute("INSERT INTO payloads VALUES (?, ?, ?, ?)", used)
        execute(
            "INSERT INTO deliveries (seq, payload, sink, tenant, key, status, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        execute(
            UPSERT_LOG_ENTRY,
            [(e.sink, e.destination, e.fingerprint, e.status, e.starts_at, e.notified_at) for e in batch.log_entries],
        )
        return change

    def settle(self, seqs: Sequence[int]) -> StoreChange:
        return self._remove(seqs, "died IS NULL", StoreChange())

    def arrive(self, seqs: Sequence[int], arrival: Arrival, *, now: float) -> StoreChange:
        """`settle`, and record in which message they arrived."""
        self.connection.executemany(
            "INSERT OR REPLACE INTO arrivals SELECT d.seq, d.origin, d.sink, d.tenant, d.key, p.name, d.status, d.created, d.attempts, "
            "?, ?, ? FROM deliveries d JOIN payloads p ON p.id = d.payload WHERE d.seq = ? AND d.died IS NULL",
            [(now, arrival.message, arrival.reference, seq) for seq in seqs],
        )
        return self.settle(seqs)

    def retry(self, retries: Sequence[Retry]) -> StoreChange:
        self.connection.executemany(
            "UPDATE deliveries SET attempts = attempts + 1, due = ?, reason = ? WHERE seq = ? AND died IS NULL",
            [(r.due, r.reason, r.seq) for r in retries],
        )
        return StoreChange()

    def dead_letter(self, dead_letters: Sequence[DeadLetter], *, now: float) -> StoreChange:
        cursor = self.connection.executemany(
            "UPDATE deliveries SET died = ?, reason = ?, detail = ?, batch = '' WHERE seq = ? AND died IS NULL",
            [(now, d.reason, d.detail, d.seq) for d in dead_letters],
        )
        return StoreChange(waiting=-cursor.rowcount, dead=cursor.rowcount)

    def dead_letter_sink(self, sink: str, reason: str, detail: str, *, now: float) -> StoreChange:
        cursor = self.connection.execute(
            "UPDATE deliveries SET died = ?, reason = ?, detail = ?, batch = '' WHERE sink = ? AND died IS NULL",
            (now, reason, detail, sink),
        )
        self.connection.execute(DELETE_LOG_OF_SINK, (sink,))
        return StoreChange(waiting=-cursor.rowcount, dead=cursor.rowcount)

    def bind(self, seqs: Sequence[int], batch: str) -> StoreChange:
        self.connection.executemany("UPDATE deliveries SET batch = ? WHERE seq = ?", [(batch, seq) for seq in seqs])
        return StoreChange()

    def forget(self, entries: Sequence[NotificationLogEntry]) -> StoreChange:
        self.connection.executemany(DELETE_LOG_ENTRY, [(e.sink, e.destination, e.fingerprint) for e in entries])
        return StoreChange()

    def replay(self, wanted: DeliveryFilter, *, expires: float, limit: int) -> StoreChange:
        if wanted.state not in (None, DeliveryState.DEAD) or wanted.message is not None:
            return StoreChange()
        where, values = conditions(replace(wanted, state=DeliveryState.DEAD), self.id)
        rows = self.connection.execute(f"SELECT d.seq FROM deliveries d WHERE {where} ORDER BY d.seq LIMIT ?", (*values, limit))  # noqa: S608 - fixed texts
        change = StoreChange()
        for (seq,) in rows.fetchall():
            self.seq += 1
            self.connection.execute(
                "UPDATE deliveries SET seq = ?, origin = coalesce(origin, seq), died = NULL, due = 0, attempts = 0, "
                "batch = '', reason = '', detail = '', expires = ? WHERE seq = ?",
                (self.seq, expires, seq),
            )
            change.new.extend(self._deliveries("d.seq = ?", (self.seq,)))
        change.waiting, change.dead = len(change.new), -len(change.new)
        return change

    def evict_dead(self, *, keep: int, born_before: float) -> StoreChange:
        """Drop dead letters that died before a time, and the oldest beyond `keep`; a bounded number at once."""
        count = self.connection.execute("SELECT count(*) FROM deliveries WHERE died IS NOT NULL").fetchone()[0]
        old = self.connection.execute(
            "SELECT seq FROM deliveries WHERE died IS NOT NULL AND died < ? ORDER BY died LIMIT ?", (born_before, EVICTED_AT_ONCE)
        ).fetchall()
        if not old and count > keep:
            old = self.connection.execute(
                "SELECT seq FROM deliveries WHERE died IS NOT NULL ORDER BY died LIMIT ?", (min(count - keep, EVICTED_AT_ONCE),)
            ).fetchall()
        change = self._remove((seq for (seq,) in old), "died IS NOT NULL", StoreChange())
        change.evicted = len(old)
        return change

    def evict_arrived(self, *, keep: int, before: float) -> None:
        """Drop records of what arrived before a time, and the oldest beyond `keep`; a bounded number at once."""
        count = self.connection.execute("SELECT count(*) FROM arrivals").fetchone()[0]
        self.connection.execute(
            "DELETE FROM arrivals WHERE seq IN (SELECT seq FROM arrivals WHERE arrived < ? ORDER BY arrived LIMIT ?)",
            (before, EVICTED_AT_ONCE),
        )
        if count > keep:
            self.connection.execute(
                "DELETE FROM arrivals WHERE seq IN (SELECT seq FROM arrivals ORDER BY arrived LIMIT ?)",
                (min(count - keep, EVICTED_AT_ONCE),),
            )

    def used_bytes(self) -> int:
        """What rows take in the file, without the free pages that the next rows go to."""
        one = self.connection.execute
        pages, free = one("PRAGMA page_count").fetchone()[0], one("PRAGMA freelist_count").fetchone()[0]
        return int((pages - free) * one("PRAGMA page_size").fetchone()[0])

    def _remove(self, seqs: Iterable[int], condition: str, change: StoreChange) -> StoreChange:
        remaining = iter(seqs)
        while chunk := list(islice(remaining, VARIABLES_PER_STATEMENT)):
            marks = ",".join("?" * len(chunk))
            removed = self.connection.execute(
                f"DELETE FROM deliveries WHERE seq IN ({marks}) AND {condition} RETURNING payload, died IS NULL",  # noqa: S608 - marks
                chunk,
            ).fetchall()
            unused = []
            for payload, waited in removed:
                if waited:
                    change.waiting -= 1
                else:
                    change.dead -= 1
                left = self._shared.get(payload, 1) - 1
                if left == 0:
                    self._count(payload, None)
                    unused.append((payload,))
                else:
                    self._count(payload, left)
            self.connection.executemany("DELETE FROM payloads WHERE id = ?", unused)
        return change

    def _count(self, payload: int, deliveries: int | None) -> None:
        """Record how many deliveries share a payload; what is not recorded belongs to one."""
        self._before.setdefault(payload, self._shared.get(payload))
        self._set_shared(payload, deliveries)

    def _set_shared(self, payload: int, deliveries: int | None) -> None:
        if deliveries is None:
            self._shared.pop(payload, None)
        else:
            self._shared[payload] = deliveries

    def _deliveries(self, where: str, values: Sequence[Any]) -> list[Delivery]:
        return select_deliveries(self.connection, self.id, where, values, limit=VARIABLES_PER_STATEMENT)
