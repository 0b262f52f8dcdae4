"""What speaks over sockets is run on both event loops: asyncio's own, and uvloop, on which the router runs."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

import pytest
import uvloop

LOOPS: Mapping[str, Callable[[], AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
ON_BOTH = ("test_server.py",)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Function) -> Mapping[str, Callable[[], AbstractEventLoop]]:
    return LOOPS if item.path.name in ON_BOTH else {"asyncio": LOOPS["asyncio"]}
