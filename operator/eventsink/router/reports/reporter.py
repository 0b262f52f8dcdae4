"""Writes into an EventSink's status how delivery goes: the condition `Delivering` and `status.delivery`, and no other field.

Written when `Delivering` changes, else at most each five minutes a sink; never what the status says already, also after a restart, and never
that nothing was sent over what an earlier process found out: where no record says what a status says, it is read first.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from itertools import islice

from eventsink.kube.api import Api, ApiError, Conflict, NotFound, Object, Unavailable
from eventsink.kube.status import StatusApplier
from eventsink.resources.eventsink import read_object
from eventsink.resources.names import API_VERSION, EVENTSINKS, KIND, ROUTER_MANAGER
from eventsink.resources.status import DELIVERING, Condition, DeliveryStatus, EventSinkStatus
from eventsink.router.directory import SinkChange, SinkDirectory
from eventsink.router.dispatch import health as conditions
from eventsink.router.dispatch.health import SinkHealth
from eventsink.router.metrics import ReportMetrics
from eventsink.router.queue.protocol import QueueError
from eventsink.router.queue.states import SinkReport
from eventsink.router.reports.log import ReportLog
from eventsink.router.reports.order import CHANGES, Allowance, Flapping, ReportLine, Urgency, urgency
from eventsink.router.reports.settings import ReportSettings
from eventsink.runtime.backoff import Backoff
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.times import format_time, parse_time
from eventsink.sinks.sink import Sink

WRITES_AT_ONCE = 8
"""Requests to the API server in flight: what its priority and fairness counts."""
BURST_SECONDS = 5.0
"""What was not used of the rate in this time may be used at once."""
REFRESH_SHARE = 1 / 3
"""Of the rate, for what nobody waits for: 10,000 sinks each five minutes."""
ROUND_SECONDS = 3.0
"""In which all sinks are looked at, a part of them at a time: for what happens without an event."""
LOOKS = 6
"""Parts of a round."""
MIN_LOOKED_AT = 100
"""Sinks in a part."""
JUDGED_AT_ONCE = 500
"""Sinks that are judged before others have their turn in the event loop: two milliseconds."""
REST_SECONDS = 2.0
"""Between two writes to one sink, whatever changes."""
FLAPPING_REST_SECONDS = 15.0
"""The same for one that fails and recovers all the time: it leaves room for others."""
FAILED_REST_SECONDS = 60.0
"""Before a status that could not be written is tried again, where others may well be written."""
SAVE_SECONDS = 0.5
"""Between two records of what was written: after a crash, what is missing in it is written again, or comes with the next refresh."""
SAVE_AGAIN = 20
"""So many times longer is the wait after the queue could not be written."""
FAILURES_UNTIL_PAUSE = 2 * WRITES_AT_ONCE
"""So many writes in a row must fail before the API server, and not the sink, is taken to be the reason."""
BACKOFF = Backoff(first=1.0, longest=60.0)

Rest = tuple[float, str]
"""Until when, and the uid of the sink."""


class StatusReporter:
    """Writes statuses, for ever, through outages: of each sink only the newest is kept.

    Parameters
    ----------
    log
        What the statuses say.
    health
        uid -> how it goes, of all sinks.
    resume
        Called with what a status says of which there was no record: what an earlier process, with another queue, had found out.
    queue_clock
        The clock of the log.
    """

    def __init__(
        self,
        settings: ReportSettings,
        api: Api,
        directory: SinkDirectory,
        log: ReportLog,
        health: Callable[[str], SinkHealth | None],
        metrics: ReportMetrics,
        *,
        resume: Callable[[SinkReport], None],
        queue_clock: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._statuses = StatusApplier(api, EVENTSINKS, ROUTER_MANAGER)
        self._directory = directory
        self._log = log
        self._health = health
        self._metrics = metrics
        self._resume = resume
        self._queue_clock = queue_clock
        self._clock = clock
        self._wall = wall
        self._touched: dict[str, None] = {}
        """Sinks of which something may be to be written, in order."""
        self._changed = asyncio.Event()
        self._line = ReportLine()
        self._flapping = Flapping()
        self._resting: set[str] = set()
        """Sinks to which nothing is written at present: they were, a moment ago, or are just now."""
        self._rests: list[Rest] = []
        self._all = Allowance(settings.per_second, BURST_SECONDS)
        self._refreshes = Allowance(settings.per_second * REFRESH_SHARE, 1.0)
        self._turn = asyncio.Lock()
        self._failures = 0
        self._paused_until = float("-inf")
        self._failed = Repeated(60.0)
        metrics.waiting.set_function(lambda: sum(map(self._line.waiting, CHANGES)))

    def changed(self, sink: Sink, _health: SinkHealth) -> None:
        """The condition of a sink changed: it is written soon."""
        self._touch(sink.uid)

    async def run(self) -> None:
        """Write until cancelled; the directory is loaded."""
        self._directory.subscribe(self._directory_changed)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_around())
            group.create_task(self._keep())
            for _ in range(WRITES_AT_ONCE):
                group.create_task(self._write_on())

    # ---- what is to be written

    def _touch(self, uid: str) -> None:
        self._touched[uid] = None
        self._changed.set()

    def _directory_changed(self, change: SinkChange) -> None:
        if change.after is not None:
            self._touch(change.after.uid)

    async def _look_around(self) -> None:
        """Find what changes with time, and what came to be without a call of `changed`."""
        while True:
            uids = list(self._directory.sinks)
            at_once = max(MIN_LOOKED_AT, -(-len(uids) // LOOKS))
            for start in range(0, max(1, len(uids)), at_once):
                for uid in uids[start : start + at_once]:
                    self._touch(uid)
                await asyncio.sleep(ROUND_SECONDS / LOOKS)

    async def _keep(self) -> None:
        """Record what was written."""
        wait = SAVE_SECONDS
        while True:
            await asyncio.sleep(wait)
            wait = SAVE_SECONDS
            try:
                await self._log.save()
            except QueueError:
                wait *= SAVE_AGAIN  # the queue says so itself

    async def _next(self) -> tuple[str, Urgency]:
        """The sink whose status is to be written now."""
        async with self._turn:
            while True:
                self._changed.clear()
                now = self._clock()
                self._judge(now)
                wait = self._paused_until - now
                if wait <= 0:
                    wait = self._all.wait(now)
                if wait <= 0:
                    refreshes_wait = self._refreshes.wait(now)
                    found = self._line.take(refreshes=refreshes_wait <= 0)
                    if found is not None:
                        return self._taken(*found)
                    wait = refreshes_wait if self._line.waiting(Urgency.REFRESH) else float("inf")
                if self._touched:
                    wait = 0.0
                elif self._rests:
                    wait = min(wait, self._rests[0][0] - now)
                await self._wait(wait)

    def _taken(self, uid: str, urgency: Urgency) -> tuple[str, Urgency]:
        self._resting.add(uid)
        self._all.use()
        if urgency is Urgency.REFRESH:
            self._refreshes.use()
        return uid, urgency

    async def _wait(self, seconds: float) -> None:
        """Until something changed, so long at most."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds if seconds != float("inf") else None):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _judge(self, now: float) -> None:
        """Put those into the line that something is to be written of."""
        while self._rests and self._rests[0][0] <= now:
            uid = heapq.heappop(self._rests)[1]
            self._resting.discard(uid)
            self._touched[uid] = None
        clock = self._queue_clock()
        for uid in list(islice(self._touched, JUDGED_AT_ONCE)):
            del self._touched[uid]
            if uid in self._resting:
                continue  # it is judged when that is over
            sink = self._directory.sinks.get(uid)
            health = self._health(uid) if sink is not None else None
            if sink is None or health is None:
                self._line.drop(uid)
            else:
                about = urgency(health, self._log.written(uid), clock, flaps=self._flapping.flaps(uid, now))
                self._line.put(uid, sink.tenant, about)

    # ---- writing

    async def _write_on(self) -> None:
        while True:
            uid, about = await self._next()
            rest = REST_SECONDS
            try:
                sink, health = self._directory.sinks.get(uid), self._health(uid)
                if sink is not None and health is not None and not (about is Urgency.NEW and await self._known(sink)):
                    await self._write(sink, health)
                    self._metrics.writes.labels(about.name.lower()).inc()
                    if about in CHANGES:
                        self._flapping.changed(uid, self._clock())
                self._failures = 0
                if about is Urgency.AGAIN:
                    rest = FLAPPING_REST_SECONDS
                elif about is Urgency.NEW:
                    rest = 0.0  # the first message may have arrived meanwhile
            except Conflict:
                pass  # somebody else wrote at the same time
            except NotFound:
                rest = FAILED_REST_SECONDS  # gone: the directory is updated soon
            except ApiError as error:
                self._metrics.failures.inc()
                if not self._report_failure(error):
                    rest = FAILED_REST_SECONDS
            finally:
                heapq.heappush(self._rests, (self._clock() + rest, uid))
                self._changed.set()

    async def _known(self, sink: Sink) -> bool:
        """Whether the status of a sink says already how delivery goes, or went in another process; then that is known from now on."""
        found = read_object(await self._statuses.read(identity(sink)))
        self._all.use()  # it is written as well, as a rule
        report = report_of_status(sink.uid, found.status, self._queue_clock()) if found.uid == sink.uid else None
        if report is None:
            return False
        self._log.put(report)
        self._resume(report)
        return True

    async def _write(self, sink: Sink, health: SinkHealth) -> None:
        written = self._log.written(sink.uid)
        known = written is not None and written.state == health.state.value
        changed = written.changed if written is not None and known else format_time(self._wall())
        applied = await self._statuses.apply(status_body(sink, health, changed))
        self._log.put(report_of(sink.uid, health, changed, self._queue_clock()))
        other = str(applied["metadata"]["uid"])
        if other != sink.uid:
            # The sink was re-created since: server-side apply accepts another uid silently, so what was written is taken back.
            nothing = SinkHealth(*_members(conditions.NOTHING_SENT))
            await self._statuses.apply(status_body(sink, nothing, changed))
            if other in self._directory.sinks:
                self._log.put(report_of(other, nothing, changed, self._queue_clock()))
                self._touch(other)

    def _report_failure(self, error: ApiError) -> bool:
        """A status could not be written; whether that is the API server's fault, which is then left alone for a while."""
        more = self._failed.due()
        if more is not None:
            get_logger().warning("could not write statuses, retrying", reason=str(error), more=more)
        now = self._clock()
        outage = isinstance(error, Unavailable)
        if now >= self._paused_until:  # else it had begun before
            self._failures += 1
            if outage or self._failures >= FAILURES_UNTIL_PAUSE:
                self._paused_until = now + BACKOFF.wait(self._failures if outage else self._failures - FAILURES_UNTIL_PAUSE + 1)
        return outage


