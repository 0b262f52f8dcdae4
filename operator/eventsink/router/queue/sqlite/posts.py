"""The statements that read and change the record of posts."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from eventsink.router.queue.posts import PostChange, PostRef
from eventsink.router.queue.sqlite.statements import AMONG, delete, insert, listed
from eventsink.router.queue.states import AlertState
from eventsink.sinks.post import Post

POSTS_TABLES = """
CREATE TABLE IF NOT EXISTS posts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used again: who looked one up may write it after it was forgotten
    sink TEXT NOT NULL, destination TEXT NOT NULL, reference TEXT NOT NULL, message TEXT NOT NULL,
    total INTEGER NOT NULL, digest INTEGER NOT NULL, alerts BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS posts_of_sink ON posts (sink, id);
CREATE TABLE IF NOT EXISTS posted (    -- what is open
    alert TEXT NOT NULL, sink TEXT NOT NULL, post INTEGER NOT NULL, starts_at INTEGER NOT NULL, PRIMARY KEY (alert, sink)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS posted_in ON posted (post);
"""
MAX_POSTS_OF_SINK = 2000
"""Of one sink; the oldest make room."""
EVICTED_AT_ONCE = 250
_encode = msgspec.msgpack.Encoder().encode
_alerts = msgspec.msgpack.Decoder(tuple[bytes, ...])
_NO_ALERTS = _encode(())
_state = msgspec.msgpack.Decoder(AlertState)
_DROP_UNUSED = "DELETE FROM posts WHERE id {} AND NOT EXISTS (SELECT 1 FROM posted WHERE post = posts.id)"


def announced(connection: sqlite3.Connection, sink: str, destination: str, alerts: Sequence[str]) -> dict[str, PostRef]:
    """As `PostStore.announced`."""
    rows = connection.execute(
        "SELECT d.alert, p.id, length(p.alerts), d.starts_at FROM posted d JOIN posts p ON p.id = d.post "  # noqa: S608 - constants
        f"WHERE d.alert {AMONG} AND d.sink = ? AND p.destination = ?",
        (listed(alerts), sink, destination),
    )
    return {alert: PostRef(post, size > len(_NO_ALERTS), starts_at) for alert, post, size, starts_at in rows}


def read_post(connection: sqlite3.Connection, sink: str, identifier: int) -> Post | None:
    """As `PostStore.post`."""
    row = connection.execute(
        "SELECT reference, message, total, digest, alerts FROM posts WHERE id = ? AND sink = ?", (identifier, sink)
    ).fetchone()
    if row is None:
        return None
    open_alerts = dict(connection.execute("SELECT alert, starts_at FROM posted WHERE post = ?", (identifier,)).fetchall())
    reference, message, total, digest, alerts = row
    return Post(reference, message, open_alerts, total, bool(digest), _alerts.decode(alerts), identifier)


def write_post(connection: sqlite3.Connection, change: PostChange) -> int:
    """Record a post as it is from now on; returns how many others made room for it."""
    post, sink = change.post, change.sink
    values = (change.destination, post.reference, post.message, post.total, post.digest, _encode(post.alerts))
    if post.id:
        connection.execute("DELETE FROM posted WHERE post = ?", (post.id,))
        if not post.open:
            connection.execute("DELETE FROM posts WHERE id = ?", (post.id,))
            return 0
        changed = "UPDATE posts SET destination = ?, reference = ?, message = ?, total = ?, digest = ?, alerts = ? WHERE id = ? AND sink = ?"
        if not connection.execute(changed, (*values, post.id, sink)).rowcount:
            return 0  # forgotten meanwhile, with the alerts or the sink
        identifier = post.id
    elif post.open:
        inserted = "INSERT INTO posts (destination, reference, message, total, digest, alerts, sink) VALUES (?, ?, ?, ?, ?, ?, ?)"
        identifier = connection.execute(inserted, (*values, sink)).lastrowid or 0
    else:
        return 0
    before = connection.execute(
        f"SELECT post, count(*) FROM posted WHERE alert {AMONG} AND sink = ? GROUP BY post",  # noqa: S608 - constants
        (listed(list(post.open)), sink),
    ).fetchall()
    insert(connection, "INSERT OR REPLACE INTO posted", [(one, sink, identifier, start) for one, start in post.open.items()])
    # What is another one's has not ended: the post before must not count it so.
    connection.executemany("UPDATE posts SET total = total - ? WHERE id = ?", [(lost, one) for one, lost in before])
    connection.execute(_DROP_UNUSED.format(AMONG), (listed([one for one, _ in before]),))
    return _make_room(connection, sink) if not post.id else 0


def forget_alerts(connection: sqlite3.Connection, rows: Sequence[int]) -> None:
    """These alert states are about to be forgotten: so is what was posted of them."""
    if not rows or connection.execute("SELECT 1 FROM posted LIMIT 1").fetchone() is None:
        return
    states = connection.execute(f"SELECT state FROM alerts WHERE id {AMONG}", (listed(rows),))  # noqa: S608 - constants
    alerts = listed([_state.decode(state).identity for (state,) in states])
    posts = connection.execute(f"SELECT DISTINCT post FROM posted WHERE alert {AMONG}", (alerts,)).fetchall()  # noqa: S608 - constants
    connection.execute(f"DELETE FROM posted WHERE alert {AMONG}", (alerts,))  # noqa: S608 - constants
    connection.execute(_DROP_UNUSED.format(AMONG), (listed([post for (post,) in posts]),))


def forget_sinks(connection: sqlite3.Connection, uids: Sequence[str]) -> None:
    """These sinks are gone: so is what was posted for them."""
    if uids:
        _drop(connection, connection.execute(f"SELECT id FROM posts WHERE sink {AMONG}", (listed(uids),)).fetchall())  # noqa: S608


def evict_posts(connection: sqlite3.Connection, *, keep: int, keep_bytes: int) -> int:
    """Forget the oldest posts while more than `keep` alerts or `keep_bytes` of them are recorded, some at once; returns how many."""
    (alerts,) = connection.execute("SELECT count(*) FROM posted").fetchone()
    (size,) = connection.execute("SELECT coalesce(sum(length(alerts)), 0) FROM posts").fetchone()
    if alerts <= keep and size <= keep_bytes:
        return 0
    oldest: list[tuple[int]] = []
    for identifier, of_post, bytes_of_post in connection.execute(
        "SELECT id, (SELECT count(*) FROM posted WHERE post = posts.id), length(alerts) FROM posts ORDER BY id LIMIT ?",
        (EVICTED_AT_ONCE,),
    ).fetchall():
        if alerts <= keep and size <= keep_bytes:
            break
        oldest.append((identifier,))
        alerts -= of_post
        size -= bytes_of_post
    _drop(connection, oldest)
    return len(oldest)


def _make_room(connection: sqlite3.Connection, sink: str) -> int:
    (count,) = connection.execute("SELECT count(*) FROM posts WHERE sink = ?", (sink,)).fetchone()
    if count <= MAX_POSTS_OF_SINK:
        return 0
    oldest = connection.execute(
        "SELECT id FROM posts WHERE sink = ? ORDER BY id LIMIT ?", (sink, count - MAX_POSTS_OF_SINK)
    ).fetchall()
    _drop(connection, oldest)
    return len(oldest)


def _drop(connection: sqlite3.Connection, posts: Sequence[tuple[int]]) -> None:
    identifiers = [identifier for (identifier,) in posts]
    delete(connection, "posted WHERE post", identifiers)
    delete(connection, "posts WHERE id", identifiers)
