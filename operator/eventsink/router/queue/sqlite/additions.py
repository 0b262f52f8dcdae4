"""What is added to an alert's state after it was written, in rows of their own.

An alert that many sinks want is stored in parts. To write its whole state with each, and so all that were notified before, would take
longer than the part itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import msgspec

from eventsink.router.queue.sqlite.statements import AMONG, delete, listed
from eventsink.router.queue.states import AlertState, Notified

ADDITIONS_TABLE = """
CREATE TABLE IF NOT EXISTS additions (  -- since the alert's state was written; a write of the whole state deletes them
    alert INTEGER NOT NULL, number INTEGER NOT NULL, entries BLOB NOT NULL, PRIMARY KEY (alert, number)
) WITHOUT ROWID;
"""


class _Addition(msgspec.Struct, frozen=True, gc=False, array_like=True):
    identity: str
    """Of the alert: a program that does not know this table may give the alert's number to another one."""
    entries: tuple[Notified, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Addition).decode


class Additions:
    """The rows of additions; which alerts have any is kept in memory."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._counts: dict[int, int] = dict(
            connection.execute("SELECT alert, max(number) FROM additions GROUP BY alert").fetchall()
        )
        """Alert, by the number of its record -> the number of its last addition."""
        self._before: dict[int, int] = {}
        """What the open transaction changed of that, as it was before."""

    def add(self, state: AlertState, entries: Sequence[Notified]) -> tuple[int, int, bytes]:
        """The row that adds these entries to an alert's state."""
        number = self._counts.get(state.row, 0) + 1
        self._change(state.row, number)
        return state.row, number, _encode(_Addition(state.identity, tuple(entries)))

    def drop(self, alert: int) -> bool:
        """The state of an alert is written whole; returns whether it had additions, which are to be deleted."""
        had = alert in self._counts
        if had:
            self._change(alert, 0)
        return had

    def forget(self, alerts: Iterable[int]) -> None:
        """Delete the additions of alerts that are forgotten."""
        delete(self._connection, "additions WHERE alert", [alert for alert in alerts if self.drop(alert)])

    def committed(self) -> None:
        """The open transaction was committed."""
        self._before.clear()

    def undo(self) -> None:
        """The open transaction was rolled back."""
        for alert, count in self._before.items():
            self._set(alert, count)
        self._before.clear()

    def _change(self, alert: int, count: int) -> None:
        self._before.setdefault(alert, self._counts.get(alert, 0))
        self._set(alert, count)

    def _set(self, alert: int, count: int) -> None:
        if count:
            self._counts[alert] = count
        else:
            self._counts.pop(alert, None)


def with_additions(connection: sqlite3.Connection, states: Sequence[AlertState]) -> list[AlertState]:
    """These states with what was added to them."""
    rows = connection.execute(
        f"SELECT alert, entries FROM additions WHERE alert {AMONG} ORDER BY alert, number",  # noqa: S608 - constants
        (listed([state.row for state in states]),),
    )
    of_alert: dict[int, list[_Addition]] = {}
    for alert, entries in rows:
        of_alert.setdefault(alert, []).append(_decode(entries))
    return [_added(state, of_alert[state.row]) if state.row in of_alert else state for state in states]


def _added(state: AlertState, additions: Sequence[_Addition]) -> AlertState:
    entries = {one.sink: one for one in state.notified}
    for addition in additions:
        if addition.identity == state.identity:
            for one in addition.entries:
                known = entries.pop(one.sink, None)
                entries[one.sink] = one if known is None or known.at <= one.at else known
    return msgspec.structs.replace(state, notified=tuple(entries.values()))
