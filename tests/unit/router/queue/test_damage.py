"""A queue whose file is damaged, removed or without room: nothing more is accepted that could not be read, and what arrived is recorded."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventsink.router.queue.delivery_log import DeliveryFilter, DeliveryState
from eventsink.router.queue.posts import PostChange
from eventsink.router.queue.protocol import (
    Arrival,
    Batch,
    DeadLetter,
    Delivery,
    NewDelivery,
    Payload,
    PayloadKind,
    Queue,
    QueueDamaged,
    QueueFull,
    QueueUnavailable,
)
from eventsink.router.queue.sqlite import SqliteQueue
from eventsink.sinks.post import Post
from tests.support.disks import fill, small_disk
from tests.unit.router.queue.queue_contract import alert
from tests.unit.router.queue.test_sqlite import settings

DEADLINE_SECONDS = 30
PAGES_OF = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path"


async def filled(folder: Path, *, alerts: int = 1500) -> None:
    """A queue with alerts for two sinks, in several pages of each table, closed."""
    queue = await SqliteQueue.open(settings(folder))
    payloads = [Payload(PayloadKind.ALERT, b"x" * 1200, f"{number}") for number in range(alerts)]
    deliveries = [
        NewDelivery(number, sink, "acme", f"{number}", "firing", 1e6) for number in range(alerts) for sink in ("s1", "s2")
    ]
    await queue.put(Batch(payloads, deliveries))
    await queue.close()


def pages_of(path: Path, name: str) -> list[int]:
    """The leaf pages of a table or index."""
    connection = sqlite3.connect(path)
    pages = [number for (number,) in connection.execute(PAGES_OF, (name,))]
    connection.close()
    return pages


def damage(path: Path, page: int) -> None:
    """Overwrite a page with nonsense."""
    with path.open("r+b") as file:
        file.seek((page - 1) * 8192)
        file.write(b"\xee" * 8192)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def opened(folder: Path) -> tuple[SqliteQueue, list[Delivery]]:
    queue = await SqliteQueue.open(settings(folder))
    queued: list[Delivery] = []
    queue.subscribe(queued.extend)
    return queue, queued


async def assert_nothing_is_accepted(queue: Queue) -> None:
    for batch in (alert("new"), Batch()):  # an empty one too: it says that what it repeats is stored
        with pytest.raises(QueueDamaged, match=r"docs/queue\.md"):
            await queue.put(batch)
    assert queue.depth().damaged
    assert queue.problem()


@pytest.mark.parametrize("table", ["payloads", "deliveries", "of_sink"])
async def test_a_damaged_page_is_reported_when_it_is_read_and_nothing_more_is_accepted(tmp_path: Path, table: str) -> None:
    await filled(tmp_path)
    queue, _ = await opened(tmp_path)
    await queue.put(alert("before"))
    assert not queue.depth().damaged
    damage(tmp_path / "queue.db", pages_of(tmp_path / "queue.db", table)[0])
    with pytest.raises(QueueDamaged):
        await queue.take("s1", after=0, limit=2000)
    await assert_nothing_is_accepted(queue)
    await queue.close()


async def test_a_damaged_queue_does_not_open(tmp_path: Path) -> None:
    await filled(tmp_path)
    damage(tmp_path / "queue.db", pages_of(tmp_path / "queue.db", "deliveries")[0])
    with pytest.raises(QueueUnavailable, match="is not a usable queue file"):
        await SqliteQueue.open(settings(tmp_path))


async def test_arrivals_that_a_damaged_page_does_not_concern_are_still_recorded(tmp_path: Path) -> None:
    await filled(tmp_path)
    queue, _ = await opened(tmp_path)
    seqs = [one.seq for one in await queue.take("s1", after=0, limit=2000)]
    pages = pages_of(tmp_path / "queue.db", "payloads")
    damage(tmp_path / "queue.db", pages[len(pages) // 2])
    await queue.settle([*seqs[:3], seqs[1500 // 2]], Arrival("m1", ""))  # the name of the last is in the damaged page
    await queue.flush()
    found = await queue.look_up(DeliveryFilter(state=DeliveryState.ARRIVED, message="m1"), limit=9)
    assert [one.seq for one in found] == seqs[:3]
    await assert_nothing_is_accepted(queue)
    await queue.dead_letter([DeadLetter(seqs[3], "HTTP400", "")])
    assert await queue.sinks_waiting() == {"s1": 1500 - 4, "s2": 1500}
    await queue.close()


@pytest.mark.parametrize("table", ["payloads", "posts"])
async def test_what_arrived_is_recorded_where_its_post_or_one_of_its_alerts_cannot_be(tmp_path: Path, table: str) -> None:
    await filled(tmp_path)
    queue, _ = await opened(tmp_path)
    seqs = [one.seq for one in await queue.take("s1", after=0, limit=2000)]
    await queue.settle(seqs[:1], Arrival("m1", "", PostChange("s1", "d", Post("C1/1", "m1", {"0": 1}, 1))))
    await queue.close()
    pages = pages_of(tmp_path / "queue.db", table)
    damage(tmp_path / "queue.db", pages[len(pages) // 2])
    queue, _ = await opened(tmp_path)
    arrival = Arrival("m2", "", PostChange("s1", "d", Post("C1/2", "m2", {"1": 1}, 1)))
    await queue.settle([seqs[1], seqs[1500 // 2]], arrival)
    await queue.flush()
    found = await queue.look_up(DeliveryFilter(state=DeliveryState.ARRIVED, message="m2"), limit=9)
    if table == "posts":
        assert [one.seq for one in found] == [seqs[1], seqs[1500 // 2]], "they would be sent again, for ever"
    else:
        assert [one.seq for one in found] == [seqs[1]]
        assert list(await queue.announced("s1", "d", ["0", "1"])) == ["0", "1"]
    await assert_nothing_is_accepted(queue)
    await queue.close()


async def test_after_a_kill_every_page_is_read_once(tmp_path: Path) -> None:
    await filled(tmp_path)
    queue, _ = await opened(tmp_path)
    await queue.put(alert("last"))
    for file in ("queue.db", "queue.db-wal", "queue.db.used"):  # as a kill leaves them
        (tmp_path / "killed").mkdir(exist_ok=True)
        shutil.copy(tmp_path / file, tmp_path / "killed" / file)
    await queue.close()
    damage(tmp_path / "killed/queue.db", pages_of(tmp_path / "queue.db", "payloads")[3])
    queue, _ = await opened(tmp_path / "killed")
    await until(lambda: queue.depth().damaged)
    await assert_nothing_is_accepted(queue)
    await queue.close()
    queue, _ = await opened(tmp_path)  # closed in order: it is not read again
    await queue.put(alert("a"))
    await queue.close()


@pytest.mark.parametrize("name", ["queue.db", "queue.db-wal", "queue.db-shm"])
@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_was_removed_or_replaced_while_it_is_open_accepts_nothing(
    tmp_path: Path, name: str, *, replaced: bool
) -> None:
    queue, _ = await opened(tmp_path)
    await queue.put(alert("a"))
    file = tmp_path / name
    content = file.read_bytes()
    file.unlink()
    if replaced:
        (tmp_path / "other").write_bytes(content)
        (tmp_path / "other").rename(file)
    undone: list[int] = []
    with pytest.raises(QueueDamaged, match="removed or replaced"):
        await queue.put(alert("b"), undo=lambda: undone.append(1))
    assert undone == [1]
    await assert_nothing_is_accepted(queue)
    await queue.close()


async def test_housekeeping_finds_a_removed_file_although_nothing_is_accepted(tmp_path: Path) -> None:
    queue, _ = await opened(tmp_path)
    (tmp_path / "queue.db").unlink()
    with pytest.raises(QueueDamaged):
        await queue.keep_house()
    assert "removed or replaced" in queue.problem()
    await queue.close()


@pytest.mark.parametrize("how", ["missing", "empty", "without its tables", "another"])
async def test_a_queue_that_was_used_before_and_is_gone_is_an_error_until_its_loss_is_accepted(tmp_path: Path, how: str) -> None:
    queue, queued = await opened(tmp_path)
    await queue.put(alert("a"))
    store = queued[0].id.partition("-")[0]
    await queue.close()
    file = tmp_path / "queue.db"
    file.unlink()
    if how == "empty":
        file.touch()
    elif how == "without its tables":
        connection = sqlite3.connect(file)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
    elif how == "another":
        (tmp_path / "elsewhere").mkdir()
        await filled(tmp_path / "elsewhere", alerts=1)
        shutil.copy(tmp_path / "elsewhere/queue.db", file)
    for _ in range(2):
        with pytest.raises(
            QueueUnavailable, match=f"the queue {store} that was used here .*set queue.acceptLoss: {store} to go on"
        ):
            await SqliteQueue.open(settings(tmp_path))
    with pytest.raises(QueueUnavailable):
        await SqliteQueue.open(settings(tmp_path, acceptLoss="0123456789ab"))
    for _ in range(2):  # it may stay set: it accepts no other loss
        queue = await SqliteQueue.open(settings(tmp_path, acceptLoss=store))
        await queue.put(alert("b"))
        await queue.close()
    file.unlink()
    with pytest.raises(QueueUnavailable, match="is missing"):
        await SqliteQueue.open(settings(tmp_path, acceptLoss=store))


async def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    for _ in range(2):
        queue, _ = await opened(tmp_path)
        await queue.put(alert("a"))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        names = {f"queue.db{suffix}" for suffix in ("", "-wal", "-shm", ".lock", ".used")}
        assert modes == dict.fromkeys(names, 0o600)
        await queue.close()
        for file in tmp_path.iterdir():
            file.chmod(0o644)  # as an older version, or a volume's fsGroup, leaves them
        (tmp_path / "queue.db.used").chmod(0o600)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MiB."""
    with small_disk(tmp_path / "disk") as folder:
        yield folder


