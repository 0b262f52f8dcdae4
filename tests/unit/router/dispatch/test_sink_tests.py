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
from eventsink.sinks.sink import Withdrawn
from tests.unit.router.dispatch.dispatching import HANG, MESSAGE, SINK, TRANSIENT, Make, World
from tests.unit.router.sinks import sink, slack_sink, uid

LONG = 20.0


def the(world: World, name: str = "s") -> Any:
    return next(one for one in world.sinks if one.name == name)


async def test_a_test_alert_goes_to_its_sink_alone_and_says_what_it_is(worlds: Make) -> None:
    world = await worlds(sink("s"), sink("t")).start()
    result = await world.tests.test(the(world), LONG)
    assert (result.delivered, result.status, result.reason) == (True, "2xx", "")
    assert world.senders["t"].sent == []
    [(identifier, [body])] = world.senders["s"].sent
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
    await world.until_empty()


async def test_each_test_is_sent_also_right_after_another(worlds: Make) -> None:
    world = await worlds().start()
    results = await asyncio.gather(*(world.tests.test(the(world), LONG) for _ in range(MAX_UNDER_WAY_OF_A_SINK)))
    assert all(one.delivered for one in results)
    assert len({one.id for one in results}) == len(world.senders["s"].sent) == MAX_UNDER_WAY_OF_A_SINK


async def test_a_sink_of_the_alertmanager_format_gets_a_notification(worlds: Make) -> None:
    world = await worlds(sink("s", webhook={"format": "alertmanager"})).start()
    assert (await world.tests.test(the(world), LONG)).delivered
    notification = json.loads(world.arrived()[0])
    assert notification["version"] == "4"
    assert notification["alerts"][0]["labels"]["alertname"] == "EventSinkTest"


@pytest.mark.parametrize(
    ("outcome", "reason"), [(TRANSIENT, "HTTP503"), (MESSAGE, "HTTP400"), (SINK, "HTTP401")], ids=["transient", "message", "sink"]
)
async def test_the_first_attempt_decides_what_is_reported(worlds: Make, outcome: Failed, reason: str) -> None:
    world = worlds()
    world.senders["s"].script = [outcome]
    await world.start()
    result = await world.tests.test(the(world), LONG)
    assert (result.delivered, result.status, result.reason, result.message) == (False, f"{reason[4]}xx", reason, outcome.message)


async def test_a_held_sink_is_tried_at_once_and_its_failure_is_that_of_the_test(worlds: Make) -> None:
    world = worlds()
    world.senders["s"].script = [SINK, SINK]
    await world.start()
    await world.put("a")
    await world.until(lambda: len(world.senders["s"].sent) == 1)
    # The next probe is an hour away, and what is tried then is the alert that waits for longest.
    result = await world.tests.test(the(world), LONG)
    assert (result.delivered, result.reason) == (False, "HTTP401")
    assert world.arrived() == ["a", "a"]
    # Mended: everything leaves, the older alert first.
    assert (await world.tests.test(the(world), LONG)).delivered
    await world.until_empty()
    assert len(world.arrived()) == 5


async def test_a_batch_that_is_taken_apart_decides_nothing_about_the_test_in_it(worlds: Make) -> None:
    def refuse_bad(message: Message) -> Outcome:
        return MESSAGE if b"bad" in message.alerts else Delivered(200)

    queued: list[Delivery] = []

    async def deliver_once_the_test_is_queued(_: Message) -> Outcome:
        await world.until(lambda: len(queued) == 4)
        return Delivered(200)

    world = worlds(sink("s", webhook={"batch": 10}))
    world.senders["s"].script = [SINK, deliver_once_the_test_is_queued, *[refuse_bad] * 20]
    await world.start()
    world.queue.subscribe(queued.extend)
    await world.put("first")
    await world.until(lambda: world.dispatcher.held_sinks() == 1)
    await world.put("bad", "good")
    assert (await world.tests.test(the(world), LONG)).delivered
    together = [alerts for _, alerts in world.senders["s"].sent if "bad" in alerts and len(alerts) == 3]
    assert together, "the test alert was in the batch that was refused"


async def test_without_an_outcome_in_time_the_result_says_so_and_the_alert_stays_queued(worlds: Make) -> None:
    world = worlds()
    world.senders["s"].script = [HANG]
    await world.start()
    result = await world.tests.test(the(world), 0.05)
    assert (result.delivered, result.status, result.reason) == (False, "", "NoOutcome")
    assert "within 0.05 s" in result.message
    assert result.id == world.senders["s"].sent[0][0]
    [waiting] = await world.queue.take(uid("s"), after=0, limit=10)
    assert waiting.expires <= world.queue.clock() + MAX_AGE_SECONDS


async def test_a_cancelled_wait_takes_nothing_back_and_leaves_nothing_behind(worlds: Make) -> None:
    world = worlds()
    release = asyncio.Event()

    async def slow(message: Message) -> Outcome:
        await release.wait()
        return Delivered(200)

    await world.start()
    world.senders["s"].send = slow  # type: ignore[method-assign]
    for _ in range(MAX_UNDER_WAY_OF_A_SINK * 2):
        asking = asyncio.ensure_future(world.tests.test(the(world), LONG))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
    release.set()
    await world.until_empty()
    assert (await world.tests.test(the(world), LONG)).delivered


async def test_too_many_tests_of_one_sink_are_rejected(worlds: Make) -> None:
    world = worlds(sink("s"), sink("t"))
    world.senders["s"].script = [HANG] * 10
    await world.start()
    asking = [asyncio.ensure_future(world.tests.test(the(world), LONG)) for _ in range(MAX_UNDER_WAY_OF_A_SINK)]
    await world.until(lambda: len(world.senders["s"].sent) == MAX_UNDER_WAY_OF_A_SINK)
    with pytest.raises(TooManyTests, match="to this sink"):
        await world.tests.test(the(world), LONG)
    assert (await world.tests.test(the(world, "t"), LONG)).delivered
    for one in asking:
        one.cancel()
    await asyncio.wait(asking)


async def test_nothing_is_sent_to_a_sink_that_may_not_send(worlds: Make) -> None:
    withdrawn = sink("t").model_copy(update={"withdrawn": Withdrawn(reason="TenantNotOwned", since=""), "webhook": None})
    world = await worlds(sink("s", suspend=True), withdrawn).start()
    with pytest.raises(CannotTest, match="suspended"):
        await world.tests.test(the(world), LONG)
    with pytest.raises(CannotTest, match="TenantNotOwned"):
        await world.tests.test(the(world, "t"), LONG)
    assert world.queue.depth().waiting == 0


async def test_a_slack_channel_is_tested_like_any_other_sink(worlds: Make) -> None:
    world = await worlds(slack_sink(), rateLimitInterval="10ms").start()
    assert (await world.tests.test(the(world), LONG)).delivered


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
def test_what_is_reported(outcome: Outcome | None, last_error: str, expected: SinkTestResult) -> None:
    assert result_of("x", outcome, last_error, 1.50001, 10.0) == expected
