"""Dispatch over a real queue and scripted senders: everything arrives or is explained, and nobody waits for another."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping

import pytest
from prometheus_client import CollectorRegistry

from eventsink.router.dispatch import dispatcher, health, outflow, settlement, window
from eventsink.router.dispatch.dispatcher import Dispatcher
from eventsink.router.dispatch.health import DeliveringState
from eventsink.router.metrics import DispatchMetrics
from eventsink.router.queue.delivery_log import DeliveryFilter, DeliveryState
from eventsink.router.queue.protocol import Delivery, PayloadKind
from eventsink.router.queue.sqlite import QueueSettings
from eventsink.router.queue.states import SinkReport
from eventsink.runtime.turns import LongWork
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, Outcome
from tests.unit.router.dispatch.dispatching import (
    DEADLINE_SECONDS,
    HANG,
    MESSAGE,
    SINK,
    TRANSIENT,
    AnnouncingQueue,
    DispatchUnderTest,
    MakeDispatch,
    ScriptedSender,
)
from tests.unit.router.sinks import directory, sink, slack_sink, uid, withdrawn_sink


async def test_a_committed_delivery_is_sent_and_settled(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch().start()
    await dispatch.put("a", "b", "c")
    await dispatch.until_empty()
    assert sorted(dispatch.arrived()) == ["a", "b", "c"]
    health = dispatch.dispatcher.health(uid("s"))
    assert health is not None
    assert (health.state, health.reason, health.last_error) == (DeliveringState.TRUE, "Delivered", "")
    assert health.last_delivered is not None


async def test_a_transient_failure_is_retried_with_the_same_message_id(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [TRANSIENT, TRANSIENT]
    await dispatch.start()
    await dispatch.put("a")
    await dispatch.until_empty()
    assert len(dispatch.senders["s"].sent) == 3
    assert len({identifier for identifier, _ in dispatch.senders["s"].sent}) == 1


async def test_a_sender_that_raises_costs_one_attempt_and_is_retried_after_a_wait(make_dispatch: MakeDispatch) -> None:
    def fail(_: Message) -> Outcome:
        raise KeyError("a defect")

    dispatch = make_dispatch()
    dispatch.senders["s"].script = [fail, fail]
    await dispatch.start()
    await dispatch.put("a")
    await dispatch.until_empty()
    assert len(dispatch.senders["s"].sent) == 3
    assert [one.attempts for one in await dispatch.dead()] == []


async def test_a_rejected_message_is_dead_lettered_and_the_next_is_sent(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [MESSAGE]
    await dispatch.start()
    await dispatch.put("bad")
    await dispatch.put("good")
    await dispatch.until_empty()
    assert [(one.name, one.reason, one.detail) for one in await dispatch.dead()] == [
        ("bad", "HTTP400", "https://x responded with 400")
    ]
    assert "good" in dispatch.arrived()


async def test_a_rejected_message_delays_nobody_while_its_dead_letter_waits_for_the_disk(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(sink("s"), sink("t"), maxInFlight=1)
    dispatch.senders["s"].script = [MESSAGE] * 3
    await dispatch.start()
    dispatch.queue.stalled = asyncio.Event()
    await dispatch.put("bad", "worse", "worst")
    await dispatch.put("good", sinks=("t",))
    await dispatch.until(lambda: dispatch.arrived("t") == ["good"] and len(dispatch.arrived()) == 3)
    await dispatch.until(lambda: dispatch.dispatcher.in_flight == 0)
    assert await dispatch.dead() == []
    dispatch.queue.stalled.set()
    await dispatch.until_empty()
    assert {one.name for one in await dispatch.dead()} == {"bad", "worse", "worst"}


def states(dispatch: DispatchUnderTest) -> list[tuple[str, str]]:
    return [(one.state.value, one.reason) for _, one in dispatch.health]


async def test_a_sink_that_rejects_message_after_message_says_so_until_one_arrives(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch().start()
    await dispatch.put("arrives")
    await dispatch.until_empty()
    dispatch.senders["s"].script = [MESSAGE] * 3
    await dispatch.put("a", "b")
    await dispatch.until_empty()
    assert states(dispatch) == [("True", "Delivered")]
    await dispatch.put("c")
    await dispatch.until_empty()
    assert states(dispatch)[-1] == ("False", "HTTP400")
    shown = dispatch.health[-1][1]
    assert shown.message.startswith("https://x responded with 400; every message is rejected")
    assert "replay" in shown.message
    assert dispatch.held() == {}
    await dispatch.put("d")
    await dispatch.until_empty()
    assert states(dispatch)[-1] == ("True", "Delivered")
    assert [one.name for one in await dispatch.dead()] == ["a", "b", "c"]


async def test_what_a_sink_that_rejects_everything_said_before_a_restart_holds_until_a_message_arrives(
    make_dispatch: MakeDispatch,
) -> None:
    dispatch = make_dispatch()
    dispatch.reports = {uid("s"): SinkReport(uid("s"), "False", "HTTP400", "every message is rejected")}
    dispatch.senders["s"].script = [MESSAGE]
    await dispatch.start()
    await dispatch.put("a")
    await dispatch.until_empty()
    shown = dispatch.dispatcher.health(uid("s"))
    assert shown is not None
    assert (shown.state, shown.reason) == (DeliveringState.FALSE, "HTTP400")
    await dispatch.put("b")
    await dispatch.until_empty()
    assert states(dispatch) == [("True", "Delivered")]


async def test_a_sink_that_rejects_every_second_message_delivers(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [Delivered(200), MESSAGE] * 8
    await dispatch.start()
    for number in range(16):
        await dispatch.put(f"a{number}")
        await dispatch.until_empty()
    assert states(dispatch) == [("True", "Delivered")]
    assert len(await dispatch.dead()) == 8


async def test_one_bad_alert_in_a_large_batch_is_no_sink_that_rejects_everything(make_dispatch: MakeDispatch) -> None:
    def reject_first(message: Message) -> Outcome:
        return MESSAGE if b"a0" in message.alerts else Delivered(200)

    dispatch = make_dispatch(sink("s", webhook={"batch": 16}))
    dispatch.senders["s"].script = [reject_first] * 40
    await dispatch.start()
    await dispatch.put(*(f"a{number}" for number in range(16)))
    await dispatch.until_empty()
    assert states(dispatch) == [("True", "Delivered")]
    assert [(one.name, one.attempts) for one in await dispatch.dead()] == [("a0", 5)]


async def test_a_dead_letter_counts_all_its_attempts(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [TRANSIENT, TRANSIENT, MESSAGE, MESSAGE]
    await dispatch.start()
    await dispatch.put("tried")
    await dispatch.until_empty()
    await dispatch.put("rejected at once")
    await dispatch.until_empty()
    assert [(one.name, one.attempts) for one in await dispatch.dead()] == [("tried", 3), ("rejected at once", 1)]


async def test_what_was_rejected_just_before_the_end_is_a_dead_letter(make_dispatch: MakeDispatch) -> None:
    dispatch, rejected = make_dispatch(), asyncio.Event()

    async def reject() -> Outcome:
        await rejected.wait()
        return MESSAGE

    dispatch.senders["s"].script = [lambda _: reject()]
    await dispatch.start()
    await dispatch.put("bad")
    await dispatch.until(lambda: dispatch.senders["s"].sent)
    rejected.set()
    await dispatch.stop(grace=10.0)
    await dispatch.start()
    assert [one.name for one in await dispatch.dead()] == ["bad"]
    assert dispatch.queue.depth().waiting == 0


async def test_a_sink_that_rejects_everything_is_held_until_it_is_compiled_again(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [SINK] * 8
    await dispatch.start()
    for number in range(30):
        await dispatch.put(f"a{number}")
    await dispatch.until(lambda: ("s", "HTTP401") in [(name, health.reason) for name, health in dispatch.health])
    assert dispatch.held() == {"s": "HTTP401"}
    assert dispatch.queue.depth().waiting == 30
    assert dispatch.dispatcher.held_sinks() == 1
    assert len(dispatch.senders["s"].sent) <= 8
    dispatch.senders["s"].script = []
    dispatch.directory.put(sink("s", generation=2))
    await dispatch.until_empty()
    assert set(dispatch.arrived()) == {f"a{number}" for number in range(30)}
    assert dispatch.held() == {}
    assert await dispatch.dead() == []


HOURS: Mapping[str, object] = {"first": "2h", "longest": "2h", "sinkLongest": "2h", "probeFirst": "2h", "probeLongest": "2h"}
REFUSED = Failed(FailureClass.TRANSIENT, "ConnectionRefused", "https://x: the connection was refused")


@pytest.mark.parametrize("failure", [SINK, REFUSED, TRANSIENT])
async def test_what_failed_is_tried_at_once_after_a_restart(make_dispatch: MakeDispatch, failure: Failed) -> None:
    dispatch = make_dispatch(retry=HOURS)
    dispatch.senders["s"].script = [failure] * 3
    await dispatch.start()
    for name in "abc":
        await dispatch.put(name)
    await dispatch.until(lambda: dispatch.health)
    await dispatch.stop()
    again = await make_dispatch(retry=HOURS).start()
    await again.until_empty()
    assert sorted(again.arrived()) == ["a", "b", "c"]
    assert again.held() == {}


async def test_after_a_restart_a_sink_says_what_it_said_before_and_changes_with_the_next_outcome(
    make_dispatch: MakeDispatch,
) -> None:
    dispatch = make_dispatch(sink("s"), sink("t"))
    dispatch.reports |= {
        uid("s"): SinkReport(uid("s"), "True", "Delivered", "", "", 1.8e9),
        uid("t"): SinkReport(uid("t"), "False", "HTTP401", "https://x responded with 401", "", 1.7e9, "HTTP401: 401"),
    }
    await dispatch.start()
    before = [dispatch.dispatcher.health(uid(name)) for name in "st"]
    assert [(one.state.value, one.reason, one.last_delivered, one.last_error) for one in before if one] == [
        ("True", "Delivered", 1.8e9, ""),
        ("False", "HTTP401", 1.7e9, "HTTP401: 401"),
    ]
    await dispatch.put("a", sinks=("s", "t"))
    await dispatch.until_empty()
    assert [(name, health.reason) for name, health in dispatch.health] == [("t", "Delivered")], "for s nothing changed"


async def test_sinks_that_failed_before_a_restart_are_not_all_tried_at_the_same_moment(
    make_dispatch: MakeDispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "SPREAD_SECONDS", 1.0)
    names = [f"s{number}" for number in range(20)]
    dispatch = make_dispatch(*(sink(name) for name in names))
    dispatch.reports |= {uid(name): SinkReport(uid(name), "False", "EgressRefused") for name in names[1:]}
    await dispatch.start()
    await dispatch.put("a", sinks=tuple(names))
    began = asyncio.get_running_loop().time()
    await dispatch.until_empty()
    times = [dispatch.senders[name].times[0] - began for name in names]
    assert times[0] < min(0.5, max(times)), "it did not fail before"
    assert max(times) - min(times[1:]) > 0.3


async def test_a_receiver_that_asked_to_wait_is_left_alone_after_a_restart(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [Failed(FailureClass.TRANSIENT, "HTTP429", "https://x responded with 429", 429, 3600.0)]
    await dispatch.start()
    await dispatch.put("a", "b")
    await dispatch.until(lambda: dispatch.metric("attempts_total", kind="webhook", outcome="transient") == 1)
    await dispatch.stop()
    again = make_dispatch(sink("s"), sink("t"))
    await again.start()
    await again.put("c", sinks=("s", "t"))
    await again.until(lambda: again.arrived("t"))
    assert again.arrived() == []
    again.directory.put(sink("s", generation=2))
    await again.until_empty()


async def test_a_sink_that_is_compiled_again_before_its_deliveries_are_read_is_tried_at_once(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [Failed(FailureClass.TRANSIENT, "HTTP429", "https://x responded with 429", 429, 3600.0)]
    await dispatch.start()
    await dispatch.put("a")
    await dispatch.until(lambda: dispatch.metric("attempts_total", kind="webhook", outcome="transient") == 1)
    await dispatch.stop()
    again = await make_dispatch().start()
    again.directory.put(sink("s", generation=2))  # what waits is being read
    await again.until_empty()


async def test_a_sink_of_which_everything_fails_says_so_and_is_not_held(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [TRANSIENT] * 3
    await dispatch.start()
    await dispatch.put("a")
    await dispatch.until_empty()
    states = [(health.state, health.reason, health.held) for _, health in dispatch.health]
    assert states == [(DeliveringState.FALSE, "HTTP503", ""), (DeliveringState.TRUE, "Delivered", "")]


async def test_one_hanging_sink_delays_no_other(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(sink("s"), sink("t"), maxInFlight=9)
    dispatch.senders["s"].script = [HANG] * 1000
    await dispatch.start_with_a_response()
    for number in range(200):
        await dispatch.put(f"a{number}", sinks=("s", "t"))
    await dispatch.until(lambda: len(dispatch.arrived("t")) == 200)
    assert len(dispatch.senders["s"].sent) == 5  # of 9, the rest is for others


async def test_until_a_receiver_responds_one_message_at_a_time_leaves_and_only_that_fails(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(retry={"first": "1h", "longest": "1h"})
    receiver = asyncio.get_running_loop().create_future()
    no_response = Failed(FailureClass.TRANSIENT, "Timeout", "https://x: Timeout")
    dispatch.senders["s"].script = [receiver, *[HANG] * 20]
    await dispatch.start()
    await dispatch.put(*(f"a{n}" for n in range(20)))
    await dispatch.until(lambda: dispatch.arrived() == ["a0"])
    receiver.set_result(no_response)
    await dispatch.until(lambda: dispatch.arrived() == ["a0", "a1"])
    assert dispatch.dispatcher.in_flight == 1
    await dispatch.queue.flush()
    assert sorted(one.attempts for one in await dispatch.queue.look_up(DeliveryFilter(), limit=30)) == [0] * 19 + [1]


async def test_after_a_response_as_many_leave_as_may_be_in_flight(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    receiver = asyncio.get_running_loop().create_future()
    dispatch.senders["s"].script = [receiver, *[HANG] * 20]
    await dispatch.start()
    await dispatch.put(*(f"a{n}" for n in range(20)))
    await dispatch.until(lambda: dispatch.arrived() == ["a0"])
    receiver.set_result(TRANSIENT)
    await dispatch.until(lambda: dispatch.dispatcher.in_flight == 8)


async def test_a_resolution_never_overtakes_its_firing_alert(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [TRANSIENT] * 5
    await dispatch.start()
    for name in ("firing", "resolved", "again"):
        await dispatch.put(name, key="same")
    await dispatch.until_empty()
    assert dispatch.arrived() == ["firing"] * 6 + ["resolved", "again"]


async def test_deliveries_beyond_the_window_are_read_from_the_queue_in_time(make_dispatch: MakeDispatch) -> None:
    release = asyncio.Event()
    dispatch = make_dispatch(window=1000, maxInMemory=1000)
    original = dispatch.senders["s"].send

    async def slow(message: Message) -> Outcome:
        await release.wait()
        return await original(message)

    dispatch.senders["s"].send = slow  # type: ignore[method-assign]
    await dispatch.start()
    for start in range(0, 2500, 250):
        await dispatch.put(*(f"a{n}" for n in range(start, start + 250)))
    health = dispatch.dispatcher.health(uid("s"))
    assert health is not None
    assert 0 < health.waiting <= 1000
    release.set()
    await dispatch.until_empty()
    assert sorted(dispatch.arrived()) == sorted(f"a{n}" for n in range(2500))


async def test_a_delivery_that_is_both_read_and_announced_is_sent_once(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch(sink("s", suspend=True)).start()
    await dispatch.put("a")
    dispatch.queue.announce(await dispatch.queue.take(uid("s"), after=0, limit=10))
    dispatch.directory.put(sink("s"))
    await dispatch.until_empty()
    await dispatch.put("b")
    await dispatch.until_empty()
    assert [alerts for _, alerts in dispatch.senders["s"].sent] == [["a"], ["b"]]


async def test_what_waited_before_a_restart_is_sent_although_more_is_committed_while_it_is_loaded(
    make_dispatch: MakeDispatch,
) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [HANG] * 2
    await dispatch.start()
    await dispatch.put("a", "b")
    await dispatch.stop()
    other = make_dispatch()
    await other.start("c")
    await other.until_empty()
    assert sorted(other.arrived()) == ["a", "b", "c"]


async def test_a_sink_waits_for_what_is_being_stored_for_the_same_message(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(sink("s", webhook={"batch": 10}), sink("other"))
    await dispatch.start_with_a_response()
    first, second = dispatch.dispatcher.gather([uid("s"), uid("gone")]), dispatch.dispatcher.gather([uid("s")])
    await dispatch.put("a", "b")
    first()
    await dispatch.put("c")
    await dispatch.put("o", sinks=("other",))
    await dispatch.until(lambda: dispatch.senders["other"].sent)
    assert dispatch.senders["s"].sent == []
    second()
    second()
    await dispatch.until_empty()
    assert [alerts for _, alerts in dispatch.senders["s"].sent] == [["a", "b", "c"]]


async def test_a_sink_waits_for_the_rest_of_a_message_for_a_limited_time(
    make_dispatch: MakeDispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "GATHER_SECONDS", 0.05)
    dispatch = make_dispatch(sink("s", webhook={"batch": 10}))
    await dispatch.start_with_a_response()
    dispatch.dispatcher.gather([uid("s")])
    await dispatch.put("a", "b")
    assert dispatch.senders["s"].sent == []
    await dispatch.until_empty()


async def test_a_batch_is_sent_in_the_same_composition_after_a_restart(make_dispatch: MakeDispatch) -> None:
    batching = sink("s", webhook={"batch": 3})
    dispatch = make_dispatch(batching)
    dispatch.senders["s"].script = [HANG] * 8
    await dispatch.start_with_a_response()
    await dispatch.put("a", "b", "c", "d")
    await dispatch.until(lambda: len(dispatch.senders["s"].sent) == 2)
    before = sorted(dispatch.senders["s"].sent)
    assert [alerts for _, alerts in before] == [["a", "b", "c"], ["d"]]
    await dispatch.stop()
    again = make_dispatch(batching)
    await again.start()
    await again.until_empty()
    assert sorted(again.senders["s"].sent) == before


async def test_a_rejected_batch_is_split_and_only_the_bad_alert_is_dead_lettered(make_dispatch: MakeDispatch) -> None:
    def reject_b(message: Message) -> Outcome:
        return MESSAGE if b"b" in message.alerts else Delivered(200)

    dispatch = make_dispatch(sink("s", webhook={"batch": 3}))
    dispatch.senders["s"].script = [reject_b] * 20
    await dispatch.start()
    await dispatch.put("a", "b", "c")
    await dispatch.until_empty()
    assert [one.name for one in await dispatch.dead()] == ["b"]
    assert {"a", "c"} <= set(dispatch.arrived())


async def test_a_slack_message_is_a_digest_of_everything_waiting_and_is_found_by_its_id(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(slack_sink(), rateLimitInterval="300ms")
    dispatch.senders["s"].script = [Delivered(200, "C1/1.5"), Delivered(200, "C1/2.5")]
    await dispatch.start()
    await dispatch.put("first")
    await dispatch.until(lambda: dispatch.senders["s"].sent)
    await dispatch.put(*(f"a{n}" for n in range(60)))
    await dispatch.until_empty()
    messages = dispatch.senders["s"].sent
    assert [len(alerts) for _, alerts in messages] == [1, 60]
    found = await dispatch.queue.look_up(DeliveryFilter(message=messages[1][0]), limit=100)
    assert [record.name for record in found] == [f"a{n}" for n in range(60)]
    assert {record.reference for record in found} == {"C1/2.5"}


async def test_only_a_destination_that_shows_messages_to_people_has_its_deliveries_recorded(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch(sink("s"), slack_sink("c")).start()
    await dispatch.put("a", sinks=("s", "c"))
    await dispatch.until_empty()
    arrived = await dispatch.queue.look_up(DeliveryFilter(state=DeliveryState.ARRIVED), limit=10)
    assert [record.sink for record in arrived] == [uid("c")]


async def test_the_wait_between_messages_to_a_channel_counts_from_the_response(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(slack_sink("a"), slack_sink("b"), rateLimitInterval="200ms")
    responded = 0.0

    async def slow(_: Message) -> Outcome:
        nonlocal responded
        await asyncio.sleep(0.15)
        responded = asyncio.get_running_loop().time()
        return Delivered(200)

    dispatch.senders["a"].script = [slow]
    await dispatch.start()
    await dispatch.put("x", sinks=("a",))
    await dispatch.until(lambda: dispatch.senders["a"].sent)
    await dispatch.put("y", sinks=("b",))
    await dispatch.until_empty()
    assert dispatch.senders["b"].times[0] - responded >= 0.19


async def test_sinks_that_share_a_channel_take_turns_and_another_channel_does_not_wait(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch(slack_sink("a"), slack_sink("b"), slack_sink("c", "C2"), rateLimitInterval="200ms").start()
    started = asyncio.get_running_loop().time()
    for number in range(3):
        await dispatch.put(f"x{number}", sinks=("a", "b", "c"))
        await dispatch.until(lambda count=number + 1: all(len(dispatch.senders[one].sent) >= count for one in "ab"))  # type: ignore[misc]
    shared = sorted(dispatch.senders["a"].times + dispatch.senders["b"].times)
    assert all(later - earlier >= 0.19 for earlier, later in itertools.pairwise(shared))
    assert dispatch.senders["c"].times[0] - started < shared[1] - started


async def test_retry_after_of_a_channel_makes_all_its_sinks_wait(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(slack_sink("a"), slack_sink("b"), rateLimitInterval="1ms")
    limited = Failed(FailureClass.TRANSIENT, "RateLimited", "Slack asks to wait", 429, retry_after=0.5)
    dispatch.senders["a"].script = [limited]
    await dispatch.start()
    await dispatch.put("x", sinks=("a",))
    await dispatch.until(lambda: dispatch.health or dispatch.senders["a"].sent)
    await dispatch.put("y", sinks=("b",))
    await dispatch.until_empty()
    assert dispatch.senders["b"].times[0] - dispatch.senders["a"].times[0] >= 0.49


async def test_nothing_is_sent_to_a_suspended_or_withdrawn_sink_until_it_is_resumed(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch(withdrawn_sink("s")).start()
    await dispatch.put("a")
    await dispatch.queue.flush()
    health = dispatch.dispatcher.health(uid("s"))
    assert health is not None
    assert (health.reason, health.waiting, dispatch.arrived()) == ("Withdrawn", 1, [])
    dispatch.directory.put(sink("s", suspend=True))
    assert dispatch.health[-1][1].reason == "Suspended"
    dispatch.directory.put(sink("s"))
    await dispatch.until_empty()
    assert dispatch.arrived() == ["a"]


@pytest.mark.parametrize("outcome", [Delivered(200), MESSAGE, SINK, TRANSIENT])
async def test_a_message_that_was_under_way_when_its_sink_was_suspended_does_not_hide_that(
    make_dispatch: MakeDispatch, outcome: Outcome
) -> None:
    dispatch = make_dispatch()

    async def suspend() -> Outcome:
        dispatch.directory.put(sink("s", suspend=True))
        return outcome

    dispatch.senders["s"].script = [lambda _message: suspend()]
    await dispatch.start()
    await dispatch.put("a")
    await dispatch.until(lambda: dispatch.senders["s"].sent and not dispatch.dispatcher.in_flight)
    found = dispatch.dispatcher.health(uid("s"))
    assert found is not None
    assert found.reason == "Suspended"


async def test_the_deliveries_of_a_deleted_sink_become_dead_letters(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [HANG] * 8
    await dispatch.start()
    await dispatch.put(*(f"a{n}" for n in range(20)))
    dispatch.directory.remove(uid("s"))
    await dispatch.until_empty()
    assert {one.reason for one in await dispatch.dead()} == {"SinkDeleted"}
    assert len(await dispatch.dead()) == 20
    await dispatch.put("late")  # accepted a moment before the sink went
    await dispatch.until(lambda: dispatch.queue.depth().dead == 21)
    assert dispatch.senders["s"].closed


async def test_a_sink_that_is_deleted_while_its_deliveries_are_read_leaves_nothing_in_memory(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(sink("s"), sink("t"))
    for name in "st":
        dispatch.senders[name].script = [HANG] * 8
    await dispatch.start()
    await dispatch.put(*(f"a{n}" for n in range(3000)), sinks=("s", "t"))
    await dispatch.stop()
    other = await make_dispatch(sink("s"), sink("t", suspend=True)).start()
    other.directory.remove(uid("s"))
    other.directory.remove(uid("t"))
    await other.until(lambda: other.queue.depth().dead + len(other.arrived("s")) == 6000)
    await other.until(lambda: other.dispatcher.in_flight == 0)
    assert other.dispatcher.bytes_in_memory == 0


async def test_a_sink_that_is_deleted_just_as_a_message_leaves_has_nothing_in_flight(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [HANG]
    await dispatch.start()
    await dispatch.until(lambda: dispatch.dispatcher.in_flight == 0)
    delivery = Delivery(10**6, "a", uid("s"), "acme", "a", "firing", PayloadKind.ALERT, b"a", created=0.0, expires=1e9)
    dispatch.queue.announce([delivery])
    assert dispatch.dispatcher.in_flight == 1
    dispatch.directory.remove(uid("s"))
    await dispatch.until(lambda: dispatch.dispatcher.in_flight == 0)


async def test_a_sink_that_was_deleted_while_the_router_was_down_leaves_dead_letters(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [HANG]
    await dispatch.start()
    await dispatch.put("a")
    await dispatch.stop()
    other = await make_dispatch(sink("t")).start()
    assert [one.reason for one in await other.dead()] == ["SinkDeleted"]


async def test_the_deliveries_of_an_unreadable_sink_are_kept(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [HANG]
    await dispatch.start()
    await dispatch.put("a")
    await dispatch.stop()
    other = DispatchUnderTest(dispatch.folder, sink("t"))
    other.senders["s"] = ScriptedSender()
    other.queue = await AnnouncingQueue.open(QueueSettings(path=dispatch.folder / "q.db", min_free_bytes=0))
    other.directory = directory(sink("t"))
    other.directory.withheld.add(uid("s"))
    other.dispatcher = Dispatcher(
        other.settings, other.queue, other.directory, lambda one: other.senders[one.name], DispatchMetrics(CollectorRegistry())
    )
    await other.dispatcher.load()
    assert other.queue.depth().waiting == 1
    other.directory.withheld.clear()
    other.directory.put(sink("s"))
    await other.until_empty()
    assert other.arrived("s") == ["a"]
    await other.stop()


async def test_a_delivery_of_another_tenant_is_never_sent(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch().start()
    await dispatch.put("stolen", tenant="globex")
    await dispatch.until_empty()
    assert dispatch.arrived() == []
    assert [one.reason for one in await dispatch.dead()] == ["TenantMismatch"]


async def test_a_delivery_that_was_not_handed_over_is_found_and_sent_in_order(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(checkInterval="50ms")
    release = asyncio.Event()

    async def wait(_: Message) -> Outcome:
        await release.wait()
        return Delivered(200)

    dispatch.senders["s"].script = [wait]
    await dispatch.start()
    await dispatch.put("first", key="a")
    dispatch.queue.lost = frozenset({"lost"})
    await dispatch.put("firing", key="lost")
    dispatch.queue.lost = frozenset()
    await dispatch.put("resolved", key="a")
    checking = asyncio.ensure_future(dispatch.dispatcher.watch_lanes())
    await dispatch.until(lambda: dispatch.metric("lanes_repaired_total") == 1)
    assert dispatch.arrived() == ["first"], "nothing leaves before what is in flight has landed"
    release.set()
    await dispatch.until_empty()
    assert sorted(dispatch.arrived()) == ["firing", "first", "resolved"]
    await asyncio.sleep(0.12)
    assert dispatch.metric("lanes_repaired_total") == 1
    checking.cancel()


async def test_a_backlog_that_is_only_sent_and_read_in_parts_is_no_reason_for_a_repair(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(sink("s"), sink("t", suspend=True), checkInterval="1ms", window=1000, maxInMemory=1000)
    await dispatch.start()
    checking = asyncio.ensure_future(dispatch.dispatcher.watch_lanes())
    for start in range(0, 3000, 500):
        await dispatch.put(*(f"a{n}" for n in range(start, start + 500)), sinks=("s", "t"))
    await dispatch.until(lambda: len(set(dispatch.arrived())) == 3000)
    assert dispatch.metric("lanes_repaired_total") == 0
    checking.cancel()


async def test_what_waits_for_a_sink_that_nobody_said_was_gone_becomes_dead_letters(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch(checkInterval="20ms").start()
    dispatch.queue.lost = frozenset({"a"})
    await dispatch.put("a", sinks=("unknown",))
    checking = asyncio.ensure_future(dispatch.dispatcher.watch_lanes())
    await dispatch.until(lambda: dispatch.queue.depth().dead == 1)
    assert [one.reason for one in await dispatch.dead()] == ["SinkDeleted"]
    checking.cancel()


async def test_messages_in_flight_are_bounded_in_bytes_and_leave_room_for_another_tenant(make_dispatch: MakeDispatch) -> None:
    mib = 1024**2
    sinks = [sink(f"s{n}") for n in range(20)]
    dispatch = make_dispatch(*sinks, sink("other", tenant="globex"), maxInFlightBytes=10 * mib, maxBytesInMemory=8 * mib)
    for one in sinks:
        dispatch.senders[one.name].script = [HANG] * 8
    await dispatch.start()
    for number in range(5):
        await dispatch.put(f"a{number}", sinks=tuple(one.name for one in sinks), body=b"x" * mib)
    assert 5 * mib < dispatch.dispatcher.bytes_in_flight <= 7 * mib
    assert dispatch.dispatcher.bytes_in_memory <= 8 * mib
    await dispatch.put("b", sinks=("other",), tenant="globex", body=b"y" * mib)
    await dispatch.until(lambda: dispatch.arrived("other") == ["y" * mib])
    assert dispatch.metric("share_waits_total", share="tenant") > 0
    assert dispatch.metric("share_waits_total", share="all") == 0


async def test_a_body_that_is_not_in_memory_is_read_when_it_is_sent(make_dispatch: MakeDispatch) -> None:
    mib = 1024**2
    dispatch = make_dispatch(sink("s"), sink("t", webhook={"batch": 5}), maxBytesInMemory=mib, windowBytes=mib)
    await dispatch.start()
    bodies = [bytes([number]) * (mib // 2) for number in range(10)]
    for number, body in enumerate(bodies):
        await dispatch.put(f"a{number}", sinks=("s", "t"), body=body)
        assert dispatch.dispatcher.bytes_in_memory <= mib
    await dispatch.until_empty()
    for name in "st":
        assert sorted(dispatch.arrived(name)) == [body.decode() for body in bodies]
    assert dispatch.dispatcher.bytes_in_memory == 0


async def test_a_sink_that_waits_for_its_tenants_share_says_so(
    make_dispatch: MakeDispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "REPORT_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(outflow, "REPORT_WAIT_SECONDS", 0.01)
    slow = [sink(f"s{n}") for n in range(6)]
    dispatch = make_dispatch(*slow, sink("t"), sink("other", tenant="globex"), maxInFlight=6)
    for one in slow:
        dispatch.senders[one.name].script = [HANG]
    await dispatch.start()
    await dispatch.put("a", sinks=tuple(one.name for one in slow))
    await dispatch.put("b", sinks=("t",))
    await dispatch.put("c", sinks=("other",), tenant="globex")
    await dispatch.until(lambda: dispatch.arrived("other"))
    watching = asyncio.ensure_future(dispatch.dispatcher.watch_lanes())
    await dispatch.until(lambda: ("t", "TenantShare") in [(name, shown.reason) for name, shown in dispatch.health])
    assert dispatch.arrived("t") == []
    for one in slow:
        dispatch.directory.remove(one.uid)
    await dispatch.until(lambda: dispatch.arrived("t") == ["b"])
    await dispatch.until(lambda: dispatch.health[-1][0] == "t" and dispatch.health[-1][1].reason == "Delivered")
    watching.cancel()


async def test_a_sink_whose_deliveries_cannot_be_read_says_so_until_they_can(
    make_dispatch: MakeDispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "READ_AGAIN_SECONDS", 0.01)
    dispatch = make_dispatch(window=1000)
    release = asyncio.Event()

    async def wait(_: Message) -> Outcome:
        await release.wait()
        return Delivered(200)

    dispatch.senders["s"].script = [wait] * 32
    await dispatch.start()
    for start in range(0, 2500, 250):
        await dispatch.put(*(f"a{n}" for n in range(start, start + 250)))
    dispatch.queue.unreadable = True
    release.set()
    await dispatch.until(lambda: dispatch.health and dispatch.health[-1][1].reason == "QueueUnreadable")
    shown = dispatch.health[-1][1]
    assert shown.state is DeliveringState.FALSE
    assert shown.last_error.startswith("QueueUnreadable: the router cannot read what waits for it")
    assert dispatch.queue.depth().waiting > 0
    dispatch.queue.unreadable = False
    await dispatch.until_empty()
    await dispatch.until(lambda: dispatch.health[-1][1].reason == "Delivered")
    assert dispatch.health[-1][1].last_error == ""


async def test_a_backlog_expires_as_fast_as_it_can_be_queued_and_what_is_in_flight_stays(make_dispatch: MakeDispatch) -> None:
    release = asyncio.Event()

    async def wait(_: Message) -> Outcome:
        await release.wait()
        return Delivered(200)

    dispatch = make_dispatch(expiryInterval="100ms", window=1000)
    dispatch.senders["s"].script = [wait] * 8
    await dispatch.start_with_a_response()
    for start in range(0, 6000, 1000):
        await dispatch.put(*(f"a{n}" for n in range(start, start + 1000)), max_age=0.05)
    expiry = asyncio.ensure_future(dispatch.dispatcher.watch_expiry())
    await dispatch.until(lambda: dispatch.queue.depth().dead == 5992)
    assert dispatch.queue.depth().waiting == 8
    release.set()
    await dispatch.until_empty()
    await dispatch.put("young")
    await dispatch.until_empty()
    assert len(dispatch.arrived()) == 9
    expiry.cancel()


async def test_only_the_expired_delivery_is_dead_lettered(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [SINK] * 8
    await dispatch.start()
    await dispatch.put("old", max_age=0.0)
    await dispatch.put("young")
    expiry = asyncio.ensure_future(dispatch.dispatcher.watch_expiry())
    await dispatch.until(lambda: dispatch.queue.depth().dead == 1)
    expiry.cancel()
    assert [(one.name, one.reason) for one in await dispatch.dead()] == [("old", "MaxAge")]
    assert dispatch.queue.depth().waiting == 1


async def test_on_stop_messages_in_flight_finish_and_the_rest_stays_queued(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch().start_with_a_response()
    release = asyncio.Event()
    original = dispatch.senders["s"].send

    async def slow(message: Message) -> Outcome:
        await release.wait()
        return await original(message)

    dispatch.senders["s"].send = slow  # type: ignore[method-assign]
    await dispatch.put(*(f"a{n}" for n in range(20)))
    await dispatch.until(lambda: dispatch.dispatcher.in_flight == 8)
    stopping = asyncio.ensure_future(dispatch.dispatcher.stop(DEADLINE_SECONDS))
    await asyncio.sleep(0)
    release.set()
    await stopping
    await dispatch.queue.flush()
    assert len(dispatch.arrived()) == 8
    assert dispatch.queue.depth().waiting == 12


class Receiver:
    """Responds to messages when a test wants it."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}

    def __call__(self, message: Message) -> asyncio.Future[Outcome]:
        response: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[message.id] = response
        return response

    def respond(self) -> None:
        """To the message that came first."""
        self._waiting.pop(next(iter(self._waiting))).set_result(Delivered(200))


