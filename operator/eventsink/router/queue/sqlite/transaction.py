"""Everything that a usual transaction writes, as one statement.

sqlite3 releases the GIL for each step of a statement, for BEGIN and for COMMIT, and beside a busy event loop every one of them waits up to
`process.SWITCH_SECONDS` to get it back: nine statements that take 0.1 ms took 9 ms. Here, whatever is written into tables goes through
one view, whose triggers tell it apart: each row of the statement has a part for each of several tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Any

Values = tuple[Any, ...]

MOST_ROWS = 16
"""In one statement: each of more rows takes longer through the triggers than by itself, and others wait for that."""
_SIZES = (1, 2, 3, 4, 6, 8, 12, MOST_ROWS)
"""Rows that a statement has, so that few texts are prepared, and each once; what is missing has no values."""
_PARTS = {
    "payload": ("id", "kind", "name", "body"),
    "delivery": ("seq", "payload", "sink", "key", "status", "created", "expires", "alert_tenant"),
    "alert": ("id", "payload", "state"),
    "change": ("what", "one", "two", "three"),
}
_COLUMNS = [f"{part}_{column}" for part, columns in _PARTS.items() for column in columns]
_NO_PAYLOAD, _NO_DELIVERY, _NO_ALERT, _NO_CHANGE = ((None,) * len(columns) for columns in _PARTS.values())


def _new(part: str) -> str:
    return ", ".join(f"NEW.{part}_{column}" for column in _PARTS[part])


_TRIGGERS = {
    "payload": f"INSERT INTO payloads VALUES ({_new('payload')});",  # noqa: S608 - constants
    "delivery": f"INSERT INTO deliveries ({', '.join(_PARTS['delivery'])}) VALUES ({_new('delivery')});",  # noqa: S608 - constants
    "alert": f"INSERT OR REPLACE INTO alerts VALUES ({_new('alert')});",  # noqa: S608 - constants
    "change": """
INSERT INTO alerts (id, state) SELECT NEW.change_one, NEW.change_two WHERE NEW.change_what = 'state'
    ON CONFLICT (id) DO UPDATE SET state = excluded.state;
INSERT OR REPLACE INTO groups SELECT NEW.change_one, NEW.change_two WHERE NEW.change_what = 'group';
INSERT OR REPLACE INTO sink_states SELECT NEW.change_one, NEW.change_two WHERE NEW.change_what = 'sink';
UPDATE deliveries SET batch = bound.value ->> 1 FROM json_each(NEW.change_one) bound
    WHERE NEW.change_what = 'bind' AND seq = bound.value ->> 0;
DELETE FROM deliveries WHERE NEW.change_what = 'no deliveries' AND seq IN (SELECT value FROM json_each(NEW.change_one));
DELETE FROM payloads WHERE NEW.change_what = 'no payloads' AND id IN (SELECT value FROM json_each(NEW.change_one));
DELETE FROM groups WHERE NEW.change_what = 'no groups' AND id IN (SELECT value FROM json_each(NEW.change_one));
UPDATE meta SET clock = NEW.change_one, seq = NEW.change_two, known_clock = NEW.change_one, known_wall = NEW.change_three
    WHERE NEW.change_what = 'meta';
""",
}


def prepare_view(connection: sqlite3.Connection) -> None:
    """Make the view, which only this connection has; the tables exist."""
    columns = ", ".join(f"NULL AS {column}" for column in _COLUMNS)
    triggers = [
        f"CREATE TEMP TRIGGER write_{part} INSTEAD OF INSERT ON written WHEN NEW.{part}_{_PARTS[part][0]} IS NOT NULL BEGIN {text} END;"
        for part, text in _TRIGGERS.items()
    ]
    connection.executescript(f"CREATE TEMP VIEW written AS SELECT {columns}; {' '.join(triggers)}")


def joined(
    payloads: Sequence[Values], deliveries: Sequence[Values], alerts: Sequence[Values], changes: Sequence[Values]
) -> list[Values]:
    """The rows of the view with these parts, each kind in its order.

    Parameters
    ----------
    payloads, deliveries, alerts
        Values of `_PARTS`.
    changes
        `what` and up to three values, as the triggers have them.
    """
    return [
        (payload or _NO_PAYLOAD) + (delivery or _NO_DELIVERY) + (alert or _NO_ALERT) + ((change or _NO_CHANGE) + _NO_CHANGE)[:4]
        for payload, delivery, alert, change in zip_longest(payloads, deliveries, alerts, changes)
    ]


def write(connection: sqlite3.Connection, rows: Sequence[Values]) -> None:
    """Write rows of the view in one statement, or in one for each `MOST_ROWS`."""
    for start in range(0, len(rows), MOST_ROWS):
        some = rows[start : start + MOST_ROWS]
        size = next(size for size in _SIZES if size >= len(some))
        missing = (None,) * (len(_COLUMNS) * (size - len(some)))
        # `executemany` does not ask for the number of the last row, for which sqlite3 would release the GIL once more.
        connection.executemany(_text(size), [(*chain.from_iterable(some), *missing)])


@lru_cache
def _text(size: int) -> str:
    row = f"({','.join('?' * len(_COLUMNS))})"
    return f"INSERT INTO written VALUES {','.join([row] * size)}"  # noqa: S608 - constants
