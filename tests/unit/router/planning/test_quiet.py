"""Mutes, and times outside of which a sink drops alerts: nobody is notified meanwhile, and nothing that still fires is missed."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

import pytest

from eventsink.router.directory import SinkChange
from eventsink.router.planning.expressions import ExpressionBudget
from eventsink.router.planning.match import SinkIndex
from eventsink.router.planning.quiet import ENDED_AT_ONCE, MAX_TENANT_SIZE, QuietSinks
from eventsink.router.queue.protocol import QueueUnavailable
from eventsink.router.queue.sqlite.store import Store
from tests.support.clock import ManualClock
from tests.support.parts import alert
from tests.unit.router.planning.planning import HALF_B, Start
from tests.unit.router.planning.test_match import alert as matched
from tests.unit.router.planning.test_when_to_notify import SMALL_QUEUE, fill
from tests.unit.router.sinks import sink, source, uid

FIRING, RESOLVED = [("s", "firing")], [("s", "resolved")]
BEGIN = ManualClock.now
"""What the clock says when a test begins."""


def firing(name: str = "A", **labels: Any) -> dict[str, Any]:
    return alert(name, namespace="acme", **labels)


def ended(name: str = "A", ends_at: str = "2026-01-01T13:00:00Z", **labels: Any) -> dict[str, Any]:
    return {**alert(name, status="resolved", namespace="acme", **labels), "endsAt": ends_at}


def mute(*matchers: str, since: float = 0.0, until: float = BEGIN + 100) -> dict[str, Any]:
    return {"matchers": matchers or ('alertname="A"',), "since": since, "until": until}


def muted(*mutes: dict[str, Any], generation: int = 1, **members: Any) -> Any:
    return sink("s", mutes=mutes or (mute(),), generation=generation, **members)


def dropping(**members: Any) -> Any:
    """Drops what comes in the first 20 minutes of 1970, in which the clock begins."""
    return sink("s", times={"active": [{"times": [("00:20", "24:00")]}], "drop": True}, **members)


QUIET = [
    pytest.param(muted(), 100.0, "Muted", id="muted"),
    pytest.param(dropping(), 200.0, "OutsideTimes", id="outside of its times"),
]


@pytest.mark.parametrize(("quiet", "seconds", "reason"), QUIET)
async def test_what_still_fires_when_the_time_is_over_is_sent_then(start: Start, quiet: Any, seconds: float, reason: str) -> None:
    planning = await start(quiet, sink("t"))
    assert await planning.post(firing()) == [("t", "firing")]
    assert planning.suppressed == {reason: 1}
    planning.queued.clear()
    planning.later(seconds)
    assert await planning.settled() == FIRING
    assert sorted(await planning.post(ended())) == [("s", "resolved"), ("t", "resolved")]


@pytest.mark.parametrize(("quiet", "seconds", "reason"), QUIET)
async def test_what_has_ended_by_then_is_never_sent(start: Start, quiet: Any, seconds: float, reason: str) -> None:
    planning = await start(quiet)
    assert await planning.post(firing()) == []
    assert await planning.post(ended()) == []
    planning.later(seconds)
    assert await planning.settled() == []
    assert planning.suppressed[reason] == 1


@pytest.mark.parametrize(("quiet", "seconds", "reason"), QUIET)
async def test_the_end_of_what_was_sent_before_is_sent_at_once(start: Start, quiet: Any, seconds: float, reason: str) -> None:
    planning = await start(sink("s"))
    assert await planning.post(firing()) == FIRING
    assert await planning.put(quiet.model_copy(update={"compiled_from": sink(generation=2).compiled_from})) == []
    assert await planning.post(firing()) == [], "nor is it repeated"
    assert planning.suppressed[reason] == 1
    assert await planning.post(ended()) == RESOLVED
    planning.later(seconds)
    assert await planning.settled() == RESOLVED, "nothing more"


@pytest.mark.parametrize(("quiet", "seconds", "reason"), QUIET)
async def test_what_was_sent_before_and_fires_on_is_not_sent_again(start: Start, quiet: Any, seconds: float, reason: str) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    await planning.put(quiet.model_copy(update={"compiled_from": sink(generation=2).compiled_from}))
    await planning.post(firing())
    planning.queued.clear()
    planning.later(seconds)
    assert await planning.settled() == []


@pytest.mark.parametrize(("quiet", "seconds", "reason"), QUIET)
async def test_what_ends_and_fires_again_meanwhile_is_sent_when_the_time_is_over(
    start: Start, quiet: Any, seconds: float, reason: str
) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    await planning.put(quiet.model_copy(update={"compiled_from": sink(generation=2).compiled_from}))
    assert await planning.post(ended()) == RESOLVED
    assert await planning.post(firing(starts_at="2026-01-01T14:00:00Z")) == []
    planning.queued.clear()
    planning.later(seconds)
    assert await planning.settled() == FIRING


@pytest.mark.parametrize("over", [False, True], ids=["still quiet", "over"])
@pytest.mark.parametrize(("quiet", "seconds", "reason"), QUIET)
async def test_a_restart_forgets_nothing(start: Start, quiet: Any, seconds: float, reason: str, over: bool) -> None:
    planning = await start(quiet)
    assert await planning.post(firing()) == []
    planning.later(seconds if over else 1)
    planning = await start(quiet)
    assert planning.shown() == (FIRING if over else [])
    planning.later(seconds)
    assert await planning.settled() == FIRING
    planning = await start(quiet)
    assert planning.shown() == [], "once"


async def test_a_mute_that_is_removed_early_is_over(start: Start) -> None:
    planning = await start(muted())
    assert await planning.post(firing()) == []
    assert await planning.put(sink("s", generation=2)) == FIRING


async def test_a_mute_that_is_changed_does_not_let_through_what_it_still_mutes(start: Start) -> None:
    planning = await start(muted())
    assert await planning.post(firing()) == []
    assert await planning.put(muted(mute(until=BEGIN + 300), generation=2)) == []
    planning.later(200)
    assert await planning.settled() == []
    planning.later(100)
    assert await planning.settled() == FIRING


async def test_when_one_of_two_mutes_is_over_what_the_other_mutes_waits_on(start: Start) -> None:
    planning = await start(muted(mute(), mute('alertname="B"', until=BEGIN + 200)))
    assert await planning.post(firing(), firing("B")) == []
    planning.later(100)
    assert await planning.settled() == FIRING
    planning.later(100)
    assert await planning.settled() == FIRING * 2


async def test_a_mute_begins_when_it_says(start: Start) -> None:
    planning = await start(muted(mute(since=BEGIN + 50)))
    assert await planning.post(firing()) == FIRING
    planning.later(50)
    assert await planning.post(firing(instance="2")) == []


async def test_all_matchers_of_a_mute_have_to_match(start: Start) -> None:
    planning = await start(muted(mute('alertname="A"', 'pod=~"x-.*"')))
    assert await planning.post(firing(pod="y")) == FIRING
    assert await planning.post(firing(pod="x-1")) == []
    assert await planning.post(firing("B", pod="x-1")) == FIRING


async def test_a_new_sink_is_not_notified_of_what_it_mutes(start: Start) -> None:
    planning = await start(sink("t"))
    await planning.post(firing(), firing("B"))
    assert await planning.put(muted()) == FIRING, "of B alone"
    planning.queued.clear()
    planning.later(100)
    assert await planning.settled() == FIRING


async def test_a_group_is_sent_without_what_is_muted(start: Start) -> None:
    planning = await start(muted(webhook={"format": "alertmanager"}))
    assert await planning.post(firing(), firing("B")) == FIRING
    [delivery] = await planning.queue.take(uid("s"), after=0, limit=10)
    assert b'"B"' in delivery.body
    assert b'alertname":"A"' not in delivery.body.replace(b" ", b"")
    planning.later(100)
    assert await planning.settled() == FIRING * 2


@pytest.mark.parametrize(("quiet", "seconds", "reason"), QUIET)
async def test_an_event_that_comes_meanwhile_is_dropped_and_counted(
    start: Start, quiet: Any, seconds: float, reason: str
) -> None:
    planning = await start(quiet, source=source(format="falco", tenant={"fixed": "acme"}))

    def event(time: str) -> bytes:
        return json.dumps({"rule": "A", "priority": "Error", "output": "o", "time": time, "output_fields": {}}).encode()

    assert await planning.send(event("2026-01-01T12:00:00Z")) == []
    assert planning.suppressed == {reason: 1}
    planning.later(seconds)
    assert await planning.settled() == []
    assert await planning.send(event("2026-01-01T12:00:01Z")) == [("s", "event")]


async def test_what_is_held_and_muted_is_sent_after_the_mute(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    await planning.post(ended())
    await planning.put(muted(generation=2))
    assert await planning.post(firing(), sender=HALF_B) == []
    planning.later(70)
    assert await planning.settled() == []
    planning.later(30)
    assert await planning.settled() == FIRING


async def test_what_is_missed_while_a_sink_is_caught_up_is_sent_later(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    planning = await start(muted(mute(), mute('alertname="B"', until=BEGIN + 200)))
    assert await planning.post(firing()) == []
    read, reading, go_on = planning.queue.alert_bodies, asyncio.Event(), asyncio.Event()

    async def read_slowly(rows: Sequence[int]) -> dict[int, bytes]:
        reading.set()
        await go_on.wait()
        return await read(rows)

    monkeypatch.setattr(planning.queue, "alert_bodies", read_slowly)
    planning.later(100)
    await asyncio.wait_for(reading.wait(), 30)
    assert await planning.post(firing("B"), groupKey="b") == []
    go_on.set()
    assert await planning.settled() == FIRING
    planning.later(100)
    assert await planning.settled() == FIRING * 2


async def test_an_alert_that_could_not_be_stored_makes_nobody_behind_and_is_decided_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning = await start(muted())
    before = planning.states.sink(uid("s"))

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "commit", fail)
        with pytest.raises(QueueUnavailable):
            await planning.post(firing())
    assert planning.states.sink(uid("s")) == before
    assert await planning.post(firing()) == []
    planning.later(100)
    assert await planning.settled() == FIRING


async def test_a_queue_that_fills_up_meanwhile_loses_nothing_of_what_waits_for_the_end_of_a_mute(start: Start) -> None:
    planning = await start(muted(), sink("theirs", tenant="globex"), queue=SMALL_QUEUE)
    assert await planning.post(firing()) == []
    await fill(planning)
    assert await planning.post(firing()) == [], "a repeat, of which nothing can be kept"
    planning.queued.clear()
    planning.later(100)
    assert await planning.settled() == FIRING


def test_of_two_forms_of_an_alert_both_have_to_be_muted() -> None:
    quiet = QuietSinks(ExpressionBudget(), wall=lambda: BEGIN)
    quiet.change(SinkChange(None, muted()))
    one, other = matched(alertname="A"), matched(alertname="B")
    assert quiet.suppression(uid("s"), [one]) == "Muted"
    assert quiet.suppression(uid("s"), [one, other]) is None


def quiet_sinks(clock: ManualClock, *sinks: Any) -> QuietSinks:
    made = QuietSinks(ExpressionBudget(), wall=clock)
    for one in sinks:
        made.change(SinkChange(None, one))
    return made


def test_the_status_names_what_is_muted_and_what_is_to_be_removed() -> None:
    clock = ManualClock()
    quiet = quiet_sinks(clock, muted(mute(), mute(until=BEGIN + 50), mute(until=BEGIN - 1)))
    assert quiet.note(uid("s")) == (
        "alerts that match spec.mutes[1] are muted until 1970-01-01T00:17:30Z, and 1 more of spec.mutes; "
        "ended and to be removed: spec.mutes[2]"
    )
    clock.now += 100
    assert quiet.note(uid("s")) == "ended and to be removed: spec.mutes[0], spec.mutes[1], spec.mutes[2]"
    assert quiet.note(uid("t")) == ""


def test_whatever_is_over_is_named_once_and_when_the_clock_was_set_once_more() -> None:
    clock = ManualClock()
    quiet = quiet_sinks(clock, muted(), sink("t"))
    assert (quiet.ended(), quiet.ends_in()) == ([], 100)
    clock.now += 100
    assert (quiet.ended(), quiet.ended(), quiet.ends_in()) == ([uid("s")], [], None)
    clock.now -= 50
    assert (quiet.ended(), quiet.ends_in()) == ([], 50)
    clock.now += 50
    assert quiet.ended() == [uid("s")]


def test_of_very_many_mutes_that_end_at_once_some_are_named_at_a_time() -> None:
    clock = ManualClock()
    sinks = [muted().model_copy(update={"uid": f"u{number}"}) for number in range(2 * ENDED_AT_ONCE + 1)]
    quiet = quiet_sinks(clock, *sinks)
    clock.now += 100
    named = [quiet.ended(), quiet.ended(), quiet.ended(), quiet.ended()]
    assert [len(some) for some in named] == [ENDED_AT_ONCE, ENDED_AT_ONCE, 1, 0]
    assert {uid for some in named for uid in some} == {one.uid for one in sinks}


def test_mutes_that_are_too_large_together_mute_nothing_and_the_status_says_so() -> None:
    clock = ManualClock()
    large = muted(*(mute(f'a=~"{"x{200}" * 3}{number}"') for number in range(5)))
    sinks = [large.model_copy(update={"uid": f"u{number}"}) for number in range(60)]
    quiet = quiet_sinks(clock, *sinks)
    too_large = [one.uid for one in sinks if "too large" in quiet.note(one.uid)]
    assert 0 < len(too_large) < 60
    assert len(quiet) == 60
    for one in sinks:
        quiet.change(SinkChange(one, None))
    quiet.change(SinkChange(None, muted()))
    assert "muted until" in quiet.note(uid("s"))
    assert MAX_TENANT_SIZE < 10**6


def test_mutes_that_were_too_large_mute_as_soon_as_others_of_the_tenant_leave_them_room() -> None:
    large = muted(mute(), *(mute(f'a=~"{"x{200}" * 3}{number}"') for number in range(5)))
    sinks = [large.model_copy(update={"uid": f"u{number}"}) for number in range(60)]
    quiet = quiet_sinks(ManualClock(), *sinks)

    def refused() -> list[str]:
        return [one.uid for one in sinks if quiet.suppression(one.uid, [matched(alertname="A")]) is None]

    (first, second, *_), count = refused(), len(refused())
    edited = sinks[0].model_copy(update={"generation": 2, "mutes": sinks[0].mutes[:-1]})
    quiet.change(SinkChange(sinks[0], edited))
    assert len(refused()) == count, "one that is edited keeps its room"
    quiet.change(SinkChange(edited, edited.model_copy(update={"mutes": ()})))
    assert (first in refused(), second in refused()) == (False, True)
    assert "muted until" in quiet.note(first)
    quiet.change(SinkChange(sinks[1], None))
    assert second not in refused()
    for one in sinks[2:40]:
        quiet.change(SinkChange(one, None))
    assert set(refused()) <= {one.uid for one in sinks[:40]}


def test_a_mute_that_this_version_cannot_read_mutes_nothing_and_the_others_do() -> None:
    quiet = quiet_sinks(ManualClock(), muted(mute("a~b"), mute(), times={"active": [{"location": "Mars/Olympus"}], "drop": True}))
    assert quiet.suppression(uid("s"), [matched(alertname="A")]) == "Muted"
    assert quiet.suppression(uid("s"), [matched(alertname="B")]) is None
    assert "spec.mutes[0] mute nothing" in quiet.note(uid("s"))


def test_a_mute_whose_expression_is_not_evaluated_mutes_nothing() -> None:
    spent = ExpressionBudget(clock=lambda: 0.0, cpu=iter([float(n) for n in range(100)]).__next__)
    quiet = QuietSinks(spent, wall=lambda: BEGIN)
    quiet.change(SinkChange(None, muted(mute('alertname=~"A.*"'))))
    assert quiet.suppression(uid("s"), [matched(alertname="A1")]) == "Muted"
    assert quiet.suppression(uid("s"), [matched(alertname="A2")]) is None


def test_a_sink_without_mutes_and_times_costs_nothing() -> None:
    index = SinkIndex()
    index.change(SinkChange(None, sink("s")))
    assert len(index.quiet) == 0
