"""The life of a process: settings, event loop, signals, its parts and tasks, the order in which they end, exit status."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from enum import IntEnum
from types import TracebackType
from typing import Protocol, Self, TypeVar

import click
import uvloop
from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from eventsink.runtime.descriptors import Descriptors, raise_limit
from eventsink.runtime.listener.metrics import ListenerMetrics
from eventsink.runtime.logs import LogSettings, configure_logs, get_logger
from eventsink.runtime.monitor import Check, Monitor, MonitorSettings
from eventsink.runtime.settings import ConfigurationError

GC_YOUNG_OBJECTS = 20_000
"""Python's own is 700."""
SWITCH_SECONDS = 0.001
"""How long a thread that works waits for another one to let it go on; Python's own is 0.005. Every callback of the event loop may wait so
long for a thread that reads something large, and the thread that writes the queue for the event loop."""


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


class LoggingSettings(Protocol):
    """Settings that say how the process logs."""

    @property
    def log(self) -> LogSettings: ...


S = TypeVar("S", bound=LoggingSettings)


def run_command(name: str, load: Callable[[], S], serve: Callable[[S, asyncio.Event], Awaitable[None]]) -> int:
    """Read the settings, configure the logs and run `serve` until it ends; returns the exit status.

    Parameters
    ----------
    name
        Of the command: what it says about wrong settings begins with `eventsink <name>: `.
    load
        Reads the settings, or raises `ConfigurationError`.
    serve
        See `run`.
    """
    try:
        settings = load()
    except ConfigurationError as error:
        click.echo(f"eventsink {name}: {error}", err=True)
        return ExitStatus.USAGE
    configure_logs(settings.log)
    return run(lambda stop: serve(settings, stop))


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Run `main` until it returns, under uvloop.

    `main` gets an event that is set at SIGTERM or SIGINT, and returns when it has closed everything. A second signal ends the
    process at once.

    Returns
    -------
    int
        The exit status: DONE, that of a raised `Stop`, USAGE after a `ConfigurationError`, or FAILED after any other exception,
        which is logged.
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
            log = get_logger().error if reason.status else get_logger().info
            log("stopped", reason=reason.reason, status=int(reason.status))
            return int(reason.status)
        except ConfigurationError as error:
            get_logger().error("stopped", reason=str(error), status=int(ExitStatus.USAGE))
            return int(ExitStatus.USAGE)
        except Exception:
            get_logger().exception("failed")
            return int(ExitStatus.FAILED)
        get_logger().info("stopped", status=0)
        return int(ExitStatus.DONE)

    # Most objects live as long as a message: the collector's default looks at them over and over.
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 20)
    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(supervised())


class Process:
    """What every process has: metrics, a monitor, readiness, named tasks, and one order in which everything ends.

    Use it as a context manager; the monitor listens inside, and the process is not ready before `until_stopped`. At the end, whatever
    its reason: readiness fails, then what was given to `on_stop` runs while the tasks still work, then all tasks are cancelled, then
    what was given to `on_close` runs, the last first, and at last the monitor stops. An error in one step keeps no other from running.

    Parameters
    ----------
    part
        `operator`, `router` ...
    monitor
        Where health and metrics are served.
    stop
        Is set when the process is to end.

    Raises
    ------
    Stop
        On entering: the monitor's address cannot be bound.
    """

    def __init__(self, part: str, monitor: MonitorSettings, stop: asyncio.Event) -> None:
        self.stop = stop
        self.registry = CollectorRegistry()
        """The metrics of the process."""
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.listener_metrics = ListenerMetrics(self.registry, part)
        self.descriptors = Descriptors(raise_limit())
        self.readiness: dict[str, Check] = {"process": lambda: self._state}
        """Named checks, which may be added at any time; the process gets work when none says what is missing."""
        self._state: str | None = "starting"
        self._monitor = Monitor(part, monitor, self.registry, self.listener_metrics, ready=self.readiness)
        self._tasks: list[asyncio.Task[object]] = []
        self._drains = AsyncExitStack()
        self._closes = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.on_close(self._monitor.stop)
        try:
            await listen("monitor.address", self._monitor.start())
        except Stop:
            await self._closes.aclose()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._state = "stopping"
        self._closes.push_async_callback(self._end_tasks)
        self._closes.push_async_callback(self._drains.aclose)
        await self._closes.aclose()

    def on_stop(self, drain: Callable[[], Awaitable[object]]) -> None:
        """Have `drain` called first at the end, while the tasks still run: for what finishes work that is under way."""
        self._drains.push_async_callback(drain)

    def on_close(self, close: Callable[[], Awaitable[object]]) -> None:
        """Have `close` called after the tasks have ended, before what was given here earlier."""
        self._closes.push_async_callback(close)

    def start(self, name: str, work: Coroutine[object, object, object]) -> asyncio.Task[object]:
        """Run `work` as a task, which does not end by itself while all is well."""
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        return task

    async def until_stopped(self, done: Awaitable[object] | None = None, *, ready: bool = False) -> None:
        """Wait until the process is to stop; raise what ended a task.

        Parameters
        ----------
        done
            A step of the start: the wait also ends when it is done. Without it the start is over, and the process may be ready.
        ready
            Whether it may be ready before `done`, too.

        Raises
        ------
        Stop
            A task ended without an exception: nobody does its work any more.
        """
        if done is None or ready:
            self._state = None
        awaited = [asyncio.ensure_future(one) for one in (self.stop.wait(), done) if one is not None]
        try:
            finished, _ = await asyncio.wait([*awaited, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task in finished:
                    task.result()
                    raise Stop(ExitStatus.FAILED, f"the task {task.get_name()} ended unexpectedly")
            for one in awaited:
                if one in finished:
                    one.result()
        finally:
            for one in awaited:
                one.cancel()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def listen(setting: str, start: Awaitable[object]) -> None:
    """Have a server listen.

    Parameters
    ----------
    setting
        The name of the setting with its address.
    start
        Binds the address.

    Raises
    ------
    Stop
        The address cannot be bound.
    """
    try:
        await start
    except OSError as error:
        raise Stop(ExitStatus.USAGE, f"{setting}: cannot listen there: {error.strerror or error}") from None
