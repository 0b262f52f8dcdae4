"""The statements that change the queue's file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eventsink.router.queue.protocol import Arrival, Batch, Delivery, Retry
from eventsink.router.queue.sqlite import posts
from eventsink.router.queue.sqlite.additions import Additions
from eventsink.router.queue.sqlite.reader import SHOWN_TENANT, delivery_id, shared_payloads, waiting_by_sink, waiting_by_tenant
from eventsink.router.queue.sqlite.schema import connect, encode_state, prepare, unusable
from eventsink.router.queue.sqlite.statements import AMONG, delete, insert, listed, read_rows
from eventsink.router.queue.sqlite.transaction import Rows, Values, begin, prepare_view
from eventsink.router.queue.states import KEEP_BODY, AlertStateWrite, SinkReport

SEQS_PER_SECOND = 50_000
"""More than deliveries can be committed: a number taken from the wall clock is higher than all that were used before."""
MAX_COLLECTED_BYTES = 1024**2
"""Of payloads in one statement, which SQLite copies, before the last batch."""


@dataclass(slots=True)
class StoreChange:
    """What one transaction changed in the counts."""

    waiting: dict[str, int] = field(default_factory=dict)
    """uid of the sink -> change of how many wait."""
    tenants: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Tenant -> change of how many deliveries wait, and of the bytes of their bodies; where they are counted."""
    dead: int = 0
    arrived: int = 0
    new: list[Delivery] = field(default_factory=list)
    """Deliveries that wait from now on."""
    died: dict[str, list[int]] = field(default_factory=dict)
    """uid of the sink -> seqs of those that became dead letters."""
    evicted: int = 0
    """Dead letters that were dropped: too old, or for newer ones."""
    posts_evicted: int = 0
    """Posts that were forgotten for newer ones."""
    last: int = 0
    """The seq at which a chunk ended."""

    def count(self, uid: str, waiting: int) -> None:
        """So many more of a sink wait."""
        self.waiting[uid] = self.waiting.get(uid, 0) + waiting

    def count_of_tenant(self, tenant: str, deliveries: int, size: int) -> None:
        """So many more of a tenant wait, with bodies of so many bytes."""
        before = self.tenants.get(tenant, (0, 0))
        self.tenants[tenant] = (before[0] + deliveries, before[1] + size)


