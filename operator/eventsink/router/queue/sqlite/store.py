"""The statements that change the queue's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from eventsink.router.queue.protocol import (
    KEEP_BODY,
    AlertStateWrite,
    Arrival,
    Batch,
    Delivery,
    Retry,
)
from eventsink.router.queue.sqlite.reader import delivery_id, waiting_by_sink
from eventsink.router.queue.sqlite.schema import connect, encode_state, prepare, unusable

PAYLOADS_HELD = "SELECT payload FROM deliveries UNION ALL SELECT payload FROM alerts WHERE payload IS NOT NULL"
"""Every row that holds a payload."""
VARIABLES_PER_STATEMENT = 500
"""Below SQLite's own limit of values in one statement, and few enough to be prepared quickly."""


@dataclass(slots=True)
class StoreChange:
    """What one transaction changed in the counts."""

    waiting: dict[str, int] = field(default_factory=dict)
    """uid of the sink -> change of how many wait."""
    dead: int = 0
    arrived: int = 0
    new: list[Delivery] = field(default_factory=list)
    """Deliveries that wait from now on."""
    died: dict[str, list[int]] = field(default_factory=dict)
    """uid of the sink -> seqs of those that became dead letters."""
    evicted: int = 0
    """Dead letters that were dropped: too old, or for newer ones."""
    last: int = 0
    """The seq at which a chunk ended."""

    def count(self, uid: str, waiting: int) -> None:
        """So many more of a sink wait."""
        self.waiting[uid] = self.waiting.get(uid, 0) + waiting