def _members(condition: conditions.DeliveringCondition) -> tuple[conditions.DeliveringState, str, str]:
    return condition.state, condition.reason, condition.message


def report_of(uid: str, health: SinkHealth, changed: str, at: float) -> SinkReport:
    """What is recorded of a status that was written.

    Parameters
    ----------
    changed
        When the state changed, RFC 3339.
    at
        Queue clock.
    """
    return SinkReport(
        uid, health.state.value, health.reason, health.message, changed, health.last_delivered, health.last_error, at
    )


def report_of_status(uid: str, status: EventSinkStatus, at: float) -> SinkReport | None:
    """What is recorded of a status that somebody else wrote; None: it says nothing of delivery."""
    condition = status.condition(DELIVERING)
    if condition is None:
        return None
    delivery = status.delivery or DeliveryStatus()
    delivered = delivery.last_delivered_time
    return SinkReport(
        uid,
        condition.status,
        condition.reason,
        condition.message,
        condition.last_transition_time,
        parse_time(delivered).timestamp() if delivered is not None else None,
        delivery.last_error or "",
        at,
    )


def identity(sink: Sink) -> Object:
    """The EventSink, without anything that is written."""
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": sink.name, "namespace": sink.namespace}}


def status_body(sink: Sink, health: SinkHealth, changed: str) -> Object:
    """What is applied: all fields of this manager, each time."""
    condition = Condition(
        type=DELIVERING,
        status=health.state.value,
        reason=health.reason,
        message=health.full_message,
        last_transition_time=changed,
        observed_generation=sink.compiled_from.generation,
    )
    delivery = DeliveryStatus(
        last_delivered_time=format_time(health.last_delivered) if health.last_delivered is not None else None,
        last_error=health.last_error or None,
    )
    known = delivery != DeliveryStatus()
    status = EventSinkStatus(conditions=(condition,), delivery=delivery if known else None)
    return {**identity(sink), "status": status.to_dict()}