async def test_a_tenant_that_found_all_bytes_in_flight_is_not_overtaken_for_ever(make_dispatch: MakeDispatch) -> None:
    kib, busy = 1024, ("b", "c", "d")
    sinks = [sink(name, tenant=f"of-{name}") for name in ("waiting", *busy)]
    dispatch = make_dispatch(*sinks, maxInFlightBytes=1024 * kib)
    receivers = {name: Receiver() for name in busy}
    for name, receiver in receivers.items():
        dispatch.senders[name].script = [receiver] * 100
    await dispatch.start()
    for name, size in (("b", 100), ("c", 400), ("d", 700)):
        for number in range(10):
            await dispatch.put(f"{name}{number}", sinks=(name,), tenant=f"of-{name}", body=b"x" * size * kib)
    await dispatch.until(lambda: all(dispatch.senders[name].sent for name in busy))
    await dispatch.put("w", sinks=("waiting",), tenant="of-waiting", body=b"x" * 400 * kib)
    assert not dispatch.arrived("waiting")
    receivers["b"].respond()  # what the others have in flight is still more than all
    await dispatch.until(lambda: dispatch.dispatcher.bytes_in_flight == 1100 * kib)
    receivers["c"].respond()
    await dispatch.until(lambda: dispatch.arrived("waiting"))


