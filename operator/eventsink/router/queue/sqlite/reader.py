"""What is read from the queue's file, on a connection of its own that never waits behind a commit."""

from __future__ import annotations

import re
import sqlite3
import threading
from array import array
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from eventsink.router.queue.delivery_log import DeliveryFilter, DeliveryRecord, DeliveryState
from eventsink.router.queue.protocol import MAX_TAKE_BYTES, Delivery, PayloadKind, Waiting
from eventsink.router.queue.sqlite.additions import with_additions
from eventsink.router.queue.sqlite.file import QueueFile
from eventsink.router.queue.sqlite.posts import read_post
from eventsink.router.queue.sqlite.schema import connect
from eventsink.router.queue.sqlite.statements import AMONG, listed, read_bodies, read_rows
from eventsink.router.queue.states import AlertState, GroupState, SinkReport, SinkState
from eventsink.sinks.post import Post

_alert_states = msgspec.msgpack.Decoder(AlertState)
_group_states = msgspec.msgpack.Decoder(GroupState)
_sink_states = msgspec.msgpack.Decoder(SinkState)
_sink_reports = msgspec.msgpack.Decoder(SinkReport)
PAGE_ROWS = 1000
SHOWN_TENANT = "coalesce(d.alert_tenant, s.tenant)"
"""The expression for the tenant that people see: of the alerts, where a sink gets those of all."""
_BY_TEXT = {
    "sink": "d.sink IN (SELECT id FROM sinks WHERE uid = ?)",
    # A tenant may have nearly all rows: they are read in order, not collected by sink and sorted.
    "tenant": "coalesce(d.alert_tenant, (SELECT tenant FROM sinks WHERE id = d.sink)) = ?",
    "reason": "d.reason = ?",
}
_COLUMNS = "seq, origin, uid, tenant, key, status, kind, created, expires, due, attempts, batch, size"
_SELECTED = (
    "d.seq AS seq, d.origin AS origin, s.uid AS uid, s.tenant AS tenant, d.key AS key, d.status AS status, p.kind AS kind, "
    "d.created AS created, d.expires AS expires, d.due AS due, d.attempts AS attempts, d.batch AS batch, length(p.body) AS size"
)
"""Of a long body, SQLite reads no page but the first for its length."""
MAX_READ_BYTES = 1024**2
"""Of bodies in one step, which SQLite copies, before the last."""
_ARRIVED_COLUMNS = (
    "d.seq, d.origin, d.sink, d.tenant, d.name, d.status, d.created, d.attempts, d.arrived_wall, d.message, d.reference"
)
_PAYLOADS_HELD = "SELECT payload FROM deliveries UNION ALL SELECT payload FROM alerts WHERE payload IS NOT NULL"
"""The payload of every row that holds one; of deliveries, SQLite reads an index that has it."""
_PARTS = 64
"""In which the numbers of payloads are counted one after the other."""
_FROM = "FROM deliveries d CROSS JOIN payloads p ON p.id = d.payload CROSS JOIN sinks s ON s.id = d.sink"
"""In this order: the condition is always about the deliveries."""


