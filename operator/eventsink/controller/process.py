"""The operator as a process."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from eventsink.controller.cluster_state import World
from eventsink.controller.config import OperatorSettings
from eventsink.controller.handlers import KopfThread
from eventsink.controller.metrics import OperatorMetrics
from eventsink.controller.reconcile import Reconciler
from eventsink.controller.status import StatusWriter
from eventsink.controller.store import CompiledStore
from eventsink.controller.worker import TENANCY, Worker
from eventsink.controller.workqueue import WorkQueue
from eventsink.destinations.slack.codes import SlackCodes
from eventsink.destinations.slack.resolve import SlackTargets
from eventsink.destinations.slack.tokens import SecretTokenStore
from eventsink.kube.api import NAMESPACES, SECRETS, Api, ApiError, Collection, Forbidden, Key, NotFound, Object, list_all
from eventsink.kube.http import HttpApi, connect
from eventsink.kube.reflector import Reflector
from eventsink.resources.names import EVENTSINKS, GROUP, PLURAL
from eventsink.resources.status import READY, EventSinkStatus
from eventsink.runtime.logs import Repeated, configure_logs, get_logger
from eventsink.runtime.monitor import Monitor
from eventsink.runtime.process import ExitStatus, Stop, run, stop_or_failure
from eventsink.runtime.settings import ConfigurationError, load_settings
from eventsink.sinks.egress import EgressGuard
from eventsink.sinks.guarded import guarded_session
from eventsink.sinks.sink import SINK_SECRET_TYPE, TENANCY_SECRET_TYPE

START_ATTEMPTS_SECONDS = 60.0
"""How long the start waits for an API server that is away."""
FINISH_SECONDS = 15.0
"""How long the end waits for codes that are being exchanged: an answer that is not stored is lost."""
FORBIDDEN_FOR_SECONDS = 15.0
"""How long the start is refused before a right is taken to be missing: an API server that just started knows no roles for a moment."""
APPLY_ROLES = "apply its roles (kubectl apply -k manifests/default)"


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
        self._metrics = OperatorMetrics(self._registry)
        self._queue: WorkQueue[Key] = WorkQueue()
        self._synced = False
        self._world = World(self._enqueue, lambda: self._enqueue(TENANCY))
        self._store = CompiledStore(api, settings.sinks_namespace)
        self._session = guarded_session(EgressGuard(settings.egress), timeout=settings.slack.timeout)
        writer = StatusWriter(api, lambda: datetime.now(UTC))
        slack = SlackTargets(settings.slack, self._session)
        tokens = SecretTokenStore(api, settings.slack_app.tokens_namespace)
        self._codes = SlackCodes(settings.slack_app, settings.slack, tokens, self._session)
        self._reconciler = Reconciler(settings, api, self._world, self._store, writer, slack, self._codes)
        own = f"type!={SINK_SECRET_TYPE},type!={TENANCY_SECRET_TYPE}"
        self._reflectors = [
            Reflector(api, "secrets", Collection(SECRETS, metadata_only=True, field_selector=own), self._world.secret_handler),
            Reflector(api, "namespaces", Collection(NAMESPACES, metadata_only=True), self._world.namespace_handler),
            Reflector(
                api,
                "compiled",
                Collection(SECRETS, settings.sinks_namespace, metadata_only=True, field_selector=f"type={SINK_SECRET_TYPE}"),
                self._world.compiled_handler,
            ),
        ]
        self._failures: dict[str, Repeated] = {}
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
            tasks = [asyncio.create_task(reflector.run(), name="watch") for reflector in self._reflectors]
            await stop_or_failure_until(stop, self._until_synced(), tasks)
            if stop.is_set():
                return
            kopf_thread = KopfThread(self._api, self._seen)
            tasks.append(asyncio.create_task(kopf_thread.run(), name="kopf"))
            tasks.append(asyncio.create_task(self._sweep_for_ever(), name="sweep"))
            if self._settings.slack_app.client_id:
                namespace = self._settings.slack_app.tokens_namespace
                tasks.append(asyncio.create_task(self._codes.keep(lambda: self._world.used_in(namespace)), name="tokens"))
            worker = Worker(self._queue, self._world, self._store, self._reconciler, self._metrics, failed=self._log_failure)
            tasks += [asyncio.create_task(worker.run(), name="worker") for _ in range(self._settings.workers)]
            await stop_or_failure(stop, *tasks)
        finally:
            self._stopping = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._codes.finish(FINISH_SECONDS)
            await self._session.close()
            await monitor.stop()

    def _missing(self) -> str | None:
        if self._stopping:
            return "stopping"
        return None if self._synced else "not everything was listed yet"

    async def _until_synced(self) -> None:
        for reflector in self._reflectors:
            await reflector.synced.wait()

    def _enqueue(self, key: Key) -> None:
        self._queue.add(key)

    def _seen(self, kind: str | None, obj: Object) -> None:
        """kopf saw an EventSink."""
        if kind == "DELETED":
            metadata = obj["metadata"]
            self._world.lose((metadata["namespace"], metadata["name"]), metadata["uid"])
        else:
            self._world.see(obj)

    # ---- work

    def _log_failure(self, key: Key, error: ApiError, _: float) -> None:
        """One line a minute for each kind of failure, however many sinks it concerns."""
        more = self._failures.setdefault(error.reason, Repeated(60.0)).due()
        if more is not None:
            hint = f"; the operator lacks a right: {APPLY_ROLES}" if isinstance(error, Forbidden) else ""
            get_logger().warning(
                "a sink could not be reconciled; it is tried again", sink="/".join(key), reason=f"{error}{hint}", more=more
            )

    # ---- sweep

    async def _sweep_for_ever(self) -> None:
        """Compare everything, at the start and each minute: kopf does not tell of what vanished while it was not connected."""
        outage = Repeated(60.0)
        while True:
            try:
                await self._sweep()
                self._metrics.sweeps.labels("done").inc()
                self._synced = True
                pause = self._settings.sweep_interval
            except ApiError as error:
                self._metrics.sweeps.labels("failed").inc()
                if outage.due() is not None:
                    get_logger().warning("the EventSinks could not be listed; it is tried again", reason=str(error))
                pause = min(self._settings.sweep_interval, 10.0)
            self._measure()
            await asyncio.sleep(pause)

    async def _sweep(self) -> None:
        listed = await list_all(self._api, Collection(EVENTSINKS))
        living = set()
        for obj in listed:
            metadata = obj["metadata"]
            living.add((metadata["namespace"], metadata["name"]))
            self._world.see(obj)
        for key, obj in list(self._world.eventsinks.items()):
            if key not in living and not await self._exists(key):
                self._world.lose(key, obj["metadata"]["uid"])
        uids = {obj["metadata"]["uid"] for obj in self._world.eventsinks.values()}
        for compiled in list(self._world.compiled.values()):
            if compiled.uid not in uids:
                self._enqueue(compiled.sink)
        self._store.forget_tenancy()
        self._enqueue(TENANCY)

    async def _exists(self, key: Key) -> bool:
        """Whether an EventSink that was not listed is there: it may have been made while the list was read."""
        try:
            await self._api.get(EVENTSINKS, key)
        except NotFound:
            return False
        return True

    def _measure(self) -> None:
        counts = {"True": 0, "False": 0, "Unknown": 0}
        for obj in self._world.eventsinks.values():
            try:
                condition = EventSinkStatus.model_validate(obj.get("status") or {}).condition(READY)
            except ValueError:
                condition = None
            counts[condition.status if condition is not None else "Unknown"] += 1
        for status, count in counts.items():
            self._metrics.eventsinks.labels(status).set(count)
        self._metrics.compiled.set(len(self._world.compiled))


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
