"""The alert states in memory: small, and what they were before when a commit failed."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from eventsink.router.planning.alert_states import AlertStates, StateChange, group_digest
from eventsink.router.planning.state_settings import StateSettings
from eventsink.router.planning.turns import states_in_turns
from eventsink.router.queue.protocol import Batch
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from eventsink.router.queue.states import AlertState, GroupState, Notified, SinkState


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[SqliteQueue]:
    opened = await SqliteQueue.open(QueueSettings(path=tmp_path / "q.db", min_free_bytes=0))
    yield opened
    await opened.close()


def state(name: str, status: str = "firing", at: float = 1.0, tenant: str = "acme") -> AlertState:
    notified = (Notified(f"uid-of-a-sink-{len(name)}", status, 1_800_000_000_000_000, at, "10.0.0.1"),)
    return AlertState(0, f"{name:0>32}", tenant, "alertmanager", status, 1_800_000_000_000_000, 0, "", at, 0.0, ("",), notified)


def group(name: str, *firing: str) -> GroupState:
    return GroupState(0, group_digest("alertmanager", name), firing, 1.0, 1.0, "10.0.0.1")


async def test_100_000_firing_alerts_take_less_than_60_megabytes(queue: SqliteQueue) -> None:
    states = AlertStates(queue, StateSettings())
    for start in range(0, 100_000, 1000):
        change = StateChange()
        for number in range(start, start + 1000):
            states.put(change, state(f"{number}", at=float(number)))
        for number in range(start, start + 1000, 10):
            states.put_group(change, group(f"{number}", *(f"{n:0>32}" for n in range(number, number + 10))))
        await queue.put(Batch(states=change.written, groups=change.groups))
    fresh = AlertStates(queue, StateSettings())
    tracemalloc.start()
    assert await fresh.load() == 100_000
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert (fresh.firing, fresh.groups) == (100_000, 10_000)
    assert used < 60e6, used


async def test_a_change_that_could_not_be_stored_is_reverted(queue: SqliteQueue) -> None:
    states = AlertStates(queue, StateSettings(max_alerts=1000, max_groups=1000))
    first = StateChange()
    for number in range(2000):
        states.put(first, state(f"{number}"))
    for number in range(1000):
        states.put_group(first, group(f"{number}", f"{number:0>32}"))
    states.put_sink(first, SinkState("s", "d", "m", False))
    before = dict(states.of_tenant("acme"))
    change = StateChange()
    states.put(change, state("0", "resolved"))
    states.put(change, state("new"))
    states.put_group(change, group("new", "new"))
    states.put_group(change, group("1"))
    states.put_sink(change, SinkState("s", "elsewhere", "m", True))
    assert (states.evicted, states.groups) == (1000, 999)
    states.undo(change)
    assert dict(states.of_tenant("acme")) == before
    assert (len(states), states.firing, states.groups) == (2000, 2000, 1000)
    assert states.sink("s") == SinkState("s", "d", "m", False)
    states.undo(first)
    assert (len(states), states.firing, states.groups, states.sink("s")) == (0, 0, 0, None)


async def test_the_oldest_resolved_alerts_of_the_tenant_with_the_most_make_room(queue: SqliteQueue) -> None:
    states = AlertStates(queue, StateSettings(max_alerts=3000))
    change = StateChange()
    for number in range(1000):
        states.put(change, state(f"r{number}", "resolved", at=100.0))
        states.put(change, state(f"f{number}", at=float(number)))
        if number < 900:
            states.put(change, state(f"o{number}", "resolved", tenant="other", at=0.0))
    assert not states.crowded.is_set()
    for number in range(150):
        states.put(change, state(f"new{number}", at=200.0))
    assert states.crowded.is_set()
    await queue.put(Batch(states=change.written))
    assert await states.make_room() == states.evicted == 1050
    assert not states.crowded.is_set()
    assert len(states.of_tenant("other")) == 900
    assert len(states) == 2000
    assert {one.status for one in states.of_tenant("acme").values()} == {"firing"}
    assert "f49" not in {one.identity.lstrip("0") for one in states.of_tenant("acme").values()}
    fresh = AlertStates(queue, StateSettings(max_alerts=3000))
    assert await fresh.load() == 2000
    assert await fresh.make_room() == 0


async def test_what_is_received_while_room_is_made_is_not_forgotten(queue: SqliteQueue) -> None:
    states = AlertStates(queue, StateSettings(max_alerts=1000))
    change = StateChange()
    for number in range(1001):
        states.put(change, state(f"{number}", at=1.0))
    making = asyncio.create_task(states.make_room())
    await asyncio.sleep(0)
    states.put(change, state("7", at=2.0))
    assert await making == 1000
    assert list(states.of_tenant("acme")) == [state("7").identity]


async def test_room_is_made_at_once_where_there_is_no_time_to_look_at_all_alerts(queue: SqliteQueue) -> None:
    states = AlertStates(queue, StateSettings(max_alerts=20_000))
    change = StateChange()
    for number in range(21_000):
        states.put(change, state(f"{number}", "firing" if number % 2 else "resolved", at=float(-number)))
    assert states.evicted == 0
    states.put(change, state("new"))
    assert (len(states), len(change.forgotten)) == (20_001, 1000)
    # Of the 1500 that are known longest and the 1500 latest ones, the resolved ones that were received first.
    assert {before.identity for before, after in change.alerts_before if before is not None and after is None} == {
        state(f"{number}").identity for number in (*range(1000, 1500, 2), *range(19_500, 21_000, 2))
    }


async def test_sinks_and_groups_that_are_gone_are_forgotten(queue: SqliteQueue) -> None:
    states = AlertStates(queue, StateSettings(retention=100))
    change = StateChange()
    states.put_sink(change, SinkState("here", "d", "m", False))
    states.put_sink(change, SinkState("gone", "d", "m", False))
    states.put_group(change, GroupState(0, b"old", ("f",), queue.clock() - 101, 0.0, ""))
    states.put_group(change, GroupState(0, b"young", ("f",), queue.clock(), 0.0, ""))
    await queue.put(Batch(sinks=change.sinks, groups=change.groups))
    await states.prune(["here"])
    fresh = AlertStates(queue, StateSettings())
    await fresh.load()
    assert (fresh.sink("gone"), fresh.groups, fresh.group(b"old")) == (None, 1, None)
    assert fresh.sink("here") is not None


async def test_a_change_is_reverted_also_if_what_it_made_was_forgotten_meanwhile(queue: SqliteQueue) -> None:
    states = AlertStates(queue, StateSettings(resolved_retention=1))
    change = StateChange()
    states.put(change, msgspec.structs.replace(state("a", "resolved", at=queue.clock() - 2), notified=()))
    assert await states.prune([]) == 1
    states.undo(change)
    assert (len(states), states.firing) == (0, 0)


async def test_an_alert_whose_release_could_not_be_stored_is_released_again(queue: SqliteQueue) -> None:
    states = AlertStates(queue, StateSettings())
    held = msgspec.structs.replace(state("a"), held_until=50.0)
    states.put(StateChange(), held)
    change = StateChange()
    states.put(change, msgspec.structs.replace(held, held_until=0.0))
    assert states.released(60.0) == []
    states.undo(change)
    assert [one.identity for one in states.released(60.0)] == [held.identity]


async def test_others_have_their_turn_while_old_alerts_are_looked_for(queue: SqliteQueue) -> None:
    states = AlertStates(queue, StateSettings())
    for number in range(10_000):
        states.put(StateChange(), state(f"{number}", at=queue.clock()))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    assert await states.prune([]) == 0
    task.cancel()
    assert turns >= 10


async def test_alerts_of_which_many_sinks_were_notified_are_gone_through_in_smaller_slices() -> None:
    few = state("few")
    many = msgspec.structs.replace(few, notified=few.notified * 5000)
    slices = [len(part) async for part in states_in_turns([*[few] * 1200, *[many] * 10, few])]
    assert slices == [500, 500, 204, 4, 3]
    assert [part async for part in states_in_turns([])] == []
