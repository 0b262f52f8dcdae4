"""The file of the SQLite queue: its schema, and the statements that change and read it.

All of it is synchronous, one thread a connection; `router.sqlite` brings in the threads and the event loop. One table of payloads and
one of deliveries suits fan-out: a payload is stored once, however many sinks want it. An alert's row is deleted when it arrived.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from eventsink.router.queue import (
    Batch,
    Burial,
    Delivery,
    DeliveryState,
    PayloadKind,
    QueueUnavailable,
    Record,
    Retry,
    Selection,
    Told,
)

SCHEMA_VERSION = 1
BUSY_TIMEOUT_SECONDS = 10.0
VARIABLES_PER_STATEMENT = 500
"""Below SQLite's own limit of values in one statement, and few enough to be prepared quickly."""
PAGE_ROWS = 1000
WAL_AUTOCHECKPOINT_PAGES = 2000
"""8 MB: a checkpoint now and then instead of at every hundredth commit."""

_SCHEMA = """
CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), store TEXT NOT NULL, clock REAL NOT NULL, seq INTEGER NOT NULL);
CREATE TABLE payloads (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY,
    origin INTEGER,           -- seq of its first time, once it was replayed: the id stays
    payload INTEGER NOT NULL,
    sink TEXT NOT NULL,
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    status TEXT NOT NULL,
    created REAL NOT NULL,
    expires REAL NOT NULL,
    due REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    batch TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT '',
    died REAL                 -- NULL while it waits
);
CREATE INDEX waiting ON deliveries (sink, seq) WHERE died IS NULL;
CREATE INDEX dead ON deliveries (died) WHERE died IS NOT NULL;
CREATE INDEX replayed ON deliveries (origin) WHERE origin IS NOT NULL;
CREATE TABLE told (
    sink TEXT NOT NULL, destination TEXT NOT NULL, fingerprint TEXT NOT NULL,
    status TEXT NOT NULL, starts_at INTEGER NOT NULL, told_at REAL NOT NULL,
    UNIQUE (sink, destination, fingerprint)
);
CREATE TABLE holds (sink TEXT PRIMARY KEY, reason TEXT NOT NULL);
"""
_COLUMNS = "d.seq, d.origin, d.sink, d.tenant, d.key, d.status, p.kind, p.body, d.created, d.expires, d.due, d.attempts, d.batch"
_FROM = "FROM deliveries d JOIN payloads p ON p.id = d.payload"


@dataclass(slots=True)
class Change:
    """What one transaction changed in the counts."""

    waiting: int = 0
    dead: int = 0
    new: list[Delivery] = field(default_factory=list)
    """Deliveries that wait from now on."""
    evicted: int = 0
    """Dead letters that were dropped for newer ones."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file.

    Raises
    ------
    QueueUnavailable
        It cannot be opened, or is not a queue of this program.
    """
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}{'?mode=ro' if read_only else ''}",
            uri=True,
            timeout=BUSY_TIMEOUT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA journal_mode = WAL" if not read_only else "PRAGMA query_only = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_AUTOCHECKPOINT_PAGES}")
        connection.execute("PRAGMA temp_store = MEMORY")
    except sqlite3.OperationalError as error:
        raise QueueUnavailable(f"{path}: the queue cannot be opened: {error}") from None
    except sqlite3.Error as error:
        raise unusable(path, error) from None
    return connection


def unusable(path: Path, error: sqlite3.Error) -> QueueUnavailable:
    """The file is damaged, or not one of this program."""
    return QueueUnavailable(f"{path}: is not a usable queue file ({error}); restore it or move it away (docs/queue.md)")


