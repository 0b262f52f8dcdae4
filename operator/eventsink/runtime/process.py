"""The life of a process: event loop, signals, exit status."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable
from enum import IntEnum

import uvloop

from eventsink.runtime.logs import get_logger

GC_YOUNG_OBJECTS = 20_000
"""Python's own is 700."""


class ExitStatus(IntEnum):
    """What the commands' exit status says."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    """Wrong arguments or configuration."""
    CRD_ABSENT = 3
    LEASE_LOST = 4


class Stop(Exception):
    """Raised by a part that cannot go on: ends the process with a status and a sentence."""

    def __init__(self, status: ExitStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Run `main` until it returns, under uvloop.

    `main` gets an event that is set at SIGTERM or SIGINT, and returns when it has put everything away. A second signal ends the
    process at once.

    Returns
    -------
    int
        The exit status: DONE, that of a raised `Stop`, or FAILED after any other exception, which is logged.
    """

    async def supervised() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal(number: int) -> None:
            if stop.is_set():
                get_logger().warning("ended at once by a second signal", signal=signal.Signals(number).name)
                os._exit(ExitStatus.FAILED)
            get_logger().info("stopping", signal=signal.Signals(number).name)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)
        try:
            await main(stop)
        except Stop as reason:
            get_logger().error("stopped", reason=reason.reason, status=int(reason.status))
            return int(reason.status)
        except Exception:
            get_logger().exception("failed")
            return int(ExitStatus.FAILED)
        get_logger().info("stopped", status=0)
        return int(ExitStatus.DONE)

    # Most objects live as long as a message: the collector's default looks at them over and over.
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 20)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(supervised())


async def stop_or_failure(stop: asyncio.Event, *tasks: asyncio.Task[object]) -> None:
    """Wait until `stop` is set, or raise what ended one of `tasks`, none of which ends by itself while all is well.

    Raises
    ------
    Stop
        A task ended without an exception: nobody does its work any more.
    """
    stopping = asyncio.ensure_future(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()
            raise Stop(ExitStatus.FAILED, f"the task {task.get_name()} ended unexpectedly")
    finally:
        stopping.cancel()
