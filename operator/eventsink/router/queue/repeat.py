"""Work on the queue that is done again and again: a failure of the queue delays it, and never ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from eventsink.router.queue.protocol import QueueError
from eventsink.runtime.logs import Repeated, get_logger


async def repeat(work: Callable[[], Awaitable[None]], *, interval: float, failed: str) -> None:
    """Do `work` every `interval` seconds until cancelled; a QueueError is logged as `failed`, and the next time tries again."""
    log = Repeated(60.0)
    while True:
        await asyncio.sleep(interval)
        try:
            await work()
        except QueueError as error:
            if (more := log.due()) is not None:
                get_logger().warning(failed, reason=str(error), more=more)
