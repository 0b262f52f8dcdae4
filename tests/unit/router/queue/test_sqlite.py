"""The SQLite queue passes the contract, and what is particular to a file: full disks, kill -9, a second process."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from eventsink.router.queue.delivery_log import DeliveryFilter, DeliveryState
from eventsink.router.queue.protocol import Arrival, Batch, DeadLetter, Queue, QueueFull, QueueUnavailable
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue, schema
from eventsink.router.queue.sqlite.reader import shared_payloads
from eventsink.router.queue.sqlite.store import Store, StoreChange
from eventsink.router.queue.states import AlertStateWrite
from tests.unit.router.queue.queue_contract import QueueClocks, QueueContract, alert, names, state

DEADLINE_SECONDS = 60


class TestSqliteQueue(QueueContract):
    async def open_queue(self, folder: Path, clocks: QueueClocks, *, max_waiting: int = 10_000) -> Queue:
        settings = QueueSettings(path=folder / "queue.db", max_waiting=max_waiting, min_free_bytes=0)
        return await open_with(settings, clocks)


def settings(folder: Path, **other: object) -> QueueSettings:
    return QueueSettings.model_validate({"path": folder / "queue.db", "minFreeBytes": 0, **other})


async def open_with(bounds: QueueSettings, clocks: QueueClocks) -> SqliteQueue:
    return await SqliteQueue.open(bounds, monotonic=lambda: clocks.monotonic, wall=lambda: clocks.wall, by_tenant=True)


async def test_a_second_process_is_rejected(tmp_path: Path) -> None:
    queue = await SqliteQueue.open(settings(tmp_path))
    with pytest.raises(QueueUnavailable, match="another process has this queue open"):
        await SqliteQueue.open(settings(tmp_path, lockTimeout=0))
    await queue.close()
    await (await SqliteQueue.open(settings(tmp_path, lockTimeout=0))).close()


async def test_a_queue_opens_as_soon_as_the_process_that_had_it_lets_go(tmp_path: Path) -> None:
    queue = await SqliteQueue.open(settings(tmp_path))
    waits: list[str] = []
    opening = asyncio.ensure_future(SqliteQueue.open(settings(tmp_path), on_wait=waits.append))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not waits:
            await asyncio.sleep(0)
        await queue.close()
        await (await opening).close()
    assert waits == [f"{socket.gethostname()}, process {os.getpid()}"]


@pytest.mark.parametrize("content", [b"not a database at all, but longer than a header" * 50])
async def test_a_broken_file_is_rejected_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "queue.db").write_bytes(content)
    with pytest.raises(QueueUnavailable, match=r"is not a usable queue file .* move it away"):
        await SqliteQueue.open(settings(tmp_path))
    assert (tmp_path / "queue.db").read_bytes() == content


async def test_a_file_with_damaged_pages_is_rejected_with_an_explanation(tmp_path: Path) -> None:
    queue = await SqliteQueue.open(settings(tmp_path))
    for number in range(20):
        await queue.put(alert(f"{number}" * 3000))
    await queue.close()
    with sqlite3.connect(tmp_path / "queue.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray((tmp_path / "queue.db").read_bytes())
    content[4096:] = b"\xee" * (len(content) - 4096)
    (tmp_path / "queue.db").write_bytes(content)
    with pytest.raises(QueueUnavailable, match=r"is not a usable queue file .*malformed"):
        await SqliteQueue.open(settings(tmp_path))


async def test_a_file_of_another_program_or_a_newer_version_is_rejected(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "queue.db") as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(QueueUnavailable, match="belongs to another program"):
        await SqliteQueue.open(settings(tmp_path))
    with sqlite3.connect(tmp_path / "queue.db") as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(QueueUnavailable, match="newer version"):
        await SqliteQueue.open(settings(tmp_path))


async def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "50% of #1?mode=memory"
    folder.mkdir()
    queue = await SqliteQueue.open(settings(folder))
    await queue.put(alert("a"))
    assert await names(queue) == ["a"]
    await queue.close()
    assert (folder / "queue.db").exists()


async def test_a_crash_while_the_file_is_created_leaves_one_that_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: int) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(secrets, "token_hex", crash)
        with pytest.raises(KeyboardInterrupt):
            await SqliteQueue.open(settings(tmp_path))
    await (await SqliteQueue.open(settings(tmp_path))).close()


async def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(QueueUnavailable, match=r"check queue\.path"):
        await SqliteQueue.open(settings(tmp_path / "none"))


async def test_an_sqlite_that_is_too_old_is_rejected_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.37.2")
    with pytest.raises(QueueUnavailable, match=r"^SQLite 3\.38 or later is needed, and this Python has 3\.37\.2"):
        await SqliteQueue.open(settings(tmp_path))
    monkeypatch.undo()
    await (await SqliteQueue.open(settings(tmp_path))).close()


async def test_what_is_put_while_the_queue_is_being_closed_is_stored_or_refused(tmp_path: Path) -> None:
    queue = await SqliteQueue.open(settings(tmp_path))
    put: list[asyncio.Future[None]] = []

    async def go_on_putting() -> None:
        while True:
            asyncio.get_running_loop().call_soon(time.sleep, 0.005)  # the next turn begins late
            put.append(queue.submit(alert(f"{len(put)}")))
            await asyncio.sleep(0)

    before = asyncio.create_task(go_on_putting())
    closing = asyncio.create_task(queue.close())
    ended = await asyncio.gather(before, go_on_putting(), return_exceptions=True)
    assert [str(one) for one in ended] == ["the queue is closed"] * 2
    await asyncio.wait_for(closing, DEADLINE_SECONDS)
    assert [one for one in put if not one.done()] == []
    queue = await SqliteQueue.open(settings(tmp_path))
    assert queue.depth().waiting == len(put)
    await queue.close()


async def test_when_a_commit_fails_every_batch_after_it_is_rolled_back_in_reverse(
    tmp_path: Path, connections: list[sqlite3.Connection]
) -> None:
    queue = await SqliteQueue.open(settings(tmp_path))
    queued: list[str] = []
    queue.subscribe(lambda new: queued.extend(one.key for one in new))
    await queue.put(alert("before"))
    limit_pages(connections[-1], 0)
    undone: list[int] = []
    puts = [queue.put(alert(f"x{n}" * 50_000), undo=lambda n=n: undone.append(n)) for n in range(30)]  # type: ignore[misc]
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert all(isinstance(result, QueueUnavailable) for result in results)
    assert undone == sorted(undone, reverse=True)
    assert sorted(undone) == list(range(30))
    assert queue.depth().waiting == 1
    limit_pages(connections[-1], 1_000_000)
    await queue.put(alert("after"))
    assert queued == ["before", "after"]
    assert await names(queue) == ["before", "after"]
    await queue.close()


async def test_batches_waiting_behind_a_failed_commit_fail_too_and_are_never_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventsink.router.queue.sqlite.writer.MAX_COMMIT_ROWS", 1)
    queue = await SqliteQueue.open(settings(tmp_path))
    fail_to_commit(monkeypatch, times=1)
    results = await asyncio.gather(*(queue.put(alert(f"{n}")) for n in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [QueueUnavailable] * 5
    await queue.put(alert("after"))
    assert await names(queue) == ["after"]
    await queue.close()


async def test_what_could_not_even_be_rolled_back_is_in_no_later_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connections: list[sqlite3.Connection]
) -> None:
    queue = await SqliteQueue.open(settings(tmp_path))
    refused: list[str] = []

    def authorize(_: int, operation: str | None, *__: object) -> int:
        if operation != "ROLLBACK" or refused:
            return sqlite3.SQLITE_OK
        refused.append(operation)
        return sqlite3.SQLITE_DENY

    connections[-1].set_authorizer(authorize)
    fail_to_commit(monkeypatch, times=1)
    with pytest.raises(QueueUnavailable):
        await queue.put(alert("a", ["new"]))  # the sink is written at once, in a transaction that stays open
    assert refused
    await queue.put(alert("b"))
    assert (await names(queue, "new"), await names(queue)) == ([], ["b"])
    with sqlite3.connect(tmp_path / "queue.db") as connection:
        assert connection.execute("SELECT uid FROM sinks").fetchall() == [("s1",)]
    await queue.close()


async def test_deliveries_settled_while_storage_fails_are_recorded_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = await SqliteQueue.open(settings(tmp_path))
    seqs: list[int] = []
    queue.subscribe(lambda new: seqs.extend(one.seq for one in new))
    await queue.put(alert("a"))
    fail_to_commit(monkeypatch, times=2)
    await queue.settle(seqs)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await queue.flush()
    assert queue.depth().waiting == 0
    await queue.close()


async def test_free_space_is_checked_at_each_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 1 << 20
    monkeypatch.setattr("eventsink.router.queue.sqlite.file.free_bytes", lambda _: free)
    queue = await SqliteQueue.open(settings(tmp_path, minFreeBytes=500_000))
    seqs: list[int] = []
    queue.subscribe(lambda new: seqs.extend(one.seq for one in new))
    await queue.put(alert("a"))
    free = 499_999
    undone: list[str] = []
    results = await asyncio.gather(
        *(queue.put(alert(name), undo=lambda name=name: undone.append(name)) for name in "bc"),  # type: ignore[misc]
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [QueueFull, QueueFull]
    assert "queue.minFreeBytes" in str(results[0])
    assert undone == ["c", "b"]
    await queue.settle(seqs)  # what arrived is recorded all the same
    await queue.flush()
    assert queue.depth().waiting == 0
    assert queue.problem() == ""
    free = 1 << 20
    await queue.put(alert("d"))
    with pytest.raises(QueueFull):
        await queue.put(alert("e" * 300_000))  # it alone would take more than what is to stay free
    assert await names(queue) == ["d"]
    await queue.close()


async def test_a_nearly_full_disk_accepts_nothing_new(tmp_path: Path) -> None:
    queue = await SqliteQueue.open(settings(tmp_path, minFreeBytes=1 << 60))
    with pytest.raises(QueueFull, match=r"queue\.minFreeBytes"):
        await queue.put(alert("a"))
    await queue.put(Batch())
    await queue.close()


async def test_a_drained_file_gives_its_room_to_new_deliveries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = QueueClocks()
    queue = await SqliteQueue.open(settings(tmp_path, minFreeBytes=1 << 20), monotonic=lambda: clocks.monotonic)
    for number in range(40):
        await queue.put(alert(f"{number}" * 50_000))
    with sqlite3.connect(tmp_path / "queue.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(FULL)")
    monkeypatch.setattr("eventsink.router.queue.sqlite.file.free_bytes", lambda _: 0)
    await queue.keep_house()
    with pytest.raises(QueueFull, match=r"queue\.minFreeBytes"):
        await queue.put(alert("one more"))
    await queue.settle([one.seq for one in await queue.take("s1", after=0, limit=100)])
    await queue.flush()
    await queue.keep_house()
    await queue.put(alert("room again"))
    await queue.close()


async def test_the_delivery_log_is_bounded_by_number_and_age(tmp_path: Path) -> None:
    clocks = QueueClocks()
    queue = await open_with(settings(tmp_path, maxArrived=3, arrivedAge="1h"), clocks)
    queued: list[int] = []
    queue.subscribe(lambda new: queued.extend(one.seq for one in new))

    async def kept() -> list[str]:
        await queue.keep_house()
        return [record.name for record in await queue.look_up(DeliveryFilter(state=DeliveryState.ARRIVED), limit=100)]

    for number in range(5):
        await queue.put(alert(str(number)))
        await queue.settle(queued[-1:], Arrival(f"m{number}", ""))
        clocks.monotonic += 600
    assert await kept() == ["2", "3", "4"]
    clocks.monotonic += 3600 - 3 * 600 + 1
    assert await kept() == ["3", "4"]
    await queue.close()


async def test_dead_letters_are_bounded_by_number_and_age(tmp_path: Path) -> None:
    clocks = QueueClocks()
    queue = await open_with(settings(tmp_path, maxDead=2, deadLetterAge="1h"), clocks)
    for name in "abcd":
        await queue.put(alert(name, [f"s-{name}"]))
        clocks.monotonic += 1
        await queue.dead_letter_sink(f"s-{name}", reason="SinkDeleted", detail="")
    await queue.keep_house()
    assert [r.name for r in await queue.look_up(DeliveryFilter(state=DeliveryState.DEAD), limit=9)] == ["c", "d"]
    clocks.monotonic += 3601
    await queue.keep_house()
    assert queue.depth().dead == 0
    assert queue.depth().evicted == 4
    await queue.close()


async def test_whether_the_statuses_are_as_the_reports_say_is_unknown_of_a_copy_and_after_a_program_without_reports(
    tmp_path: Path,
) -> None:
    clocks = QueueClocks()

    async def known(folder: Path) -> bool:
        queue = await SqliteQueue.open(settings(folder), monotonic=lambda: clocks.monotonic, wall=lambda: clocks.wall)
        await queue.put(alert("a"))
        found = queue.are_statuses_known()
        await queue.close()
        return found

    assert not await known(tmp_path), "a new queue may be one in place of a lost one"
    for _ in range(2):
        clocks.wall += 600
        assert await known(tmp_path)
    shutil.copytree(tmp_path, tmp_path / "copy")
    clocks.wall += 3600
    assert not await known(tmp_path / "copy")
    with sqlite3.connect(tmp_path / "copy" / "queue.db") as older:
        older.execute("UPDATE meta SET clock = clock + 5, seq = seq + 1")
    older.close()
    assert not await known(tmp_path / "copy")
    assert await known(tmp_path / "copy")


async def test_no_copy_of_a_queue_uses_a_number_that_was_used_since(tmp_path: Path) -> None:
    clocks = QueueClocks()
    used: list[str] = []

    async def use(folder: Path) -> None:
        queue = await SqliteQueue.open(settings(folder), monotonic=lambda: clocks.monotonic, wall=lambda: clocks.wall)
        queue.subscribe(lambda deliveries: used.extend(one.id for one in deliveries))
        for number in range(50):
            await queue.put(alert(f"{number}"))
        await queue.close()
        clocks.wall += 0.01

    await use(tmp_path)
    shutil.copytree(tmp_path, tmp_path / "copy")
    clocks.wall -= 3600  # the clock was wrong, and is put right
    await use(tmp_path)
    clocks.wall += 3600
    await use(tmp_path)
    await use(tmp_path / "copy")
    assert len(set(used)) == len(used) == 200


@pytest.mark.parametrize("days", [20, -20])
async def test_a_jump_of_the_wall_clock_drops_nothing(tmp_path: Path, days: int) -> None:
    clocks = QueueClocks()
    queue = await open_with(settings(tmp_path), clocks)
    queued: list[int] = []
    queue.subscribe(lambda new: queued.extend(one.seq for one in new))
    for name in "ab":
        await queue.put(alert(name))
    await queue.dead_letter([DeadLetter(queued[0], "HTTP400", "")])
    await queue.settle(queued[1:], Arrival("m", ""))
    clocks.wall += days * 86400
    await queue.keep_house()
    for kept in (DeliveryState.DEAD, DeliveryState.ARRIVED):
        (record,) = await queue.look_up(DeliveryFilter(state=kept), limit=9)
        assert (record.died or record.arrived) == QueueClocks().wall
    await queue.close()


async def test_what_is_kept_in_memory_of_shared_payloads_ends_when_only_one_delivery_is_left(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    store = Store(path)
    store.begin()
    change = StoreChange()
    store.put(alert("a", ["s1", "s2", "s3"]), change, now=0, clock=0)
    assert store.shared_payloads == 1
    store.commit(0, change)
    for one in change.new[:2]:
        store.begin()
        store.remove([one.seq])
        store.rollback()  # as if the disk had been full: the next attempt counts from the same
        store.begin()
        store.commit(0, store.remove([one.seq]))
    assert store.shared_payloads == 0
    store.begin()
    store.hold(1)
    store.remove([change.new[2].seq])
    store.write_rows()
    assert store.shared_payloads == 0
    assert store.connection.execute("SELECT count(*) FROM payloads").fetchone() == (1,)
    store.release([1])
    store.write_rows()
    assert store.connection.execute("SELECT count(*) FROM payloads").fetchone() == (0,)
    store.connection.close()


async def test_a_start_knows_every_row_that_holds_a_payload(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    store = Store(path)
    store.begin()
    change = StoreChange()
    for number in range(200):
        states = [AlertStateWrite(state(number + 1), 0, new=True)] if number % 5 == 0 else []
        sinks = [f"s{n}" for n in range(1 + number % 3)]
        store.put(replace(alert(f"{number}", sinks), states=states), change, now=0, clock=0)
    store.commit(0, change)
    shared = store.shared_payloads
    assert shared == 200 - len([number for number in range(0, 200, 3) if number % 5])
    store.connection.close()
    store = Store(path)
    assert store.shared_payloads == shared
    store.begin()
    rows = [one.seq for one in change.new]
    random.Random(1).shuffle(rows)
    for seq in rows:
        store.remove([seq])
        store.write_rows()
        (broken,) = store.connection.execute(
            "SELECT count(*) FROM deliveries WHERE payload NOT IN (SELECT id FROM payloads)"
        ).fetchone()
        assert not broken
    store.forget([number + 1 for number in range(0, 200, 5)], (), ())
    store.write_rows()
    assert store.connection.execute("SELECT count(*) FROM payloads").fetchone() == (0,)
    assert store.shared_payloads == 0
    store.connection.close()


def test_a_start_has_no_rows_sorted_in_memory(tmp_path: Path) -> None:
    store = Store(tmp_path / "queue.db")
    statements: list[str] = []
    store.connection.set_trace_callback(statements.append)
    shared_payloads(store.connection)
    store.connection.set_trace_callback(None)
    (statement,) = statements
    plan = [row[3] for row in store.connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert not [step for step in plan if "TEMP B-TREE" in step]
    assert "SCAN deliveries USING COVERING INDEX of_sink" in plan
    store.connection.close()


async def test_the_names_of_sinks_without_deliveries_are_dropped(tmp_path: Path) -> None:
    queue = await SqliteQueue.open(settings(tmp_path))
    queued: list[int] = []
    queue.subscribe(lambda new: queued.extend(one.seq for one in new))
    for sink in ("s1", "s2"):
        await queue.put(alert("a", [sink]))
    await queue.settle(queued[:1])
    await queue.flush()
    await queue.keep_house()
    with sqlite3.connect(tmp_path / "queue.db") as connection:
        assert connection.execute("SELECT uid FROM sinks").fetchall() == [("s2",)]
    for sink in ("s1", "s2"):
        await queue.put(alert("b", [sink]))
    assert (await names(queue, "s1"), await names(queue, "s2")) == (["b"], ["a", "b"])
    await queue.close()


async def test_a_failed_commit_forgets_the_names_of_sinks_that_it_added_and_keeps_those_that_it_dropped(tmp_path: Path) -> None:
    store = Store(tmp_path / "queue.db")

    def put(name: str, sink: str) -> StoreChange:
        store.begin()
        change = StoreChange()
        store.put(alert(name, [sink]), change, now=0, clock=0)
        return change

    change = put("a", "s1")
    store.commit(0, change)
    before = dict(store.sinks)
    put("b", "s2")
    store.remove_sinks(before)
    store.rollback()
    assert store.sinks == before
    change = put("c", "s2")
    store.commit(0, change)
    assert [uid for uid, _ in store.sinks.values()] == ["s1", "s2"]
    store.connection.close()


async def test_a_full_queue_takes_more_as_soon_as_what_filled_it_has_arrived(tmp_path: Path) -> None:
    queue = await SqliteQueue.open(settings(tmp_path, maxBytes=2**20))
    seqs: list[int] = []
    queue.subscribe(lambda new: seqs.extend(one.seq for one in new))

    async def fill() -> None:
        for number in range(200):
            await queue.put(alert("a" * 20_000 + str(number)))

    with pytest.raises(QueueFull, match=r"queue\.maxBytes"):
        await fill()
    await queue.settle(seqs)
    async with asyncio.timeout(30):
        while queue.depth().waiting:
            await asyncio.sleep(0.001)
    await queue.put(alert("b"))
    await queue.close()


async def test_freed_space_in_the_file_is_reused(tmp_path: Path) -> None:
    queue = await SqliteQueue.open(settings(tmp_path))
    seqs: list[int] = []
    queue.subscribe(lambda new: seqs.extend(one.seq for one in new))
    sizes = []
    for _ in range(3):
        await asyncio.gather(*(queue.put(alert(f"{n}" * 2000, ["s1", "s2"])) for n in range(50)))
        await queue.settle(seqs)
        seqs.clear()
        await queue.flush()
        sizes.append(queue.depth().bytes)
    assert sizes[0] == sizes[2]
    await queue.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from eventsink.router.queue.protocol import Batch
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from tests.unit.router.queue.queue_contract import alert, state
from eventsink.router.queue.states import AlertStateWrite
from msgspec.structs import replace

async def main():
    queue = await SqliteQueue.open(QueueSettings(path=Path(sys.argv[1]), min_free_bytes=0))
    start = int(sys.argv[2])
    async def one(n):
        batch = alert(f"{start}.{n}", ["s1", "s2", "s3"])
        row = start * 100_000 + n + 1
        await queue.put(replace(batch, states=[AlertStateWrite(state(row, sinks=("s1", "s2", "s3")), 0)]))
        sys.stdout.write(f"{start}.{n}\\n")
        sys.stdout.flush()
    n = 0
    while True:
        await asyncio.gather(*(one(n + k) for k in range(40)))
        n += 40

asyncio.run(main())
"""


