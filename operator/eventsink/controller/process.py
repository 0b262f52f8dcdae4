"""The operator as a process."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import click
from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from eventsink.controller.assembly import APPLY_ROLES, Controller
from eventsink.controller.config import OperatorSettings
from eventsink.controller.handlers import KopfThread
from eventsink.kube.api import Api, ApiError, Collection, Forbidden, NotFound, Object
from eventsink.kube.http import HttpApi, connect
from eventsink.resources.names import EVENTSINKS, GROUP, PLURAL
from eventsink.runtime.logs import configure_logs
from eventsink.runtime.monitor import Monitor
from eventsink.runtime.process import ExitStatus, Stop, run, stop_or_failure
from eventsink.runtime.settings import ConfigurationError, load_settings

START_ATTEMPTS_SECONDS = 60.0
"""How long the start waits for an API server that is away."""
FORBIDDEN_FOR_SECONDS = 15.0
"""How long the start is refused before a right is taken to be missing: an API server that just started knows no roles for a moment."""


def main(config: Path | None) -> int:
    """Run the operator until it is told to stop; returns the exit status."""
    try:
        settings = load_settings(OperatorSettings, part="operator", path=config)
    except ConfigurationError as error:
        click.echo(f"eventsink operator: {error}", err=True)
        return ExitStatus.USAGE
    configure_logs(settings.log)
    return run(lambda stop: serve(settings, stop))


async def serve(settings: OperatorSettings, stop: asyncio.Event) -> None:
    """Run the operator until `stop` is set.

    Raises
    ------
    Stop
        It cannot start (the CRD is absent, no access), or a part of it ended.
    """
    try:
        api = await connect(settings.kubernetes, "operator")
    except ConfigurationError as error:
        raise Stop(ExitStatus.USAGE, str(error)) from None
    operator = Operator(settings, api)
    try:
        await operator.run(stop)
    finally:
        await api.close()


class Operator:
    """The parts of the operator, put together."""

    def __init__(self, settings: OperatorSettings, api: HttpApi) -> None:
        self._settings = settings
        self._api = api
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._controller = Controller(settings, api, self._registry)
        self._stopping = False

    async def run(self, stop: asyncio.Event) -> None:
        monitor = Monitor("operator", self._settings.monitor, self._registry, ready={"synced": self._missing})
        try:
            await monitor.start()
        except OSError as error:
            raise Stop(ExitStatus.USAGE, f"monitor.address: cannot listen there: {error.strerror or error}") from None
        tasks: list[asyncio.Task[Any]] = []
        try:
            await check_crd(self._api, stop)
            if stop.is_set():
                return
            tasks = [asyncio.create_task(reflector.run(), name="watch") for reflector in self._controller.reflectors]
            await stop_or_failure_until(stop, self._controller.synced(), tasks)
            if stop.is_set():
                return
            kopf_thread = KopfThread(self._api, self._seen)
            tasks.append(asyncio.create_task(kopf_thread.run(), name="kopf"))
            tasks += [asyncio.create_task(one, name=name) for name, one in self._controller.tasks()]
            await stop_or_failure(stop, *tasks)
        finally:
            self._stopping = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._controller.close()
            await monitor.stop()

    def _missing(self) -> str | None:
        if self._stopping:
            return "stopping"
        return None if self._controller.swept.is_set() else "not everything was listed yet"

    def _seen(self, kind: str | None, obj: Object) -> None:
        """kopf saw an EventSink."""
        if kind == "DELETED":
            metadata = obj["metadata"]
            self._controller.state.lose((metadata["namespace"], metadata["name"]), metadata["uid"])
        else:
            self._controller.state.see(obj)


async def check_crd(api: Api, stop: asyncio.Event) -> None:
    """Whether the API server serves EventSinks; waits a while for one that is away.

    Raises
    ------
    Stop
        The CRD is absent, or a right is missing, or nobody answered.
    """
    started = time.monotonic()
    while not stop.is_set():
        try:
            await api.list(Collection(EVENTSINKS), limit=1)
        except NotFound:
            raise Stop(
                ExitStatus.CRD_ABSENT,
                f"the API server knows no {PLURAL}.{GROUP}: apply the CRD first (kubectl apply -k manifests/default, or -k crds)",
            ) from None
        except Forbidden as error:
            if time.monotonic() > started + FORBIDDEN_FOR_SECONDS:
                raise Stop(ExitStatus.FAILED, f"the operator lacks a right: {error}; {APPLY_ROLES}") from None
        except ApiError as error:
            if time.monotonic() > started + START_ATTEMPTS_SECONDS:
                raise Stop(ExitStatus.FAILED, str(error)) from None
        else:
            return
        await asyncio.sleep(1.0)


async def stop_or_failure_until(stop: asyncio.Event, done: Any, tasks: list[asyncio.Task[Any]]) -> None:
    """Wait for `done`, or for the end of everything."""
    waiting = asyncio.ensure_future(done)
    ending = asyncio.ensure_future(stop_or_failure(stop, *tasks))
    try:
        finished, _ = await asyncio.wait([waiting, ending], return_when=asyncio.FIRST_COMPLETED)
        for one in finished:
            one.result()
    finally:
        waiting.cancel()
        ending.cancel()
