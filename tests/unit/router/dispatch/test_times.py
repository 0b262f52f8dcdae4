"""A sink that is sent to at certain times only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from eventsink.router.dispatch.lane import Lane
from eventsink.router.dispatch.memory import WindowMemory
from eventsink.router.dispatch.pace import Pace
from eventsink.router.dispatch.sink_tests import CannotTest
from eventsink.router.dispatch.worker import SPREAD_SECONDS, SinkWorker
from eventsink.sinks.sender import Delivered, Message, Outcome
from tests.unit.router.dispatch.dispatching import FAST, SINK, DispatchUnderTest, MakeDispatch, ScriptedSender
from tests.unit.router.sinks import sink, uid

OPENS = datetime(2026, 11, 27, 7, tzinfo=UTC).timestamp()
"""08:00 in Berlin, a Friday."""
WORKING_HOURS = {"active": [{"times": [("08:00", "18:00")], "weekdays": ["monday:friday"], "location": "Europe/Berlin"}]}
NIGHT = OPENS - 3 * 3600


def clock_at(moment: float) -> Callable[[], float]:
    """A clock that runs from a moment on."""
    began = time.monotonic()
    return lambda: moment + time.monotonic() - began


def with_hours(**members: Any) -> Any:
    return sink(times={**WORKING_HOURS, **members})


async def test_what_comes_before_the_time_leaves_when_it_comes(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(with_hours())
    dispatch.wall = clock_at(OPENS - 0.3)
    sent_at: list[float] = []

    def arrives(_: Message) -> Outcome:
        sent_at.append(dispatch.wall())
        return Delivered(200)

    dispatch.senders["s"].script = [arrives] * 3
    await dispatch.start()
    await dispatch.put("a", "b", "c")
    await dispatch.until_empty()
    assert dispatch.arrived() == ["a", "b", "c"]
    assert min(sent_at) >= OPENS
    assert dispatch.metric("deliveries_deferred_total") == 3


def test_sinks_that_open_at_the_same_time_begin_one_after_the_other() -> None:
    begins = []
    for number in range(50):
        one = sink(f"s{number}", times=WORKING_HOURS)
        worker = SinkWorker(
            one, Lane(Pace(FAST, lambda: 0.0), WindowMemory(0, 0)), lambda _sink, _health: None, lambda: OPENS - 1
        )
        worker.use(one, lambda _: ScriptedSender(), 1)
        closed = worker.closed()
        assert closed is not None
        begins.append(worker.reopens_in(closed))
    assert min(begins) >= 1.0
    assert 0.5 < max(begins) - min(begins) <= SPREAD_SECONDS


async def test_what_waits_over_night_survives_a_restart_and_leaves_in_the_morning(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(with_hours())
    dispatch.wall = lambda: NIGHT
    await dispatch.start()
    await dispatch.put("firing", "resolved", key="a")
    assert dispatch.arrived() == []
    await dispatch.stop()
    other = DispatchUnderTest(dispatch.folder, with_hours())
    other.wall = lambda: NIGHT + 60
    await other.start()
    assert other.arrived() == []
    await other.stop()
    morning = DispatchUnderTest(dispatch.folder, with_hours())
    morning.wall = lambda: OPENS
    await morning.start()
    await morning.until_empty()
    assert morning.arrived() == ["firing", "resolved"]
    await morning.stop()


async def test_it_is_said_until_when_alerts_wait(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(with_hours())
    dispatch.wall = lambda: NIGHT
    await dispatch.start()
    health = dispatch.dispatcher.health(uid("s"))
    assert health is not None
    assert (health.state, health.reason, health.held) == ("Unknown", "OutsideTimes", "OutsideTimes")
    assert health.message == "alerts wait until 2026-11-27T07:00:00Z, outside of spec.match.activeTimes"
    assert dispatch.dispatcher.closed_sinks() == 1
    assert dispatch.dispatcher.held_sinks() == 0, "nobody is paged for it"


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (
            {"drop": True},
            "new alerts are dropped until 2026-11-27T07:00:00Z, outside of spec.match.activeTimes; what still fires then is sent",
        ),
        (
            {"active": [], "mute": [{"years": ["2026"], "location": "UTC"}]},
            "alerts wait until 2027-01-01T00:00:00Z, within spec.match.muteTimes",
        ),
        ({"mute": [{}]}, "alerts wait for more than a year, within spec.match.muteTimes"),
    ],
)
async def test_it_is_said_what_becomes_of_alerts(make_dispatch: MakeDispatch, times: dict[str, Any], says: str) -> None:
    dispatch = make_dispatch(with_hours(**times))
    dispatch.wall = lambda: NIGHT
    await dispatch.start()
    assert dispatch.dispatcher.blocked(uid("s")) == says


async def test_a_failure_is_still_reported_when_the_time_has_ended(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(with_hours())
    now = [OPENS]
    dispatch.wall = lambda: now[0]
    dispatch.senders["s"].script = [SINK]
    await dispatch.start()
    await dispatch.put("a")
    await dispatch.until(lambda: dispatch.held() == {"s": "HTTP401"})
    now[0] = NIGHT
    health = dispatch.dispatcher.health(uid("s"))
    assert health is not None
    assert (health.state, health.reason) == ("False", "HTTP401")


async def test_an_alert_that_waits_for_longer_than_its_sink_says_becomes_a_dead_letter(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(with_hours())
    dispatch.wall = lambda: NIGHT
    await dispatch.start()
    await dispatch.put("short", max_age=0.01)
    await dispatch.put("long")
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(dispatch.dispatcher.watch_expiry())
        await dispatch.until(lambda: dispatch.metric("deliveries_dead_total", reason="MaxAge") == 1)
        watching.cancel()
    assert [one.name for one in await dispatch.dead()] == ["short"]
    assert dispatch.queue.depth().waiting == 1


async def test_a_test_alert_is_refused_with_the_time_at_which_it_would_be_sent(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(with_hours())
    dispatch.wall = lambda: NIGHT
    await dispatch.start()
    with pytest.raises(CannotTest, match="until 2026-11-27T07:00:00Z"):
        await dispatch.tests.test(with_hours(), 0.0)


async def test_new_times_count_at_once(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(with_hours())
    dispatch.wall = lambda: NIGHT
    await dispatch.start()
    await dispatch.put("a")
    assert dispatch.arrived() == []
    dispatch.directory.put(sink(generation=2))
    await dispatch.until_empty()
    assert dispatch.arrived() == ["a"]


async def test_one_sink_waits_and_the_others_do_not(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(with_hours(), sink("t"))
    dispatch.wall = lambda: NIGHT
    await dispatch.start()
    await dispatch.put("a", sinks=("s", "t"))
    await dispatch.until(lambda: dispatch.arrived("t") == ["a"])
    assert dispatch.arrived("s") == []


async def test_times_that_this_version_cannot_read_keep_nothing_back_and_are_reported(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(sink(times={"active": [{"location": "Mars/Olympus"}]}))
    await dispatch.start()
    await dispatch.put("a")
    await dispatch.until_empty()
    health = dispatch.dispatcher.health(uid("s"))
    assert health is not None
    assert (health.state, health.reason) == ("True", "TimesUnreadable")
