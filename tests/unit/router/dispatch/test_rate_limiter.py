"""Messages with one rate-limit key are spaced out, and the sinks that share it take turns."""

from __future__ import annotations

import heapq

from eventsink.router.dispatch.rate_limiter import ASK_AGAIN_SECONDS, MAX_IDLE_KEYS, OVERTAKE_SECONDS, RateLimiter


def test_one_message_is_sent_in_an_interval_and_another_key_does_not_wait() -> None:
    one = RateLimiter(1.0)
    assert one.turn("general", "a", 10.0) is None
    assert one.turn("general", "a", 10.4) == 11.0
    assert one.turn("random", "a", 10.4) is None
    assert one.turn("general", "a", 11.0) is None


def test_sinks_with_the_same_key_take_turns() -> None:
    one = RateLimiter(1.0)
    assert one.turn("general", "a", 0.5) is None
    assert [one.turn("general", sink, 0.6) for sink in "bca"] == [1.5, 1.5, 1.5]
    assert one.turn("general", "a", 1.5) == 1.5 + ASK_AGAIN_SECONDS
    assert one.turn("general", "b", 1.5) is None
    assert one.turn("general", "b", 1.6) == 2.5
    assert [one.turn("general", sink, 2.5) for sink in "bc"] == [2.5 + ASK_AGAIN_SECONDS, None]


def test_a_sink_with_nothing_left_to_send_blocks_no_other() -> None:
    one = RateLimiter(1.0)
    one.turn("general", "a", 0.5)
    for sink in "bc":
        one.turn("general", sink, 0.6)
    one.leave("general", "b")
    assert one.turn("general", "c", 1.5) is None


def test_a_sink_that_does_not_take_its_turn_is_overtaken() -> None:
    one = RateLimiter(1.0)
    one.turn("general", "a", 0.5)
    for sink in "bc":
        one.turn("general", sink, 0.6)
    assert one.turn("general", "c", 1.5 + OVERTAKE_SECONDS) is None


def test_a_paused_key_makes_all_its_sinks_wait() -> None:
    one = RateLimiter(1.0)
    one.turn("general", "a", 0.0)
    one.pause("general", 30.0)
    assert one.turn("general", "b", 5.0) == 30.0
    one.pause("general", 20.0)
    assert one.turn("general", "b", 25.0) == 30.0


def test_a_turn_that_was_given_back_is_another_ones_unless_a_pause_has_begun() -> None:
    one = RateLimiter(1.0)
    assert one.turn("general", "a", 10.0) is None
    one.give_back("general", 10.1)
    assert one.turn("general", "b", 10.1) is None
    one.pause("general", 20.0)
    one.give_back("general", 10.2)
    assert one.turn("general", "c", 10.3) == 20.0


def test_unused_keys_are_forgotten() -> None:
    one = RateLimiter(1.0)
    for number in range(MAX_IDLE_KEYS + 2):
        assert one.turn(str(number), "a", float(number * 2)) is None
    assert len(one) <= 2


def test_of_a_thousand_sinks_few_ask_for_each_turn_and_none_is_left_unused() -> None:
    one, asked, taken = RateLimiter(1.0), 0, []
    asking = [(0.0, number) for number in range(1000)]
    while asking:
        now, number = heapq.heappop(asking)
        asked += 1
        again = one.turn("general", f"s{number}", now)
        if again is None:
            taken.append((now, number))
        else:
            heapq.heappush(asking, (again, number))
    assert [number for _, number in taken] == list(range(1000)), "first come, first served"
    assert taken[-1][0] < 1000 + ASK_AGAIN_SECONDS * 1000
    assert asked < 50 * 1000
