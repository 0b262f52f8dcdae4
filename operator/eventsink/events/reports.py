"""Follows the reports of policies in the cluster: what changes in one is posted at once, and all of them are posted again in rounds.

Nothing of it is stored. A watch says which reports have changed; each is read then, so that of one that changes often, or while the router
does not respond, the newest is posted, and no more than names wait. What does not fail any more is posted as passed, as far as it is
remembered. A round, at the start and now and then, posts all that there is, and the router ends what was not in it: results and reports that
went while nobody followed, too.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import NamedTuple

import msgspec

from eventsink.events.config import EventsSettings
from eventsink.events.metrics import ReportsMetrics
from eventsink.events.posts import Item, Poster
from eventsink.events.remembered import Remembered
from eventsink.events.report import RESOURCES, Report, passed, report_of
from eventsink.kube.api import Api, ApiError, Collection, Key, NotFound, Object, Resource
from eventsink.kube.reflector import Reflector
from eventsink.runtime.backoff import Backoff, Chance
from eventsink.runtime.logs import Repeated, get_logger

AT_ONCE = 40
"""Reports that are read and posted together ..."""
READ_AT_ONCE = 4
"""... and so many of them at the same time: each may have more than a megabyte, and several times that in memory."""
BATCH_BYTES = 2 * 1024**2
"""About what one request has at most, and one item more."""
BATCH_ALERTS = 1000
"""The same of its alerts."""
ABSENT_SECONDS = 30.0
"""Between two looks for a kind of reports that the API server does not have."""
BACKOFF = Backoff(first=0.5, longest=30.0, jitter=0.5)
ROUND_BACKOFF = Backoff(first=5.0, longest=3600.0, jitter=0.5)
"""After a round whose end the router did not accept."""


class ReportKey(NamedTuple):
    """Names a report."""

    resource: Resource
    namespace: str
    name: str


class Reports:
    """Posts the reports of some API groups; `works` are tasks for ever."""

    def __init__(
        self,
        api: Api,
        settings: EventsSettings,
        poster: Poster,
        metrics: ReportsMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Chance = random.random,
    ) -> None:
        self._api = api
        self._poster = poster
        self._metrics = metrics
        self._interval = settings.policy_reports.round_interval
        self._clock = clock
        self._chance = chance
        self._known: set[ReportKey] = set()
        self._waiting: dict[ReportKey, None] = {}
        """In order."""
        self._changed = asyncio.Event()
        self._remembered = Remembered()
        self._round = ""
        self._of_round: set[ReportKey] = set()
        """Reports that are still to be posted in the round."""
        self._next_round = 0.0
        self._failed_rounds = 0
        self._outage = Repeated(60.0)
        self._reflectors = [
            Reflector(api, one.plural, collection, _Handler(self, one), chance=chance, absent_seconds=ABSENT_SECONDS)
            for group in settings.policy_reports.groups
            for one in RESOURCES[group]
            for collection in _collections(one, settings.namespaces)
        ]
        metrics.known.set_function(lambda: len(self._known))
        metrics.waiting.set_function(lambda: len(self._waiting))
        metrics.remembered.set_function(lambda: len(self._remembered))
        metrics.watches_down.set_function(lambda: sum(not one.connected for one in self._reflectors))

    @property
    def problem(self) -> str | None:
        """Why some reports cannot be read, although the API server responds; None: they can, or it does not respond."""
        if any(one.denied for one in self._reflectors):
            return "its ServiceAccount may not get, list and watch the reports of policyReports.groups: bind the role that comes with it"
        return None

    def works(self) -> list[tuple[str, Coroutine[object, object, object]]]:
        """What runs, with its names."""
        return [*(("reports", one.run()) for one in self._reflectors), ("post reports", self._run())]

    def mark(self, key: ReportKey, *, exists: bool) -> None:
        """A report has changed, or is gone."""
        if exists:
            self._known.add(key)
        else:
            self._known.discard(key)
        self._waiting[key] = None
        self._changed.set()

    async def _run(self) -> None:
        failures = 0
        async with self._poster:
            # What is there is known before the first round, which would end what is not.
            for one in self._reflectors:
                await one.synced.wait()
            while True:
                try:
                    await self._step()
                    failures = 0
                except ApiError as error:
                    failures += 1
                    if (more := self._outage.due()) is not None:
                        get_logger().warning(
                            "reports cannot be read, retrying", reason=str(error), status=error.status, more=more
                        )
                    await asyncio.sleep(BACKOFF.wait(failures, self._chance))

    async def _step(self) -> None:
        """Begin a round that is due, post some of what waits, and end the round after the last of it; wait where there is nothing to do."""
        if not self._round and self._clock() >= self._next_round:
            await self._begin_round()
        if self._waiting:
            await self._post(list(self._waiting)[:AT_ONCE])
        if self._round and not self._of_round:
            await self._end_round()
        if not self._waiting:
            self._changed.clear()
            try:
                async with asyncio.timeout(max(0.0, self._next_round - self._clock())):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _begin_round(self) -> None:
        self._round = secrets.token_hex(8)
        await self._poster.say(msgspec.json.encode({"round": self._round}))
        self._of_round = set(self._known)
        self._waiting |= dict.fromkeys(self._of_round)

    async def _end_round(self) -> None:
        accepted = await self._poster.say(msgspec.json.encode({"round": self._round, "ends": True}))
        self._round = ""
        if accepted:
            self._failed_rounds = 0
            self._metrics.rounds.inc()
            self._metrics.round_ended.set(time.time())
            self._next_round = self._clock() + self._interval
            return
        self._failed_rounds += 1
        self._next_round = self._clock() + min(self._interval, ROUND_BACKOFF.wait(self._failed_rounds, self._chance))
        get_logger().warning("the router does not know this round of reports: it is repeated", failed=self._failed_rounds)

    async def _post(self, keys: Sequence[ReportKey]) -> None:
        """Read these reports, and post what has to be.

        Raises
        ------
        ApiError
            Some could not be read; they wait behind all others, which one that can never be read does not keep back.
        """
        reading = asyncio.Semaphore(READ_AT_ONCE)
        for key in keys:
            del self._waiting[key]  # a change from now on has it wait again
        found = await asyncio.gather(*[self._read(key, reading) for key in keys], return_exceptions=True)
        failure: ApiError | None = None
        items: list[Item] = []
        posted: list[ReportKey] = []
        for key, report in zip(keys, found, strict=True):
            if isinstance(report, ApiError):
                failure = report
                self._waiting.setdefault(key)
            elif isinstance(report, BaseException):
                raise report
            else:
                items += self._items(key, report)
                posted.append(key)
        for some in _batches(items):
            await self._poster.send(some)
        self._of_round.difference_update(posted)
        if failure is not None:
            raise failure

    async def _read(self, key: ReportKey, reading: asyncio.Semaphore) -> Report | None:
        """A report as it is now; None: there is none."""
        async with reading:
            try:
                obj = await self._api.get(key.resource, (key.namespace, key.name))
            except NotFound:
                return None
            self._metrics.read.inc()
            return report_of(key.resource, obj)

    def _items(self, key: ReportKey, report: Report | None) -> list[Item]:
        """What is posted of a report: of one that is the same as before nothing, but in a round."""
        same = report is not None and self._remembered.is_same(key, report)
        gone = self._remembered.replace(key, report)
        ended = list(passed(key.resource, key.namespace, key.name, gone)) if gone else []
        if report is None:
            return ended
        if report.left_out:
            self._metrics.left_out.inc(report.left_out)
        if same and key not in self._of_round:
            self._metrics.unchanged.inc()
            return ended
        return [*ended, *report.items]


class _Handler:
    """Tells of the reports of one kind."""

    def __init__(self, reports: Reports, resource: Resource) -> None:
        self._reports = reports
        self._resource = resource

    def upsert(self, key: Key, obj: Object) -> None:
        self._reports.mark(ReportKey(self._resource, *key), exists=True)

    def delete(self, key: Key) -> None:
        self._reports.mark(ReportKey(self._resource, *key), exists=False)


def _collections(resource: Resource, namespaces: Sequence[str]) -> list[Collection]:
    """What is followed of a kind; of some namespaces nothing that is in none."""
    if not namespaces:
        return [Collection(resource, metadata_only=True)]
    return [Collection(resource, one, metadata_only=True) for one in namespaces if resource.namespaced]


def _batches(items: Sequence[Item]) -> list[list[Item]]:
    batches: list[list[Item]] = []
    size = alerts = 0
    for one in items:
        if not batches or size >= BATCH_BYTES or alerts + one.alerts > BATCH_ALERTS:
            batches.append([])
            size = alerts = 0
        batches[-1].append(one)
        size += len(one.body)
        alerts += one.alerts
    return batches
