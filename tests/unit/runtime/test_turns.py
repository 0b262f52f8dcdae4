"""Long work takes its turns: others come first, and never for ever."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from eventsink.runtime.turns import MOST_TURNS, LongWork, Steps, at_once, begun


async def test_long_work_goes_on_though_others_never_leave_the_event_loop_idle() -> None:
    done = False

    async def other() -> int:
        turns = 0
        while not done:
            until = time.perf_counter() + 0.002
            while time.perf_counter() < until:
                pass
            turns += 1
            await asyncio.sleep(0)
        return turns

    def steps() -> Steps[str]:
        for _ in range(20):
            until = time.perf_counter() + 0.0003
            while time.perf_counter() < until:
                pass
            yield
        return "result"

    others = [asyncio.create_task(other()) for _ in range(3)]
    async with asyncio.timeout(30):
        assert await LongWork(lambda: True).run(steps()) == "result"
    done = True
    for turns in await asyncio.gather(*others):
        assert turns <= MOST_TURNS * 30


@pytest.mark.parametrize("number", [0, 1, 3])
def test_steps_of_which_the_first_is_done_have_the_same_result(number: int) -> None:
    done: list[int] = []

    def steps() -> Steps[int]:
        for one in range(number):
            done.append(one)
            yield
        return len(done)

    rest = begun(steps())
    assert done == [0][:number]
    assert at_once(rest) == number


async def test_a_step_is_done_in_a_slice_that_was_over_before_it_began() -> None:
    def steps() -> Steps[str]:
        yield
        yield
        return "result"

    seconds = itertools.count()
    async with asyncio.timeout(30):
        assert await LongWork(clock=lambda: float(next(seconds))).run(steps()) == "result"


async def test_whoever_gives_up_waiting_for_a_slice_leaves_the_line_to_those_behind() -> None:
    work = LongWork(lambda: True)
    first, second, third = (asyncio.create_task(work.turn()) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    async with asyncio.timeout(30):
        await third
    assert first.cancelled()
    assert second.cancelled()