class Reader:
    """The reading half; one thread at a time."""

    def __init__(self, path: Path, store_id: str) -> None:
        self._id = store_id
        self._connection = connect(path, read_only=True)

    def close(self) -> None:
        self._connection.close()

    def take(self, sink: str, after: int, limit: int, max_bytes: int) -> list[Delivery]:
        found: list[Delivery] = []
        # One id, or several if the sink's uid was seen with several tenants.
        for (one,) in self._connection.execute("SELECT id FROM sinks WHERE uid = ?", (sink,)).fetchall():
            where = "d.died IS NULL AND d.sink = ? AND d.seq > ?"
            found += select_deliveries(self._connection, self._id, where, (one, after), limit=limit, max_bytes=max_bytes)
        found.sort(key=lambda delivery: delivery.seq)
        return found[:limit]

    def bodies(self, seqs: Sequence[int]) -> dict[int, bytes]:
        return _bodies_of(self._connection, seqs, "AND d.died IS NULL")

    def alert_states(self, after: int) -> tuple[list[AlertState], int]:
        """A page, and the position to go on from."""
        rows = self._page("SELECT id, state FROM alerts WHERE id > ? ORDER BY id LIMIT ?", after)
        states = [_alert_states.decode(state) for _, state in rows]
        return with_additions(self._connection, states), rows[-1][0] if rows else after

    def group_states(self, after: int) -> tuple[list[GroupState], int]:
        """A page, and the position to go on from."""
        rows = self._page("SELECT id, state FROM groups WHERE id > ? ORDER BY id LIMIT ?", after)
        return [_group_states.decode(state) for _, state in rows], rows[-1][0] if rows else after

    def sink_states(self, after: str) -> tuple[list[SinkState], str]:
        """A page, and the position to go on from."""
        rows = self._page("SELECT uid, state FROM sink_states WHERE uid > ? ORDER BY uid LIMIT ?", after)
        return [_sink_states.decode(state) for _, state in rows], rows[-1][0] if rows else after

    def sink_reports(self, after: str) -> tuple[list[SinkReport], str]:
        """A page, and the position to go on from."""
        rows = self._page("SELECT uid, report FROM sink_reports WHERE uid > ? ORDER BY uid LIMIT ?", after)
        return [_sink_reports.decode(report) for _, report in rows], rows[-1][0] if rows else after

    def _page(self, statement: str, after: int | str) -> list[Any]:
        return self._connection.execute(statement, (after, PAGE_ROWS)).fetchall()

    def alert_bodies(self, rows: Sequence[int]) -> dict[int, bytes]:
        rest = f"a.id AS number, p.body AS body FROM alerts a JOIN payloads p ON p.id = a.payload WHERE a.id {AMONG}"
        return read_bodies(self._connection, rest, (listed(rows),))

    def post(self, sink: str, identifier: int) -> Post | None:
        return read_post(self._connection, sink, identifier)

    def waiting_keys(self, sink: str, limit: int) -> set[str]:
        rows = self._connection.execute(
            "SELECT key FROM deliveries WHERE sink IN (SELECT id FROM sinks WHERE uid = ?) AND died IS NULL LIMIT ?",
            (sink, limit),
        )
        return {key for (key,) in rows}

    def look_up(self, wanted: DeliveryFilter, after: int, limit: int) -> list[DeliveryRecord]:
        found: list[DeliveryRecord] = []
        if wanted.state is not DeliveryState.ARRIVED and wanted.message is None:
            found += self._in_queue(wanted, after, limit)
        named = wanted.state is None and (wanted.ids is not None or wanted.message is not None)
        if (named or wanted.state is DeliveryState.ARRIVED) and wanted.reason is None:
            found += self._arrived(wanted, after, limit)
        return sorted(found, key=lambda record: record.seq)[:limit]

    def _in_queue(self, wanted: DeliveryFilter, after: int, limit: int) -> list[DeliveryRecord]:
        where, values = conditions(wanted, self._id)
        rows = self._connection.execute(
            f"SELECT d.seq, d.origin, s.uid, {SHOWN_TENANT}, p.name, d.status, d.created, d.attempts, d.reason, d.detail, d.died_wall "
            f"{_FROM} WHERE {where} AND d.seq > ? ORDER BY d.seq LIMIT ?",
            (*values, after, limit),
        )
        return [
            DeliveryRecord(
                **self._shared(row),
                state=DeliveryState.WAITING if row[10] is None else DeliveryState.DEAD,
                reason=row[8],
                detail=row[9],
                died=row[10],
            )
            for row in rows
        ]

    def _shared(self, row: Sequence[Any]) -> dict[str, Any]:
        """What the first columns of both tables say."""
        seq, origin, sink, tenant, name, status, created, attempts = row[:8]
        identifier = delivery_id(self._id, origin or seq)
        return {
            "seq": seq,
            "id": identifier,
            "sink": sink,
            "tenant": tenant,
            "name": name,
            "status": status,
            "created": created,
            "attempts": attempts,
        }

    def _arrived(self, wanted: DeliveryFilter, after: int, limit: int) -> list[DeliveryRecord]:
        where, values = conditions(replace(wanted, state=None), self._id, arrived=True)
        if wanted.message is not None:
            where, values = f"{where} AND d.message = ?", [*values, wanted.message]
        rows = self._connection.execute(
            f"SELECT {_ARRIVED_COLUMNS} FROM arrivals d WHERE {where} AND d.seq > ? ORDER BY d.seq LIMIT ?",  # noqa: S608 - fixed texts
            (*values, after, limit),
        )
        return [
            DeliveryRecord(
                **self._shared(row),
                state=DeliveryState.ARRIVED,
                reason="",
                detail="",
                died=None,
                arrived=row[8],
                message=row[9],
                reference=row[10],
            )
            for row in rows
        ]


class Reading:
    """A reader with the thread in which it reads."""

    def __init__(self, path: Path, store_id: str, name: str) -> None:
        self.reader = Reader(path, store_id)
        self.thread = ThreadPoolExecutor(1, name)

    def close(self) -> None:
        """Finish what is being read, and close the file."""
        self.thread.shutdown(wait=True)
        self.reader.close()


