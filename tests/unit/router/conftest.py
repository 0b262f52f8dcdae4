"""Tests over sockets run on both event loops: asyncio's own, and uvloop, on which the router runs."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from eventsink.sinks.sink import Sink
from tests.unit.router.dispatch.dispatching import DispatchUnderTest
from tests.unit.router.sinks import sink

LOOPS: Mapping[str, Callable[[], AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
ON_BOTH = ("test_server.py",)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Function) -> Mapping[str, Callable[[], AbstractEventLoop]]:
    return LOOPS if item.path.name in ON_BOTH else {"asyncio": LOOPS["asyncio"]}


@pytest.fixture
async def make_dispatch(tmp_path: Path) -> AsyncIterator[Callable[..., DispatchUnderTest]]:
    made: list[DispatchUnderTest] = []

    def make(*sinks: Sink, **settings: object) -> DispatchUnderTest:
        made.append(DispatchUnderTest(tmp_path, *(sinks or (sink("s"),)), **settings))
        return made[-1]

    yield make
    for one in made:
        if hasattr(one, "dispatcher"):
            await one.stop()
