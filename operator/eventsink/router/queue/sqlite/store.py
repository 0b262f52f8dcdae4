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

PAYLOADS_HELD = "SELECT payload FROM deliveries"
"""Every row that holds a payload."""
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
        shared = self.connection.execute(f"SELECT payload, count(*) FROM ({PAYLOADS_HELD}) GROUP BY payload HAVING count(*) > 1")  # noqa: S608 - constant
        self._shared: dict[int, int] = dict(shared)
        """Payload -> how many rows hold it, of those that more than one holds."""
        self._next_payload = self.connection.execute("SELECT coalesce(max(id), 0) + 1 FROM payloads").fetchone()[0]
        self._sinks: dict[tuple[str, str], int] = {
            (uid, tenant): number for number, uid, tenant in self.connection.execute("SELECT id, uid, tenant FROM sinks")
        }
        """(uid, tenant) -> id in the table."""
        self._new_sinks: list[tuple[str, str]] = []
        """What the open transaction added to `_sinks`."""
        self._before: dict[int, int] = {}
        """What the open transaction changed in `_shared`, as it was before."""
        self._committed = (self.seq, self._next_payload)

    def begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(self, clock: float) -> None:
        self.connection.execute("UPDATE meta SET clock = ?, seq = ?", (clock, self.seq))
        self.connection.execute("COMMIT")
        self._committed = (self.seq, self._next_payload)
        self._before.clear()
        self._new_sinks.clear()

    def rollback(self) -> None:
        """Undo everything since `begin`, in the file and in what is counted beside it."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        self.seq, self._next_payload = self._committed
        for payload, count in self._before.items():
            self._set_held(payload, count)
        self._before.clear()
        for sink in self._new_sinks:
            self._sinks.pop(sink, None)
        self._new_sinks.clear()

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
            sink = self._sinks.get((new.sink, new.tenant)) or self._add_sink(new.sink, new.tenant)
            rows.append((self.seq, first + new.payload, sink, new.key, new.status, now, expires))
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
                self._change_held(number, count)
        execute = self.connection.executemany
        execute("INSERT INTO payloads VALUES (?, ?, ?, ?)", used)
        execute(
            "INSERT INTO deliveries (seq, payload, sink, key, status, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        execute(
            UPSERT_LOG_ENTRY,
            [(e.sink, e.destination, e.fingerprint, e.status, e.starts_at, e.notified_at) for e in batch.log_entries],
        )
        return change

    def settle(self, seqs: Sequence[int]) -> StoreChange:
        return self._remove(seqs, "died IS NULL", StoreChange())

    def arrive(self, seqs: Sequence[int], arrival: Arrival, *, now: float, clock: float) -> StoreChange:
        """`settle`, and record in which message they arrived."""
        self.connection.executemany(
            "INSERT OR REPLACE INTO arrivals SELECT d.seq, d.origin, s.uid, s.tenant, d.key, p.name, d.status, d.created, d.attempts, "
            "?, ?, ?, ? FROM deliveries d JOIN payloads p ON p.id = d.payload JOIN sinks s ON s.id = d.sink "
            "WHERE d.seq = ? AND d.died IS NULL",
            [(clock, now, arrival.message, arrival.reference, seq) for seq in seqs],
        )
        return self.settle(seqs)

    def retry(self, retries: Sequence[Retry]) -> StoreChange:
        self.connection.executemany(
            "UPDATE deliveries SET attempts = attempts + 1, due = ?, reason = ?, detail = ? WHERE seq = ? AND died IS NULL",
            [(r.due, r.reason, r.detail, r.seq) for r in retries],
        )
        return StoreChange()

    def dead_letter(self, dead_letters: Sequence[DeadLetter], *, now: float, clock: float) -> StoreChange:
        cursor = self.connection.executemany(
            "UPDATE deliveries SET died = ?, died_wall = ?, reason = ?, detail = ?, batch = '' WHERE seq = ? AND died IS NULL",
            [(clock, now, d.reason, d.detail, d.seq) for d in dead_letters],
        )
        return StoreChange(waiting=-cursor.rowcount, dead=cursor.rowcount)

    def dead_letter_sink(self, sink: str, reason: str, detail: str, *, now: float, clock: float) -> StoreChange:
        cursor = self.connection.execute(
            "UPDATE deliveries SET died = ?, died_wall = ?, reason = ?, detail = ?, batch = '' "
            "WHERE sink IN (SELECT id FROM sinks WHERE uid = ?) AND died IS NULL",
            (clock, now, reason, detail, sink),
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
                "UPDATE deliveries SET seq = ?, origin = coalesce(origin, seq), died = NULL, died_wall = NULL, due = 0, attempts = 0, "
                "batch = '', reason = '', detail = '', expires = ? WHERE seq = ?",
                (self.seq, expires, seq),
            )
            change.new.extend(self._deliveries("d.seq = ?", (self.seq,)))
        change.waiting, change.dead = len(change.new), -len(change.new)
        return change

    def evict_dead(self, *, keep: int, before: float) -> StoreChange:
        """Drop dead letters that died before a time on the queue clock, and the oldest beyond `keep`; a bounded number at once."""
        count = self.connection.execute("SELECT count(*) FROM deliveries WHERE died IS NOT NULL").fetchone()[0]
        old = self.connection.execute(
            "SELECT seq FROM deliveries WHERE died IS NOT NULL AND died < ? ORDER BY died LIMIT ?", (before, EVICTED_AT_ONCE)
        ).fetchall()
        if not old and count > keep:
            old = self.connection.execute(
                "SELECT seq FROM deliveries WHERE died IS NOT NULL ORDER BY died LIMIT ?", (min(count - keep, EVICTED_AT_ONCE),)
            ).fetchall()
        change = self._remove((seq for (seq,) in old), "died IS NOT NULL", StoreChange())
        change.evicted = len(old)
        return change

    def evict_arrived(self, *, keep: int, before: float) -> None:
        """Drop records of what arrived before a time on the queue clock, and the oldest beyond `keep`; a bounded number at once."""
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
            waited = sum(waited for _, waited in removed)
            change.waiting -= waited
            change.dead -= len(removed) - waited
            self.release(payload for payload, _ in removed)
        return change

    def hold(self, payload: int) -> None:
        """One row more holds a payload that is stored already."""
        self._change_held(payload, self._shared.get(payload, 1) + 1)

    def release(self, payloads: Iterable[int]) -> None:
        """One row less holds each of these payloads; what none holds any more is deleted."""
        unused = []
        for payload in payloads:
            held = self._shared.get(payload)
            if held is None:
                unused.append((payload,))
            else:
                self._change_held(payload, held - 1)
        self.connection.executemany("DELETE FROM payloads WHERE id = ?", unused)

    def _add_sink(self, uid: str, tenant: str) -> int:
        """The id of a sink that the table does not have yet."""
        number = self.connection.execute("INSERT INTO sinks (uid, tenant) VALUES (?, ?)", (uid, tenant)).lastrowid
        assert number is not None
        self._sinks[uid, tenant] = number
        self._new_sinks.append((uid, tenant))
        return number

    def _change_held(self, payload: int, held: int) -> None:
        """Record how many rows hold a payload; `rollback` reverts it."""
        self._before.setdefault(payload, self._shared.get(payload, 1))
        self._set_held(payload, held)

    def _set_held(self, payload: int, held: int) -> None:
        if held > 1:
            self._shared[payload] = held
        else:
            self._shared.pop(payload, None)

    @property
    def shared_payloads(self) -> int:
        """How many payloads more than one row holds: what is kept in memory of them."""
        return len(self._shared)

    def _deliveries(self, where: str, values: Sequence[Any]) -> list[Delivery]:
        return select_deliveries(self.connection, self.id, where, values, limit=VARIABLES_PER_STATEMENT)
