"""Everything that a usual transaction writes, as one statement.

sqlite3 releases the GIL for each step of a statement, for BEGIN and for COMMIT, and beside a busy event loop every one of them waits up to
`process.SWITCH_SECONDS` to get it back: nine statements that take 0.1 ms took 9 ms. Here, whatever is written into tables goes through
one view, whose triggers tell it apart: each row of the statement has a part for each of several tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Any

from eventsink.router.queue.sqlite.schema import encode_state
from eventsink.router.queue.sqlite.statements import insert, listed
from eventsink.router.queue.states import GroupState, SinkState

Values = tuple[Any, ...]
"""Of a row, or of a part of one."""

MOST_ROWS = 16
"""In one statement: each of more rows takes longer through the triggers than by itself, and others wait for that."""
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


_INSERT_PAYLOADS = "INSERT INTO payloads"
_INSERT_DELIVERIES = f"INSERT INTO deliveries ({', '.join(_PARTS['delivery'])})"
_INSERT_ALERTS = "INSERT OR REPLACE INTO alerts"
_INSERT_STATES = "INSERT INTO alerts (id, state)"
_UPDATE_STATE = "ON CONFLICT (id) DO UPDATE SET state = excluded.state"
_TRIGGERS = {
    "payload": f"{_INSERT_PAYLOADS} VALUES ({_new('payload')});",
    "delivery": f"{_INSERT_DELIVERIES} VALUES ({_new('delivery')});",
    "alert": f"{_INSERT_ALERTS} VALUES ({_new('alert')});",
    "change": f"""
{_INSERT_STATES} SELECT NEW.change_one, NEW.change_two WHERE NEW.change_what = 'state' {_UPDATE_STATE};
INSERT INTO additions SELECT NEW.change_one, NEW.change_two, NEW.change_three WHERE NEW.change_what = 'addition';
INSERT OR REPLACE INTO groups SELECT NEW.change_one, NEW.change_two WHERE NEW.change_what = 'group';
INSERT OR REPLACE INTO sink_states SELECT NEW.change_one, NEW.change_two WHERE NEW.change_what = 'sink';
UPDATE deliveries SET batch = bound.value ->> 1 FROM json_each(NEW.change_one) bound
    WHERE NEW.change_what = 'bind' AND seq = bound.value ->> 0;
DELETE FROM deliveries WHERE NEW.change_what = 'no deliveries' AND seq IN (SELECT value FROM json_each(NEW.change_one));
DELETE FROM payloads WHERE NEW.change_what = 'no payloads' AND id IN (SELECT value FROM json_each(NEW.change_one));
DELETE FROM additions WHERE NEW.change_what = 'no additions' AND alert IN (SELECT value FROM json_each(NEW.change_one));
DELETE FROM groups WHERE NEW.change_what = 'no groups' AND id IN (SELECT value FROM json_each(NEW.change_one));
UPDATE meta SET clock = NEW.change_one, seq = NEW.change_two, known_clock = NEW.change_one, known_wall = NEW.change_three
    WHERE NEW.change_what = 'meta';
