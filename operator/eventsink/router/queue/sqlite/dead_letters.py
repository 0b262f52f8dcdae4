"""What turns deliveries into dead letters and back, and drops what is too old or too much: each a bounded part of a transaction.

A million rows are changed in chunks, each in a transaction of its own between the commits of others.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from eventsink.router.queue.delivery_log import DeliveryFilter, DeliveryState
from eventsink.router.queue.protocol import DeadLetter
from eventsink.router.queue.sqlite.reader import conditions, select_deliveries
from eventsink.router.queue.sqlite.statements import AMONG, listed, read_rows
from eventsink.router.queue.sqlite.store import Store, StoreChange

CHUNK_ROWS = 250
"""Rows that one chunk changes: 3 to 10 ms with its commit, at a million rows in the queue."""

_DIE = f"UPDATE deliveries SET died = ?, died_wall = ?, reason = ?, detail = ?, batch = '' WHERE seq {AMONG} AND died IS NULL"  # noqa: S608

_ATTEMPTED = "UPDATE deliveries SET attempts = attempts + ? WHERE seq = ?"

_WAIT_AGAIN = """
UPDATE deliveries SET seq = ?, origin = coalesce(origin, seq), died = NULL, died_wall = NULL, due = 0, attempts = 0,
    batch = '', reason = '', detail = '', expires = ? WHERE seq = ?
"""


@dataclass(frozen=True, slots=True)
class Death:
    """When and why deliveries become dead letters."""

    clock: float
    """Queue clock."""
    wall: float
    """Wall clock, seconds since the epoch."""
    reason: str = ""
    detail: str = ""


def dead_letter(store: Store, dead_letters: Sequence[DeadLetter], death: Death) -> StoreChange:
    """Dead-letter these, each with its own reason."""
    change = StoreChange()
    for one in dead_letters:
        waits = "FROM deliveries WHERE seq = ? AND died IS NULL"
        row = store.connection.execute(f"SELECT sink, {store.size} {waits}", (one.seq,)).fetchone()
        if row is not None:
            store.connection.execute(_DIE, (death.clock, death.wall, one.reason, one.detail, listed([one.seq])))
            if one.attempts:
                store.connection.execute(_ATTEMPTED, (one.attempts, one.seq))
            _died(store, change, row[0], row[1], one.seq)
    return change


def dead_letter_oldest(store: Store, sink: str, death: Death, *, limit: int, spare: Collection[int]) -> StoreChange:
    """Dead-letter the oldest of a sink, at most `limit`, except `spare`."""
    change = StoreChange()
    for number in store.numbers_of(sink):
        _all_die(store, "sink = ? ORDER BY seq", number, death, change, limit=limit - change.dead, spare=spare)
    return change


def expire(store: Store, death: Death, *, limit: int, spare: Collection[int]) -> StoreChange:
    """Dead-letter what has expired, at most `limit`, except `spare`."""
    change = StoreChange()
    _all_die(store, "expires <= ? ORDER BY expires", death.clock, death, change, limit=limit, spare=spare)
    return change


def replay(store: Store, wanted: DeliveryFilter, *, after: int, until: int, expires: float, limit: int) -> StoreChange:
    """Have dead letters with a seq above `after`, up to `until`, wait again, the oldest first, a chunk of them."""
    where, values = conditions(replace(wanted, state=DeliveryState.DEAD), store.id)
    rows = store.connection.execute(
        f"SELECT d.seq FROM deliveries d WHERE {where} AND d.seq > ? AND d.seq <= ? ORDER BY d.seq LIMIT ?",  # noqa: S608 - fixed texts
        (*values, after, until, min(limit, CHUNK_ROWS)),
    ).fetchall()
    change = StoreChange(dead=-len(rows))
    for (seq,) in rows:
        store.seq += 1
        store.connection.execute(_WAIT_AGAIN, (store.seq, expires, seq))
        change.new += select_deliveries(store.connection, store.id, "d.seq = ?", (store.seq,), limit=1)
        change.last = seq
    for delivery in change.new:
        change.count(delivery.sink, 1)
        if store.by_tenant:
            change.count_of_tenant(delivery.tenant, 1, len(delivery.body) or delivery.left_out)
    return change


def evict_dead(store: Store, *, keep: int, before: float) -> StoreChange:
    """Drop dead letters that died before a time on the queue clock, and the oldest beyond `keep`; a chunk of them."""
    dead = "SELECT seq FROM deliveries WHERE died IS NOT NULL"
    old = store.connection.execute(f"{dead} AND died < ? ORDER BY died, seq LIMIT ?", (before, CHUNK_ROWS)).fetchall()
    if not old and store.dead > keep:
        surplus = min(store.dead - keep, CHUNK_ROWS)
        old = store.connection.execute(f"{dead} ORDER BY died, seq LIMIT ?", (surplus,)).fetchall()
    change = store.remove([seq for (seq,) in old])
    change.evicted = len(old)
    return change


def evict_arrived(store: Store, *, keep: int, before: float) -> int:
    """Drop records of what arrived before a time on the queue clock, and the oldest beyond `keep`, a chunk of them; returns how many."""
    old = "DELETE FROM arrivals WHERE seq IN (SELECT seq FROM arrivals {} ORDER BY arrived LIMIT ?)"
    removed = store.connection.execute(old.format("WHERE arrived < ?"), (before, CHUNK_ROWS)).rowcount
    if not removed and store.arrived > keep:
        removed = store.connection.execute(old.format(""), (min(store.arrived - keep, CHUNK_ROWS),)).rowcount
    return removed


def evict_sinks(store: Store, after: int) -> int:
    """Drop the names of sinks, among some with a number above `after`, that no delivery has; the number to go on from, 0 at the end."""
    numbers = store.connection.execute(
        "SELECT id, NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.sink = s.id) FROM sinks s WHERE id > ? ORDER BY id LIMIT ?",
        (after, CHUNK_ROWS),
    ).fetchall()
    store.remove_sinks(number for number, unused in numbers if unused)
    return numbers[-1][0] if len(numbers) == CHUNK_ROWS else 0


def _all_die(
    store: Store, which: str, value: float, death: Death, change: StoreChange, *, limit: int, spare: Collection[int]
) -> None:
    """Dead-letter the first of those waiting of `which`, a condition on one value and an order."""
    limit = max(0, limit)
    rows = read_rows(
        store.connection,
        f"seq, sink, {store.size}",
        f"FROM (SELECT seq, sink, payload FROM deliveries WHERE died IS NULL AND {which} LIMIT ?)",  # noqa: S608 - constants
        (value, limit + len(spare)),
    )
    chosen = [row for row in rows if row[0] not in spare][:limit]
    store.connection.execute(_DIE, (death.clock, death.wall, death.reason, death.detail, listed([seq for seq, *_ in chosen])))
    for seq, sink, size in chosen:
        _died(store, change, sink, size, seq)


def _died(store: Store, change: StoreChange, sink: int, size: int, seq: int) -> None:
    change.dead += 1
    store.count_out(change, sink, size)
    change.died.setdefault(store.sinks[sink][0], []).append(seq)
