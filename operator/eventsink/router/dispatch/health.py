"""How delivery to one sink goes, as dispatch sees it and as the status of the EventSink reports it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from eventsink.resources.status import DELIVERS_AGAIN
from eventsink.router.dispatch.shares import ShareLimit
from eventsink.router.queue.states import SinkReport
from eventsink.runtime.time_intervals import Opening
from eventsink.runtime.times import format_time
from eventsink.sinks.sender import Failed
from eventsink.sinks.sink import Sink


class DeliveringState(StrEnum):
    """The status of the condition `Delivering`."""

    UNKNOWN = "Unknown"
    """Nothing was sent yet."""
    TRUE = "True"
    FALSE = "False"


@dataclass(frozen=True, slots=True)
class DeliveringCondition:
    """What the condition `Delivering` says."""

    state: DeliveringState
    reason: str
    """CamelCase: `Delivered`, `NothingSent`, `Suspended`, `Withdrawn`, `Unsupported`, `TenantShare`, `InFlightLimit`,
    `QueueUnreadable`, or that of the failure."""
    message: str
    """Holds no credential."""


@dataclass(frozen=True, slots=True)
class SinkHealth:
    """What is reported of a sink. Times are wall clock, seconds since the epoch; none of the texts holds a credential."""

    state: DeliveringState
    reason: str
    """As in `DeliveringCondition`."""
    message: str
    """Without what changes with each attempt or delivery."""
    last_delivered: float | None = None
    last_error: str = ""
    """`<reason>: <message>` of the last failure that no success followed; empty: none."""
    waiting: int = 0
    """Deliveries in memory."""
    held: str = ""
    """Reason for which everything to the sink is held, a failure or `OutsideTimes`; empty: it is not."""
    given_up: int = 0
    """Deliveries that became dead letters since the queue was nearly full."""
    dropped: int = 0
    """Events that were not queued since its tenant was over its quota."""

    @property
    def full_message(self) -> str:
        """As people read it, with what is counted."""
        message = f"{self.message}; {given_up(self.given_up)}" if self.given_up else self.message
        return f"{message}; {self.dropped} events were dropped" if self.dropped else message


OUTSIDE_TIMES = "OutsideTimes"
"""Reason of a sink to which nothing is sent at this time."""
TIMES_UNREADABLE = "TimesUnreadable"
"""Reason of a sink whose times this version cannot read."""

REPORT_WAIT_SECONDS = 5.0
"""A sink that waits so long for a share of the messages in flight says so."""

QUEUE_SHARE = "QueueShare"
"""Reason of dead letters that made room in the queue."""

NOTHING_SENT = DeliveringCondition(DeliveringState.UNKNOWN, "NothingSent", "nothing was sent yet")
NOTHING_SENT_SINCE = DeliveringCondition(DeliveringState.UNKNOWN, "NothingSent", "nothing was sent since the sink was changed")
QUEUE_UNREADABLE = DeliveringCondition(
    DeliveringState.FALSE,
    "QueueUnreadable",
    "the router cannot read what waits for it in its queue; it is tried again",
)
NOTHING_SENT_SINCE_READABLE = DeliveringCondition(
    DeliveringState.UNKNOWN, "NothingSent", "nothing was sent since the router can read its queue again"
)
DELIVERED = DeliveringCondition(DeliveringState.TRUE, "Delivered", "the last message arrived")
RECOVERED = DeliveringCondition(DeliveringState.TRUE, DELIVERED.reason, DELIVERS_AGAIN)
FOUND_AGAIN = frozenset({"Withdrawn", "Unsupported", "TenantShare", "InFlightLimit", "QueueUnreadable", "MatchUnreadable"})
"""Reasons for which nothing is sent that are no failure of an attempt: after a restart, the router finds out whether it is still so."""


def blocked(sink: Sink) -> DeliveringCondition | None:
    """Why nothing may be sent to a sink, whatever waits; None: it may."""
    if sink.suspend:
        text = "the sink is suspended: nothing is queued and nothing sent"
        return DeliveringCondition(DeliveringState.UNKNOWN, "Suspended", text)
    if sink.withdrawn is not None:
        text = f"the sink may not send at present ({sink.withdrawn.reason}); its deliveries are held"
        return DeliveringCondition(DeliveringState.FALSE, "Withdrawn", text)
    return None


def resumed(report: SinkReport) -> DeliveringCondition:
    """What is known of a sink for which an earlier process wrote a report."""
    if report.state == DeliveringState.TRUE.value:
        return RECOVERED if report.message.startswith(RECOVERED.message) else DELIVERED
    if report.state != DeliveringState.FALSE.value or report.reason in FOUND_AGAIN:
        return NOTHING_SENT
    return DeliveringCondition(DeliveringState.FALSE, report.reason, report.message)


def unsupported(reason: str) -> DeliveringCondition:
    """This version cannot send to the sink."""
    return DeliveringCondition(DeliveringState.FALSE, "Unsupported", reason)


def held(failed: Failed) -> DeliveringCondition:
    """A failure of the sink: nothing can arrive until it is fixed."""
    return DeliveringCondition(DeliveringState.FALSE, failed.reason, f"{failed.message}; everything waits, and it is tried again")


def failing(failed: Failed) -> DeliveringCondition:
    """Everything to the sink fails, and may succeed later."""
    return DeliveringCondition(DeliveringState.FALSE, failed.reason, f"{failed.message}; it is tried again")


def rejecting(failed: Failed) -> DeliveringCondition:
    """Everything to the sink is rejected for good."""
    text = f"{failed.message}; every message is rejected and becomes a dead letter: fix the cause, then replay them"
    return DeliveringCondition(DeliveringState.FALSE, failed.reason, text)


def waiting_for(limit: ShareLimit) -> DeliveringCondition:
    """Messages to the sink wait until others have landed."""
    settings = "the router's settings dispatch.maxInFlight and maxInFlightBytes"
    if limit is ShareLimit.TENANT:
        text = f"its messages wait: those to this tenant's sinks take up the tenant's share of {settings}; fix or suspend slow receivers"
        return DeliveringCondition(DeliveringState.FALSE, "TenantShare", text)
    text = f"its messages wait: as many are in flight as {settings} allow"
    return DeliveringCondition(DeliveringState.FALSE, "InFlightLimit", text)


def with_problem(health: SinkHealth, reason: str, message: str, *, gets_nothing: bool) -> SinkHealth:
    """What is reported of a sink that is not given exactly the alerts that it asks for; a failure of delivery comes first."""
    if health.state is DeliveringState.FALSE:
        return health if message in health.message else replace(health, message=f"{health.message}; {message}")
    return replace(health, state=DeliveringState.FALSE if gets_nothing else health.state, reason=reason, message=message)


def outside_times(health: SinkHealth, opening: Opening, *, drop: bool) -> SinkHealth:
    """What is reported of a sink to which nothing is sent at this time; a failure of delivery comes first."""
    if health.state is DeliveringState.FALSE:
        return health
    return replace(health, reason=OUTSIDE_TIMES, message=outside_times_message(opening, drop=drop), held=OUTSIDE_TIMES)


def outside_times_message(opening: Opening, *, drop: bool) -> str:
    """What is said of a sink to which nothing is sent at this time."""
    where = "within spec.match.muteTimes" if opening.muted else "outside of spec.match.activeTimes"
    until = f"until {format_time(opening.until)}" if opening.until is not None else "for more than a year"
    if drop:
        return f"new alerts are dropped {until}, {where}; what still fires then is sent"
    return f"alerts wait {until}, {where}"


def times_unreadable(health: SinkHealth) -> SinkHealth:
    """What is reported of a sink whose times this version cannot read: alerts are sent at any time."""
    text = "this version of the router cannot read activeTimes and muteTimes, and sends alerts at any time; upgrade the router"
    return with_problem(health, TIMES_UNREADABLE, text, gets_nothing=False)


def with_note(health: SinkHealth, note: str) -> SinkHealth:
    """What is reported of a sink of which there is more to say, while it does not fail."""
    return health if health.state is DeliveringState.FALSE else replace(health, message=f"{health.message}; {note}")


def notes_of(message: str) -> str:
    """What `with_note` added to a message that says no more than its reason does; empty: nothing."""
    return message.partition("; ")[2]


def given_up(count: int) -> str:
    """What is said of deliveries that made room in the queue."""
    return f"{count} of its deliveries became dead letters since the queue was nearly full and it did not get on"
