"""A lane decides which deliveries of one sink are sent: in order, in bounded numbers, slowly when everything fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.router.dispatch.lane import FAILURES_UNTIL_SLOW, Lane, Limits, OutgoingMessage
from eventsink.router.dispatch.retry import RetrySettings, message_wait, probe_wait, sink_wait
from eventsink.router.queue.protocol import Delivery, PayloadKind
from eventsink.sinks.sender import Failed, FailureClass

SETTINGS = RetrySettings()
TRANSIENT = Failed(FailureClass.TRANSIENT, "HTTP503", "x responded with 503", 503)
REJECTED = Failed(FailureClass.SINK, "HTTP401", "x responded with 401", 401)


def delivery(seq: int, key: str = "", *, batch: str = "", kind: PayloadKind = PayloadKind.ALERT, due: float = 0.0) -> Delivery:
    return Delivery(seq, f"d{seq}", "s", "acme", key or f"k{seq}", "firing", kind, b"{}", 0.0, 1e9, due, 1 if due else 0, batch)


def lane(*deliveries: Delivery, concurrency: int = 8, batch: int = 1) -> Lane:
    made = Lane(SETTINGS, lambda: 1.0, Limits(concurrency, batch))
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
        assert not one.slow
        now += 400
        poison = picked(one, now)
        assert poison.seqs == [0]


def test_a_sink_that_rejects_everything_is_held_and_probed_and_tried_at_once_when_recompiled() -> None:
    one = lane(*(delivery(n) for n in range(5)))
    now, waits = 0.0, []
    for _ in range(6):
        due = one.failed_for_the_sink(picked(one, now), REJECTED, now)
        waits.append(due - now)
        assert one.held == "HTTP401"
        assert one.pick(due - 0.001) is None
        now = due
    assert waits == [30, 60, 120, 240, 300, 300]
    one.recompiled()
    assert not one.held
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
    one.probe(2.5)
    one.failed_transiently(picked(one, 2.5), Failed(FailureClass.TRANSIENT, "HTTP503", "later", 503, retry_after=100.0), 2.5)
    one.probe(4.0)
    assert one.pick(102.4) is None
    assert picked(one, 102.5)
    well = lane(delivery(1))
    well.not_before = 5.0
    well.probe(1.0)
    assert well.pick(1.0) is None, "a sink that is well waits for a reason of its own"


@pytest.mark.parametrize("blocked", ["Suspended", "Withdrawn"])
def test_nothing_is_sent_to_a_blocked_sink(blocked: str) -> None:
    one = lane(delivery(1))
    one.blocked = blocked
    assert one.pick(0) is None
    assert one.wake_at() is None


def test_an_expired_delivery_is_removed_but_not_while_it_is_in_flight() -> None:
    one = lane(delivery(1, "a"), delivery(2, "a"), delivery(3, "b"))
    in_flight = picked(one)
    assert one.expire(1) == (None, [])
    item, void = one.expire(3)
    assert item is not None
    assert void == []
    one.failed_transiently(in_flight, TRANSIENT, 0.0)
    assert one.expire(1)[0] is not None
    assert all_picked(one) == [[2]]


def test_a_batch_that_lost_a_member_is_composed_again() -> None:
    one = lane(delivery(1), delivery(2), batch=2)
    message = picked(one)
    message.bound = True
    one.failed_transiently(message, TRANSIENT, 0.0)
    item, void = one.expire(1)
    assert item is not None
    assert void == [1, 2]
    assert all_picked(one) == [[2]]


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
    st.sampled_from(["pick", "deliver", "fail", "reject", "hold", "recompile", "return", "expire", "add"]), max_size=80
)


@given(steps, st.integers(1, 4), st.integers(1, 3), st.data())
def test_no_sequence_of_events_loses_or_reorders_deliveries(
    history: list[str], concurrency: int, batch: int, data: st.DataObject
) -> None:
    one = lane(concurrency=concurrency, batch=batch)
    waiting: dict[int, str] = {}
    in_flight: list[OutgoingMessage] = []
    seq, now = 0, 0.0

    def gone(seqs: list[int]) -> None:
        for number in seqs:
            del waiting[number]

    for step in history:
        now += 1000
        if step == "add":
            more = [delivery(seq + n + 1, data.draw(st.sampled_from("abc"))) for n in range(3)]
            seq += 3
            waiting.update({each.seq: each.key for each in more})
            one.add(more)
        elif step == "pick":
            message = one.pick(now)
            if message is not None:
                for item in message.items:
                    earlier = [n for n, key in waiting.items() if key == item.delivery.key and n < item.delivery.seq]
                    assert not earlier, "an earlier delivery of its key was still waiting"
                in_flight.append(message)
                assert len(in_flight) <= concurrency
        elif step == "recompile":
            one.recompiled()
        elif step == "expire" and waiting:
            number = data.draw(st.sampled_from(sorted(waiting)))
            if one.expire(number)[0] is not None:
                gone([number])
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
            else:
                one.returned(message)
    for message in in_flight:
        one.delivered(message)
        gone(message.seqs)
    assert len(one) == len(waiting)
    while waiting:  # in the end, everything can be delivered
        now += 1000
        message = one.pick(now)
        assert message is not None
        one.delivered(message)
        gone(message.seqs)
    assert len(one) == 0
