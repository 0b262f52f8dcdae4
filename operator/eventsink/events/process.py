"""`eventsink events` as a process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from eventsink.events.checkpoint import Checkpoint
from eventsink.events.config import EventsSettings
from eventsink.events.filters import Filter
from eventsink.events.follower import Follower
from eventsink.events.metrics import EventsMetrics, ReportsMetrics
from eventsink.events.posts import OF_REPORTS, Poster, PostMetrics
from eventsink.events.rate import RateLimit
from eventsink.events.reports import Reports
from eventsink.events.sender import Sender
from eventsink.events.window import Window
from eventsink.kube.api import Api, ApiError, Forbidden
from eventsink.kube.http import connect
from eventsink.kube.lease import Elector, LeaderApi
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.process import Process, run_command
from eventsink.runtime.settings import load_settings

RETRY_SECONDS = 2.0
"""Between two attempts to read the checkpoint, without which nothing can begin."""


def main(config: Path | None) -> int:
    """Follow Events until it is to stop; returns the exit status."""
    return run_command("events", lambda: load_settings(EventsSettings, part="events", path=config), serve)


async def serve(settings: EventsSettings, stop: asyncio.Event) -> None:
    """Follow Events until `stop` is set.

    Raises
    ------
    ConfigurationError
        There is no access to a cluster, or the token cannot be read.
    Stop
        A part of it ended, or another replica has taken the lead.
    """
    async with Process("events", settings.monitor, stop) as process:
        api = await connect(settings.kubernetes, "events", watches=watches_of(settings))
        process.on_close(api.close)
        await Events(settings, api, process).run()


class Events:
    """The parts of the process, put together."""

    def __init__(self, settings: EventsSettings, api: Api, process: Process) -> None:
        self._settings = settings
        self._api = api
        self._process = process
        self._metrics = EventsMetrics(process.registry)
        election = settings.leader_election
        self._elector = Elector(api, election) if election.enabled else None
        leader_api = LeaderApi(api, self._elector.check) if self._elector is not None else api
        self._checkpoint = Checkpoint(leader_api, settings.checkpoint, self._metrics)
        self._window = Window()
        self._metrics.waiting.set_function(lambda: len(self._window))
        self._metrics.leader.set_function(lambda: float(self._leads()))
        self._poster = Poster(settings.router, post_metrics(self._metrics), may_send=self._leads)
        self._sender = Sender(self._poster, self._window, self._checkpoint)
        self._reports: Reports | None = None
        if settings.policy_reports.groups:
            reports_metrics = ReportsMetrics(process.registry)
            poster = Poster(
                settings.policy_reports.router,
                post_metrics(reports_metrics),
                setting="policyReports.router",
                messages=OF_REPORTS,
                may_send=self._leads,
            )
            self._reports = reports = Reports(api, settings, poster, reports_metrics)
            process.readiness["reports' router"] = lambda: poster.problem
            process.readiness["reports"] = lambda: reports.problem
        self._followers: list[Follower] = []
        self._problem: str | None = None
        self._work: list[asyncio.Task[object]] = []
        process.readiness["lease"] = lambda: self._elector.problem if self._elector is not None else None
        process.readiness["router"] = lambda: self._poster.problem
        process.readiness["events"] = self._missing
        process.on_stop(self._hand_over)

    def _leads(self) -> bool:
        """Whether this replica is sure that it does."""
        return self._elector is None or self._elector.holds

    async def run(self) -> None:
        """Run until the process is to stop."""
        process = self._process
        if self._elector is not None:
            process.start("election", self._elector.run())
            await process.until_stopped(self._elector.leading.wait(), ready=True)
        if process.stop.is_set():
            return
        await process.until_stopped(self._load(), ready=True)
        if process.stop.is_set():
            return
        collections = list(self._settings.namespaces) or [""]
        self._checkpoint.keep(collections)
        filter_, rate = Filter(self._settings.filter), RateLimit(self._settings.rate)
        self._followers += [
            Follower(
                self._api,
                one,
                self._checkpoint.position(one),
                self._window,
                filter_,
                rate,
                self._metrics,
                first_start_age=self._settings.first_start_age,
            )
            for one in collections
        ]
        for name, work in (
            ("send", self._sender.run()),
            ("checkpoint", self._checkpoint.run()),
            *(("follow", one.run()) for one in self._followers),
            *(self._reports.works() if self._reports is not None else ()),
        ):
            self._work.append(process.start(name, work))
        await process.until_stopped()

    async def _load(self) -> None:
        """Read the checkpoint, however long that takes: to begin without it could send everything again, or miss something."""
        outage = Repeated(60.0)
        while True:
            try:
                await self._checkpoint.load()
            except ApiError as error:
                if isinstance(error, Forbidden):
                    self._problem = "its ServiceAccount may not read the checkpoint: bind the role that comes with it"
                if (more := outage.due()) is not None:
                    get_logger().warning("the checkpoint cannot be read, retrying", reason=str(error), more=more)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._problem = None
                return

    async def _hand_over(self) -> None:
        """Stop the work, write the checkpoint, and then let another replica lead."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self._checkpoint.close()
        if self._elector is not None:
            await self._elector.release()

    def _missing(self) -> str | None:
        return self._problem or next((one.problem for one in self._followers if one.problem is not None), None)


def watches_of(settings: EventsSettings) -> int:
    """How many watches there are beside those for which the setting `kubernetes.connections` has room."""
    return len(settings.namespaces) * (1 + len(settings.policy_reports.groups))


def post_metrics(metrics: EventsMetrics | ReportsMetrics) -> PostMetrics:
    """Those that a poster counts."""
    return PostMetrics(metrics.sent, metrics.rejected, metrics.requests, metrics.sending_failed)