class Store:
    """The writing half: each method is part of a transaction that the caller commits.

    What is put, removed and bound is collected, and written as one statement that is a transaction of its own; everything else, and
    whoever reads what was collected, needs `begin` and `write_rows` before it.

    Parameters
    ----------
    expected
        Id of the queue that must be in the file; empty: any, or none.
    wall
        Wall clock, seconds since the epoch.
    by_tenant
        Whether what waits is counted by tenant.
    """

    def __init__(self, path: Path, *, expected: str = "", wall: Callable[[], float] = time.time, by_tenant: bool = False) -> None:
        self.path = path
        self.connection = connect(path)
        try:
            prepare(self.connection, path, expected)
            prepare_view(self.connection)
        except BaseException as error:
            self.connection.close()
            if isinstance(error, sqlite3.Error):
                raise unusable(path, error) from None
            raise
        self.id, self.clock, seq, known_clock, known_wall = self.connection.execute(
            "SELECT store, clock, seq, known_clock, known_wall FROM meta"
        ).fetchone()
        self._wall = wall
        now = wall()
        # Not the next number, which was used already where this is a copy from some time ago: a receiver would take what is new for
        # what it has got.
        self.seq: int = max(seq, int(now * SEQS_PER_SECOND))
        self.unused_seconds: float | None = now - known_wall if known_clock == self.clock else None
        """Between the last commit in this file and now; None: unknown, since a program that does not record it had the file."""
        self._shared = shared_payloads(self.connection)
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
        self.by_tenant = by_tenant
        self.waiting_by_tenant = waiting_by_tenant(self.connection) if by_tenant else {}
        """Tenant -> what waits when the file is opened."""
        self.size = "(SELECT length(body) FROM payloads p WHERE p.id = payload)" if by_tenant else "0"
        """The expression, in a query of deliveries, for the bytes that one counts for its tenant."""
        self.dead: int = self.connection.execute("SELECT count(*) FROM deliveries WHERE died IS NOT NULL").fetchone()[0]
        self.arrived: int = self.connection.execute("SELECT count(*) FROM arrivals").fetchone()[0]
        """How many there are, as of the last commit."""
        self._rows = Rows()
        self._additions = Additions(self.connection)
        self._before: dict[int, int] = {}
        """What the open transaction changed in `_shared`, as it was before."""
        self._committed = (self.seq, self._next_payload)

    def begin(self) -> None:
        """Have everything until `commit` be one transaction, of however many statements."""
        begin(self.connection)

    def commit(self, clock: float, change: StoreChange) -> None:
        """`change`: all that was changed since the last commit."""
        self._write(("meta", clock, self.seq, self._wall()))
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")
        self.dead += change.dead
        self.arrived += change.arrived
        self._committed = (self.seq, self._next_payload)
        self._additions.committed()
        self._before.clear()
        self._new_sinks.clear()
        self._old_sinks.clear()

    def rollback(self) -> None:
        """Undo everything since the last commit, in the file and in what is counted beside it."""
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        finally:
            self._forget_changes()

    def _forget_changes(self) -> None:
        self.seq, self._next_payload = self._committed
        self._rows = Rows()
        self._additions.undo()
        for payload, count in self._before.items():
            self._set_held(payload, count)
        self._before.clear()
        for number in self._new_sinks:
            self._forget_sink(number)
        for number, sink in self._old_sinks:
            self._remember_sink(number, sink)
        self._new_sinks.clear()
        self._old_sinks.clear()

    def put(self, batch: Batch, change: StoreChange, *, now: float, clock: float) -> None:
        """Collect the rows of a batch, and count them."""
        again = not self._rows.written.isdisjoint([write.state.row for write in batch.states])
        if again or self._rows.payload_bytes > MAX_COLLECTED_BYTES:
            self.write_rows()
        rows = self._rows
        first = self._next_payload
        references = [0] * len(batch.payloads)
        for new in batch.deliveries:
            change.count(new.sink, 1)
            self.seq += 1
            references[new.payload] += 1
            payload = batch.payloads[new.payload]
            if self.by_tenant:
                change.count_of_tenant(new.tenant, 1, len(payload.body))
            expires = clock + new.max_age
            sink = self._numbers.get((new.sink, new.tenant)) or self._add_sink(new.sink, new.tenant)
            rows.deliveries.append((self.seq, first + new.payload, sink, new.key, new.status, now, expires, new.alert_tenant))
            change.new.append(
                Delivery(
                    self.seq,
                    delivery_id(self.id, self.seq),
                    new.sink,
                    new.tenant,
                    new.key,
                    new.status,
                    payload.kind,
                    payload.body,
                    now,
                    expires,
                )
            )
        for write in batch.states:
            if write.payload >= 0:
                references[write.payload] += 1
        self._collect_states(batch.states, first)
        for number, (payload, count) in enumerate(zip(batch.payloads, references, strict=True), first):
            if count:
                rows.payloads.append((number, payload.kind.value, payload.name, payload.body))
                rows.payload_bytes += len(payload.body)
            if count > 1:
                self._change_held(number, count)
        self._next_payload += len(batch.payloads)
        for group in batch.groups:
            rows.groups[group.row] = group
        for sink_state in batch.sinks:
            rows.sinks[sink_state.uid] = sink_state
        if batch.forgotten:
            self.write_rows()
            self.forget(batch.forgotten, (), ())

    def _collect_states(self, writes: Sequence[AlertStateWrite], first: int) -> None:
        """`first`: number of the batch's first payload."""
        rows = self._rows
        for write in writes:
            row = write.state.row
            rows.written.add(row)
            if write.added:
                rows.additions.append(self._additions.add(write.state, write.added))
                continue
            if self._additions.drop(row):
                rows.no_additions.append(row)
            if write.payload == KEEP_BODY:
                rows.states.append((row, encode_state(write.state)))
                continue
            if not write.new:
                rows.replaced.append(row)
            rows.states_and_bodies.append((row, first + write.payload if write.payload >= 0 else None, encode_state(write.state)))

    def write_rows(self) -> None:
        """Write what was collected: to be called before anything else looks at the tables."""
        self.begin()
        self._write()

    def _write(self, *changes: Values) -> None:
        """Write what was collected, and these changes of `transaction`."""
        self._release_bodies(self._rows.replaced)
        rows, self._rows = self._rows, Rows()
        rows.write(self.connection, changes)

    def _release_bodies(self, rows: Sequence[int]) -> None:
        """These alert states hold their bodies no longer."""
        if rows:
            held = read_rows(self.connection, "payload", f"FROM alerts WHERE id {AMONG} AND payload IS NOT NULL", (listed(rows),))
            self.release([payload for (payload,) in held])

    def arrive(self, seqs: Sequence[int], arrival: Arrival, *, now: float, clock: float) -> StoreChange:
        """`remove`, and record in which message they arrived, and what later ones are to follow."""
        cursor = self.connection.executemany(
            f"INSERT OR REPLACE INTO arrivals SELECT d.seq, d.origin, s.uid, {SHOWN_TENANT}, d.key, p.name, d.status, d.created, "  # noqa: S608
            "d.attempts, ?, ?, ?, ? FROM deliveries d JOIN payloads p ON p.id = d.payload JOIN sinks s ON s.id = d.sink "
            f"WHERE d.seq {AMONG}",
            [(clock, now, arrival.message, arrival.reference, listed(seqs))],
        )
        change = self.remove(seqs)
        change.arrived = cursor.rowcount
        if arrival.post is not None:
            change.posts_evicted = posts.write_post(self.connection, arrival.post)
        return change

    def retry(self, retries: Sequence[Retry]) -> StoreChange:
        alike: dict[tuple[float, str, str], list[int]] = {}
        for one in retries:
            alike.setdefault((one.due, one.reason, one.detail), []).append(one.seq)
        self.connection.executemany(
            f"UPDATE deliveries SET attempts = attempts + 1, due = ?, reason = ?, detail = ? WHERE seq {AMONG} AND died IS NULL",  # noqa: S608 - constants
            [(*values, listed(seqs)) for values, seqs in alike.items()],
        )
        return StoreChange()

    def bind(self, seqs: Sequence[int], batch: str) -> None:
        """Collect that deliveries are sent in one message; empty: in any."""
        self._rows.bound.update(dict.fromkeys(seqs, batch))

    def forget(self, states: Sequence[int], groups: Sequence[int], sinks: Sequence[str]) -> StoreChange:
        self._release_bodies(states)
        posts.forget_alerts(self.connection, states)
        posts.forget_sinks(self.connection, sinks)
        self._additions.forget(states)
        delete(self.connection, "alerts WHERE id", states)
        delete(self.connection, "groups WHERE id", groups)
        delete(self.connection, "sink_states WHERE uid", sinks)
        return StoreChange()

    def report(self, reports: Sequence[SinkReport], removed: Sequence[str]) -> StoreChange:
        insert(self.connection, "INSERT OR REPLACE INTO sink_reports", [(one.uid, encode_state(one)) for one in reports])
        delete(self.connection, "sink_reports WHERE uid", removed)
        return StoreChange()

    def used_bytes(self) -> int:
        """What rows take in the file, without the free pages that the next rows go to."""
        (used,) = self.connection.execute(
            "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        ).fetchone()
        return int(used)

    def remove(self, seqs: Sequence[int]) -> StoreChange:
        """Collect that deliveries are deleted, whether they wait or are dead."""
        change = StoreChange()
        removed = read_rows(
            self.connection, f"payload, sink, died IS NULL, {self.size}", f"FROM deliveries WHERE seq {AMONG}", (listed(seqs),)
        )
        self._rows.removed += seqs
        for _, sink, waited, size in removed:
            if waited:
                self.count_out(change, sink, size)
            else:
                change.dead -= 1
        self.release([payload for payload, *_ in removed])
        return change

    def count_out(self, change: StoreChange, sink: int, size: int) -> None:
        """A delivery to the sink with this id, of so many bytes (`size`), waits no more."""
        uid, tenant = self.sinks[sink]
        change.count(uid, -1)
        if self.by_tenant:
            change.count_of_tenant(tenant, -1, -size)

    def hold(self, payload: int) -> None:
        """One row more holds a payload that is stored already."""
        self._change_held(payload, self._shared.get(payload, 1) + 1)

    def release(self, payloads: Iterable[int]) -> None:
        """One row less holds each of these payloads; collect that those are deleted that none holds any more."""
        for payload in payloads:
            held = self._shared.get(payload)
            if held is None:
                self._rows.unused.append(payload)
            else:
                self._change_held(payload, held - 1)

    def _add_sink(self, uid: str, tenant: str) -> int:
        """The id of a sink that the table does not have yet."""
        self.begin()
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
        self.begin()
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
