"""The router as a process: puts the parts together, and takes them apart in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import click
from prometheus_client import CollectorRegistry
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from eventsink.destinations.senders import open_sender
from eventsink.destinations.settings import declared, sections_of
from eventsink.kube.api import Api
from eventsink.kube.http import connect
from eventsink.router.admin.server import Admin
from eventsink.router.config import RouterSettings
from eventsink.router.directory import SinkChange, SinkDirectory
from eventsink.router.dispatch.dispatcher import Dispatcher
from eventsink.router.dispatch.sink_tests import SinkTests
from eventsink.router.intake.requests import Intake, IntakeMetrics
from eventsink.router.intake.server import IntakeServer
from eventsink.router.metrics import DispatchMetrics, GaugeReader
from eventsink.router.planning.accept import Acceptor
from eventsink.router.planning.match import SinkIndex
from eventsink.router.planning.notification_log import NotificationLog
from eventsink.router.queue.protocol import Queue, QueueUnavailable
from eventsink.router.queue.sqlite import SqliteQueue
from eventsink.router.reports import StatusReporter
from eventsink.router.sources import open_sources
from eventsink.router.watch import SinkWatch
from eventsink.runtime.logs import configure_logs, get_logger
from eventsink.runtime.monitor import Monitor
from eventsink.runtime.process import ExitStatus, Stop, run, stop_or_failure
from eventsink.runtime.settings import ConfigurationError, load_settings
from eventsink.sinks.egress import EgressGuard
from eventsink.sinks.guarded import guarded_session
from eventsink.sinks.http1 import Http1Transport
from eventsink.sinks.sender import MAX_SEND_SECONDS, SenderContext

PRUNE_SECONDS = 60.0


def main(config: Path | None) -> int:
    """Run the router until it is told to stop; returns the exit status."""
    try:
        settings = load_settings(RouterSettings, part="router", path=config)
        if not settings.sources:
            raise ConfigurationError(f"{config or 'the configuration'}: sources: name at least one source of alerts")
    except ConfigurationError as error:
        click.echo(f"eventsink router: {error}", err=True)
        return ExitStatus.USAGE
    configure_logs(settings.log)
    return run(lambda stop: serve(settings, stop))


async def serve(settings: RouterSettings, stop: asyncio.Event) -> None:
    """The router in a cluster: sinks come from compiled Secrets, statuses go to EventSinks."""
    try:
        api = await connect(settings.kubernetes, "router")
    except ConfigurationError as error:
        raise Stop(ExitStatus.USAGE, str(error)) from None
    try:
        router = Router(settings)
        watch = SinkWatch(api, settings.sinks_namespace, router.directory)
        router.readiness["sinks"] = watch.missing
        await router.run(stop, lambda: _cluster_tasks(api, router, watch))
    finally:
        await api.close()


def _cluster_tasks(api: Api, router: Router, watch: SinkWatch) -> dict[str, Coroutine[Any, Any, None]]:
    reporter = StatusReporter(api, router.directory, router.dispatcher.health)
    router.on_health = reporter.changed
    return {"sinks": watch.run(), "reports": reporter.run()}


class Router:
    """The router without Kubernetes: somebody else fills its `directory`.

    `readiness` holds named checks beside the router's own; `on_health` is called with each sink whose delivery changed.
    """

    def __init__(self, settings: RouterSettings) -> None:
        self.settings = settings
        self.directory = SinkDirectory()
        self.readiness: dict[str, Any] = {}
        self.on_health: Any = lambda _sink, _health: None
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.dispatcher: Dispatcher
        self.tests: SinkTests
        self._ready = "starting"

    async def run(self, stop: asyncio.Event, tasks: Any) -> None:
        """Run until `stop` is set, then put everything away; `tasks` gives what else is to run, by name, once the parts exist.

        Raises
        ------
        Stop
            A part cannot start, or ended.
        """
        settings = self.settings
        monitor = Monitor(
            "router", settings.monitor, self.registry, ready={"router": lambda: self._ready or None, **self.readiness}
        )
        await _listening("monitor.address", monitor.start())
        try:
            sources = open_sources(settings.sources)
            queue = await SqliteQueue.open(settings.queue)
        except ConfigurationError as error:
            raise Stop(ExitStatus.USAGE, str(error)) from None
        except QueueUnavailable as error:
            raise Stop(ExitStatus.FAILED, str(error)) from None

        log = NotificationLog(queue, settings.state)
        get_logger().info("the queue is open", notified=await log.load(), waiting=queue.depth().waiting)
        index = SinkIndex()
        self.directory.subscribe(index.change)
        guard = EgressGuard(settings.egress)
        transport = Http1Transport(settings.transport, guard)
        session = guarded_session(guard, timeout=MAX_SEND_SECONDS)
        context = SenderContext(transport, session, sections_of(settings, declared("ROUTER_SETTINGS")))
        self.dispatcher = dispatcher = Dispatcher(
            settings.dispatch,
            queue,
            self.directory,
            lambda sink: open_sender(sink, context),
            DispatchMetrics(self.registry),
            health_changed=lambda sink, health: self.on_health(sink, health),
            on_gone=log.forget_sink,
        )
        self.directory.subscribe(_forgetful(log))
        acceptor = Acceptor(self.directory, index, log, queue, settings.state)
        intake = Intake(
            sources, acceptor.accept_bytes, IntakeMetrics(self.registry), max_under_way=settings.intake.max_requests_under_way
        )
        server = IntakeServer(settings.intake, intake)
        self.tests = SinkTests(queue, dispatcher)
        admin = Admin(settings.admin, queue, self.directory, dispatcher.health, self.tests)
        GaugeReader(self.registry, lambda: _gauges(queue, dispatcher, log, self.directory))

        loaded = asyncio.Event()
        self.directory.when_loaded(loaded.set)
        running: list[asyncio.Task[Any]] = []
        try:
            await _listening("intake.address", server.start())
            await _listening("admin.address", admin.start())

            async def load() -> None:
                await loaded.wait()
                await dispatcher.load()
                self._ready = ""
                await asyncio.Event().wait()

            work = {"load": load(), "expiry": dispatcher.watch_expiry(), "prune": _prune(log), **tasks()}
            running = [asyncio.create_task(one, name=name) for name, one in work.items()]
            await stop_or_failure(stop, *running)
        finally:
            self._ready = "stopping"
            if stop.is_set():
                await asyncio.sleep(settings.shutdown.unready)
            server.stop_accepting()
            if not await intake.until_idle(settings.shutdown.grace):
                get_logger().warning("requests were still being accepted at the end of the grace period")
            await dispatcher.stop(settings.shutdown.grace)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await server.close()
            await admin.stop()
            await queue.close()
            await transport.close()
            await session.close()
            await monitor.stop()


def _forgetful(log: NotificationLog) -> Any:
    """A listener that drops at once what a deleted sink was notified of: one that is re-created inherits nothing."""

    def changed(change: SinkChange) -> None:
        if change.after is None and change.before is not None:
            log.forget_sink(change.before.uid)

    return changed


async def _prune(log: NotificationLog) -> None:
    while True:
        await asyncio.sleep(PRUNE_SECONDS)
        try:
            await log.prune()
        except QueueUnavailable as error:
            get_logger().warning("old entries of the notification log could not be dropped", reason=str(error))


async def _listening(setting: str, start: Coroutine[Any, Any, Any]) -> None:
    try:
        await start
    except ConfigurationError as error:
        raise Stop(ExitStatus.USAGE, str(error)) from None
    except OSError as error:
        raise Stop(ExitStatus.USAGE, f"{setting}: cannot listen there: {error.strerror or error}") from None


def _gauges(
    queue: Queue, dispatcher: Dispatcher, log: NotificationLog, directory: SinkDirectory
) -> Iterator[tuple[str, str, float]]:
    depth = queue.depth()
    yield "deliveries_waiting", "Deliveries that wait.", depth.waiting
    yield "dead_letters", "Dead letters that are kept.", depth.dead
    yield "queue_bytes", "What the queue takes in its file.", depth.bytes
    yield "dead_letters_evicted", "Dead letters dropped since the start: too many, or too old.", depth.evicted
    yield "sinks_held", "Sinks whose queue is held because of a failure.", dispatcher.held_sinks()
    yield "messages_in_flight", "Messages on their way at this moment.", dispatcher.in_flight
    yield "oldest_waiting_seconds", "Age of the oldest waiting delivery.", dispatcher.oldest()
    yield "notified_alerts", "Alerts in the notification log, each counted for every sink that was notified of it.", len(log)
    yield "sinks", "Compiled sinks that are known.", len(directory.sinks)
    yield "sinks_unreadable", "Compiled sinks that this version cannot read.", len(directory.withheld)
