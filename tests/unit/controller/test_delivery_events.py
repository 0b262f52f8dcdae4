"""One Event when a sink stops delivering and one when it recovers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventsink.controller.delivery_events import BURST, EVENT_SECONDS, MAX_WAIT_SECONDS, SINK_SECONDS, DeliveryEvents
from eventsink.resources.eventsink import EventSinkObject, read_object
from eventsink.runtime.times import format_time

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
WELL, DOWN, UNKNOWN = ("True", "Delivered"), ("False", "ConnectionRefused"), ("Unknown", "NothingSent")


class Recorder:
    """What would be recorded, as a list of types and reasons, on a clock that tests move."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.left_out = 0
        self.names: list[str] = []
        self.events = DeliveryEvents(self.now, self._count, lambda: self.seconds)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def _count(self) -> None:
        self.left_out += 1

    def sink(self, state: tuple[str, str] | None, name: str = "a", *, since: datetime | None = None) -> EventSinkObject:
        conditions: list[Any] = []
        if state is not None:
            status, reason = state
            since = since or self.now()
            conditions = [
                {
                    "type": "Delivering",
                    "status": status,
                    "reason": reason,
                    "message": "m",
                    "lastTransitionTime": format_time(since),
                }
            ]
        return read_object(
            {"metadata": {"uid": f"u-{name}", "namespace": "acme", "name": name}, "status": {"conditions": conditions}}
        )

    def look(self, sink: EventSinkObject) -> str | float | None:
        event, again = self.events.look(sink)
        if event is None:
            return again
        self.names.append(event.name)
        return f"{event.type} {event.reason}"


@pytest.mark.parametrize(
    ("states", "recorded"),
    [
        ([None, WELL], [None, None]),
        ([UNKNOWN, WELL, WELL], [None, None, None]),
        ([WELL, DOWN, DOWN], [None, "Warning ConnectionRefused", None]),
        ([DOWN, ("False", "Timeout")], ["Warning ConnectionRefused", None]),
        ([DOWN, UNKNOWN, DOWN], ["Warning ConnectionRefused", None, None]),
        ([WELL, ("False", "Withdrawn"), WELL], [None, None, None]),
        ([DOWN, ("False", "Withdrawn")], ["Warning ConnectionRefused", None]),
    ],
)
def test_what_is_recorded_of_each_state(states: Sequence[tuple[str, str] | None], recorded: Sequence[str | None]) -> None:
    recorder = Recorder()
    assert [recorder.look(recorder.sink(state)) for state in states] == recorded


def test_a_recovery_is_recorded_once_and_a_flapping_sink_only_so_often() -> None:
    recorder = Recorder()
    assert recorder.look(recorder.sink(DOWN)) == "Warning ConnectionRefused"
    recorder.seconds = 10
    assert recorder.look(recorder.sink(WELL)) == "Normal Delivered"
    recorder.seconds = 20
    assert recorder.look(recorder.sink(DOWN)) == SINK_SECONDS - 20
    recorder.seconds = 30
    assert recorder.look(recorder.sink(WELL)) is None, "it is as people know it"
    assert recorder.look(recorder.sink(DOWN)) == SINK_SECONDS - 30
    recorder.seconds = SINK_SECONDS
    assert recorder.look(recorder.sink(DOWN)) == "Warning ConnectionRefused"
    recorder.seconds = SINK_SECONDS + 1
    assert recorder.look(recorder.sink(WELL)) == 9
    recorder.seconds = SINK_SECONDS + 10
    assert recorder.look(recorder.sink(WELL)) == "Normal Delivered"


def test_an_operator_that_starts_records_what_stopped_lately_under_the_same_name() -> None:
    before, after = Recorder(), Recorder()
    stopped = before.sink(DOWN)
    assert before.look(stopped) == "Warning ConnectionRefused"
    after.seconds = 60
    assert after.look(stopped) == "Warning ConnectionRefused"
    assert after.names == before.names


def test_an_operator_that_starts_does_not_record_what_stopped_long_ago_but_its_recovery() -> None:
    recorder = Recorder()
    assert recorder.look(recorder.sink(DOWN, since=START - timedelta(hours=2))) is None
    recorder.seconds = 1
    assert recorder.look(recorder.sink(WELL)) == "Normal Delivered"


def test_a_re_created_sink_begins_anew() -> None:
    recorder = Recorder()
    recorder.look(recorder.sink(DOWN))
    assert recorder.look(replace(recorder.sink(DOWN), uid="other")) == "Warning ConnectionRefused"


def test_sinks_that_stop_at_once_are_recorded_one_after_the_other_and_no_more_than_can_be_in_time() -> None:
    recorder = Recorder()
    number = BURST + round(MAX_WAIT_SECONDS / EVENT_SECONDS) + 100
    answers = [recorder.look(recorder.sink(DOWN, f"s{i}")) for i in range(number)]
    at_once = [answer for answer in answers if isinstance(answer, str)]
    waits = [answer for answer in answers if isinstance(answer, float)]
    assert len(at_once) == pytest.approx(BURST, abs=1)
    assert waits == sorted(waits)
    assert waits[-1] <= MAX_WAIT_SECONDS
    assert recorder.left_out == pytest.approx(100, abs=2)
    recorder.seconds = waits[0]
    assert recorder.look(recorder.sink(DOWN, f"s{len(at_once)}")) == "Warning ConnectionRefused"