async def test_a_tenant_whose_next_message_is_too_large_keeps_no_other_from_the_room_that_is_left(
    make_dispatch: MakeDispatch,
) -> None:
    kib, names = 1024, map(str, itertools.count())
    sinks = [sink(name, tenant=f"of-{name}") for name in ("large", "small", "busy", "other")]
    dispatch = make_dispatch(*sinks, maxInFlightBytes=1024 * kib)
    await dispatch.start()
    receivers = {one.name: Receiver() for one in sinks}
    for name in receivers:  # until a receiver responds, one message at a time leaves
        await dispatch.put(next(names), sinks=(name,), tenant=f"of-{name}")
    await dispatch.until_empty()
    for name, receiver in receivers.items():
        dispatch.senders[name].script = [receiver] * 100
    for name, size in (("large", 1), ("other", 200), ("busy", 500), ("small", 150), ("small", 150), ("large", 600)):
        await dispatch.put(next(names), sinks=(name,), tenant=f"of-{name}", body=b"x" * size * kib)
    await dispatch.until(lambda: dispatch.dispatcher.bytes_in_flight == 851 * kib)
    receivers["busy"].respond()
    await dispatch.until(lambda: dispatch.dispatcher.bytes_in_flight == 501 * kib)
    assert {name: len(dispatch.arrived(name)) for name in receivers} == {"large": 2, "small": 3, "busy": 2, "other": 2}


