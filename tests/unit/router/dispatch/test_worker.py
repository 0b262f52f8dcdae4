"""How a sink is sent to: what its target asks for, and the router's settings where it asks for nothing."""

from __future__ import annotations

import pytest

from eventsink.destinations.senders import UnsupportedSink
from eventsink.router.dispatch.health import SinkHealth
from eventsink.router.dispatch.lane import Lane, Limits
from eventsink.router.dispatch.memory import WindowMemory
from eventsink.router.dispatch.pace import Pace
from eventsink.router.dispatch.retry import RetrySettings
from eventsink.router.dispatch.worker import SinkWorker
from eventsink.sinks.sender import Sender
from eventsink.sinks.sink import Sink
from tests.unit.router.dispatch.dispatching import ScriptedSender
from tests.unit.router.sinks import sink, slack_sink, withdrawn_sink

CONCURRENCY = 7


class Worker:
    """A worker, and what it said of its sink."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.worker = SinkWorker(sink(), Lane(Pace(RetrySettings(), lambda: 0.5), WindowMemory(10**6, 10**6)), self._changed)

    def _changed(self, _: Sink, health: SinkHealth) -> None:
        self.said.append(health.reason)

    def use(self, one: Sink, sender: Sender | None = None) -> Sender | None:
        def open_sender(_: Sink) -> Sender:
            if sender is None:
                raise UnsupportedSink("this version does not know it")
            return sender

        return self.worker.use(one, open_sender, CONCURRENCY)


@pytest.mark.parametrize(
    ("one", "limits"),
    [
        (sink(), Limits(CONCURRENCY, 1)),
        (sink(webhook={"batch": 50}), Limits(CONCURRENCY, 50)),
        (slack_sink(), Limits(1, 1000, joins_key=True, recomposes=True)),
    ],
)
def test_the_target_decides_how_many_messages_are_in_flight_and_how_many_alerts_are_in_one(one: Sink, limits: Limits) -> None:
    made = Worker()
    made.use(one, ScriptedSender())
    assert made.worker.lane.limits == limits


def test_only_a_sink_that_may_send_has_a_rate_limit_key() -> None:
    made = Worker()
    made.use(slack_sink(), ScriptedSender())
    assert made.worker.rate_limit_key == slack_sink().destination
    made.use(slack_sink().model_copy(update={"target": None, "withdrawn": withdrawn_sink("s").withdrawn}))
    assert not made.worker.rate_limit_key
    made.use(sink(), ScriptedSender())
    assert not made.worker.rate_limit_key


def test_a_changed_sink_gets_a_new_sender_and_the_old_one_is_handed_back() -> None:
    made, first, second = Worker(), ScriptedSender(), ScriptedSender()
    assert made.use(sink(), first) is None
    assert made.use(sink(generation=2), second) is first
    assert made.worker.sender is second
    assert made.use(sink(suspend=True), first) is second
    assert made.worker.sender is None


def test_a_blocked_sink_says_why_and_an_unblocked_one_that_nothing_was_sent_since() -> None:
    made = Worker()
    for one in (sink(suspend=True), withdrawn_sink("s")):
        made.use(one, ScriptedSender())
    made.use(sink())
    assert made.worker.lane.blocked == "Unsupported"
    made.use(sink(generation=2), ScriptedSender())
    assert (made.said, made.worker.lane.blocked) == (["Suspended", "Withdrawn", "Unsupported", "NothingSent"], "")
