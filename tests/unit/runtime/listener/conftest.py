"""Tests over sockets run on both event loops: asyncio's own, and uvloop, on which every process runs."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

import pytest

from tests.support.loops import ASYNCIO, LOOPS


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Function) -> Mapping[str, Callable[[], AbstractEventLoop]]:
    return LOOPS if item.path.name == "test_listener.py" else ASYNCIO
