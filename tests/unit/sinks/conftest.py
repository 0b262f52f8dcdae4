"""The transport contract runs on both event loops."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

import pytest

from tests.support.loops import ASYNCIO, LOOPS
from tests.unit.sinks.transport_contract import TransportContract


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Function) -> Mapping[str, Callable[[], AbstractEventLoop]]:
    return LOOPS if item.cls is not None and issubclass(item.cls, TransportContract) else ASYNCIO
