"""The sender contract runs on the event loops that its class names, by default on both."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

import pytest

from tests.support.loops import ASYNCIO
from tests.unit.destinations.sender_contract import SenderContract


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Function) -> Mapping[str, Callable[[], AbstractEventLoop]]:
    return item.cls.loops if item.cls is not None and issubclass(item.cls, SenderContract) else ASYNCIO