class Store:
    """The writing half: each method is part of a transaction that the caller begins and commits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = connect(path)
        try:
            self._prepare()
        except sqlite3.Error as error:
            self.connection.close()
            raise unusable(path, error) from None
        self.id, self.clock, self.seq = self.connection.execute("SELECT store, clock, seq FROM meta").fetchone()
        shared = self.connection.execute("SELECT payload, count(*) FROM deliveries GROUP BY payload HAVING count(*) > 1")
        self._shared: dict[int, int] = dict(shared)
        self._next_payload = self.connection.execute("SELECT coalesce(max(id), 0) + 1 FROM payloads").fetchone()[0]
        self._before: dict[int, int | None] = {}
        """What the open transaction changed in `_shared`, as it was before."""
        self._committed = (self.seq, self._next_payload)

    def _prepare(self) -> None:
        version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            self.connection.close()
            raise QueueUnavailable(f"{self.path}: was written by a newer version of this program; run that one")
        if version == 0:
            if self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise sqlite3.DatabaseError("it belongs to another program")
            named = f"INSERT INTO meta VALUES (1, '{secrets.token_hex(6)}', 0, 0);"  # noqa: S608 - hexadecimal
            # In one transaction: a file without its name would never open again.
            self.connection.executescript(f"BEGIN; {_SCHEMA} {named} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        self.connection.execute("SELECT seq, origin, died FROM deliveries LIMIT 1").fetchall()

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

    def put(self, batch: Batch, *, now: float, clock: float) -> Change:
        first = self._next_payload
        references = [0] * len(batch.payloads)
        rows = []
        change = Change(waiting=len(batch.deliveries))
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
            "INSERT INTO told VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (sink, destination, fingerprint) "
            "DO UPDATE SET status = excluded.status, starts_at = excluded.starts_at, told_at = excluded.told_at",
            [(t.sink, t.destination, t.fingerprint, t.status, t.starts_at, t.told_at) for t in batch.told],
        )
        return change

    def settle(self, seqs: Iterable[int]) -> Change:
        return self._remove(seqs, "died IS NULL", Change())

    def retry(self, retries: Sequence[Retry]) -> Change:
        self.connection.executemany(
            "UPDATE deliveries SET attempts = attempts + 1, due = ?, reason = ? WHERE seq = ? AND died IS NULL",
            [(r.due, r.reason, r.seq) for r in retries],
        )
        return Change()

    def bury(self, burials: Sequence[Burial], *, now: float) -> Change:
        cursor = self.connection.executemany(
            "UPDATE deliveries SET died = ?, reason = ?, detail = ?, batch = '' WHERE seq = ? AND died IS NULL",
            [(now, b.reason, b.detail, b.seq) for b in burials],
        )
        return Change(waiting=-cursor.rowcount, dead=cursor.rowcount)

    def bury_sink(self, sink: str, reason: str, detail: str, *, now: float) -> Change:
        cursor = self.connection.execute(
            "UPDATE deliveries SET died = ?, reason = ?, detail = ?, batch = '' WHERE sink = ? AND died IS NULL",
            (now, reason, detail, sink),
        )
        self.connection.execute("DELETE FROM told WHERE sink = ?", (sink,))
        self.connection.execute("DELETE FROM holds WHERE sink = ?", (sink,))
        return Change(waiting=-cursor.rowcount, dead=cursor.rowcount)

    def bind(self, seqs: Sequence[int], batch: str) -> Change:
        self.connection.executemany("UPDATE deliveries SET batch = ? WHERE seq = ?", [(batch, seq) for seq in seqs])
        return Change()

    def hold(self, sink: str, reason: str) -> Change:
        if reason:
            self.connection.execute("INSERT OR REPLACE INTO holds VALUES (?, ?)", (sink, reason))
        else:
            self.connection.execute("DELETE FROM holds WHERE sink = ?", (sink,))
        return Change()

    def forget(self, told: Sequence[Told]) -> Change:
        self.connection.executemany(
            "DELETE FROM told WHERE sink = ? AND destination = ? AND fingerprint = ?",
            [(t.sink, t.destination, t.fingerprint) for t in told],
        )
        return Change()

    def replay(self, selection: Selection, *, expires: float, limit: int) -> Change:
        if selection.state is DeliveryState.WAITING:
            return Change()
        where, values = conditions(replace(selection, state=DeliveryState.DEAD), self.id)
        rows = self.connection.execute(f"SELECT d.seq FROM deliveries d WHERE {where} ORDER BY d.seq LIMIT ?", (*values, limit))  # noqa: S608 - fixed texts
        change = Change()
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

    def evict_dead(self, *, keep: int, born_before: float) -> Change:
        """Drop dead letters that died before a time, and the oldest beyond `keep`; a bounded number at once."""
        count = self.connection.execute("SELECT count(*) FROM deliveries WHERE died IS NOT NULL").fetchone()[0]
        old = self.connection.execute(
            "SELECT seq FROM deliveries WHERE died IS NOT NULL AND died < ? ORDER BY died LIMIT ?", (born_before, PAGE_ROWS)
        ).fetchall()
        if not old and count > keep:
            old = self.connection.execute(
                "SELECT seq FROM deliveries WHERE died IS NOT NULL ORDER BY died LIMIT ?", (min(count - keep, PAGE_ROWS),)
            ).fetchall()
        change = self._remove((seq for (seq,) in old), "died IS NOT NULL", Change())
        change.evicted = len(old)
        return change

    def used_bytes(self) -> int:
        """What rows take in the file, without the free pages that the next rows go to."""
        one = self.connection.execute
        pages, free = one("PRAGMA page_count").fetchone()[0], one("PRAGMA freelist_count").fetchone()[0]
        return int((pages - free) * one("PRAGMA page_size").fetchone()[0])

    def _remove(self, seqs: Iterable[int], condition: str, change: Change) -> Change:
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
        """Note how many deliveries share a payload; what is not noted belongs to one."""
        self._before.setdefault(payload, self._shared.get(payload))
        self._set_shared(payload, deliveries)

    def _set_shared(self, payload: int, deliveries: int | None) -> None:
        if deliveries is None:
            self._shared.pop(payload, None)
        else:
            self._shared[payload] = deliveries

    def _deliveries(self, where: str, values: Sequence[Any]) -> list[Delivery]:
        return select_deliveries(self.connection, self.id, where, values, limit=VARIABLES_PER_STATEMENT)


class Reader:
    """The reading half, on a connection of its own: it never waits behind a commit."""

    def __init__(self, path: Path, store_id: str) -> None:
        self._id = store_id
        self._connection = connect(path, read_only=True)

    def close(self) -> None:
        self._connection.close()

    def counts(self) -> tuple[int, int]:
        """(waiting, dead)."""
        row = self._connection.execute("SELECT count(*) FILTER (WHERE died IS NULL), count(died) FROM deliveries").fetchone()
        return int(row[0]), int(row[1])

    def take(self, sink: str, after: int, limit: int) -> list[Delivery]:
        where = "d.died IS NULL AND d.sink = ? AND d.seq > ?"
        return select_deliveries(self._connection, self._id, where, (sink, after), limit=limit)

    def expired(self, clock: float, limit: int) -> list[Delivery]:
        return select_deliveries(self._connection, self._id, "d.died IS NULL AND d.expires <= ?", (clock,), limit=limit)

    def sinks_waiting(self) -> dict[str, int]:
        return dict(self._connection.execute("SELECT sink, count(*) FROM deliveries WHERE died IS NULL GROUP BY sink"))

    def held(self) -> dict[str, str]:
        return dict(self._connection.execute("SELECT sink, reason FROM holds"))

    def told(self, after: int) -> tuple[list[Told], int]:
        """A page of what was told, and the position to go on from."""
        rows = self._connection.execute(
            "SELECT rowid, sink, destination, fingerprint, status, starts_at, told_at FROM told WHERE rowid > ? ORDER BY rowid LIMIT ?",
            (after, PAGE_ROWS),
        ).fetchall()
        return [Told(*row[1:]) for row in rows], rows[-1][0] if rows else after

    def look_up(self, selection: Selection, after: int, limit: int) -> list[Record]:
        where, values = conditions(selection, self._id)
        rows = self._connection.execute(
            "SELECT d.seq, d.origin, d.sink, d.tenant, p.name, d.status, d.created, d.attempts, d.reason, d.detail, d.died "
            f"{_FROM} WHERE {where} AND d.seq > ? ORDER BY d.seq LIMIT ?",
            (*values, after, limit),
        )
        return [
            Record(
                seq=row[0],
                id=delivery_id(self._id, row[1] or row[0]),
                sink=row[2],
                tenant=row[3],
                name=row[4],
                status=row[5],
                state=DeliveryState.WAITING if row[10] is None else DeliveryState.DEAD,
                created=row[6],
                attempts=row[7],
                reason=row[8],
                detail=row[9],
                died=row[10],
            )
            for row in rows
        ]


def delivery_id(store: str, origin: int) -> str:
    """The stable name of a delivery: of the file that it was first put into, and its number there."""
    return f"{store}-{origin:x}"


def select_deliveries(
    connection: sqlite3.Connection, store: str, where: str, values: Sequence[Any], *, limit: int
) -> list[Delivery]:
    """Deliveries in order of seq; `where` is one of this module's own texts."""
    rows: Iterator[Any] = connection.execute(
        f"SELECT {_COLUMNS} {_FROM} WHERE {where} ORDER BY d.seq LIMIT ?",
        (*values, limit),
    )
    return [
        Delivery(row[0], delivery_id(store, row[1] or row[0]), *row[2:6], PayloadKind(row[6]), *row[7:])  # type: ignore[call-arg]
        for row in rows
    ]


def conditions(selection: Selection, store: str) -> tuple[str, list[Any]]:
    """The SQL condition of a selection, and its values; ids of another file than `store` select nothing."""
    parts, values = ["1"], []
    if selection.state is not None:
        parts.append("d.died IS NULL" if selection.state is DeliveryState.WAITING else "d.died IS NOT NULL")
    for column in ("tenant", "sink", "reason"):
        value = getattr(selection, column)
        if value is not None:
            parts.append(f"d.{column} = ?")
            values.append(value)
    if selection.ids is not None:
        origins = [origin for one in selection.ids if (origin := _origin(one, store)) is not None]
        marks = ",".join("?" * len(origins))
        parts.append(f"(d.seq IN ({marks}) AND d.origin IS NULL OR d.origin IN ({marks}))")
        values += origins * 2
    return " AND ".join(parts), values


def _origin(identifier: str, store: str) -> int | None:
    """The number in an id of this file."""
    of_store, _, number = identifier.rpartition("-")
    return int(number, 16) if of_store == store and re.fullmatch("[0-9a-f]{1,15}", number) else None
