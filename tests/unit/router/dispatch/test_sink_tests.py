"""Test alerts go to one sink like any alert, and their outcome is reported at once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from eventsink.router.dispatch.sink_tests import (
    MAX_AGE_SECONDS,
    MAX_UNDER_WAY_OF_A_SINK,
    CannotTest,
    SinkTestResult,
    TooManyTests,
    result_of,
)
from eventsink.router.queue.protocol import Delivery
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, Outcome
from tests.unit.router.dispatch.dispatching import (
    DEADLINE_SECONDS,
    HANG,
    MESSAGE,
    SINK,
    TRANSIENT,
    DispatchUnderTest,
    MakeDispatch,
)
from tests.unit.router.sinks import sink, slack_sink, uid, withdrawn_sink

LONG = 20.0


def the(dispatch: DispatchUnderTest, name: str = "s") -> Any:
    return next(one for one in dispatch.sinks if one.name == name)


async def test_a_test_alert_goes_to_its_sink_alone_and_says_what_it_is(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch(sink("s"), sink("t")).start()
    result = await dispatch.tests.test(the(dispatch), LONG)
    assert (result.delivered, result.status, result.reason) == (True, "2xx", "")
    assert dispatch.senders["t"].sent == []
    [(identifier, [body])] = dispatch.senders["s"].sent
    assert identifier == result.id
    alert = json.loads(body)
    assert (alert["name"], alert["severity"], alert["status"], alert["tenant"]) == (
        "EventSinkTest",
        "informational",
        "event",
        "acme",
    )
    assert alert["source"] == "eventsink-test"
    assert "test alert" in alert["summary"]
    await dispatch.until_empty()


async def test_a_test_right_after_another_is_sent_too(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch().start()
    results = await asyncio.gather(*(dispatch.tests.test(the(dispatch), LONG) for _ in range(MAX_UNDER_WAY_OF_A_SINK)))
    assert all(one.delivered for one in results)
    assert len({one.id for one in results}) == len(dispatch.senders["s"].sent) == MAX_UNDER_WAY_OF_A_SINK


async def test_a_sink_of_the_alertmanager_format_gets_a_notification(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch(sink("s", webhook={"format": "alertmanager"})).start()
    assert (await dispatch.tests.test(the(dispatch), LONG)).delivered
    notification = json.loads(dispatch.arrived()[0])
    assert notification["version"] == "4"
    assert notification["alerts"][0]["labels"]["alertname"] == "EventSinkTest"


@pytest.mark.parametrize(
    ("outcome", "reason"), [(TRANSIENT, "HTTP503"), (MESSAGE, "HTTP400"), (SINK, "HTTP401")], ids=["transient", "message", "sink"]
)
async def test_the_first_attempt_decides_what_is_reported(make_dispatch: MakeDispatch, outcome: Failed, reason: str) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [outcome]
    await dispatch.start()
    result = await dispatch.tests.test(the(dispatch), LONG)
    assert (result.delivered, result.status, result.reason, result.message) == (False, f"{reason[4]}xx", reason, outcome.message)


async def test_a_rejected_test_is_a_dead_letter_when_that_is_reported(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch().start()
    for _ in range(10):
        dispatch.senders["s"].script = [MESSAGE]
        result = await dispatch.tests.test(dispatch.directory.sinks[uid("s")], DEADLINE_SECONDS)
        assert result.id in [one.id for one in await dispatch.dead()]


async def test_testing_a_held_sink_probes_it_at_once_and_reports_its_failure(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [SINK, SINK]
    await dispatch.start()
    await dispatch.put("a")
    await dispatch.until(lambda: len(dispatch.senders["s"].sent) == 1)
    # The next probe is an hour away, and what is tried then is the alert that waits for longest.
    result = await dispatch.tests.test(the(dispatch), LONG)
    assert (result.delivered, result.reason) == (False, "HTTP401")
    assert dispatch.arrived() == ["a", "a"]
    # The sink works again: everything is sent, the older alert first.
    assert (await dispatch.tests.test(the(dispatch), LONG)).delivered
    await dispatch.until_empty()
    assert len(dispatch.arrived()) == 5


async def test_the_rejection_of_a_batch_is_not_reported_as_the_outcome_of_a_test_in_it(make_dispatch: MakeDispatch) -> None:
    def reject_bad(message: Message) -> Outcome:
        return MESSAGE if b"bad" in message.alerts else Delivered(200)

    queued: list[Delivery] = []

    async def deliver_once_the_test_is_queued(_: Message) -> Outcome:
        await dispatch.until(lambda: len(queued) == 4)
        return Delivered(200)

    dispatch = make_dispatch(sink("s", webhook={"batch": 10}))
    dispatch.senders["s"].script = [SINK, deliver_once_the_test_is_queued, *[reject_bad] * 20]
    await dispatch.start()
    dispatch.queue.subscribe(queued.extend)
    await dispatch.put("first")
    await dispatch.until(lambda: dispatch.dispatcher.held_sinks() == 1)
    await dispatch.put("bad", "good")
    assert (await dispatch.tests.test(the(dispatch), LONG)).delivered
    together = [alerts for _, alerts in dispatch.senders["s"].sent if "bad" in alerts and len(alerts) == 3]
    assert together, "the test alert was in the batch that was rejected"


async def test_a_test_without_an_outcome_in_time_says_so_and_stays_queued(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    dispatch.senders["s"].script = [HANG]
    await dispatch.start()
    result = await dispatch.tests.test(the(dispatch), 0.05)
    assert (result.delivered, result.status, result.reason) == (False, "", "NoOutcome")
    assert "within 0.05 s" in result.message
    assert result.id == dispatch.senders["s"].sent[0][0]
    [waiting] = await dispatch.queue.take(uid("s"), after=0, limit=10)
    assert waiting.expires <= dispatch.queue.clock() + MAX_AGE_SECONDS


async def test_a_test_whose_caller_is_cancelled_is_still_delivered_and_leaks_nothing(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch()
    release = asyncio.Event()

    async def slow(message: Message) -> Outcome:
        await release.wait()
        return Delivered(200)

    await dispatch.start()
    dispatch.senders["s"].send = slow  # type: ignore[method-assign]
    for _ in range(MAX_UNDER_WAY_OF_A_SINK * 2):
        asking = asyncio.ensure_future(dispatch.tests.test(the(dispatch), LONG))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
    release.set()
    await dispatch.until_empty()
    assert (await dispatch.tests.test(the(dispatch), LONG)).delivered


async def test_too_many_tests_of_one_sink_are_rejected(make_dispatch: MakeDispatch) -> None:
    dispatch = make_dispatch(sink("s"), sink("t"))
    dispatch.senders["s"].script = [HANG] * 10
    await dispatch.start_with_a_response()
    asking = [asyncio.ensure_future(dispatch.tests.test(the(dispatch), LONG)) for _ in range(MAX_UNDER_WAY_OF_A_SINK)]
    await dispatch.until(lambda: len(dispatch.senders["s"].sent) == MAX_UNDER_WAY_OF_A_SINK)
    with pytest.raises(TooManyTests, match="to this sink"):
        await dispatch.tests.test(the(dispatch), LONG)
    assert (await dispatch.tests.test(the(dispatch, "t"), LONG)).delivered
    for one in asking:
        one.cancel()
    await asyncio.wait(asking)


async def test_a_suspended_or_withdrawn_sink_cannot_be_tested(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch(sink("s", suspend=True), withdrawn_sink("t")).start()
    with pytest.raises(CannotTest, match="suspended"):
        await dispatch.tests.test(the(dispatch), LONG)
    with pytest.raises(CannotTest, match="TenantNotOwned"):
        await dispatch.tests.test(the(dispatch, "t"), LONG)
    assert dispatch.queue.depth().waiting == 0


async def test_a_slack_channel_is_tested_like_any_other_sink(make_dispatch: MakeDispatch) -> None:
    dispatch = await make_dispatch(slack_sink(), rateLimitInterval="10ms").start()
    assert (await dispatch.tests.test(the(dispatch), LONG)).delivered


@pytest.mark.parametrize(
    ("outcome", "last_error", "expected"),
    [
        (Delivered(204), "", SinkTestResult("x", True, "2xx", "", "the test alert arrived", 1.5)),
        (Failed(FailureClass.SINK, "TLS", "no trust"), "", SinkTestResult("x", False, "", "TLS", "no trust", 1.5)),
        (
            None,
            "Timeout: slow",
            SinkTestResult(
                "x",
                False,
                "",
                "NoOutcome",
                "the test alert was not delivered within 10 s; it is tried for 60 s in all; the last error of the sink is Timeout: slow",
                1.5,
            ),
        ),
    ],
)
def test_each_outcome_has_its_reported_result(outcome: Outcome | None, last_error: str, expected: SinkTestResult) -> None:
    assert result_of("x", outcome, last_error, 1.50001, 10.0) == expected
