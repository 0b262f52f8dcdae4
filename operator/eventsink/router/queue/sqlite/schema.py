"""The schema of the queue's file, and the opening of it.

One table of payloads and one of deliveries suits fan-out: a payload is stored once, however many sinks want it. A delivery's row is
deleted when it arrived. A payload of 900 bytes that waits for one sink takes 1,165 bytes: 1,025 in its page, 90 the row, 50 in two indexes.
"""

from __future__ import annotations

import itertools
import secrets
import sqlite3
from pathlib import Path
from urllib.parse import quote

import msgspec

from eventsink.router.queue.protocol import QueueUnavailable
from eventsink.router.queue.sqlite.additions import ADDITIONS_TABLE
from eventsink.router.queue.sqlite.file import disk_failed, is_damage, lost
from eventsink.router.queue.sqlite.posts import POSTS_TABLES
from eventsink.router.queue.sqlite.statements import CACHED_STATEMENTS
from eventsink.router.queue.states import AlertState, Notified
from eventsink.runtime.logs import get_logger

encode_state = msgspec.msgpack.Encoder().encode
"""Alert, group and sink states, and reports, are stored as arrays of their members."""

SCHEMA_VERSION = 2
SQLITE_VERSION = (3, 38)
"""The first with the functions for JSON in every build; statements have more values than those before 3.32 take."""
_CODES_OF_DISK = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_NOMEM,
    }
)
BUSY_TIMEOUT_SECONDS = 10.0
PAGE_BYTES = 8192
"""Of a new file. An alert takes 1 to 3 kB: in pages of 4 kB, SQLite's own size, half of each page would stay empty."""
WAL_AUTOCHECKPOINT_PAGES = 1000
"""8 MB: a checkpoint now and then instead of at every hundredth commit."""

_TABLES = """
CREATE TABLE sinks (          -- once instead of in each row; only `deliveries` refers to it, and what nothing refers to is dropped
    id INTEGER PRIMARY KEY, uid TEXT NOT NULL, tenant TEXT NOT NULL, UNIQUE (uid, tenant)
);
CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY,
    origin INTEGER,           -- seq of its first time, once it was replayed: the id stays
    payload INTEGER NOT NULL,
    sink INTEGER NOT NULL,
    key TEXT NOT NULL,
    status TEXT NOT NULL,
    created REAL NOT NULL,    -- wall clock
    expires REAL NOT NULL,
    due REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    batch TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT '',
    died REAL,                -- NULL while it waits
    died_wall REAL
);
CREATE TABLE alerts (         -- alert states; found by number, which the router knows: an index over random names would cost more than all
    id INTEGER PRIMARY KEY, payload INTEGER, state BLOB NOT NULL
);
CREATE TABLE groups (id INTEGER PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE sink_states (uid TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE arrivals (
    seq INTEGER PRIMARY KEY, origin INTEGER, sink TEXT NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL,
    status TEXT NOT NULL, created REAL NOT NULL, attempts INTEGER NOT NULL, arrived REAL NOT NULL, arrived_wall REAL NOT NULL,
    message TEXT NOT NULL, reference TEXT NOT NULL
);
"""
_ADDED_TABLES = f"""
CREATE TABLE IF NOT EXISTS sink_reports (uid TEXT PRIMARY KEY, report BLOB NOT NULL) WITHOUT ROWID;
{POSTS_TABLES}
{ADDITIONS_TABLE}
"""
"""These and the columns below were added without a new version: a program that does not know them leaves them alone, and can still open the
file."""
_ADDED_COLUMNS = {
    "meta": {"known_clock": "REAL", "known_wall": "REAL"},  # of the last commit by a program that knows them
    "deliveries": {"alert_tenant": "TEXT"},  # NULL: the sink's
}
_INDEXES = """
CREATE INDEX of_sink ON deliveries (sink, died, seq, payload);  -- `payload`: a start reads this instead of all rows
CREATE INDEX expiring ON deliveries (expires) WHERE died IS NULL;
CREATE INDEX dead ON deliveries (died) WHERE died IS NOT NULL;
CREATE INDEX replayed ON deliveries (origin) WHERE origin IS NOT NULL;
CREATE INDEX arrived_at ON arrivals (arrived);
CREATE INDEX arrived_in ON arrivals (message);
"""
_UNCHANGED_TABLES = """
CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), store TEXT NOT NULL, clock REAL NOT NULL, seq INTEGER NOT NULL);
CREATE TABLE payloads (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL);
"""
"""As in version 1."""

