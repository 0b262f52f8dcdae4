"""Test alerts: one marked alert to one sink, through the queue and dispatch like any other, and its outcome.

Matching rules do not count, since the test is about the destination, and the notification log has no entry of it, so that each test is
sent. What cannot be delivered at once is tried again for a minute, and then dead-lettered.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from eventsink.alerts.alert import CLUSTER_LABEL, Alert, Links, Severity, Status, alert_id, fingerprint_of
from eventsink.alerts.alertmanager_group import encoded_group
from eventsink.router.dispatch.dispatcher import Dispatcher
from eventsink.router.queue.protocol import Batch, Delivery, DeliveryQueue, NewDelivery, Payload, PayloadKind
from eventsink.runtime.logs import get_logger
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Outcome
from eventsink.sinks.sink import Sink

ALERT_NAME = "EventSinkTest"
SOURCE = "eventsink-test"
MAX_AGE_SECONDS = 60.0
"""How long a test alert is tried."""
MAX_UNDER_WAY = 100
"""Tests that are waited for at once, of all sinks."""
MAX_UNDER_WAY_OF_A_SINK = 5
RETRY_AFTER_SECONDS = 5
SUMMARY = "This is a test alert. Nothing is wrong and there is nothing to do."

_encoder = msgspec.json.Encoder()


class CannotTest(Exception):
    """The sink may not send at present; the text says why."""


class TooManyTests(Exception):
    """As many tests as allowed are under way; the text says of what."""


@dataclass(frozen=True, slots=True)
class SinkTestResult:
    """The outcome of a test alert while it was waited for."""

    id: str
    """Of the delivery; with it, `eventsink deliveries --id` finds it as long as it is not delivered."""
    delivered: bool
    status: str
    """Class of the receiver's HTTP status, such as `4xx`; empty where there was none."""
    reason: str
    """CamelCase, as in `Failed.reason`; empty where it was delivered, `NoOutcome` where it still waits."""
    message: str
    """A sentence; shows of a URL its scheme and host only, and nothing of the receiver's response."""
    seconds: float
    """From the call to the outcome."""


class SinkTests:
    """Sends test alerts and waits for their outcome.

    Parameters
    ----------
    queue
        Where they are put; its commits have the deliveries' ids.
    dispatcher
        Reports each attempt to a sink that is watched.
    cluster
        The router's name for its cluster, as in any alert.
    """

    def __init__(self, queue: DeliveryQueue, dispatcher: Dispatcher, cluster: str = "") -> None:
        self._queue = queue
        self._dispatcher = dispatcher
        self._cluster = cluster
        self._under_way: Counter[str] = Counter()
        self._ids: dict[str, str] = {}
        """Key of a test alert that is waited for -> id of its delivery; empty before it is committed."""
        queue.subscribe(self._committed)

    async def test(self, sink: Sink, wait: float) -> SinkTestResult:
        """Send a test alert to a sink and wait for the outcome of the first attempt, at most `wait` seconds.

        The alert is queued once this waits: a caller that does not wait any longer takes nothing back.

        Raises
        ------
        CannotTest
            The sink is suspended or withdrawn.
        TooManyTests
            Too many are under way.
        QueueError
            It cannot be queued; nothing was sent.
        """
        if blocked := self._dispatcher.blocked(sink.uid):
            raise CannotTest(f"no test alert is sent: {blocked}")
        if self._under_way[sink.uid] >= MAX_UNDER_WAY_OF_A_SINK:
            raise TooManyTests(f"{MAX_UNDER_WAY_OF_A_SINK} test alerts to this sink are under way")
        if self._under_way.total() >= MAX_UNDER_WAY:
            raise TooManyTests(f"{MAX_UNDER_WAY} test alerts are under way")
        key = f"test:{secrets.token_hex(16)}"
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome: asyncio.Future[Outcome] = loop.create_future()

        def attempted(keys: Sequence[str], result: Outcome, slow: bool) -> None:
            # While everything fails one message at a time is tried: its failure is everybody's.
            of_the_sink = isinstance(result, Failed) and result.failure is not FailureClass.MESSAGE and slow
            if (key in keys or of_the_sink) and not outcome.done():
                outcome.set_result(result)

        stop_watching: Callable[[], None] = self._dispatcher.watch(sink.uid, attempted)
        self._under_way[sink.uid] += 1
        self._ids[key] = ""
        try:
            self._dispatcher.probe(sink.uid)
            await self._queue.put(batch_of(sink, key, datetime.now(UTC), self._cluster))
            get_logger().info("a test alert was queued", uid=sink.uid, sink=f"{sink.namespace}/{sink.name}", tenant=sink.tenant)
            try:
                async with asyncio.timeout(max(0.0, wait - (loop.time() - began))):
                    result: Outcome | None = await outcome
            except TimeoutError:
                result = None
            return result_of(self._ids[key], result, self._dispatcher.last_error(sink.uid), loop.time() - began, wait)
        finally:
            stop_watching()
            del self._ids[key]
            self._under_way[sink.uid] -= 1
            if not self._under_way[sink.uid]:
                del self._under_way[sink.uid]

    def _committed(self, deliveries: Sequence[Delivery]) -> None:
        if self._ids:
            for delivery in deliveries:
                if delivery.key in self._ids:
                    self._ids[delivery.key] = delivery.id


