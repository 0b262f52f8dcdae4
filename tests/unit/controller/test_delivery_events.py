"""One Event when a sink stops delivering and one when it recovers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventsink.controller.delivery_events import BURST, EVENT_SECONDS, KEPT, MAX_WAIT_SECONDS, SINK_SECONDS, DeliveryEvents
from eventsink.controller.events import TRIES
from eventsink.resources.eventsink import EventSinkObject, read_object
from eventsink.resources.status import DELIVERS_AGAIN
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

    def sink(
        self, state: tuple[str, str] | None, name: str = "a", *, since: datetime | None = None, message: str = "m"
    ) -> EventSinkObject:
        conditions: list[Any] = []
        if state is not None:
            status, reason = state
            since = since or self.now()
            conditions = [
                {
                    "type": "Delivering",
                    "status": status,
                    "reason": reason,
                    "message": message,
                    "lastTransitionTime": format_time(since),
                }
            ]
        return read_object(
            {"metadata": {"uid": f"u-{name}", "namespace": "acme", "name": name}, "status": {"conditions": conditions}}
        )

    def look(self, sink: EventSinkObject, *, fails: bool = False) -> str | float | None:
        event, again = self.events.look(sink)
        if event is None:
            return again
        key = (sink.namespace, sink.name)
        if fails:
            return self.events.failed(key, event)
        self.events.recorded(key, event)
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


def test_an_event_that_could_not_be_written_is_written_later() -> None:
    recorder = Recorder()
    stopped = recorder.sink(DOWN)
    assert recorder.look(stopped, fails=True) == 5
    recorder.seconds = 4
    assert recorder.look(stopped) == 1
    recorder.seconds = 5
    assert recorder.look(stopped, fails=True) == 10
    recorder.seconds = 15
    assert recorder.look(stopped) == "Warning ConnectionRefused"
    assert recorder.look(stopped) is None


def test_an_event_that_cannot_be_written_for_long_is_left_out_and_counted() -> None:
    recorder = Recorder()
    stopped = recorder.sink(DOWN)
    for _ in range(TRIES - 1):
        wait = recorder.look(stopped, fails=True)
        assert isinstance(wait, float)
        recorder.seconds += wait
    assert recorder.seconds < KEPT.total_seconds()
    assert recorder.look(stopped, fails=True) is None
    assert (recorder.look(stopped), recorder.left_out) == (None, 1)


def test_nothing_is_said_of_a_stop_that_was_over_before_it_could_be_written() -> None:
    recorder = Recorder()
    assert recorder.look(recorder.sink(DOWN), fails=True) == 5
    recorder.seconds = 5
    assert recorder.look(recorder.sink(WELL)) is None
    assert recorder.look(recorder.sink(WELL)) is None


@pytest.mark.parametrize("wrote", [True, False])
def test_the_next_leader_writes_what_is_missing_under_the_same_name(wrote: bool) -> None:
    leader, following = Recorder(), Recorder()
    leader.look(leader.sink(DOWN))
    recovered = leader.sink(WELL, message=DELIVERS_AGAIN, since=START + timedelta(seconds=30))
    if wrote:
        leader.seconds = 30
        assert leader.look(recovered) == "Normal Delivered"
    following.seconds = 60
    assert following.look(recovered) == "Normal Delivered"
    if wrote:
        assert following.names == leader.names[1:], "the API server has it already"
    for seconds in (60, SINK_SECONDS * 2, KEPT.total_seconds() + 31, 2 * KEPT.total_seconds()):
        following.seconds = seconds
        assert following.look(recovered) is None


@pytest.mark.parametrize(
    ("state", "message", "ago", "recorded"),
    [
        (WELL, "the last message arrived", 60, None),  # for the first time
        (WELL, DELIVERS_AGAIN, 60, "Normal Delivered"),
        (WELL, DELIVERS_AGAIN, 7200, None),
        (DOWN, "m", 60, "Warning ConnectionRefused"),
        (DOWN, "m", 7200, None),
        (("False", "Withdrawn"), "m", 60, None),
    ],
)
def test_what_a_new_leader_records_of_what_changed_before(
    state: tuple[str, str], message: str, ago: float, recorded: str | None
) -> None:
    recorder = Recorder()
    assert recorder.look(recorder.sink(state, message=message, since=START - timedelta(seconds=ago))) == recorded


def test_a_sink_that_was_withdrawn_for_long_does_not_recover() -> None:
    recorder = Recorder()
    assert recorder.look(recorder.sink(("False", "Withdrawn"), since=START - timedelta(hours=2))) is None
    assert recorder.look(recorder.sink(WELL)) is None


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