# Dead letters and arrivals had wall clock times only: their ages count from now on.
_FROM_VERSION_1 = f"""
DROP TABLE holds;
DROP INDEX waiting; DROP INDEX dead; DROP INDEX replayed; DROP INDEX arrived_at; DROP INDEX arrived_in;
ALTER TABLE deliveries RENAME TO deliveries_1;
ALTER TABLE arrivals RENAME TO arrivals_1;
{_TABLES}
INSERT INTO sinks (uid, tenant) SELECT DISTINCT sink, tenant FROM deliveries_1;
INSERT INTO deliveries SELECT d.seq, d.origin, d.payload, s.id, d.key, d.status, d.created, d.expires, d.due, d.attempts, d.batch,
    d.reason, d.detail, iif(d.died IS NULL, NULL, m.clock), d.died
    FROM deliveries_1 d JOIN sinks s ON s.uid = d.sink AND s.tenant = d.tenant JOIN meta m ORDER BY d.seq;
INSERT INTO arrivals SELECT a.seq, a.origin, a.sink, a.tenant, a.key, a.name, a.status, a.created, a.attempts, m.clock, a.arrived,
    a.message, a.reference FROM arrivals_1 a JOIN meta m ORDER BY a.seq;
DROP TABLE deliveries_1;
DROP TABLE arrivals_1;
{_INDEXES}
"""  # noqa: S608 - constants

_SELECT_TOLD = """
SELECT fingerprint, sink, status, starts_at, max(told_at) FROM told GROUP BY fingerprint, sink ORDER BY fingerprint
"""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file.

    Raises
    ------
    QueueUnavailable
        It cannot be opened, or is not a queue of this program, or SQLite is too old.
    """
    if sqlite3.sqlite_version_info < SQLITE_VERSION:
        needed = ".".join(map(str, SQLITE_VERSION))
        raise QueueUnavailable(
            f"SQLite {needed} or later is needed, and this Python has {sqlite3.sqlite_version}: use another Python"
        )
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}{'?mode=ro' if read_only else ''}",
            uri=True,
            timeout=BUSY_TIMEOUT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=CACHED_STATEMENTS,
        )
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL" if not read_only else "PRAGMA query_only = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_AUTOCHECKPOINT_PAGES}")
        connection.execute("PRAGMA temp_store = MEMORY")
    except sqlite3.Error as error:
        raise unusable(path, error) from None
    return connection


def unusable(path: Path, error: sqlite3.Error) -> QueueUnavailable:
    """The file is damaged, or not one of this program; or its disk is to blame, and the file is as it was."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _CODES_OF_DISK and not is_damage(error):
        return disk_failed(path, str(error))
    return QueueUnavailable(f"{path}: is not a usable queue file ({error}); restore it or move it away (docs/queue.md)")


def prepare(connection: sqlite3.Connection, path: Path, expected: str) -> None:
    """Make the tables of a new file, convert those of an older version, and check the others.

    Raises
    ------
    QueueUnavailable, sqlite3.Error
        The file is newer than this program, or not one of it, or not the queue with the id `expected` (empty: any, or none).
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise QueueUnavailable(f"{path}: was written by a newer version of this program; run that one")
    if version == 0:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise sqlite3.DatabaseError("it belongs to another program")
        if expected:
            raise lost(path, expected, "is empty")
        named = f"INSERT INTO meta VALUES (1, '{secrets.token_hex(6)}', 0, 0);"  # noqa: S608 - hexadecimal
        # In one transaction: a file without its name would never open again.
        schema = f"{_UNCHANGED_TABLES} {_TABLES} {_INDEXES}"
        connection.executescript(f"BEGIN; {schema} {named} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    if version == 1:
        # In one transaction: whatever interrupts it, the file is still one of version 1.
        connection.executescript(f"BEGIN IMMEDIATE; {_FROM_VERSION_1}")
        _convert_notification_log(connection)
        for statement in ("DROP TABLE told", f"PRAGMA user_version = {SCHEMA_VERSION}", "COMMIT"):
            connection.execute(statement)
        get_logger().info("the queue was converted to a newer schema; older versions cannot open it", version=SCHEMA_VERSION)
    connection.executescript(_ADDED_TABLES)
    for table, columns in _ADDED_COLUMNS.items():
        known = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}
        for column in columns.keys() - known:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {columns[column]}")
    connection.execute("SELECT seq, origin, died FROM deliveries LIMIT 1").fetchall()
    connection.execute("SELECT seq, message FROM arrivals LIMIT 1").fetchall()
    connection.execute("SELECT id, payload, state FROM alerts LIMIT 1").fetchall()
    (found,) = connection.execute("SELECT store FROM meta").fetchone()
    if expected and found != expected:
        raise lost(path, expected, f"is another one ({found})")


def _convert_notification_log(connection: sqlite3.Connection) -> None:
    """Version 1 recorded, in the table `told`, of which alerts a sink was notified, and nothing else of the alerts: no tenant, no body."""
    told = connection.execute(_SELECT_TOLD).fetchall()
    for row, (fingerprint, entries) in enumerate(itertools.groupby(told, lambda entry: entry[0]), 1):
        notified = [Notified(sink, status, starts_at, at, "") for _, sink, status, starts_at, at in entries]
        last = max(notified, key=lambda one: (one.status == "firing", one.at))
        state = AlertState(
            row,
            fingerprint,
            "",
            "",
            last.status,
            last.starts_at,
            0,
            "",
            max(one.at for one in notified),
            notified=tuple(notified),
        )
        connection.execute("INSERT INTO alerts VALUES (?, NULL, ?)", (row, encode_state(state)))
