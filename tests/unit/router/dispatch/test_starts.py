"""Which sinks begin to send at once and which wait: one tenant's thousand sinks delay nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from eventsink.router.dispatch.lane import Lane
from eventsink.router.dispatch.memory import WindowMemory
from eventsink.router.dispatch.pace import Pace
from eventsink.router.dispatch.retry import RetrySettings
from eventsink.router.dispatch.starts import AT_ONCE, MESSAGE_SECONDS, Starts
from eventsink.router.dispatch.worker import SinkWorker
from eventsink.runtime.turns import LongWork
from tests.unit.router.dispatch.dispatching import DEADLINE_SECONDS
from tests.unit.router.sinks import sink


class Slices(LongWork):
    """Slices that begin when the test says so, each for so many messages."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: self.now)
        self.now = 0.0
        self.allowed: asyncio.Queue[int] = asyncio.Queue()

    async def turn(self) -> float:
        messages = await self.allowed.get()
        return messages * MESSAGE_SECONDS


class Begun:
    """Starts, and the names of the sinks that began."""

    def __init__(self, messages: int = 1) -> None:
        self.names: list[str] = []
        self.slices = Slices()
        self._messages = messages
        self.tasks: list[asyncio.Task[None]] = []
        self.starts = Starts(self._pump, self.slices, self._spawn)

    def _pump(self, worker: SinkWorker) -> int:
        self.names.append(worker.sink.name)
        return self._messages

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    async def after(self, *slices: int) -> list[str]:
        """The names since the last time, after slices for so many messages."""
        for messages in slices:
            self.slices.allowed.put_nowait(messages)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not self.slices.allowed.empty():
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        names, self.names = self.names, []
        return names


def workers(tenant: str, *names: str) -> list[SinkWorker]:
    return [
        SinkWorker(
            sink(name, tenant=tenant), Lane(Pace(RetrySettings(), lambda: 0.5), WindowMemory(1, 1)), lambda _one, _health: None
        )
        for name in names
    ]


async def test_the_first_sinks_of_each_tenant_begin_at_once_and_the_others_take_turns() -> None:
    begun = Begun()
    begun.starts.begin([*workers("a", "a1", "a2", "a3", "a4"), *workers("b", "b1"), *workers("c", "c1", "c2", "c3")])
    assert AT_ONCE == 2
    assert await begun.after() == ["a1", "a2", "b1", "c1", "c2"]
    assert await begun.after(1) == ["a3"]
    assert await begun.after(1) == ["c3"]
    assert await begun.after(1) == ["a4"]


async def test_a_sink_of_a_tenant_with_none_that_waits_begins_at_once_and_any_other_behind_those_that_wait() -> None:
    begun = Begun()
    begun.starts.begin(workers("a", "a1", "a2", "a3", "a4"))
    begun.starts.begin([*workers("a", "a5"), *workers("b", "b1")])
    assert await begun.after() == ["a1", "a2", "b1"]
    assert await begun.after(5) == ["a3", "a4", "a5"]
    begun.starts.begin(workers("a", "a6"))
    assert await begun.after() == ["a6"]


async def test_a_sink_for_which_more_is_committed_while_it_waits_begins_once() -> None:
    begun = Begun()
    several = workers("a", "a1", "a2", "a3", "a4")
    begun.starts.begin(several)
    begun.starts.begin(several[2:])
    assert await begun.after(1, 1) == ["a1", "a2", "a3", "a4"]


async def test_a_sink_that_sends_many_messages_takes_the_slices_of_many() -> None:
    begun = Begun(messages=8)
    begun.starts.begin(workers("a", *[f"a{number}" for number in range(6)]))
    assert await begun.after() == ["a0", "a1"]
    assert await begun.after(3) == ["a2"]
    assert await begun.after(9) == ["a3", "a4"]


async def test_one_begins_in_a_slice_that_was_over_before_it_began() -> None:
    begun = Begun()
    begun.slices.now = 1.0
    begun.starts.begin(workers("a", "a1", "a2", "a3", "a4"))
    assert await begun.after() == ["a1", "a2"]
    assert await begun.after(1) == ["a3"]
    assert await begun.after(1) == ["a4"]


async def test_after_a_slice_that_was_cancelled_the_next_commit_goes_on() -> None:
    begun = Begun()
    begun.starts.begin(workers("a", "a1", "a2", "a3"))
    await asyncio.sleep(0)
    begun.tasks[0].cancel()
    await asyncio.gather(*begun.tasks, return_exceptions=True)
    begun.starts.begin(workers("b", "b1"))
    assert await begun.after(1) == ["a1", "a2", "b1", "a3"]