class Store:
    """The writing half: each method is part of a transaction that the caller begins and commits."""

    def __init__(self, path: Path, *, expected: str = "") -> None:
        self.path = path
        self.connection = connect(path)
        try:
            prepare(self.connection, path, expected)
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
        self.sinks: dict[int, tuple[str, str]] = {}
        """The table of sinks: id -> (uid, tenant)."""
        self._numbers: dict[tuple[str, str], int] = {}
        """The reverse."""
        for number, uid, tenant in self.connection.execute("SELECT id, uid, tenant FROM sinks"):
            self._remember_sink(number, (uid, tenant))
        self._new_sinks: list[int] = []
        """What the open transaction added to that table."""
        self._old_sinks: list[tuple[int, tuple[str, str]]] = []
        """What it removed before."""
        self.waiting = waiting_by_sink(self.connection)
        """uid -> how many wait when the file is opened."""
        self.dead: int = self.connection.execute("SELECT count(*) FROM deliveries WHERE died IS NOT NULL").fetchone()[0]
        self.arrived: int = self.connection.execute("SELECT count(*) FROM arrivals").fetchone()[0]
        """How many there are, as of the last commit."""
        self._before: dict[int, int] = {}
        """What the open transaction changed in `_shared`, as it was before."""
        self._committed = (self.seq, self._next_payload)

    def begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(self, clock: float, change: StoreChange) -> None:
        """`change`: all that was changed since `begin`."""
        self.connection.execute("UPDATE meta SET clock = ?, seq = ?", (clock, self.seq))
        self.connection.execute("COMMIT")
        self.dead += change.dead
        self.arrived += change.arrived
        self._committed = (self.seq, self._next_payload)
        self._before.clear()
        self._new_sinks.clear()
        self._old_sinks.clear()

    def rollback(self) -> None:
        """Undo everything since `begin`, in the file and in what is counted beside it."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        self.seq, self._next_payload = self._committed
        for payload, count in self._before.items():
            self._set_held(payload, count)
        self._before.clear()
        for number in self._new_sinks:
            self._forget_sink(number)
        for number, sink in self._old_sinks:
            self._remember_sink(number, sink)
        self._new_sinks.clear()
        self._old_sinks.clear()

    def put(self, batch: Batch, *, now: float, clock: float) -> StoreChange:
        first = self._next_payload
        references = [0] * len(batch.payloads)
        rows = []
        change = StoreChange()
        for new in batch.deliveries:
            change.count(new.sink, 1)
            self.seq += 1
            references[new.payload] += 1
            payload = batch.payloads[new.payload]
            expires = clock + new.max_age
            sink = self._numbers.get((new.sink, new.tenant)) or self._add_sink(new.sink, new.tenant)
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
        for write in batch.states:
            if write.payload >= 0:
                references[write.payload] += 1
        used = [(first + n, p.kind.value, p.name, p.body) for n, p in enumerate(batch.payloads) if references[n]]
        self._next_payload += len(batch.payloads)
        for number, count in enumerate(references, first):
            if count > 1:
                self._change_held(number, count)
        execute = self.connection.executemany
        if used:
            execute("INSERT INTO payloads VALUES (?, ?, ?, ?)", used)
        if rows:
            execute(
                "INSERT INTO deliveries (seq, payload, sink, key, status, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
        if batch.states:
            self._put_states(batch.states, first)
        if batch.groups:
            execute("INSERT OR REPLACE INTO groups VALUES (?, ?)", [(g.row, encode_state(g)) for g in batch.groups if g.firing])
            if over := [(group.row,) for group in batch.groups if not group.firing]:
                execute("DELETE FROM groups WHERE id = ?", over)
        if batch.sinks:
            execute("INSERT OR REPLACE INTO sink_states VALUES (?, ?)", [(sink.uid, encode_state(sink)) for sink in batch.sinks])
        if batch.forgotten:
            self.forget(batch.forgotten, (), ())
        return change

    def _put_states(self, writes: Sequence[AlertStateWrite], first: int) -> None:
        """`first`: number of the batch's first payload."""
        kept = [(one.state.row, encode_state(one.state)) for one in writes if one.payload == KEEP_BODY]
        replaced = [
            (one.state.row, first + one.payload if one.payload >= 0 else None, one) for one in writes if one.payload != KEEP_BODY
        ]
        self._release_bodies([row for row, _, one in replaced if not one.new])
        self.connection.executemany(
            "INSERT OR REPLACE INTO alerts VALUES (?, ?, ?)",
            [(row, payload, encode_state(one.state)) for row, payload, one in replaced],
        )
        if kept:
            self.connection.executemany(
                "INSERT INTO alerts VALUES (?, NULL, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state", kept
            )

    def _release_bodies(self, rows: Sequence[int]) -> None:
        """These alert states hold their bodies no longer."""
        for start in range(0, len(rows), VARIABLES_PER_STATEMENT):
            chunk = rows[start : start + VARIABLES_PER_STATEMENT]
            marks = ",".join("?" * len(chunk))
            held = self.connection.execute(
                f"SELECT payload FROM alerts WHERE id IN ({marks}) AND payload IS NOT NULL",  # noqa: S608 - marks
                chunk,
            ).fetchall()
            if held:
                self.release(payload for (payload,) in held)

    def arrive(self, seqs: Sequence[int], arrival: Arrival, *, now: float, clock: float) -> StoreChange:
        """`remove`, and record in which message they arrived."""
        cursor = self.connection.executemany(
            "INSERT OR REPLACE INTO arrivals SELECT d.seq, d.origin, s.uid, s.tenant, d.key, p.name, d.status, d.created, d.attempts, "
            "?, ?, ?, ? FROM deliveries d JOIN payloads p ON p.id = d.payload JOIN sinks s ON s.id = d.sink "
            "WHERE d.seq = ?",
            [(clock, now, arrival.message, arrival.reference, seq) for seq in seqs],
        )
        change = self.remove(seqs)
        change.arrived = cursor.rowcount
        return change

    def retry(self, retries: Sequence[Retry]) -> StoreChange:
        self.connection.executemany(
            "UPDATE deliveries SET attempts = attempts + 1, due = ?, reason = ?, detail = ? WHERE seq = ? AND died IS NULL",
            [(r.due, r.reason, r.detail, r.seq) for r in retries],
        )
        return StoreChange()

    def bind(self, seqs: Sequence[int], batch: str) -> StoreChange:
        self.connection.executemany("UPDATE deliveries SET batch = ? WHERE seq = ?", [(batch, seq) for seq in seqs])
        return StoreChange()

    def forget(self, states: Sequence[int], groups: Sequence[int], sinks: Sequence[str]) -> StoreChange:
        self._release_bodies(states)
        self.connection.executemany("DELETE FROM alerts WHERE id = ?", [(row,) for row in states])
        self.connection.executemany("DELETE FROM groups WHERE id = ?", [(row,) for row in groups])
        self.connection.executemany("DELETE FROM sink_states WHERE uid = ?", [(uid,) for uid in sinks])
        return StoreChange()

    def used_bytes(self) -> int:
        """What rows take in the file, without the free pages that the next rows go to."""
        one = self.connection.execute
        pages, free = one("PRAGMA page_count").fetchone()[0], one("PRAGMA freelist_count").fetchone()[0]
        return int((pages - free) * one("PRAGMA page_size").fetchone()[0])

    def remove(self, seqs: Iterable[int]) -> StoreChange:
        """Delete deliveries, whether they wait or are dead."""
        change = StoreChange()
        remaining = iter(seqs)
        while chunk := list(islice(remaining, VARIABLES_PER_STATEMENT)):
            marks = ",".join("?" * len(chunk))
            removed = self.connection.execute(
                f"DELETE FROM deliveries WHERE seq IN ({marks}) RETURNING payload, sink, died IS NULL",  # noqa: S608 - marks
                chunk,
            ).fetchall()
            for _, sink, waited in removed:
                if waited:
                    change.count(self.sinks[sink][0], -1)
                else:
                    change.dead -= 1
            self.release(payload for payload, _, _ in removed)
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
        self._remember_sink(number, (uid, tenant))
        self._new_sinks.append(number)
        return number

    def numbers_of(self, uid: str) -> list[int]:
        """The ids of a sink: one, or several if it was seen with several tenants."""
        return [number for (number,) in self.connection.execute("SELECT id FROM sinks WHERE uid = ? ORDER BY id", (uid,))]

    def remove_sinks(self, numbers: Iterable[int]) -> None:
        """Drop sinks that no delivery has."""
        for number in numbers:
            self.connection.execute("DELETE FROM sinks WHERE id = ?", (number,))
            self._old_sinks.append((number, self._forget_sink(number)))

    def _remember_sink(self, number: int, sink: tuple[str, str]) -> None:
        self.sinks[number] = sink
        self._numbers[sink] = number

    def _forget_sink(self, number: int) -> tuple[str, str]:
        sink = self.sinks.pop(number)
        del self._numbers[sink]
        return sink

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
