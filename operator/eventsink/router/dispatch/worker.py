"""One sink at work: its lane, its sender, and how it goes."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable

from eventsink.destinations.senders import UnsupportedSink
from eventsink.router.dispatch import health
from eventsink.router.dispatch.health import DeliveringCondition, SinkHealth
from eventsink.router.dispatch.lane import Lane, Limits
from eventsink.router.dispatch.shares import ShareLimit, Usage
from eventsink.router.queue.states import SinkReport
from eventsink.runtime.logs import get_logger
from eventsink.runtime.time_intervals import Opening, OpeningTimes
from eventsink.sinks.sender import Failed, Sender
from eventsink.sinks.sink import Sink
from eventsink.sinks.target import PayloadKind
from eventsink.sinks.times import opening_times

OpenSender = Callable[[Sink], Sender]
HealthChanged = Callable[[Sink, SinkHealth], None]
ASK_AGAIN_SECONDS = 30.0
"""A closed sink asks so often at least whether it is open again: somebody may set the clock."""
SPREAD_SECONDS = 1.0
"""Sinks that open at the same time begin to send within this, each at a time of its own: ten thousand at once would stop the event loop."""


class SinkWorker:
    """What dispatch keeps of one sink.

    Parameters
    ----------
    health_changed
        Called with the sink when its condition `Delivering` changed.
    wall
        Seconds since the epoch: by it, a sink is sent to at certain times only.
    """

    def __init__(self, sink: Sink, lane: Lane, health_changed: HealthChanged, wall: Callable[[], float] = time.time) -> None:
        self.sink = sink
        self.kind = sink.type
        self.lane = lane
        self.sender: Sender | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        """One for each message in flight."""
        self.rate_limit_key = ""
        """Empty: the destination does not limit the rate."""
        self.turn_at = 0.0
        """Queue clock: when to ask the rate limiter again."""
        self.refilling = False
        self.missed = False
        """Whether something was committed for it while the queue was read."""
        self.reloading = False
        """Whether nothing may leave until the window was read again."""
        self.unsettled = False
        """Whether what arrived may still wait in the queue, and would be read again."""
        self.recompiled = False
        """Whether the sink was compiled again since the start: what its receiver asked for before that counts no more."""
        self.change_is_next = False
        """Whether the last message was of new alerts, and changes of earlier messages waited."""
        self.posts_unreadable = False
        """Whether the record of posts could not be read when it was asked last."""
        self.in_flight = Usage()
        self.waits_for: ShareLimit | None = None
        """Which share of the messages in flight keeps it waiting; None: none does."""
        self.waits_since: float | None = None
        """Queue clock: since when."""
        self.gathering = 0
        """Notifications of which more is being stored for it, before it is sent any of that."""
        self.gathers_until = 0.0
        """Queue clock: when it waits no longer for that."""
        self.last_error = ""
        """`<reason>: <message>` of the last failure that no success followed; empty: none."""
        self.condition = health.NOTHING_SENT
        self._given_up = 0
        """Deliveries that made room in the queue since the start or the last change of the sink."""
        self._last_delivered: float | None = None
        self._health_changed = health_changed
        self._wall = wall
        self._times: OpeningTimes | None = None
        self._times_unreadable = False
        self._timer: asyncio.TimerHandle | None = None
        self._spread = SPREAD_SECONDS * zlib.crc32(sink.uid.encode()) / 2**32

    def gathers(self, now: float) -> bool:
        """Whether it waits for more of a notification, on the queue clock."""
        return self.gathering > 0 and now < self.gathers_until

    def closed(self) -> Opening | None:
        """Until when nothing may be sent at this time; None: it may. One that must not be sent to at all is not closed."""
        if self._times is None or self.lane.blocked:
            return None
        opening = self._times.when(self._wall())
        return None if opening.open else opening

    def reopens_in(self, closed: Opening) -> float:
        """Seconds until it is to be asked again whether it is closed: soon enough, also where somebody sets the clock."""
        return min(closed.again - self._wall(), ASK_AGAIN_SECONDS) + self._spread

    def health(self) -> SinkHealth:
        """How it goes, at this time."""
        found = self._health()
        if self._times_unreadable:
            return health.times_unreadable(found)
        times = self.sink.times
        if times is not None and (closed := self.closed()) is not None:
            return health.outside_times(found, closed, drop=times.drop)
        return found

    def _health(self) -> SinkHealth:
        shown = self.condition
        return SinkHealth(
            shown.state,
            shown.reason,
            shown.message,
            self._last_delivered,
            self.last_error,
            len(self.lane),
            self.lane.pace.held,
            self._given_up,
        )

    def resume(self, report: SinkReport) -> None:
        """Go on with what an earlier process reported of the sink."""
        self.condition = health.resumed(report)
        self._last_delivered = report.last_delivered
        if report.reason != health.QUEUE_UNREADABLE.reason:
            self.last_error = report.last_error

    def use(self, sink: Sink, open_sender: OpenSender, concurrency: int) -> Sender | None:
        """Send to the sink as it is now.

        Parameters
        ----------
        open_sender
            Raises `UnsupportedSink`.
        concurrency
            Messages in flight at once, where the destination does not say.

        Returns
        -------
        Sender or None
            The sender until now, with which the messages in flight finish.
        """
        old, self.sender, self.sink, self.kind = self.sender, None, sink, sink.type
        self._given_up = 0
        self._use_times(sink)
        self.rate_limit_key = sink.dispatch.rate_limit_key if sink.target is not None else ""
        parameters = sink.dispatch
        batch = parameters.batch if parameters.payload is PayloadKind.ALERT else 1
        self.lane.limits = Limits(parameters.concurrency or concurrency, batch, parameters.joins_key, parameters.follows_posts)
        blocked = health.blocked(sink)
        if blocked is None:
            try:
                self.sender = open_sender(sink)
                self.lane.pace.unresponsive = True
            except UnsupportedSink as error:
                blocked = health.unsupported(str(error))
            except Exception as error:  # without a sender, what leaves would come back at once, for ever
                get_logger().error(
                    "a sink could not be opened because of an unexpected error", error=type(error).__name__, **self.names()
                )
                blocked = health.unsupported(f"the router failed to open it ({type(error).__name__}); see its log")
        was_blocked, self.lane.blocked = self.lane.blocked, blocked.reason if blocked is not None else ""
        if blocked is not None:
            self.report(blocked)
        elif was_blocked and self.condition.reason == was_blocked:
            self.report(health.NOTHING_SENT_SINCE)
        return old

    def _use_times(self, sink: Sink) -> None:
        self._times, self._times_unreadable = None, False
        try:
            self._times = opening_times(sink.times) if sink.times is not None else None
        except ValueError as error:
            self._times_unreadable = True
            get_logger().error(
                "a sink is sent to at any time: its times cannot be read; upgrade the router", reason=str(error), **self.names()
            )

    def reload(self) -> None:
        """Have the window read again; nothing leaves before what is in flight has landed."""
        self.reloading = True
        self.landed()

    def landed(self) -> None:
        """Perhaps nothing is in flight any more."""
        if self.reloading and not self.lane.in_flight:
            self.reloading, self.unsettled = False, True
            self.lane.read_again()

    def report(self, condition: DeliveringCondition) -> None:
        """Show how delivery goes from now on; of a sink to which nothing may be sent, only that: what was under way then does not hide it."""
        if self.lane.blocked and condition.reason != self.lane.blocked:
            return
        before, self.condition = self.condition, condition
        if condition != before:
            self._health_changed(self.sink, self.health())

    def delivered(self, now: float) -> None:
        """A message arrived, at a time on the wall clock."""
        self._last_delivered, self.last_error = now, ""
        before = self.condition.state
        if before is not health.DeliveringState.TRUE:
            self.report(health.RECOVERED if before is health.DeliveringState.FALSE else health.DELIVERED)

    def waits(self, now: float) -> None:
        """It has waited for a share of the messages in flight, until now on the queue clock; reported where nothing worse is."""
        if self.waits_for is None or self.waits_since is None or now - self.waits_since < health.REPORT_WAIT_SECONDS:
            return
        if self.condition.state is not health.DeliveringState.FALSE:
            self.report(health.waiting_for(self.waits_for))

    def gave_up(self, count: int) -> None:
        """So many more of its deliveries became dead letters, since the queue was nearly full."""
        self._given_up += count
        self.last_error = f"{health.QUEUE_SHARE}: {health.given_up(self._given_up)}"

    def unreadable(self) -> None:
        """What waits for it could not be read."""
        self.last_error = f"{health.QUEUE_UNREADABLE.reason}: {health.QUEUE_UNREADABLE.message}"
        if not self.lane.blocked:
            self.report(health.QUEUE_UNREADABLE)

    def readable(self) -> None:
        """What waits for it can be read."""
        if self.condition is health.QUEUE_UNREADABLE:
            self.last_error = ""
            self.report(health.NOTHING_SENT_SINCE_READABLE)

    def failed(self, failed: Failed) -> None:
        """A message did not arrive."""
        self.last_error = f"{failed.reason}: {failed.message}"

    def wake_in(self, seconds: float | None, wake: Callable[[SinkWorker], object]) -> None:
        """Have `wake` called later, instead of what was asked for before; None: not at all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), wake, self)

    def names(self) -> dict[str, str]:
        """What log lines about the sink carry."""
        sink = self.sink
        return {"sink": f"{sink.namespace}/{sink.name}", "uid": sink.uid, "tenant": sink.tenant}
