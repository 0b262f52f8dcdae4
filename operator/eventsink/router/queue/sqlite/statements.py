"""Statements that change many rows in one step.

sqlite3 releases the GIL for each step of a statement, and beside a busy event loop it costs more to get it back than the step takes. So
rows are written many to a statement, and what has to be known of many rows is read as one. `executemany` of one row, unlike `execute`,
does not ask for the number of the last row inserted, for which sqlite3 would release the GIL once more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec

MAX_ROWS_PER_STATEMENT = 512
"""Few enough to be prepared in under a millisecond."""
CACHED_STATEMENTS = 256
"""Of a connection that writes: each text of `insert` in each of its sizes, and all others."""

AMONG = "IN (SELECT value FROM json_each(?))"
"""Condition: a number, or a text, is among those that `listed` gives."""

listed = msgspec.json.Encoder().encode
"""Numbers, or texts, as one value of a statement."""


def insert(connection: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]], then: str = "") -> None:
    """Insert rows in their order; `into`: the statement until VALUES, `then`: what follows the values.

    The number of rows of a statement is a power of two, so that few texts are prepared, and each once.
    """
    start, size = 0, MAX_ROWS_PER_STATEMENT
    while start < len(rows):
        while size > len(rows) - start:
            size >>= 1
        text = _text(into, len(rows[0]), size, then)
        connection.executemany(text, [tuple(chain.from_iterable(rows[start : start + size]))])
        start += size


@lru_cache(maxsize=CACHED_STATEMENTS)
def _text(into: str, columns: int, size: int, then: str) -> str:
    row = f"({','.join('?' * columns)})"
    return f"{into} VALUES {','.join([row] * size)} {then}"


def delete(connection: sqlite3.Connection, of: str, chosen: Sequence[int] | Sequence[str]) -> None:
    """Delete the rows whose numbers, or texts, are among these; `of`: table and column, such as `alerts WHERE id`."""
    if chosen:
        connection.executemany(f"DELETE FROM {of} {AMONG}", [(listed(chosen),)])  # noqa: S608 - constants


def read_rows(connection: sqlite3.Connection, columns: str, rest: str, values: Sequence[Any]) -> list[list[Any]]:
    """All rows of `SELECT columns rest`, of numbers, texts and NULL only; in the order of the subquery if `rest` is one."""
    (found,) = connection.execute(f"SELECT json_group_array(json_array({columns})) {rest}", values).fetchone()
    rows: list[list[Any]] = msgspec.json.decode(found)
    return rows


def read_bodies(connection: sqlite3.Connection, rest: str, values: Sequence[Any]) -> dict[int, bytes]:
    """Number -> bytes of all rows of `SELECT rest`, whose columns are `number` and `body`, in its order."""
    sizes, joined = connection.execute(
        f"SELECT json_group_array(json_array(number, length(body))), CAST(group_concat(body, '') AS BLOB) FROM (SELECT {rest})",  # noqa: S608 - constants
        values,
    ).fetchone()
    rows: list[tuple[int, int]] = msgspec.json.decode(sizes)
    if sum(size for _, size in rows) != len(joined or b""):  # a zero byte: some versions of SQLite end the text there
        return dict(connection.execute(f"SELECT {rest}", values))
    bodies, start = {}, 0
    for number, size in rows:
        bodies[number] = joined[start : start + size]
        start += size
    return bodies
