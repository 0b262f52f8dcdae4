"""What is news to a sink, as a table; and that what is remembered steps back when it could not be stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eventsink.alerts.alert import Alert, Links, Severity, Status, epoch_micros
from eventsink.router.planning.state import Memory, StateSettings, ToldState, to_tell
from eventsink.router.queue.protocol import Batch
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from tests.unit.router.sinks import sink

T0 = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = 60.0
NOW = 10_000.0
LONG_AGO, JUST_NOW = NOW - 4 * 3600, NOW - 5


def alert(fingerprint: str = "f", status: str = "firing", minutes: int = 0) -> Alert:
    starts_at = T0 + timedelta(minutes=minutes)
    return Alert(
        id=f"{fingerprint}-{status}-{minutes}",
        fingerprint=fingerprint,
        source="am",
        tenant="acme",
        status=Status(status),
        severity=Severity.HIGH,
        name="A",
        summary="",
        description="",
        namespace="",
        labels={},
        annotations={},
        starts_at=starts_at,
        ends_at=None,
        links=Links(),
    )


def told(status: str = "firing", minutes: int = 0, at: float = LONG_AGO) -> Memory:
    return Memory(status, epoch_micros(T0 + timedelta(minutes=minutes)), at, at)


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[SqliteQueue]:
    opened = await SqliteQueue.open(QueueSettings(path=tmp_path / "q.db", min_free_bytes=0))
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("why", "alerts", "known", "expected"),
    [
        ("a firing alert that the sink was never told is news", [alert()], [None], [0]),
        ("an end that follows a told beginning is news", [alert(status="resolved")], [told()], [0]),
        ("an end without a told beginning is not", [alert(status="resolved")], [None], []),
        ("an end that was told already is not", [alert(status="resolved")], [told("resolved")], []),
        ("a newer beginning is news", [alert(minutes=5)], [told()], [0]),
        ("a newer beginning after an end is news", [alert(minutes=5)], [told("resolved", at=JUST_NOW)], [0]),
        ("the end of a newer turn is news", [alert(status="resolved", minutes=5)], [told()], [0]),
        ("the late end of an older turn is not", [alert(status="resolved")], [told(minutes=5, at=JUST_NOW)], []),
        (
            "but it is, when it is no copy: the pair may disagree on the beginning",
            [alert(status="resolved")],
            [told(minutes=5)],
            [0],
        ),
        ("a late copy of the beginning after the end is not", [alert()], [told("resolved", at=JUST_NOW)], []),
        ("the same beginning long after the end is a new turn", [alert()], [told("resolved")], [0]),
        ("an older beginning of what fires is not", [alert(), alert("g")], [told(minutes=5, at=JUST_NOW), told(at=JUST_NOW)], []),
        ("nothing new in the group: Alertmanager's repeat, all that fires", [alert(), alert("g")], [told(), told()], [0, 1]),
        ("a repeat tells nothing of what ended", [alert(), alert("g", "resolved")], [told(), told("resolved")], [0]),
        (
            "the same group again within the window is the other half's copy",
            [alert(), alert("g")],
            [told(at=JUST_NOW), told(at=JUST_NOW)],
            [],
        ),
        ("with news in the group, only the news is told", [alert(), alert("g")], [told(), None], [1]),
        ("news and an end in one group are both told", [alert(), alert("g", "resolved")], [None, told()], [0, 1]),
        ("a group of told ends alone is no repeat", [alert(status="resolved")], [told("resolved")], []),
        (
            "a group half of which stood there a moment ago is a repeat",
            [alert(), alert("g")],
            [told(at=JUST_NOW), told()],
            [0, 1],
        ),
        ("an empty group is nothing", [], [], []),
    ],
)
def test_what_is_told(why: str, alerts: list[Alert], known: list[Memory | None], expected: list[int]) -> None:
    assert to_tell(alerts, known, now=NOW, ha_window=WINDOW, repeat=True) == expected, why


@pytest.mark.parametrize(
    ("why", "alerts", "known", "expected"),
    [
        ("what fires is not told again because something else in the group is new", [alert()], [told()], []),
        ("news is told all the same", [alert(), alert("g")], [told(), None], [1]),
        ("and so is an end", [alert(), alert("g", "resolved")], [told(), told()], [1]),
    ],
)
def test_what_is_told_of_a_notification_that_is_no_repeat(
    why: str, alerts: list[Alert], known: list[Memory | None], expected: list[int]
) -> None:
    assert to_tell(alerts, known, now=NOW, ha_window=WINDOW, repeat=False) == expected, why


@pytest.mark.parametrize(
    ("why", "before", "then", "repeat"),
    [
        ("of the first notification since the start, what each sink was told decides alone", None, "ab", True),
        ("the same again is a repeat", "ab", "ab", True),
        ("also when something went", "ab", "a", True),
        ("something new makes it none", "ab", "abc", False),
        ("also when it took the place of another", "ab", "ac", False),
    ],
)
async def test_whether_a_notification_repeats_the_one_before_it(
    queue: SqliteQueue, why: str, before: str | None, then: str, repeat: bool
) -> None:
    state = ToldState(queue, StateSettings())
    if before is not None:
        state.hear("am", "g", frozenset(before), 1.0)
    state.hear("am", "another group", frozenset(then), 2.0)
    state.hear("another source", "g", frozenset(then), 2.0)
    said, undo = state.hear("am", "g", frozenset(then), 3.0)
    assert said is repeat, why
    undo()  # it could not be stored: when it comes again, it is what it was
    assert state.hear("am", "g", frozenset(then), 4.0)[0] is repeat


async def test_a_group_that_is_not_heard_of_any_more_is_forgotten(queue: SqliteQueue) -> None:
    state = ToldState(queue, StateSettings(retention=100))
    now = queue.clock()
    state.hear("am", "old", frozenset("a"), now - 200)
    state.hear("am", "young", frozenset("a"), now - 50)
    await state.prune()
    assert state.hear("am", "old", frozenset("b"), now)[0] is True
    assert state.hear("am", "young", frozenset("b"), now)[0] is False


async def test_what_was_seen_a_moment_ago_counts_although_it_was_told_long_ago(queue: SqliteQueue) -> None:
    """A pair's second notification names an old alert and a new one; the first has just told the new one."""
    state = ToldState(queue, StateSettings())
    target, alerts = sink(), [alert(), alert("g")]
    state.tell(target, alerts[:1], LONG_AGO)
    known = state.known(target, alerts)
    assert to_tell(alerts, known, now=NOW, ha_window=WINDOW, repeat=True) == [1]
    undo = state.see(known, NOW)
    state.tell(target, alerts[1:], NOW)
    again = state.known(target, alerts)
    assert to_tell(alerts, again, now=NOW + 5, ha_window=WINDOW, repeat=True) == []
    undo()  # the commit failed: the source sends it again, and it must count as a repeat
    assert to_tell(alerts[:1], state.known(target, alerts[:1]), now=NOW + 5, ha_window=WINDOW, repeat=True) == [0]


