"""Events about EventSinks are written, at once or later."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from eventsink.controller.events import MAX_WAITING, TRIES, Event, Events
from eventsink.kube.api import ApiError, Conflict, Forbidden, Invalid, NotFound, Object, Resource, Unavailable
from eventsink.resources.eventsink import EventSinkObject, read_object

UNAVAILABLE = Unavailable(503, "ServiceUnavailable", "no")
READY = Event("Normal", "Accepted", "spec accepted and active")


def sink(name: str = "a", uid: str = "u") -> EventSinkObject:
    return read_object({"metadata": {"uid": uid, "namespace": "acme", "name": name}})


class EventsUnderTest:
    """Events over an API server that a test has fail, on a clock that it moves."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.left_out = 0
        self.error: ApiError | None = None
        self.created: list[Object] = []
        self.events = Events(self, lambda: datetime(2026, 1, 1, tzinfo=UTC), self._count, lambda: self.seconds)  # type: ignore[arg-type]

    def _count(self) -> None:
        self.left_out += 1

    async def create(self, _resource: Resource, obj: Object, *, manager: str = "") -> Any:
        if self.error is not None:
            raise self.error
        self.created.append(obj)

    def reasons(self) -> list[str]:
        return [one["reason"] for one in self.created]


@pytest.mark.parametrize("error", [UNAVAILABLE, Forbidden(403, "Forbidden", "not yet"), Conflict(409, "Conflict", "that name")])
async def test_an_event_that_could_not_be_written_is_written_later(error: ApiError) -> None:
    under_test = EventsUnderTest()
    under_test.error = error
    under_test.events.add(sink(), READY)
    assert await under_test.events.write_waiting(sink()) == 5
    under_test.error = None
    assert await under_test.events.write_waiting(sink()) == 5, "not before it is due"
    under_test.seconds = 5
    assert await under_test.events.write_waiting(sink()) is None
    assert await under_test.events.write_waiting(sink()) is None
    assert under_test.reasons() == ["Accepted"]


async def test_of_a_sink_only_the_latest_waits() -> None:
    under_test = EventsUnderTest()
    under_test.events.add(sink(), READY)
    under_test.events.add(sink(), replace(READY, reason="InvalidURL"))
    await under_test.events.write_waiting(sink())
    assert under_test.reasons() == ["InvalidURL"]


async def test_an_event_that_is_never_taken_is_left_out_and_counted() -> None:
    under_test = EventsUnderTest()
    under_test.error = UNAVAILABLE
    under_test.events.add(sink(), READY)
    for _ in range(TRIES - 1):
        wait = await under_test.events.write_waiting(sink())
        assert wait is not None
        under_test.seconds += wait
    assert await under_test.events.write_waiting(sink()) is None
    assert under_test.left_out == 1


@pytest.mark.parametrize("error", [Invalid(422, "Invalid", "too long"), NotFound(404, "NotFound", "no such namespace")])
async def test_an_event_that_will_never_be_taken_is_not_tried_again(error: ApiError) -> None:
    under_test = EventsUnderTest()
    under_test.error = error
    assert await under_test.events.write(sink(), READY)


async def test_an_event_with_a_name_that_exists_is_written() -> None:
    under_test = EventsUnderTest()
    under_test.error = Conflict(409, "Conflict", "it exists")
    assert await under_test.events.write(sink(), replace(READY, name="f00"))


async def test_no_more_than_so_many_wait() -> None:
    under_test = EventsUnderTest()
    for number in range(MAX_WAITING + 5):
        under_test.events.add(sink(f"s{number}"), READY)
    assert under_test.left_out == 5
    under_test.events.forget(("acme", "s0"))
    under_test.events.add(sink("other"), READY)
    assert under_test.left_out == 5


async def test_what_waits_of_a_deleted_sink_is_not_written_for_the_next_of_that_name() -> None:
    under_test = EventsUnderTest()
    under_test.events.add(sink(), READY)
    assert await under_test.events.write_waiting(sink(uid="another")) is None
    assert under_test.reasons() == []
