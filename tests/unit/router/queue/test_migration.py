"""A queue of an older schema is converted when it is opened: nothing in it is lost, and an interruption leaves it as it was."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from eventsink.router.queue.delivery_log import DeliveryFilter, DeliveryState
from eventsink.router.queue.protocol import QueueUnavailable
from eventsink.router.queue.sqlite import SqliteQueue
from eventsink.router.queue.states import AlertState, Notified, SinkReport
from tests.unit.router.queue.queue_contract import QueueClocks, alert
from tests.unit.router.queue.test_sqlite import settings

VERSION_1 = Path(__file__).with_name("version_1.sql").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a queue of version 1."""
    with sqlite3.connect(tmp_path / "queue.db") as old:
        old.execute("PRAGMA journal_mode = WAL")
        old.executescript(VERSION_1)
    old.close()
    return tmp_path


async def test_everything_in_a_queue_of_version_1_is_kept(folder: Path) -> None:
    queue = await SqliteQueue.open(settings(folder))
    for _ in range(2):  # a second start finds it converted
        (first,) = await queue.take("s1", after=0, limit=9)
        assert (first.id, first.tenant, first.key, first.body) == ("3f9c01aa2b4d-1", "acme", "k1", b'{"name":"A"}')
        assert (first.due, first.attempts, first.batch, first.created, first.expires) == (5010.0, 2, "m1", 1.7e9, 9000.0)
        assert await queue.sinks_waiting() == {"s1": 1, "s2": 1}
        (dead,) = await queue.look_up(DeliveryFilter(state=DeliveryState.DEAD), limit=9)
        assert (dead.id, dead.sink, dead.reason, dead.detail, dead.died) == (
            "3f9c01aa2b4d-3",
            "s2",
            "HTTP413",
            "too large",
            1_700_000_002.0,
        )
        (arrived,) = await queue.look_up(DeliveryFilter(message="m3", tenant="acme"), limit=9)
        assert (arrived.name, arrived.sink, arrived.arrived, arrived.reference) == ("C", "s1", 1_700_000_003.0, "C1/1.5")
        notified = (Notified("s1", "firing", 5, 4000.0, ""), Notified("s2", "resolved", 6, 4500.0, ""))
        known = AlertState(1, "k1", "", "", "firing", 5, 0, "", 4500.0, notified=notified)
        assert [one async for one in queue.alert_states()] == [known]
        await queue.close()
        queue = await SqliteQueue.open(settings(folder))
    await queue.settle([1])
    await queue.flush()
    assert [one.body for one in await queue.take("s2", after=0, limit=9)] == [b'{"name":"A"}']  # it shares its payload
    await queue.put(alert("new", ["s2"]))
    assert [(one.seq > 4, one.key) for one in await queue.take("s2", after=0, limit=9)] == [(False, "k1"), (True, "new")]
    await queue.close()


async def test_a_queue_from_before_reports_were_kept_opens_and_a_program_of_then_can_still_open_it(tmp_path: Path) -> None:
    queue = await SqliteQueue.open(settings(tmp_path))
    await queue.put(alert("a"))
    await queue.close()
    with sqlite3.connect(tmp_path / "queue.db") as older:
        (version,) = older.execute("PRAGMA user_version").fetchone()
        older.execute("DROP TABLE sink_reports")
    older.close()
    queue = await SqliteQueue.open(settings(tmp_path))
    await queue.report([SinkReport("s1", "True", "Delivered")])
    assert [one.key for one in await queue.take("s1", after=0, limit=9)] == ["a"]
    await queue.close()
    with sqlite3.connect(tmp_path / "queue.db") as older:
        assert older.execute("PRAGMA user_version").fetchone() == (version,) == (2,), "a rollback keeps the queue"
    older.close()


async def test_a_queue_from_before_alerts_had_tenants_of_their_own_opens_and_a_program_of_then_can_still_use_it(
    tmp_path: Path,
) -> None:
    queue = await SqliteQueue.open(settings(tmp_path))
    await queue.put(alert("a"))
    await queue.close()
    with sqlite3.connect(tmp_path / "queue.db") as older:
        older.execute("ALTER TABLE deliveries DROP COLUMN alert_tenant")
    older.close()
    queue = await SqliteQueue.open(settings(tmp_path))
    (found,) = await queue.look_up(DeliveryFilter(tenant="acme"), limit=9)
    await queue.put(alert("b"))
    await queue.close()
    with sqlite3.connect(tmp_path / "queue.db") as older:
        older.execute(
            "INSERT INTO deliveries (seq, payload, sink, key, status, created, expires) "
            "SELECT seq + 1, payload, sink, 'c', status, created, expires FROM deliveries WHERE key = 'a'"
        )
        older.execute("DELETE FROM deliveries WHERE key = 'a'")
    older.close()
    queue = await SqliteQueue.open(settings(tmp_path))
    assert (found.name, found.tenant) == ("a", "acme")
    assert [(one.tenant, one.name) for one in await queue.look_up(DeliveryFilter(), limit=9)] == [("acme", "a"), ("acme", "b")]
    await queue.close()


async def test_what_was_dead_or_had_arrived_in_version_1_is_kept_for_its_full_age_from_now_on(folder: Path) -> None:
    clocks = QueueClocks()
    bounds = settings(folder, deadLetterAge="1h", arrivedAge="1h")
    queue = await SqliteQueue.open(bounds, monotonic=lambda: clocks.monotonic, wall=lambda: clocks.wall)
    everything = [DeliveryFilter(state=state) for state in (DeliveryState.DEAD, DeliveryState.ARRIVED)]
    clocks.monotonic += 3599
    await queue.keep_house()
    assert [len(await queue.look_up(one, limit=9)) for one in everything] == [1, 1]
    clocks.monotonic += 2
    await queue.keep_house()
    assert [len(await queue.look_up(one, limit=9)) for one in everything] == [0, 0]
    await queue.close()


async def test_a_conversion_that_fails_leaves_the_queue_of_version_1(folder: Path) -> None:
    with sqlite3.connect(folder / "queue.db") as old:
        old.execute("ALTER TABLE arrivals RENAME COLUMN reference TO other")
    with pytest.raises(QueueUnavailable, match="is not a usable queue file"):
        await SqliteQueue.open(settings(folder))
    with sqlite3.connect(folder / "queue.db") as old:
        old.execute("ALTER TABLE arrivals RENAME COLUMN other TO reference")
        assert old.execute("PRAGMA user_version").fetchone() == (1,)
    queue = await SqliteQueue.open(settings(folder))
    assert queue.depth().waiting == 2
    await queue.close()


async def test_a_program_of_the_older_version_rejects_a_converted_queue(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await SqliteQueue.open(settings(folder))).close()
    monkeypatch.setattr("eventsink.router.queue.sqlite.schema.SCHEMA_VERSION", 1)
    with pytest.raises(QueueUnavailable, match="was written by a newer version"):
        await SqliteQueue.open(settings(folder))
