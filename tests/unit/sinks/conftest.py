"""What keeps the contract of a transport is run on both event loops: asyncio's own, and uvloop, on which the router runs."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.unit.sinks.transport_contract import TransportContract

LOOPS: Mapping[str, Callable[[], AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Function) -> Mapping[str, Callable[[], AbstractEventLoop]]:
    if item.cls is not None and issubclass(item.cls, TransportContract):
        return LOOPS
    return {"asyncio": LOOPS["asyncio"]}
