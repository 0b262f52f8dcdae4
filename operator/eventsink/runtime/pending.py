"""A result that is known once a future is done; whoever waits for it needs no task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Pending(Generic[T]):
    """What `result` gives, or raises, once `future` is done. It is awaited once, or `result` is called once in a callback of the future.

    The future may belong to others and is never cancelled: what was started goes on when nobody waits for it any more.
    """

    __slots__ = ("future", "result")

    def __init__(self, future: asyncio.Future[Any], result: Callable[[], T]) -> None:
        self.future = future
        self.result = result

    def __await__(self) -> Generator[Any, None, T]:
        if not self.future.done():
            yield from asyncio.wait([self.future]).__await__()
        return self.result()