async def test_kill_9_loses_no_acknowledged_batch_and_leaves_no_partial_one(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    chance = random.Random(7)
    acknowledged: set[str] = set()
    for round_number in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(round_number)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(chance.randint(1, 400)):
            line = child.stdout.readline()
            assert line, "the writer ended by itself"
            acknowledged.add(line.strip())
        os.kill(child.pid, signal.SIGKILL)
        acknowledged.update(line.strip() for line in child.stdout if line.endswith("\n"))
        child.wait(DEADLINE_SECONDS)
        child.stdout.close()
    queue = await SqliteQueue.open(settings(tmp_path))
    stored: dict[str, set[str]] = {}
    for record in await queue.look_up(DeliveryFilter(), limit=1_000_000):
        stored.setdefault(record.name, set()).add(record.sink)
    assert acknowledged <= stored.keys()
    assert all(sinks == {"s1", "s2", "s3"} for sinks in stored.values())
    rows = [one.row async for one in queue.alert_states()]
    assert {f"{row // 100_000}.{row % 100_000 - 1}" for row in rows} == stored.keys()
    assert set(await queue.alert_bodies(rows[:500])) == set(rows[:500])
    await queue.close()


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """The connections on which queues that are opened from now on write."""
    opened: list[sqlite3.Connection] = []

    def connect(path: Path) -> sqlite3.Connection:
        opened.append(schema.connect(path))
        return opened[-1]

    monkeypatch.setattr("eventsink.router.queue.sqlite.store.connect", connect)
    return opened


def limit_pages(connection: sqlite3.Connection, more: int) -> None:
    """Let the file grow by no more than so many pages: SQLite says 'database or disk is full' beyond."""
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + more}")


def fail_to_commit(monkeypatch: pytest.MonkeyPatch, *, times: int) -> None:
    """Have the disk fail at the next transactions."""
    real, failures = Store.commit, iter(range(times))

    def commit(store: Store, clock: float, change: StoreChange) -> None:
        if next(failures, None) is not None:
            raise sqlite3.OperationalError("disk I/O error")
        real(store, clock, change)

    monkeypatch.setattr(Store, "commit", commit)


async def test_what_waits_for_its_commit_is_bounded_in_bytes_and_one_alone_may_be_larger(tmp_path: Path) -> None:
    queue = await SqliteQueue.open(settings(tmp_path, maxPendingBytes=1000))
    undone: list[str] = []
    larger = asyncio.ensure_future(queue.put(alert("a" * 2000)))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull, match=r"1000 bytes wait for the disk \(queue\.maxPendingBytes\)"):
        await queue.put(alert("b"), undo=lambda: undone.append("b"))
    assert undone == ["b"]
    await larger
    await asyncio.gather(*(queue.put(alert("c" * 300)) for _ in range(3)))
    await queue.put(alert("d" * 900))
    await queue.close()