""",  # noqa: S608 - constants
}


def prepare_view(connection: sqlite3.Connection) -> None:
    """Make the view, which only this connection has; the tables exist."""
    columns = ", ".join(f"NULL AS {column}" for column in _COLUMNS)
    triggers = [
        f"CREATE TEMP TRIGGER write_{part} INSTEAD OF INSERT ON written WHEN NEW.{part}_{_PARTS[part][0]} IS NOT NULL BEGIN {text} END;"
        for part, text in _TRIGGERS.items()
    ]
    connection.executescript(f"CREATE TEMP VIEW written AS SELECT {columns}; {' '.join(triggers)}")


def begin(connection: sqlite3.Connection) -> None:
    """Begin a transaction of several statements, unless one has begun."""
    if not connection.in_transaction:
        connection.execute("BEGIN IMMEDIATE")


@dataclass(slots=True)
class Rows:
    """What a transaction is to write, collected."""

    payloads: list[Values] = field(default_factory=list)
    payload_bytes: int = 0
    deliveries: list[Values] = field(default_factory=list)
    states: list[Values] = field(default_factory=list)
    """Of alerts whose bodies stay."""
    states_and_bodies: list[Values] = field(default_factory=list)
    replaced: list[int] = field(default_factory=list)
    """Of the latter, the rows that there were before."""
    additions: list[Values] = field(default_factory=list)
    """To states that were written before."""
    no_additions: list[int] = field(default_factory=list)
    """Rows of the states that are written whole, of those that had additions."""
    written: set[int] = field(default_factory=set)
    """Rows of all alert states here, and of those that are added to: each is in here once."""
    groups: dict[int, GroupState] = field(default_factory=dict)
    sinks: dict[str, SinkState] = field(default_factory=dict)
    removed: list[int] = field(default_factory=list)
    """Deliveries."""
    unused: list[int] = field(default_factory=list)
    """Payloads that nothing holds."""
    bound: dict[int, str] = field(default_factory=dict)
    """Delivery -> its batch."""

    def write(self, connection: sqlite3.Connection, more: Sequence[Values]) -> None:
        """Write it all, and more changes: few rows in one statement, others in the transaction that is begun then.

        Parameters
        ----------
        more
            `what` and up to three values of each, as the triggers have them.
        """
        changes = [*self._changes(), *more]
        few = [*[("state", *state) for state in self.states], *changes]
        if max(len(self.payloads), len(self.deliveries), len(self.states_and_bodies), len(few)) <= MOST_ROWS:
            _write(connection, _joined(self.payloads, self.deliveries, self.states_and_bodies, few))
            return
        begin(connection)
        insert(connection, _INSERT_PAYLOADS, self.payloads)
        insert(connection, _INSERT_DELIVERIES, self.deliveries)
        insert(connection, _INSERT_ALERTS, self.states_and_bodies)
        insert(connection, _INSERT_STATES, self.states, _UPDATE_STATE)
        _write(connection, _joined((), (), (), changes))

    def _changes(self) -> Iterator[Values]:
        of_many = {
            "no deliveries": self.removed,
            "no payloads": self.unused,
            "no additions": self.no_additions,
            "no groups": [group.row for group in self.groups.values() if not group.firing],
            "bind": list(self.bound.items()),
        }
        for what, many in of_many.items():
            if many:
                yield what, listed(many)
        for addition in self.additions:
            yield "addition", *addition
        for group in self.groups.values():
            if group.firing:
                yield "group", group.row, encode_state(group)
        for sink in self.sinks.values():
            yield "sink", sink.uid, encode_state(sink)


def _joined(
    payloads: Sequence[Values], deliveries: Sequence[Values], alerts: Sequence[Values], changes: Sequence[Values]
) -> list[Values]:
    """The rows of the view with these parts, each kind in its order."""
    return [
        (payload or _NO_PAYLOAD) + (delivery or _NO_DELIVERY) + (alert or _NO_ALERT) + ((change or _NO_CHANGE) + _NO_CHANGE)[:4]
        for payload, delivery, alert, change in zip_longest(payloads, deliveries, alerts, changes)
    ]


def _write(connection: sqlite3.Connection, rows: Sequence[Values]) -> None:
    """Write rows of the view in one statement, or in one for each `MOST_ROWS`."""
    for start in range(0, len(rows), MOST_ROWS):
        some = rows[start : start + MOST_ROWS]
        # `executemany` does not ask for the number of the last row, for which sqlite3 would release the GIL once more.
        connection.executemany(_text(len(some)), [tuple(chain.from_iterable(some))])


@lru_cache(maxsize=MOST_ROWS)
def _text(rows: int) -> str:
    row = f"({','.join('?' * len(_COLUMNS))})"
    return f"INSERT INTO written VALUES {','.join([row] * rows)}"  # noqa: S608 - constants
