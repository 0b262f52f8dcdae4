"""The notification log is of one destination, forgets what is old, and steps back when it could not be stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventsink.router.planning.notification_log import NotificationLog, StateSettings
from eventsink.router.planning.notify import to_notify
from eventsink.router.queue.protocol import Batch
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from tests.unit.router.planning.test_notify import LONG_AGO, NOW, WINDOW, alert
from tests.unit.router.sinks import sink


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[SqliteQueue]:
    opened = await SqliteQueue.open(QueueSettings(path=tmp_path / "q.db", min_free_bytes=0))
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("why", "before", "then", "repeat"),
    [
        ("of the first notification since the start, the notification log decides alone", None, "ab", True),
        ("the same again is a repeat", "ab", "ab", True),
        ("also when something is gone", "ab", "a", True),
        ("something new makes it none", "ab", "abc", False),
        ("also when it replaced another", "ab", "ac", False),
    ],
)
async def test_a_notification_with_nothing_new_is_a_repeat(
    queue: SqliteQueue, why: str, before: str | None, then: str, repeat: bool
) -> None:
    log = NotificationLog(queue, StateSettings())
    if before is not None:
        log.record_group("am", "g", frozenset(before), 1.0)
    log.record_group("am", "another group", frozenset(then), 2.0)
    log.record_group("another source", "g", frozenset(then), 2.0)
    is_repeat, undo = log.record_group("am", "g", frozenset(then), 3.0)
    assert is_repeat is repeat, why
    undo()  # it could not be stored: when it comes again, it is what it was
    assert log.record_group("am", "g", frozenset(then), 4.0)[0] is repeat


async def test_a_group_without_notifications_is_forgotten(queue: SqliteQueue) -> None:
    log = NotificationLog(queue, StateSettings(retention=100))
    now = queue.clock()
    log.record_group("am", "old", frozenset("a"), now - 200)
    log.record_group("am", "young", frozenset("a"), now - 50)
    await log.prune()
    assert log.record_group("am", "old", frozenset("b"), now)[0] is True
    assert log.record_group("am", "young", frozenset("b"), now)[0] is False


async def test_an_alert_seen_recently_is_kept_although_it_was_notified_long_ago(queue: SqliteQueue) -> None:
    """A pair's second notification names an old alert and a new one; the first was just notified of the new one."""
    log = NotificationLog(queue, StateSettings())
    target, alerts = sink(), [alert(), alert("g")]
    log.record(target, alerts[:1], LONG_AGO)
    last = log.notified(target, alerts)
    assert to_notify(alerts, last, now=NOW, ha_window=WINDOW, repeat=True) == [1]
    undo = log.mark_seen(last, NOW)
    log.record(target, alerts[1:], NOW)
    again = log.notified(target, alerts)
    assert to_notify(alerts, again, now=NOW + 5, ha_window=WINDOW, repeat=True) == []
    undo()  # the commit failed: the source sends it again, and it must count as a repeat
    assert to_notify(alerts[:1], log.notified(target, alerts[:1]), now=NOW + 5, ha_window=WINDOW, repeat=True) == [0]


async def test_the_log_is_rolled_back_and_is_kept_per_destination(queue: SqliteQueue) -> None:
    log = NotificationLog(queue, StateSettings())
    here, elsewhere = sink(), sink(url="https://elsewhere.example.com/")
    _, undo_first = log.record(here, [alert()], 1.0)
    _, undo_second = log.record(here, [alert(status="resolved"), alert("g")], 2.0)
    assert log.notified(elsewhere, [alert()]) == [None]
    undo_second()
    (last,) = log.notified(here, [alert()])
    assert last is not None
    assert last.status == "firing"
    assert log.notified(here, [alert("g")]) == [None]
    undo_first()
    assert log.notified(here, [alert()]) == [None]


async def test_old_entries_are_forgotten_in_memory_and_on_disk(queue: SqliteQueue) -> None:
    settings = StateSettings(retention=1000, resolved_retention=100)
    log = NotificationLog(queue, settings)
    now = queue.clock()
    target = sink()
    entries = []
    for fingerprint, status, ago in (("a", "firing", 500), ("b", "firing", 2000), ("c", "resolved", 50), ("d", "resolved", 500)):
        added, _ = log.record(target, [alert(fingerprint, status)], now - ago)
        entries += added
    await queue.put(Batch(log_entries=entries))
    assert await log.prune() == 2
    assert {one.fingerprint async for one in queue.log_entries()} == {"a", "c"}
    fresh = NotificationLog(queue, settings)
    assert await fresh.load() == len(log) == 2
    fresh.forget_sink(target.uid)
    assert len(fresh) == 0
