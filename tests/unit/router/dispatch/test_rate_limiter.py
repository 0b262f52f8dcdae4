"""Messages to one place are spaced out, and the sinks that share it take turns."""

from __future__ import annotations

from eventsink.router.dispatch import rate_limiter as pace
from eventsink.router.dispatch.rate_limiter import ASK_AGAIN_SECONDS, OVERTAKE_SECONDS, Pace


def test_a_place_takes_one_message_in_an_interval_and_another_place_does_not_wait() -> None:
    one = Pace(1.0)
    assert one.turn("general", "a", 10.0) is None
    assert one.turn("general", "a", 10.4) == 11.0
    assert one.turn("random", "a", 10.4) is None
    assert one.turn("general", "a", 11.0) is None


def test_sinks_that_share_a_place_take_turns() -> None:
    one = Pace(1.0)
    assert one.turn("general", "a", 0.5) is None
    assert [one.turn("general", sink, 0.6) for sink in "bca"] == [1.5, 1.5, 1.5]
    assert one.turn("general", "a", 1.5) == 1.5 + ASK_AGAIN_SECONDS
    assert one.turn("general", "b", 1.5) is None
    assert one.turn("general", "b", 1.6) == 2.5
    assert [one.turn("general", sink, 2.5) for sink in "bc"] == [2.5 + ASK_AGAIN_SECONDS, None]


def test_whoever_has_nothing_to_send_any_more_stops_nobody() -> None:
    one = Pace(1.0)
    one.turn("general", "a", 0.5)
    for sink in "bc":
        one.turn("general", sink, 0.6)
    one.leave("general", "b")
    assert one.turn("general", "c", 1.5) is None


def test_whoever_is_first_and_does_not_come_is_overtaken() -> None:
    one = Pace(1.0)
    one.turn("general", "a", 0.5)
    for sink in "bc":
        one.turn("general", sink, 0.6)
    assert one.turn("general", "c", 1.5 + OVERTAKE_SECONDS) is None


def test_a_place_that_asks_to_wait_is_left_alone_by_all() -> None:
    one = Pace(1.0)
    one.turn("general", "a", 0.0)
    one.hold("general", 30.0)
    assert one.turn("general", "b", 5.0) == 30.0
    one.hold("general", 20.0)
    assert one.turn("general", "b", 25.0) == 30.0


def test_places_that_nobody_uses_are_forgotten() -> None:
    one = Pace(1.0)
    for number in range(pace.MAX_IDLE_PLACES + 2):
        assert one.turn(str(number), "a", float(number * 2)) is None
    assert len(one._free_at) <= 2
    assert not one._lines