async def test_what_left_just_before_its_sink_got_another_tenant_is_not_in_flight_for_ever(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch(sink("s", suspend=True)).start()
    await dispatch.put("a")
    dispatch.directory.put(sink("s"))
    assert dispatch.dispatcher.in_flight == 1
    dispatch.directory.put(sink("s", tenant="globex"))
    await dispatch.until_empty()
    await dispatch.until(lambda: dispatch.dispatcher.in_flight == 0)
    await dispatch.put("b", tenant="globex")
    await dispatch.until_empty()
    assert dispatch.arrived() == ["b"]
    assert [one.reason for one in await dispatch.dead()] == ["TenantMismatch"]


async def test_a_sink_whose_sender_cannot_be_opened_by_mistake_is_blocked_and_delays_no_other(
    make_dispatch: MakeDispatch,
) -> None:
    dispatch = make_dispatch(sink("s"), sink("t"))
    del dispatch.senders["s"]  # to open it raises a KeyError
    await dispatch.start()
    await dispatch.put("a", sinks=("s", "t"))
    await dispatch.until(lambda: dispatch.arrived("t") == ["a"])
    shown = dispatch.dispatcher.health(uid("s"))
    assert shown is not None
    assert (shown.reason, shown.waiting) == ("Unsupported", 1)


async def test_rejected_messages_that_wait_for_the_disk_are_bounded(
    make_dispatch: MakeDispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "MAX_UNRECORDED", 10)
    dispatch = make_dispatch(concurrency=4)
    dispatch.senders["s"].script = [MESSAGE] * 100
    await dispatch.start()
    dispatch.queue.stalled = asyncio.Event()
    await dispatch.put(*(f"a{number}" for number in range(100)))
    await dispatch.until(lambda: dispatch.dispatcher.in_flight >= 4)
    assert len(dispatch.senders["s"].sent) - dispatch.dispatcher.in_flight == 10
    dispatch.queue.stalled.set()
    await dispatch.until_empty()
    assert len(await dispatch.dead()) == 100


async def test_a_sink_waits_its_turn_once_whatever_was_committed_for_others_meanwhile(
    make_dispatch: MakeDispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"s{number}" for number in range(20)]
    dispatch = await make_dispatch(*[sink(name) for name in [*names, "late"]]).start_with_a_response()
    turn, turns, nobody_else = LongWork.turn, itertools.count(), asyncio.Event()

    async def counted(work: LongWork) -> float:
        await nobody_else.wait()
        next(turns)
        return await turn(work)

    monkeypatch.setattr(LongWork, "turn", counted)
    for number in range(50):
        await dispatch.put(f"{number}", sinks=tuple(names))
    await dispatch.put("last", sinks=(*names, "late"))
    nobody_else.set()
    await dispatch.until(lambda: dispatch.arrived("late") == ["last"])
    assert next(turns) <= len(names) + 1
    await dispatch.until_empty()
