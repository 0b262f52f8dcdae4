"""A lane decides which deliveries of one sink are sent: in order, in bounded numbers, slowly when everything fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.router.dispatch.lane import MAX_BATCH_BYTES, Lane, Limits
from eventsink.router.dispatch.memory import WindowMemory, without_body
from eventsink.router.dispatch.outgoing import OutgoingMessage
from eventsink.router.dispatch.pace import FAILURES_UNTIL_SLOW, Pace
from eventsink.router.dispatch.retry import RetrySettings, message_wait, probe_wait, sink_wait
from eventsink.router.queue.protocol import Delivery, PayloadKind
from eventsink.sinks.sender import Failed, FailureClass

SETTINGS = RetrySettings()
TRANSIENT = Failed(FailureClass.TRANSIENT, "HTTP503", "x responded with 503", 503)
REJECTED = Failed(FailureClass.SINK, "HTTP401", "x responded with 401", 401)


def delivery(
    seq: int, key: str = "", *, batch: str = "", kind: PayloadKind = PayloadKind.ALERT, due: float = 0.0, body: bytes = b"{}"
) -> Delivery:
    return Delivery(seq, f"d{seq}", "s", "acme", key or f"k{seq}", "firing", kind, body, 0.0, 1e9, due, 1 if due else 0, batch)


def lane(*deliveries: Delivery, concurrency: int = 8, batch: int = 1, joins_key: bool = False, recomposes: bool = False) -> Lane:
    made = Lane(Pace(SETTINGS, lambda: 1.0), WindowMemory(10**6, 10**6), Limits(concurrency, batch, joins_key, recomposes))
    made.add(deliveries)
    return made


def picked(one: Lane, now: float = 0.0) -> OutgoingMessage:
    message = one.pick(now)
    assert message is not None
    return message


def all_picked(one: Lane, now: float = 0.0) -> list[list[int]]:
    found = []
    while (message := one.pick(now)) is not None:
        found.append(message.seqs)
    return found


def test_no_more_messages_than_the_concurrency_are_in_flight() -> None:
    one = lane(*(delivery(n) for n in range(10)), concurrency=3)
    assert all_picked(one) == [[0], [1], [2]]


def test_deliveries_of_one_key_are_sent_one_after_the_other() -> None:
    one = lane(delivery(1, "a"), delivery(2, "a"), delivery(3, "b"), delivery(4, "a"))
    first, second = picked(one), picked(one)
    assert (first.seqs, second.seqs, one.pick(0)) == ([1], [3], None)
    one.delivered(first)
    assert all_picked(one) == [[2]]


def test_a_delivery_awaiting_its_retry_delays_only_later_ones_of_its_key() -> None:
    one = lane(delivery(1, "a"), delivery(2, "a"), delivery(3, "b"))
    due = one.failed_transiently(picked(one), TRANSIENT, 0.0)
    assert all_picked(one) == [[3]]
    assert one.wake_at() == due
    assert all_picked(one, due) == [[1]]


def test_a_retry_is_the_same_message() -> None:
    one = lane(delivery(1), delivery(2), delivery(3), batch=2)
    first = picked(one)
    assert (first.id, first.seqs) == ("d1.2", [1, 2])
    one.add([delivery(4)])
    due = one.failed_transiently(first, TRANSIENT, 0.0)
    messages = [picked(one, due), picked(one, due)]
    assert [(message.id, message.seqs) for message in messages] == [("d1.2", [1, 2]), ("d3.2", [3, 4])]


def test_a_batch_takes_the_first_of_each_key_and_no_groups() -> None:
    group = delivery(4, kind=PayloadKind.GROUP)
    one = lane(delivery(1, "a"), delivery(2, "a"), delivery(3, "b"), group, delivery(5, "c"), batch=10)
    assert all_picked(one) == [[1, 3], [4], [5]]


def test_a_stored_composition_is_sent_unchanged_after_a_restart() -> None:
    one = lane(delivery(1, "a", batch="m"), delivery(2, "b", batch="m"), delivery(3, "a"), delivery(4, "c"), batch=10)
    first, second = picked(one), picked(one)
    assert (first.id, first.seqs, first.bound) == ("m", [1, 2], True)
    assert second.seqs == [4]
    one.delivered(first)
    assert all_picked(one) == [[3]]


def test_a_rejected_batch_is_halved_until_the_bad_alert_is_found() -> None:
    one = lane(*(delivery(n) for n in range(1, 6)), batch=5)
    assert one.failed_for_good(picked(one)) == []
    first, second = picked(one), picked(one)
    assert [(message.id, message.seqs) for message in (first, second)] == [("d1.3", [1, 2, 3]), ("d4.2", [4, 5])]
    assert one.failed_for_good(second) == []
    one.delivered(first)
    messages = [picked(one), picked(one)]
    assert [(message.id, message.seqs) for message in messages] == [("d4", [4]), ("d5", [5])]
    assert [item.delivery.seq for item in one.failed_for_good(messages[1])] == [5]
    assert len(one) == 1


def test_while_everything_fails_one_message_at_a_time_is_sent_with_growing_waits() -> None:
    one = lane(*(delivery(n) for n in range(20)))
    now, waits = 0.0, []
    for message in [picked(one) for _ in range(FAILURES_UNTIL_SLOW)]:
        one.failed_transiently(message, TRANSIENT, now)
    for _ in range(12):
        wake = one.wake_at()
        assert wake is not None
        assert one.pick(wake - 0.001) is None
        waits.append(wake - now)
        now = wake
        message = picked(one, now)
        assert one.pick(now) is None  # one at a time
        one.failed_transiently(message, TRANSIENT, now)
    assert waits == sorted(waits)
    assert waits[-1] == SETTINGS.sink_longest
    one.delivered(picked(one, now + 60))
    assert len(all_picked(one, now + 60)) == 8  # it works again: everything at once


def test_failed_deliveries_are_retried_at_once_when_the_sink_recovers() -> None:
    one = lane(*(delivery(n) for n in range(5)))
    for message in [picked(one) for _ in range(5)]:
        one.failed_transiently(message, TRANSIENT, 0.0)
    wake = one.wake_at()
    assert wake is not None
    one.delivered(picked(one, wake))
    assert sorted(all_picked(one)) == [[1], [2], [3], [4]]


def test_one_message_that_fails_alone_does_not_slow_the_others() -> None:
    one = lane(*(delivery(n) for n in range(30)), concurrency=2)
    now = 0.0
    poison = picked(one)
    for _ in range(20):
        one.delivered(picked(one, now))
        one.failed_transiently(poison, TRANSIENT, now)
        assert not one.pace.slow
        now += 400
        poison = picked(one, now)
        assert poison.seqs == [0]


def test_a_sink_that_rejects_everything_is_held_and_probed_and_tried_at_once_when_recompiled() -> None:
    one = lane(*(delivery(n) for n in range(5)))
    now, waits = 0.0, []
    for _ in range(6):
        due = one.failed_for_the_sink(picked(one, now), REJECTED, now)
        waits.append(due - now)
        assert one.pace.held == "HTTP401"
        assert one.pick(due - 0.001) is None
        now = due
    assert waits == [30, 60, 120, 240, 300, 300]
    one.recompiled()
    assert not one.pace.held
    assert len(all_picked(one, now)) == 5


def test_retry_after_applies_to_the_whole_sink() -> None:
    one = lane(delivery(1), delivery(2))
    one.failed_transiently(picked(one), Failed(FailureClass.TRANSIENT, "HTTP429", "", 429, retry_after=90.0), 0.0)
    assert one.pick(89.9) is None
    assert all_picked(one, 90.0) == [[1], [2]]


def test_a_probe_is_sent_at_once_unless_the_receiver_asked_to_wait() -> None:
    one = lane(*(delivery(n) for n in range(10)), concurrency=1)
    for now in range(FAILURES_UNTIL_SLOW):
        one.failed_transiently(picked(one, float(now)), TRANSIENT, float(now))
    assert one.pick(2.5) is None
    one.pace.probe(2.5)
    one.failed_transiently(picked(one, 2.5), Failed(FailureClass.TRANSIENT, "HTTP503", "later", 503, retry_after=100.0), 2.5)
    one.pace.probe(4.0)
    assert one.pick(102.4) is None
    assert picked(one, 102.5)
    well = lane(delivery(1))
    well.pace.not_before = 5.0
    well.pace.probe(1.0)
    assert well.pick(1.0) is None, "a sink that is well waits for a reason of its own"


@pytest.mark.parametrize("blocked", ["Suspended", "Withdrawn"])
def test_nothing_is_sent_to_a_blocked_sink(blocked: str) -> None:
    one = lane(delivery(1))
    one.blocked = blocked
    assert one.pick(0) is None
    assert one.wake_at() is None


def test_a_discarded_delivery_is_removed_but_not_while_it_is_in_flight() -> None:
    one = lane(delivery(1, "a"), delivery(2, "a"), delivery(3, "b"))
    in_flight = picked(one)
    assert one.discard([1, 3, 99]) == ([1], [])
    assert len(one) == 2
    one.failed_transiently(in_flight, TRANSIENT, 0.0)
    assert one.discard([1]) == ([], [])
    assert all_picked(one) == [[2]]


def test_a_batch_that_lost_a_member_is_composed_again() -> None:
    one = lane(delivery(1), delivery(2), batch=2)
    message = picked(one)
    message.bound = True
    one.failed_transiently(message, TRANSIENT, 0.0)
    assert one.discard([1]) == ([], [1, 2])
    assert all_picked(one) == [[2]]


def test_discarding_a_window_costs_as_much_for_each_delivery_as_discarding_a_part_of_it() -> None:
    one = lane(*(delivery(n, f"k{n % 7}") for n in range(5000)), batch=1000)
    one.failed_transiently(picked(one), TRANSIENT, 0.0)
    assert one.discard(range(5000)) == ([], [])
    assert (len(one), one.memory.deliveries, one.memory.bytes) == (0, 0, 0)
    assert one.pick(1e9) is None


def test_a_firing_alert_and_its_resolution_leave_in_one_message_where_the_destination_shows_both() -> None:
    waiting = [delivery(1, "a"), delivery(2, "b"), delivery(3, "a"), delivery(4, "c"), delivery(5, "a")]
    assert all_picked(lane(*waiting, batch=4, joins_key=True)) == [[1, 2, 3, 5], [4]]
    assert all_picked(lane(*waiting, batch=10, joins_key=True)) == [[1, 2, 3, 4, 5]]
    assert all_picked(lane(*waiting, batch=10)) == [[1, 2, 4]]


def test_a_rejected_message_about_one_alert_is_taken_apart_in_order() -> None:
    one = lane(delivery(1, "a"), delivery(2, "a"), delivery(3, "a"), batch=10, joins_key=True, concurrency=3)
    assert one.failed_for_good(picked(one)) == []
    first = picked(one)
    assert (first.seqs, one.pick(0.0)) == ([1], None)
    assert [item.delivery.seq for item in one.failed_for_good(first)] == [1]
    assert all_picked(one) == [[2, 3]]


def test_a_batch_is_bounded_in_bytes() -> None:
    half = MAX_BATCH_BYTES // 2
    large = [without_body(delivery(n, body=b"x" * half)) for n in range(1, 4)]
    assert all_picked(lane(*large, batch=10)) == [[1, 2], [3]]
    assert all_picked(lane(without_body(delivery(1, body=b"x" * (half * 3))), batch=10)) == [[1]]


def test_bodies_beyond_the_memory_are_left_in_the_queue() -> None:
    memory = WindowMemory(max_bytes=25, max_lane_bytes=15)
    lanes = [Lane(Pace(SETTINGS, lambda: 1.0), memory) for _ in range(3)]
    for one in lanes:
        one.add(delivery(n, body=b"0123456789") for n in range(2))
    assert [one.bytes for one in lanes] == [10, 10, 0]
    assert memory.bytes == 20
    message = picked(lanes[0])
    assert [item.delivery.body for item in message.items] == [b"0123456789"]
    assert picked(lanes[0]).size == 10
    lanes[0].drop_bodies()
    assert [item.delivery.body for item in message.items] == [b"0123456789"], "what is in flight keeps its body"
    lanes[1].drop_bodies()
    lanes[0].delivered(message)
    assert (memory.bytes, memory.deliveries, [len(one) for one in lanes]) == (0, 5, [1, 2, 2])


def test_a_stored_composition_is_sent_whole_although_it_is_read_in_parts() -> None:
    one = lane(delivery(1, "a", batch="d1.3"), delivery(2, "b", batch="d1.3"), batch=10)
    one.lagging = True
    assert one.pick(0.0) is None
    assert one.stuck
    one.add([delivery(3, "c", batch="d1.3"), delivery(4, "d")])
    message = picked(one)
    assert (message.id, message.seqs, one.stuck) == ("d1.3", [1, 2, 3], False)
    gone = lane(delivery(1, "a", batch="d1.3"), delivery(3, "c", batch="d1.3"), batch=10)
    gone.caught_up()
    assert all_picked(gone) == [[1, 3]]


def test_a_window_that_is_read_again_forgets_everything() -> None:
    one = lane(delivery(1, "a"), delivery(2, "a"), delivery(3, due=5.0), delivery(4, batch="d4.2"))
    one.read_again()
    assert (len(one), one.lagging, one.last_seq, one.pick(1e9), one.memory.bytes, one.memory.deliveries) == (
        0,
        True,
        0,
        None,
        0,
        0,
    )
    one.add([delivery(1, "a"), delivery(2, "a")])
    assert all_picked(one) == [[1]]


def test_attempts_made_before_a_restart_count() -> None:
    one = lane(delivery(1, due=50.0))
    assert one.pick(49.0) is None
    message = picked(one, 50.0)
    assert message.attempts == 1


@pytest.mark.parametrize(
    ("attempts", "retry_after", "longest"),
    [
        (1, None, 1),
        (2, None, 2),
        (5, None, 16),
        (9, None, 256),
        (10, None, 300),
        (1000, None, 300),
        (1, 30.0, 30),
        (10, 30.0, 300),
    ],
)
def test_waits_grow_and_are_bounded(attempts: int, retry_after: float | None, longest: float) -> None:
    failed = Failed(FailureClass.TRANSIENT, "", "", retry_after=retry_after)
    assert message_wait(attempts, failed, SETTINGS, lambda: 1.0) == longest
    assert message_wait(attempts, failed, SETTINGS, lambda: 0.0) == (retry_after or 0)
    assert sink_wait(attempts, failed, SETTINGS, lambda: 1.0) <= 60
    assert probe_wait(attempts, SETTINGS) <= 300


steps = st.lists(
    st.sampled_from(["pick", "deliver", "fail", "reject", "hold", "recompile", "return", "expire", "add", "keep", "put off"]),
    max_size=80,
)


@given(steps, st.integers(1, 4), st.integers(1, 3), st.booleans(), st.booleans(), st.data())
def test_no_sequence_of_events_loses_or_reorders_deliveries(
    history: list[str], concurrency: int, batch: int, joins_key: bool, recomposes: bool, data: st.DataObject
) -> None:
    if recomposes:
        concurrency, joins_key = 1, True
    one = lane(concurrency=concurrency, batch=batch, joins_key=joins_key, recomposes=recomposes)
    waiting: dict[int, str] = {}
    in_flight: list[OutgoingMessage] = []
    seq, now = 0, 0.0

    def gone(seqs: list[int]) -> None:
        for number in seqs:
            del waiting[number]

    for step in history:
        now += 1000
        if step == "add":
            due = data.draw(st.sampled_from([0.0, now + 500]))
            more = [delivery(seq + n + 1, data.draw(st.sampled_from("abc")), due=due) for n in range(3)]
            seq += 3
            waiting.update({each.seq: each.key for each in more})
            one.add(more)
        elif step == "pick":
            message = one.pick(now)
            if message is not None:
                for position, item in enumerate(message.items):
                    before = message.seqs[:position]
                    earlier = [n for n, key in waiting.items() if key == item.delivery.key and n < item.delivery.seq]
                    assert set(earlier) <= set(before), "an earlier delivery of its key was still waiting"
                    assert joins_key or not earlier
                in_flight.append(message)
                assert len(in_flight) <= concurrency
        elif step == "recompile":
            one.recompiled()
        elif step == "expire" and waiting:
            numbers = data.draw(st.lists(st.sampled_from(sorted(waiting)), unique=True))
            staying, _ = one.discard(numbers)
            gone([number for number in numbers if number not in staying])
        elif step == "keep" and recomposes:
            for message in in_flight:
                keys = {item.delivery.key for item in message.items}
                kept = data.draw(st.lists(st.sampled_from(sorted(keys)), min_size=1, unique=True))
                one.keep(message, [item for item in message.items if item.delivery.key in kept])
        elif step == "keep" or (step == "put off" and not recomposes):
            continue
        elif in_flight:
            message = in_flight.pop(data.draw(st.integers(0, len(in_flight) - 1)))
            if step == "deliver":
                one.delivered(message)
                gone(message.seqs)
            elif step == "fail":
                one.failed_transiently(message, TRANSIENT, now)
            elif step == "reject":
                gone([item.delivery.seq for item in one.failed_for_good(message)])
            elif step == "hold":
                one.failed_for_the_sink(message, REJECTED, now)
            elif step == "put off":
                one.put_off(message, now + data.draw(st.sampled_from([100, 2000])))
            else:
                one.returned(message)
    for message in in_flight:
        one.delivered(message)
        gone(message.seqs)
    assert len(one) == len(waiting)
    while waiting:  # in the end, everything can be delivered
        now = max(now + 1000, one.wake_at() or 0.0)
        message = one.pick(now)
        assert message is not None
        one.delivered(message)
        gone(message.seqs)
    assert (len(one), one.memory.deliveries, one.memory.bytes) == (0, 0, 0)


def following(*deliveries: Delivery) -> Lane:
    """A lane whose messages are composed again each time."""
    return lane(*deliveries, concurrency=1, batch=10, joins_key=True, recomposes=True)


def test_of_a_message_of_which_only_some_is_sent_the_rest_leaves_in_the_next_with_what_has_come_since() -> None:
    one = following(delivery(1, "a"), delivery(2, "b"), delivery(3, "a"), delivery(4, "c"))
    message = picked(one)
    one.keep(message, [message.items[1]])
    assert (message.id, message.seqs, message.size) == ("d2", [2], 2)
    one.add([delivery(5, "b"), delivery(6, "d")])
    one.delivered(message)
    assert all_picked(one) == [[1, 3, 4, 5, 6]]


def test_deliveries_of_a_key_stay_in_order_when_only_the_first_is_sent() -> None:
    one = following(delivery(1, "a"), delivery(2, "a"))
    message = picked(one)
    one.keep(message, message.items[:1])
    assert one.idle
    one.delivered(message)
    assert all_picked(one) == [[2]]


def test_what_is_put_off_leaves_at_its_time_with_what_has_come_since_and_keeps_nothing_else_waiting() -> None:
    one = following(delivery(1, "a"), delivery(2, "b"))
    one.put_off(picked(one), 5.0)
    assert (one.wake_at(), one.pick(4.9), one.idle) == (5.0, None, False)
    one.add([delivery(3, "a"), delivery(4, "c")])
    message = picked(one)
    assert message.seqs == [4]
    one.delivered(message)
    assert all_picked(one, 5.0) == [[1, 2, 3]]


def test_a_changed_sink_is_sent_at_once_what_was_put_off_and_what_is_discarded_then_is_gone() -> None:
    one = following(delivery(1, "a"), delivery(2, "b"))
    one.put_off(picked(one), 1e9)
    one.recompiled()
    assert one.discard([1]) == ([], [])
    assert all_picked(one) == [[2]]


def test_a_retry_is_composed_anew_of_what_has_come_for_the_same_alerts() -> None:
    one = following(delivery(1, "a"))
    due = one.failed_transiently(picked(one), TRANSIENT, 0.0)
    one.add([delivery(2, "a"), delivery(3, "b")])
    message = picked(one)
    assert message.seqs == [3]
    one.delivered(message)
    message = picked(one, due)
    assert (message.id, message.seqs, message.attempts) == ("d1.2", [1, 2], 1)


def test_the_parts_of_a_rejected_message_stay_apart_although_they_are_put_off() -> None:
    one = following(delivery(1, "a"), delivery(2, "b"))
    assert one.failed_for_good(picked(one)) == []
    for seq in (1, 2):
        message = picked(one)
        assert message.seqs == [seq]
        one.put_off(message, 5.0)
    assert one.pick(4.9) is None
    assert picked(one, 5.0).seqs == [1]
