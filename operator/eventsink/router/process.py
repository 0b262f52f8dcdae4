"""The router as a process: puts the parts together, and takes them apart in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from eventsink.destinations.senders import open_sender
from eventsink.destinations.settings import declared, sections_of
from eventsink.kube.api import Api
from eventsink.router.admin.server import Admin
from eventsink.router.config import RouterSettings
from eventsink.router.directory import SinkDirectory
from eventsink.router.dispatch.dispatcher import Dispatcher
from eventsink.router.dispatch.health import SinkHealth, with_note, with_problem
from eventsink.router.dispatch.sink_tests import SinkTests
from eventsink.router.dispatch.worker import OpenSender
from eventsink.router.intake.metrics import IntakeMetrics
from eventsink.router.intake.requests import Intake, Posting
from eventsink.router.metrics import (
    DispatchMetrics,
    FormMetrics,
    GaugeReader,
    PlanningMetrics,
    QuotaMetrics,
    ReportMetrics,
    TemplateMetrics,
    TransportMetrics,
)
from eventsink.router.planning.accept import Accepted, Acceptor, NotLoaded
from eventsink.router.planning.alert_states import AlertStates
from eventsink.router.planning.catch_up import CatchUp
from eventsink.router.planning.growth import Growth
from eventsink.router.planning.match import SinkIndex
from eventsink.router.planning.matching_problem import MatchingReason
from eventsink.router.planning.quotas import QUOTA_EXCEEDED, Quotas
from eventsink.router.planning.rounds import Rounds
from eventsink.router.planning.timeouts import Timeouts
from eventsink.router.queue.protocol import Queue, QueueError, QueueUnavailable
from eventsink.router.queue.repeat import repeat
from eventsink.router.queue.sqlite import SqliteQueue
from eventsink.router.reports.log import ReportLog
from eventsink.router.reports.reporter import StatusReporter
from eventsink.router.sources import PostingSource, Source, open_sources
from eventsink.router.watch import SinkWatch
from eventsink.runtime.listener.listener import Listener
from eventsink.runtime.logs import get_logger
from eventsink.runtime.pending import Pending
from eventsink.runtime.process import ExitStatus, Process, Stop, listen, run_command
from eventsink.runtime.settings import ConfigurationError, load_settings
from eventsink.runtime.turns import LongWork
from eventsink.sinks.egress import EgressGuard
from eventsink.sinks.guarded import guarded_session
from eventsink.sinks.http1 import Http1Transport
from eventsink.sinks.resolver import Resolver
from eventsink.sinks.sender import MAX_SEND_RESPONSE_BYTES, MAX_SEND_SECONDS, SESSION_CONNECTIONS, SenderContext
from eventsink.sinks.sink import Sink
from eventsink.sinks.template_use import TemplateUse

MAKE_ROOM_SECONDS = 0.1
"""Between two searches for alerts that make room for others."""
PRUNE_SECONDS = 60.0
SAVE_REPORTS_SECONDS = 5.0
"""At the end: a disk that does not respond does not keep the process from ending."""


def main(config: Path | None) -> int:
    """Run the router until it is to stop; returns the exit status."""
    return run_command("router", lambda: _settings(config), serve)


def _settings(config: Path | None) -> RouterSettings:
    settings = load_settings(RouterSettings, part="router", path=config)
    if not settings.sources:
        raise ConfigurationError(f"{config or 'the configuration'}: sources: name at least one source of alerts")
    return settings


async def serve(settings: RouterSettings, stop: asyncio.Event) -> None:
    """The router in a cluster: sinks come from compiled Secrets, statuses go to EventSinks."""
    from eventsink.kube.http import connect  # the official client, of which `eventsink run` needs nothing

    async with Process("router", settings.monitor, stop) as process:
        api = await connect(settings.kubernetes, "router")
        process.on_close(api.close)
        router = await Router.open(settings, process)
        watch = SinkWatch(api, settings.sinks_namespace, router.directory)
        process.readiness["sinks"] = watch.missing
        process.start("sinks", watch.run())
        router.report_to(api)
        await process.until_stopped()


class Router:
    """The router without its source of sinks: somebody else fills `directory`. Made with `open`; it ends with its process."""

    def __init__(
        self,
        settings: RouterSettings,
        process: Process,
        queue: SqliteQueue,
        senders: OpenSender,
        sources: Mapping[str, PostingSource],
        templates: TemplateUse,
    ) -> None:
        self._settings = settings
        self._templates = templates
        self._process = process
        self._queue = queue
        self._ready = False
        self._loaded = asyncio.Event()
        self.directory = SinkDirectory()
        self.directory.when_loaded(self._loaded.set)
        self._states = AlertStates(queue, settings.state)
        self._index = SinkIndex()
        self.directory.subscribe(self._index.change)
        self._health_listeners: list[Callable[[Sink, SinkHealth], None]] = []
        self._reports = ReportLog(queue)
        self._long_work = LongWork(queue.is_writing)
        self.dispatcher = Dispatcher(
            settings.dispatch,
            queue,
            self.directory,
            senders,
            DispatchMetrics(process.registry),
            sources=sources,
            health_changed=self._health_changed,
            reported=self._reports.last,
            long_work=self._long_work,
        )
        bounded = Quotas.any_in(settings.quotas)
        self._quotas = Quotas(settings.quotas, queue, QuotaMetrics(process.registry).not_queued) if bounded else None
        self.catch_up = CatchUp(self.directory, self._index, self._states, queue, sources.keys(), self._quotas)
        self._growth = Growth(self.directory, self._index, self._states, queue, self._quotas)
        self._timeouts = Timeouts(self.directory, self._states, queue, sources, quotas=self._quotas)
        self.tests = SinkTests(queue, self.dispatcher, settings.cluster)

    @classmethod
    async def open(cls, settings: RouterSettings, process: Process) -> Router:
        """A router that listens, and dispatches as soon as its directory is loaded; until then its intake responds with 503.

        Raises
        ------
        ConfigurationError
            A setting cannot be used.
        Stop
            A part cannot start, or the process is to stop while another one still has the queue.
        """
        sources = open_sources(settings.sources, settings.cluster)
        templates = TemplateUse(TemplateMetrics(process.registry).not_used)
        senders = _open_senders(settings, process, templates)
        queue = await _open_queue(settings, process)
        router = cls(settings, process, queue, senders, sources, templates)
        await router._start(sources)
        return router

    def report_to(self, api: Api, *, keeps_statuses: bool = True) -> None:
        """Write to the status of EventSinks how their delivery goes.

        Parameters
        ----------
        keeps_statuses
            Whether a status that an earlier process wrote is still there.
        """
        if keeps_statuses and not self._queue.are_statuses_known():
            self._reports.forget()
        reporter = StatusReporter(
            self._settings.reports,
            api,
            self.directory,
            self._reports,
            self._health,
            ReportMetrics(self._process.registry),
            resume=self.dispatcher.resume,
            queue_clock=self._queue.clock,
        )
        self._health_listeners.append(reporter.changed)
        self._process.on_close(self._save_reports)
        self._process.start("reports", self._report(reporter, keeps_statuses=keeps_statuses))

    async def _report(self, reporter: StatusReporter, *, keeps_statuses: bool) -> None:
        await self._loaded.wait()
        if not keeps_statuses:
            self._reports.lose_statuses()
        await reporter.run()

    async def _save_reports(self) -> None:
        try:
            async with asyncio.timeout(SAVE_REPORTS_SECONDS):
                await self._reports.save()
        except (QueueError, TimeoutError) as error:
            get_logger().error("what was written into statuses could not be recorded; it is written again", reason=str(error))

    async def _start(self, sources: Mapping[str, PostingSource]) -> None:
        await self._reports.load()
        get_logger().info("the queue is open", alerts=await self._states.load(), waiting=self._queue.depth().waiting)
        GaugeReader(
            self._process.registry,
            lambda: _gauges(
                self._queue, self.dispatcher, self._states, self.directory, self._index, self._timeouts, self._quotas
            ),
        )
        self._process.readiness["queue"] = lambda: self._queue.problem() or None
        self._process.readiness["router"] = lambda: None if self._ready else "starting"
        suppressed = PlanningMetrics(self._process.registry).suppressed
        acceptor = Acceptor(
            self.directory,
            self._index,
            self._states,
            self._queue,
            suppressed,
            self._quotas,
            Rounds(self._timeouts, self._queue),
            self.dispatcher.gather,
            self._long_work,
        )
        metrics = IntakeMetrics(self._process.registry)

        def accept(source: Source, body: bytes, sender: str) -> Pending[Accepted] | Coroutine[Any, Any, Accepted]:
            # Only once dispatch knows what waits since before the start: what comes in goes behind that.
            if not self._ready:
                raise NotLoaded
            return acceptor.accept_bytes(source, body, sender)

        intake = Intake(
            sources,
            accept,
            metrics,
            max_under_way=self._settings.intake.max_requests_under_way,
            max_body_bytes=self._settings.intake.max_body_bytes,
            sender_header=self._settings.intake.sender_header,
        )
        self._process.descriptors.reserve(self._settings.transport.max_connections)
        settings, listeners = self._settings.intake, self._process.listener_metrics
        limits = settings.limits(self._process.descriptors.grant("intake.maxConnections", settings.max_connections))
        server = Listener(
            "intake", settings.address, limits, intake, listeners, process="router", certificate=settings.certificate()
        )
        admin = Admin(self._settings.admin, self._queue, self.directory, self._health, self.tests, listeners)
        self._process.on_close(admin.stop)
        self._process.on_close(server.close)
        self._process.on_stop(lambda: self._drain(server, intake))
        await listen("intake.address", server.start())
        await listen("admin.address", admin.start())
        self._process.start("load", self._load())
        self._process.start("expiry", self.dispatcher.watch_expiry())
        prune = partial(_prune, self._states, self._reports, self.directory)
        self._process.start("prune", repeat(prune, interval=PRUNE_SECONDS, failed="old alerts could not be forgotten"))
        make_room = partial(_make_room, self._states)
        self._process.start(
            "make room", repeat(make_room, interval=MAKE_ROOM_SECONDS, failed="alerts could not be forgotten to make room")
        )

    async def _load(self) -> None:
        await self._loaded.wait()
        await self.dispatcher.load()
        self._ready = True
        self._process.start("catch-up", self.catch_up.run())
        self._process.start("timeouts", self._timeouts.run())
        self._process.start("growth", self._growth.run())
        if self._quotas is not None:
            self._process.start("quotas", self.catch_up.watch_quotas())
        await self.dispatcher.watch_lanes()

    async def _drain(self, server: Listener[Posting], intake: Intake) -> None:
        """Take no more, and let what is under way finish."""
        shutdown = self._settings.shutdown
        if self._process.stop.is_set():
            await asyncio.sleep(shutdown.unready)
        intake.stopping = True
        server.stop_accepting()
        if not await intake.until_idle(shutdown.grace):
            get_logger().warning("requests were still being accepted at the end of the grace period")
        await self.dispatcher.stop(shutdown.grace)

    def _health(self, uid: str) -> SinkHealth | None:
        """How it goes with a sink, in dispatch, in matching and with its templates."""
        health = self.dispatcher.health(uid)
        if health is None:
            return None
        if (template := self._templates.problem(uid)) is not None:
            health = with_problem(health, template.reason, template.message, gets_nothing=False)
        if self._quotas is not None and (over := self._quotas.problem(uid)) is not None:
            health = with_problem(health, QUOTA_EXCEEDED, over.message, gets_nothing=False)
            health = replace(health, dropped=over.dropped)
        if (problem := self._index.problem(uid)) is not None:
            gets_nothing = problem.reason is MatchingReason.UNREADABLE
            health = with_problem(health, problem.reason, problem.message, gets_nothing=gets_nothing)
        note = self._index.quiet.note(uid)
        return with_note(health, note) if note else health

    def _health_changed(self, sink: Sink, health: SinkHealth) -> None:
        for listener in self._health_listeners:
            listener(sink, health)


def _open_senders(settings: RouterSettings, process: Process, templates: TemplateUse) -> OpenSender:
    guard = EgressGuard(settings.egress)
    resolver = Resolver(timeout=settings.transport.dns_timeout, max_ttl=settings.transport.dns_ttl)
    process.on_close(resolver.close)
    session = guarded_session(
        guard,
        resolver,
        timeout=MAX_SEND_SECONDS,
        connections=SESSION_CONNECTIONS,
        max_response_bytes=MAX_SEND_RESPONSE_BYTES,
    )
    process.on_close(session.close)
    waits = TransportMetrics(process.registry).waits
    transport = Http1Transport(settings.transport, guard, resolver, on_wait=waits)
    process.on_close(transport.close)
    plain = FormMetrics(process.registry).plain
    own = sections_of(settings, declared("ROUTER_SETTINGS"))
    context = SenderContext(transport, session, on_wait=waits, on_plain=plain, templates=templates, settings=own)
    return lambda sink: open_sender(sink, context)


async def _open_queue(settings: RouterSettings, process: Process) -> SqliteQueue:
    """The queue, as soon as the process that had it before has ended: a replaced pod may take its whole grace period for that."""
    waits: str | None = None

    def on_wait(holder: str) -> None:
        nonlocal waits
        waits = (
            f"waiting for {holder}, which has {settings.queue.path} open (queue.lockTimeout: {settings.queue.lock_timeout:g} s)"
        )
        get_logger().warning("another process has the queue open; waiting until it ends", holder=holder)

    process.readiness["queue"] = lambda: waits
    opening = asyncio.ensure_future(SqliteQueue.open(settings.queue, on_wait=on_wait, by_tenant=Quotas.any_in(settings.quotas)))
    try:
        await process.until_stopped(opening)
    except QueueUnavailable as error:
        raise Stop(ExitStatus.FAILED, str(error)) from None
    if not opening.done():
        raise Stop(ExitStatus.DONE, "another process still had the queue open")
    queue = opening.result()
    process.on_close(queue.close)
    return queue


async def _make_room(states: AlertStates) -> None:
    await states.crowded.wait()
    await states.make_room()


async def _prune(states: AlertStates, reports: ReportLog, directory: SinkDirectory) -> None:
    if directory.loaded:
        sinks = directory.sinks.keys() | directory.withheld
        await states.prune(sinks)
        await reports.prune(sinks)


def _gauges(
    queue: Queue,
    dispatcher: Dispatcher,
    states: AlertStates,
    directory: SinkDirectory,
    index: SinkIndex,
    timeouts: Timeouts,
    quotas: Quotas | None,
) -> Iterator[tuple[str, str, float]]:
    depth = queue.depth()
    yield "deliveries_waiting", "Deliveries that wait.", depth.waiting
    yield "dead_letters", "Dead letters that are kept.", depth.dead
    yield "queue_bytes", "What the queue takes in its file.", depth.bytes
    yield (
        "queue_damaged",
        "1: something in the queue's file cannot be read, or it was removed; nothing more is stored.",
        depth.damaged,
    )
    yield "dead_letters_evicted", "Dead letters dropped since the start: too many, or too old.", depth.evicted
    yield (
        "posts_evicted",
        "Messages that are not edited any more, since their record made room for others (queue.maxPosted): what becomes of their alerts is "
        "a new message.",
        depth.posts_evicted,
    )
    yield "sinks_held", "Sinks whose queue is held because of a failure.", dispatcher.held_sinks()
    yield "sinks_outside_times", "Sinks that are outside of activeTimes or within muteTimes.", dispatcher.closed_sinks()
    behind = quotas.sinks_behind if quotas is not None else 0
    yield "sinks_over_quota", "Sinks that are caught up when their tenants have room in their quotas again.", behind
    yield "messages_in_flight", "Messages in flight at this moment.", dispatcher.in_flight
    yield "bytes_in_flight", "Bodies of the messages in flight.", dispatcher.bytes_in_flight
    yield "bytes_in_memory", "Bodies of waiting deliveries that are in memory.", dispatcher.bytes_in_memory
    yield "oldest_waiting_seconds", "Age of the oldest waiting delivery.", dispatcher.oldest()
    yield "alerts_known", "Alerts that are remembered, firing or not.", len(states)
    yield "alerts_firing", "Alerts that are firing.", states.firing
    yield (
        "alerts_timed_out",
        "Alerts that ended since the start because their source did not send them any more.",
        timeouts.resolved,
    )
    yield "alerts_evicted", "Alerts forgotten since the start to make room (state.maxAlerts).", states.evicted
    yield (
        "alert_bodies_left_out",
        "Bodies of firing alerts not kept since the start: the queue is half full (queue.maxBytes).",
        states.room.bodies_left_out.count,
    )
    yield (
        "alert_ends_left_out",
        "Ends of alerts not kept for suspended sinks since the start: the queue is more than 60 % full (queue.maxBytes).",
        states.room.ends_left_out.count,
    )
    yield (
        "alert_ends_lost",
        "Ends of alerts that were not sent any more, of which sinks were not notified: the queue was more than 60 % full (queue.maxBytes).",
        states.room.ends_lost.count,
    )
    yield (
        "alerts_not_held",
        "Possible late duplicates delivered at once since the start: the queue is more than 60 % full (queue.maxBytes).",
        states.room.not_held.count,
    )
    yield "groups_known", "Groups that are remembered.", states.groups
    yield "sinks", "Compiled sinks that are known.", len(directory.sinks)
    yield "sinks_unreadable", "Compiled sinks that this version cannot read.", len(directory.withheld)
    yield "expressions_left_out", "Alerts given to a sink without its expressions being evaluated.", index.left_out
    yield "expressions_failed", "Alerts given to a sink because its match.expression had no value for them.", index.failed