async def test_on_a_disk_with_0_bytes_free_what_arrived_is_recorded_and_nothing_is_accepted(disk: Path) -> None:
    queue, queued = await opened(disk)
    for number in range(20):
        await queue.put(alert(f"{number}" * 2000))
    filler = fill(disk)
    with pytest.raises(QueueFull):
        await queue.put(alert("x"))
    recorded = asyncio.ensure_future(queue.dead_letter([DeadLetter(queued[0].seq, "HTTP400", "")]))
    await queue.settle([one.seq for one in queued[1:]])
    await until(lambda: queue.depth().waiting == 0 or "storage failed" in queue.problem())
    filler.unlink()
    await recorded
    await until(lambda: queue.depth().waiting == 0)
    await queue.put(alert("room again"))
    assert queue.problem() == ""
    assert (queue.depth().waiting, queue.depth().dead) == (1, 1)
    await queue.close()


async def test_on_a_full_disk_the_log_begins_again_in_its_place_to_record_what_arrived(disk: Path) -> None:
    queue, queued = await opened(disk)
    for number in range(20):
        await queue.put(alert(f"{number}" * 2000))
    with sqlite3.connect(disk / "queue.db") as other:
        other.execute("PRAGMA wal_checkpoint(PASSIVE)")
    other.close()
    await queue.put(alert("the log begins again"))
    with sqlite3.connect(disk / "queue.db") as other:
        other.execute("PRAGMA wal_checkpoint(PASSIVE)")
    other.close()
    fill(disk)
    await queue.settle([one.seq for one in queued])
    await until(lambda: queue.depth().waiting == 0)
    await queue.close()
