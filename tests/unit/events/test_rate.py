"""Of the Events about one object with one reason, so many are sent, and the next one says how many were not."""

from __future__ import annotations

from eventsink.events.config import RateSettings
from eventsink.events.event import subject_of
from eventsink.events.rate import RateLimit
from tests.support.clock import ManualClock
from tests.unit.events.events_made import event

API = subject_of(event())


def test_a_burst_is_sent_and_then_one_in_each_interval_which_says_how_many_were_not() -> None:
    clock = ManualClock()
    limit = RateLimit(RateSettings(burst=3, interval=60.0), clock)
    assert [limit.take(API) for _ in range(5)] == [0, 0, 0, None, None]
    clock.now += 59
    assert limit.take(API) is None
    clock.now += 1
    assert limit.take(API) == 3
    assert limit.take(API) is None
    clock.now += 3600
    assert [limit.take(API) for _ in range(4)] == [1, 0, 0, None]


def test_another_object_and_another_reason_have_a_rate_of_their_own() -> None:
    limit = RateLimit(RateSettings(burst=1, interval=60.0), ManualClock())
    others = [subject_of(event(about="api-1")), subject_of(event(reason="Failed")), subject_of(event(namespace="acme"))]
    assert [limit.take(one) for one in (API, *others)] == [0, 0, 0, 0]
    assert [limit.take(one) for one in (API, *others)] == [None, None, None, None]


def test_what_is_remembered_is_bounded_and_what_was_seen_longest_ago_makes_room() -> None:
    limit = RateLimit(RateSettings(burst=1, interval=60.0), ManualClock(), most=2)
    first, second, third = [subject_of(event(about=f"api-{number}")) for number in range(3)]
    assert [limit.take(one) for one in (first, second, first, third)] == [0, 0, None, 0]
    assert [limit.take(one) for one in (first, second)] == [None, 0]
