"""Rows of any number are written and read in few steps, and none is changed on the way."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from eventsink.router.queue.sqlite.statements import MAX_ROWS_PER_STATEMENT, delete, insert, read_bodies, read_rows


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT, body BLOB)")
    yield connection
    connection.close()


@pytest.mark.parametrize("count", [0, 1, 3, MAX_ROWS_PER_STATEMENT - 1, MAX_ROWS_PER_STATEMENT, 2 * MAX_ROWS_PER_STATEMENT + 5])
def test_as_many_rows_as_there_are_are_inserted_read_and_deleted(connection: sqlite3.Connection, count: int) -> None:
    rows = [(number, f'"{number}\n', b"%d" % number) for number in range(count)]
    steps: list[str] = []
    connection.set_trace_callback(steps.append)
    insert(connection, "INSERT INTO t", rows)
    assert len(steps) <= 1 + MAX_ROWS_PER_STATEMENT.bit_length() + 2
    assert connection.execute("SELECT * FROM t ORDER BY id").fetchall() == rows
    assert sorted(read_rows(connection, "id, text, NULL", "FROM t", ())) == [[number, text, None] for number, text, _ in rows]
    assert read_bodies(connection, "id AS number, body FROM t", ()) == {number: body for number, _, body in rows}
    delete(connection, "t WHERE id", list(range(1, count)))
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (min(count, 1),)


@pytest.mark.parametrize("bodies", [[b"", b"a"], [b"a\0b", b"c"], [b"\xff", b"\0"], [bytes(range(256)), b""]])
def test_bodies_are_read_byte_for_byte(connection: sqlite3.Connection, bodies: list[bytes]) -> None:
    insert(connection, "INSERT INTO t", [(number, "", body) for number, body in enumerate(bodies)])
    assert read_bodies(connection, "id AS number, body FROM t ORDER BY id", ()) == dict(enumerate(bodies))
