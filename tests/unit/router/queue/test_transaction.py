"""A usual commit is one statement, and whatever the number of its rows, the same is stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from eventsink.router.queue.protocol import Batch, NewDelivery
from eventsink.router.queue.sqlite.additions import with_additions
from eventsink.router.queue.sqlite.store import Store, StoreChange
from eventsink.router.queue.sqlite.transaction import MOST_ROWS
from eventsink.router.queue.states import KEEP_BODY, NO_BODY, AlertStateWrite, GroupState, SinkState
from tests.unit.router.queue.queue_contract import alert, state

FEW, MANY = 3, MOST_ROWS + 1


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "queue.db")
    yield store
    store.connection.close()


def put(store: Store, *batches: Batch) -> list[int]:
    """Commit batches together; the seqs of their deliveries."""
    change = StoreChange()
    for batch in batches:
        store.put(batch, change, now=7.5, clock=8.5)
    store.commit(9.5, change)
    return [one.seq for one in change.new]


def batches(count: int) -> list[Batch]:
    """As many alerts with their states, of which the last ones change a group and a sink."""
    made = [replace(alert(f"a{n}"), states=[AlertStateWrite(state(n), 0, new=True)]) for n in range(1, count + 1)]
    made[-1] = replace(
        made[-1], groups=[GroupState(1, b"g", ("f1",), 1.0, 1.0, "")], sinks=[SinkState("s1", "d", "m", suspended=False)]
    )
    return made


def rows(store: Store, query: str) -> list[tuple[Any, ...]]:
    return store.connection.execute(query).fetchall()


def test_a_usual_commit_is_one_statement(store: Store) -> None:
    first = put(store, *batches(FEW))
    change = store.remove(first[:1])
    store.bind(first[1:2], "m1")
    steps: list[str] = []
    store.connection.set_trace_callback(steps.append)
    for batch in batches(FEW):
        store.put(replace(batch, states=[AlertStateWrite(one.state, KEEP_BODY) for one in batch.states]), change, now=1, clock=1)
    store.commit(2, change)
    store.connection.set_trace_callback(None)
    assert len(set(steps)) == 1, steps  # each trigger is traced as the statement that it belongs to


@pytest.mark.parametrize("count", [1, FEW, MOST_ROWS - 1, MOST_ROWS, MANY, 600])
def test_few_rows_and_many_are_stored_alike(store: Store, count: int) -> None:
    seqs = put(store, *batches(count))
    numbers = list(range(1, count + 1))
    assert rows(store, "SELECT kind, name, body FROM payloads ORDER BY id") == [
        ("alert", f"a{n}", f'{{"name":"a{n}"}}'.encode()) for n in numbers
    ]
    assert rows(store, "SELECT seq, key, status, created, due, attempts, batch, died FROM deliveries ORDER BY seq") == [
        (seq, f"a{n}", "firing", 7.5, 0, 0, "", None) for seq, n in zip(seqs, numbers, strict=True)
    ]
    assert rows(store, "SELECT a.id, p.name FROM alerts a JOIN payloads p ON p.id = a.payload ORDER BY a.id") == [
        (n, f"a{n}") for n in numbers
    ]
    assert rows(store, "SELECT clock, seq, known_clock FROM meta") == [(9.5, store.seq, 9.5)]
    assert [rows(store, f"SELECT count(*) FROM {table}") for table in ("groups", "sink_states")] == [[(1,)], [(1,)]]
    store.bind(seqs, "m1")
    store.bind(seqs[:1], "")
    put(store)
    assert (
        rows(store, "SELECT batch, count(*) FROM deliveries GROUP BY batch ORDER BY batch")
        == [("", 1), ("m1", count - 1)][:count]
    )
    ended = [replace(Batch([], []), groups=[GroupState(1, b"g", (), 1.0, 1.0, "")])]
    ended += [replace(Batch([], []), states=[AlertStateWrite(state(n, "resolved"), NO_BODY)]) for n in numbers]
    change = store.remove(seqs)
    for batch in ended:
        store.put(batch, change, now=1, clock=1)
    store.commit(10, change)
    for table in ("payloads", "deliveries", "groups"):
        assert rows(store, f"SELECT count(*) FROM {table}") == [(0,)]
    assert rows(store, "SELECT count(*) FROM alerts WHERE payload IS NULL") == [(count,)]


def test_what_was_added_to_a_state_stays_if_the_commit_fails_that_writes_it_whole(store: Store) -> None:
    put(store, *batches(1))
    whole = state(1, sinks=["s1", "s2"])
    addition = Batch(states=[AlertStateWrite(whole, added=whole.notified[1:])])
    put(store, addition)
    broken = Batch(batches(1)[0].payloads, [NewDelivery(0, "s1", "acme", "a", None, 1.0)])  # type: ignore[arg-type]
    for failed in (Batch(states=[AlertStateWrite(state(1, "resolved"))]), addition):
        with pytest.raises(sqlite3.IntegrityError):
            put(store, failed, broken)
        store.rollback()
        assert rows(store, "SELECT alert, number FROM additions") == [(1, 1)]
    put(store, addition)
    assert rows(store, "SELECT alert, number FROM additions") == [(1, 1), (1, 2)]
    put(store, Batch(states=[AlertStateWrite(whole)]))
    assert rows(store, "SELECT * FROM additions") == []


def test_what_was_added_before_a_program_that_does_not_know_it_wrote_the_file_counts_where_nothing_newer_is_known(
    store: Store,
) -> None:
    put(store, *batches(2))
    for number in (1, 2):
        whole = state(number, sinks=["s2", "s3"])
        put(store, Batch(states=[AlertStateWrite(whole, added=whole.notified)]))
    ended = tuple(replace(one, status="resolved", at=2.0) for one in state(1, sinks=["s2"]).notified)
    another = replace(state(2), identity="another")  # it gives the number of an alert that it has forgotten to the next one
    written = [replace(state(1), notified=ended), another]
    assert with_additions(store.connection, written) == [
        replace(written[0], notified=(*ended, *state(1, sinks=["s3"]).notified)),
        another,
    ]


@pytest.mark.parametrize("count", [FEW, MANY])
def test_of_a_commit_that_fails_nothing_is_stored_and_the_next_one_is_whole(store: Store, count: int) -> None:
    put(store, alert("before"))
    before = store.connection.execute("SELECT seq FROM deliveries").fetchall()
    broken = Batch(batches(1)[0].payloads, [NewDelivery(0, "s1", "acme", "a", None, 1.0)])  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        put(store, *batches(count), broken)
    store.rollback()
    assert rows(store, "SELECT seq FROM deliveries") == before
    assert rows(store, "SELECT count(*) FROM alerts") == [(0,)]
    put(store, *batches(count))
    assert rows(store, "SELECT count(*) FROM deliveries") == [(1 + count,)]
    assert rows(store, "SELECT count(*) FROM payloads") == [(1 + count,)]