async def test_memory_steps_back_and_is_of_one_destination(queue: SqliteQueue) -> None:
    state = ToldState(queue, StateSettings())
    here, elsewhere = sink(), sink(url="https://elsewhere.example.com/")
    _, undo_first = state.tell(here, [alert()], 1.0)
    _, undo_second = state.tell(here, [alert(status="resolved"), alert("g")], 2.0)
    assert state.known(elsewhere, [alert()]) == [None]
    undo_second()
    (memory,) = state.known(here, [alert()])
    assert memory is not None
    assert memory.status == "firing"
    assert state.known(here, [alert("g")]) == [None]
    undo_first()
    assert state.known(here, [alert()]) == [None]


async def test_what_is_old_is_forgotten_here_and_on_disk(queue: SqliteQueue) -> None:
    settings = StateSettings(retention=1000, resolved_retention=100)
    state = ToldState(queue, settings)
    now = queue.clock()
    target = sink()
    records = []
    for fingerprint, status, ago in (("a", "firing", 500), ("b", "firing", 2000), ("c", "resolved", 50), ("d", "resolved", 500)):
        told_now, _ = state.tell(target, [alert(fingerprint, status)], now - ago)
        records += told_now
    await queue.put(Batch(told=records))
    assert await state.prune() == 2
    assert {one.fingerprint async for one in queue.told()} == {"a", "c"}
    fresh = ToldState(queue, settings)
    assert await fresh.load() == len(state) == 2
    fresh.forget_sink(target.uid)
    assert len(fresh) == 0