def result_of(identifier: str, outcome: Outcome | None, last_error: str, seconds: float, wait: float) -> SinkTestResult:
    """What is reported of a test; `outcome` is None when none came in time."""
    seconds = round(seconds, 3)
    if isinstance(outcome, Delivered):
        return SinkTestResult(identifier, True, _class(outcome.status_code), "", "the test alert arrived", seconds)
    if isinstance(outcome, Failed):
        return SinkTestResult(identifier, False, _class(outcome.status_code), outcome.reason, outcome.message, seconds)
    text = f"the test alert was not delivered within {wait:g} s; it is tried for {MAX_AGE_SECONDS:g} s in all"
    if last_error:
        text += f"; the last error of the sink is {last_error}"
    return SinkTestResult(identifier, False, "", "NoOutcome", text, seconds)


def batch_of(sink: Sink, key: str, now: datetime, cluster: str = "") -> Batch:
    """The test alert for one sink, as it is queued: in the form that the sink is sent otherwise."""
    alert = marked_alert(sink, key, now, cluster)
    if sink.dispatch.payload is PayloadKind.GROUP:
        payload = Payload(PayloadKind.GROUP, encoded_group([alert], key=key, receiver=SOURCE), alert.name)
    else:
        payload = Payload(PayloadKind.ALERT, _encoder.encode(alert), alert.name)
    return Batch([payload], [NewDelivery(0, sink.uid, sink.tenant, key, alert.status.value, MAX_AGE_SECONDS)])


def marked_alert(sink: Sink, key: str, now: datetime, cluster: str = "") -> Alert:
    """A marked alert: one of its kind each time (`key`)."""
    labels = {"alertname": ALERT_NAME, "severity": "info", "eventsink_test": key.removeprefix("test:")}
    fingerprint = fingerprint_of(sink.tenant, SOURCE, labels)
    return Alert(
        id=alert_id(fingerprint, now, Status.EVENT),
        fingerprint=fingerprint,
        source=SOURCE,
        tenant=sink.tenant,
        status=Status.EVENT,
        severity=Severity.INFORMATIONAL,
        name=ALERT_NAME,
        summary=SUMMARY,
        description=f"Sent on request, to see whether the EventSink {sink.namespace}/{sink.name} delivers.",
        namespace="",
        labels={**labels, CLUSTER_LABEL: cluster} if cluster else labels,
        annotations={"summary": SUMMARY},
        starts_at=now,
        ends_at=None,
        links=Links(),
        cluster=cluster,
    )


def _class(status_code: int | None) -> str:
    return f"{status_code // 100}xx" if status_code is not None and status_code < 600 else ""
