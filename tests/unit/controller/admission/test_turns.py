"""Whose turn it is: few at once, and whoever asks for much delays nobody."""

from __future__ import annotations

import asyncio

import pytest

from eventsink.controller.admission.turns import Turns

MOST = 8


class Work:
    """Asks for turns, each of which lasts until it is ended."""

    def __init__(self) -> None:
        self.turns = Turns(MOST)
        self.active: list[str] = []
        self._ends: dict[str, list[asyncio.Event]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, peer: str, times: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._work(peer)) for _ in range(times)]
        await settle()

    async def end(self, peer: str) -> None:
        self._ends[peer].pop(0).set()
        await settle()

    async def _work(self, peer: str) -> None:
        async with self.turns.turn(peer):
            self.active.append(peer)
            end = asyncio.Event()
            self._ends.setdefault(peer, []).append(end)
            try:
                await end.wait()
            finally:
                self.active.remove(peer)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def work() -> Work:
    return Work()


async def test_one_peer_alone_gets_half_and_the_next_half_of_the_rest(work: Work) -> None:
    await work.ask("flood", 100)
    assert work.active == ["flood"] * 4
    await work.ask("other", 100)
    assert work.active.count("other") == 2


async def test_a_peer_that_comes_later_has_its_turn_at_once(work: Work) -> None:
    await work.ask("flood", 100)
    await work.ask("server")
    assert "server" in work.active


async def test_of_those_that_wait_one_of_each_peer_has_its_turn(work: Work) -> None:
    for number in range(MOST):
        await work.ask(f"flood-{number}", 10)
    await work.ask("server")
    assert "server" not in work.active
    for _ in range(MOST + 1):  # one for each peer
        await work.end(work.active[0])
    assert "server" in work.active


async def test_whoever_gives_up_waiting_takes_no_turn_and_leaves_nothing(work: Work) -> None:
    await work.ask("flood", 20)
    for task in work.tasks:
        task.cancel()
    work.tasks[0].cancel()
    await asyncio.gather(*work.tasks, return_exceptions=True)
    await work.ask("flood", 20)
    assert work.active == ["flood"] * 4


async def test_a_turn_that_is_given_to_whoever_just_gave_up_goes_to_the_next(work: Work) -> None:
    await work.ask("flood", 6)
    work.tasks[4].cancel()
    await work.end("flood")
    assert work.active == ["flood"] * 4
    work.tasks[5].cancel()
    await work.ask("flood")
    assert len(work.active) <= 4
