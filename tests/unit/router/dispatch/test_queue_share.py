"""What nobody takes does not fill the queue: sinks that do not get on make room before it is full."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from eventsink.router.dispatch import queue_share
from eventsink.router.dispatch.queue_share import Holder, next_to_give
from eventsink.router.queue.protocol import QueueFull
from tests.unit.router.dispatch.dispatching import HANG, SINK, MakeDispatch
from tests.unit.router.sinks import sink, uid


def holders(text: str) -> Iterable[Holder]:
    """`a1:300` is the sink a1 of the tenant a, for which 300 wait."""
    return [Holder(name, name[0], int(count)) for name, _, count in (one.partition(":") for one in text.split())]


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        ("", None),
        ("a1:5", "a1"),
        ("a1:5 b1:9", "b1"),
        ("a1:5 a2:6 b1:9", "a2"),
        ("a1:50 b1:20 b2:20 b3:20", "b3"),
        ("a1:50 b1:50", "b1"),
    ],
)
def test_the_largest_sink_of_the_largest_tenant_gives_first(waiting: str, expected: str | None) -> None:
    chosen = next_to_give(holders(waiting))
    assert (chosen.uid if chosen is not None else None) == expected


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_share, "LOOK_SECONDS", 0.01)


async def test_a_dead_sink_makes_room_for_others_and_says_so(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(sink("dead"), sink("well", tenant="globex"))
    dispatch.queue_settings = {"maxWaiting": 2000}
    dispatch.senders["dead"].script = [SINK] * 8
    await dispatch.start()
    watching = asyncio.ensure_future(dispatch.dispatcher.watch_lanes())
    for start in range(0, 6000, 100):
        await dispatch.put(*(f"a{n}" for n in range(start, start + 100)), sinks=("dead",))
        await dispatch.put(f"b{start}", sinks=("well",), tenant="globex")
        await dispatch.until(lambda: dispatch.queue.depth().fill < 0.95)
    await dispatch.until(lambda: len(dispatch.arrived("well")) == 60)
    await dispatch.until(lambda: dispatch.queue.depth().fill < 0.8)
    dead = await dispatch.dead()
    assert {(one.reason, one.sink) for one in dead} == {("QueueShare", uid("dead"))}
    # What the queue has done is counted a moment later.
    await dispatch.until(lambda: dispatch.metric("deliveries_dead_total", reason="QueueShare") == dispatch.queue.depth().dead)
    health = dispatch.dispatcher.health(uid("dead"))
    assert health is not None
    assert (health.reason, health.last_error.partition(":")[0]) == ("HTTP401", "QueueShare")
    assert f"{dispatch.queue.depth().dead} of its deliveries became dead letters" in health.full_message
    dispatch.senders["dead"].script = []
    dispatch.directory.put(sink("dead", generation=2))
    await dispatch.until_empty()
    arrived = {name for name in dispatch.arrived("dead") if name not in {one.name for one in dead}}
    assert len(arrived) >= 6000 - dispatch.queue.depth().dead
    assert "a5999" in arrived
    watching.cancel()


async def test_a_sink_that_waits_for_its_active_times_makes_room_for_others(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(sink("quiet", times={"mute": [{}]}), sink("well", tenant="globex"))
    dispatch.queue_settings = {"maxWaiting": 500}
    await dispatch.start()
    watching = asyncio.ensure_future(dispatch.dispatcher.watch_lanes())
    for start in range(0, 1000, 50):
        await dispatch.put(*(f"a{n}" for n in range(start, start + 50)), sinks=("quiet",))
        await dispatch.put(f"b{start}", sinks=("well",), tenant="globex")
        await dispatch.until(lambda: dispatch.queue.depth().fill < 0.8)
    await dispatch.until(lambda: len(dispatch.arrived("well")) == 20)
    assert {(one.reason, one.sink) for one in await dispatch.dead()} == {("QueueShare", uid("quiet"))}
    watching.cancel()


async def test_sinks_that_keep_up_lose_nothing_and_a_full_queue_refuses_as_before(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(sink("s"), sink("other"))
    dispatch.queue_settings = {"maxWaiting": 50}
    dispatch.senders["s"].script = [HANG] * 8
    await dispatch.start()
    watching = asyncio.ensure_future(dispatch.dispatcher.watch_lanes())
    await dispatch.put(*(f"a{n}" for n in range(50)))
    with pytest.raises(QueueFull):
        await dispatch.put("one more")
    await asyncio.sleep(0.05)
    assert dispatch.queue.depth().dead == 0
    watching.cancel()


async def test_the_only_sink_has_nobody_to_make_room_for(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(sink("s"))
    dispatch.queue_settings = {"maxWaiting": 50}
    dispatch.senders["s"].script = [SINK] * 8
    await dispatch.start()
    watching = asyncio.ensure_future(dispatch.dispatcher.watch_lanes())
    await dispatch.put(*(f"a{n}" for n in range(50)))
    await asyncio.sleep(0.05)
    assert (dispatch.queue.depth().waiting, dispatch.queue.depth().dead) == (50, 0)
    watching.cancel()


async def test_a_sink_that_has_long_been_behind_makes_room_too(
    make_dispatch: MakeDispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_share, "BEHIND", 10)
    monkeypatch.setattr(queue_share, "BEHIND_SECONDS", 0.05)
    dispatch = make_dispatch(sink("s"), sink("other"))
    dispatch.queue_settings = {"maxWaiting": 100}
    dispatch.senders["s"].script = [HANG] * 8
    await dispatch.start()
    watching = asyncio.ensure_future(dispatch.dispatcher.watch_lanes())
    await dispatch.put(*(f"a{n}" for n in range(90)))
    await dispatch.until(lambda: dispatch.queue.depth().dead)
    assert {one.reason for one in await dispatch.dead()} == {"QueueShare"}
    watching.cancel()


async def test_dead_letters_make_room_in_bytes_before_anything_that_waits(make_dispatch: MakeDispatch) -> None:
    mib = 1024**2
    dispatch = make_dispatch(sink("dead"), sink("other"))
    dispatch.queue_settings = {"maxBytes": 8 * mib}
    dispatch.senders["dead"].script = [SINK] * 8
    await dispatch.start()
    watching = asyncio.ensure_future(dispatch.dispatcher.watch_lanes())
    for number in range(40):
        await dispatch.put(f"a{number}", sinks=("dead",), body=b"x" * (mib // 2))
        await dispatch.until(lambda: dispatch.queue.depth().fill < 0.9)
    depth = dispatch.queue.depth()
    assert depth.evicted > 0
    assert depth.waiting >= 10, "no more was given up than was needed"
    watching.cancel()