class PageCheck:
    """Reads every page of the file once, in a thread of its own, after a process was killed: 1 s for 1 GB that is in memory."""

    def __init__(self, path: Path, file: QueueFile) -> None:
        self._file = file
        self._connection = connect(path, read_only=True)
        self._thread = threading.Thread(target=self._run, name="queue-check", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Return when it has ended, early if need be."""
        self._connection.interrupt()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        try:
            (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            self._file.failed(error, "read")
            return
        if found != "ok":
            self._file.found_damage(str(found).replace("\n", " "))


def waiting_by_sink(connection: sqlite3.Connection) -> dict[str, int]:
    """uid -> how many deliveries wait; 50 ms at a million."""
    return dict(
        connection.execute(
            "SELECT s.uid, sum(d.n) FROM (SELECT sink, count(*) AS n FROM deliveries WHERE died IS NULL GROUP BY sink) d "
            "JOIN sinks s ON s.id = d.sink GROUP BY s.uid"
        )
    )


def waiting_by_tenant(connection: sqlite3.Connection) -> dict[str, Waiting]:
    """Tenant -> what waits; it looks at each body's size."""
    rows = connection.execute(
        "SELECT s.tenant, count(*), sum(length(p.body)) FROM deliveries d JOIN payloads p ON p.id = d.payload "
        "JOIN sinks s ON s.id = d.sink WHERE d.died IS NULL GROUP BY s.tenant"
    )
    return {tenant: Waiting(deliveries, size) for tenant, deliveries, size in rows}


def shared_payloads(connection: sqlite3.Connection) -> dict[int, int]:
    """Payload -> how many rows hold it, of those that more than one holds; 0.3 s and 8 MB at a million rows.

    SQLite's own GROUP BY takes six times the memory for its sorter.
    """
    parts = [array("q") for _ in range(_PARTS)]
    appends = [part.append for part in parts]
    for (payload,) in connection.execute(_PAYLOADS_HELD):
        appends[payload % _PARTS](payload)
    del appends
    shared: dict[int, int] = {}
    while parts:
        part = parts.pop()
        if len(set(part)) < len(part):
            shared.update((payload, held) for payload, held in Counter(part).items() if held > 1)
    return shared


def delivery_id(store: str, origin: int) -> str:
    """The stable name of a delivery: of the file that it was first put into, and its number there."""
    return f"{store}-{origin:x}"


def select_deliveries(
    connection: sqlite3.Connection,
    store: str,
    where: str,
    values: Sequence[Any],
    *,
    limit: int,
    max_bytes: int = MAX_TAKE_BYTES,
) -> list[Delivery]:
    """Deliveries in order of seq, the first with their bodies (`max_bytes` at most); `where` is a text of the engine's own."""
    selected = f"FROM (SELECT {_SELECTED} {_FROM} WHERE {where} ORDER BY d.seq LIMIT ?)"
    rows = read_rows(connection, _COLUMNS, selected, (*values, limit))
    sizes = {}
    for row in rows:
        max_bytes -= row[-1]
        if max_bytes < 0:
            break
        sizes[row[0]] = row[-1]
    bodies = _read_bodies(connection, sizes)
    found = []
    for seq, origin, uid, tenant, key, status, kind, created, expires, due, attempts, batch, size in rows:
        body, left_out = (bodies.get(seq), 0) if seq in sizes else (b"", size)
        if body is not None:  # else it arrived between the two statements
            name = delivery_id(store, origin or seq)
            found.append(
                Delivery(
                    seq, name, uid, tenant, key, status, PayloadKind(kind), body, created, expires, due, attempts, batch, left_out
                )
            )
    return found


def _read_bodies(connection: sqlite3.Connection, sizes: dict[int, int]) -> dict[int, bytes]:
    """The bodies of deliveries, whatever their state, in chunks; `sizes`: seq -> bytes."""
    bodies: dict[int, bytes] = {}
    chunk: list[int] = []
    taken = 0
    for seq, size in sizes.items():
        chunk.append(seq)
        taken += size
        if taken >= MAX_READ_BYTES:
            bodies |= _bodies_of(connection, chunk)
            chunk, taken = [], 0
    return bodies | _bodies_of(connection, chunk) if chunk else bodies


def _bodies_of(connection: sqlite3.Connection, seqs: Sequence[int], condition: str = "") -> dict[int, bytes]:
    rest = (
        f"d.seq AS number, p.body AS body FROM deliveries d JOIN payloads p ON p.id = d.payload WHERE d.seq {AMONG} {condition}"
    )
    return read_bodies(connection, rest, (listed(seqs),))


def conditions(wanted: DeliveryFilter, store: str, *, arrived: bool = False) -> tuple[str, list[Any]]:
    """The SQL condition of a filter on `deliveries`, or `arrivals`, and its values; ids of another file than `store` select nothing."""
    parts, values = ["1"], []
    if wanted.state is not None:
        parts.append("d.died IS NULL" if wanted.state is DeliveryState.WAITING else "d.died IS NOT NULL")
    texts = {"sink": "d.sink = ?", "tenant": "d.tenant = ?", "reason": "d.reason = ?"} if arrived else _BY_TEXT
    for column, condition in texts.items():
        value = getattr(wanted, column)
        if value is not None:
            parts.append(condition)
            values.append(value)
    if wanted.ids is not None:
        origins = [origin for one in wanted.ids if (origin := _origin(one, store)) is not None]
        marks = ",".join("?" * len(origins))
        parts.append(f"(d.seq IN ({marks}) AND d.origin IS NULL OR d.origin IN ({marks}))")
        values += origins * 2
    return " AND ".join(parts), values


def _origin(identifier: str, store: str) -> int | None:
    """The number in an id of this file."""
    of_store, _, number = identifier.rpartition("-")
    return int(number, 16) if of_store == store and re.fullmatch("[0-9a-f]{1,15}", number) else None
