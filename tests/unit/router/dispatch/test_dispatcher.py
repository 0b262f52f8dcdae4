"""Dispatch over a real queue and scripted senders: everything arrives or is explained, and nobody waits for another."""

from __future__ import annotations

import asyncio
import itertools

from prometheus_client import CollectorRegistry

from eventsink.router.dispatch.dispatcher import Dispatcher
from eventsink.router.dispatch.health import DeliveringState
from eventsink.router.metrics import DispatchMetrics
from eventsink.router.queue.protocol import DeliveryFilter
from eventsink.router.queue.sqlite import QueueSettings
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, Outcome
from eventsink.sinks.sink import Withdrawn
from tests.unit.router.dispatch.dispatching import (
    DEADLINE_SECONDS,
    HANG,
    MESSAGE,
    SINK,
    TRANSIENT,
    AnnouncingQueue,
    Make,
    ScriptedSender,
    World,
)
from tests.unit.router.sinks import directory, sink, slack_sink, uid


async def test_what_is_committed_is_sent_and_settled(worlds: Make) -> None:
    world = await worlds().start()
    await world.put("a", "b", "c")
    await world.until_empty()
    assert sorted(world.arrived()) == ["a", "b", "c"]
    health = world.dispatcher.health(uid("s"))
    assert health is not None
    assert (health.state, health.reason, health.last_error) == (DeliveringState.TRUE, "Delivered", "")
    assert health.last_delivered is not None


async def test_a_transient_failure_is_tried_again_under_the_same_id(worlds: Make) -> None:
    world = worlds()
    world.senders["s"].script = [TRANSIENT, TRANSIENT]
    await world.start()
    await world.put("a")
    await world.until_empty()
    assert len(world.senders["s"].sent) == 3
    assert len({identifier for identifier, _ in world.senders["s"].sent}) == 1


async def test_a_sender_that_raises_costs_an_attempt_and_no_storm(worlds: Make) -> None:
    def fail(_: Message) -> Outcome:
        raise KeyError("a defect")

    world = worlds()
    world.senders["s"].script = [fail, fail]
    await world.start()
    await world.put("a")
    await world.until_empty()
    assert len(world.senders["s"].sent) == 3
    assert [one.attempts for one in await world.dead()] == []


async def test_a_rejected_message_is_dead_lettered_and_the_next_is_sent(worlds: Make) -> None:
    world = worlds()
    world.senders["s"].script = [MESSAGE]
    await world.start()
    await world.put("bad")
    await world.put("good")
    await world.until_empty()
    assert [(one.name, one.reason, one.detail) for one in await world.dead()] == [
        ("bad", "HTTP400", "https://x responded with 400")
    ]
    assert "good" in world.arrived()


async def test_a_sink_that_rejects_everything_is_held_until_it_is_compiled_again(worlds: Make) -> None:
    world = worlds()
    world.senders["s"].script = [SINK] * 8
    await world.start()
    for number in range(30):
        await world.put(f"a{number}")
    await world.until(lambda: ("s", "HTTP401") in [(name, health.reason) for name, health in world.health])
    assert world.held() == {"s": "HTTP401"}
    assert world.queue.depth().waiting == 30
    assert world.dispatcher.held_sinks() == 1
    assert len(world.senders["s"].sent) <= 8
    world.senders["s"].script = []
    world.directory.put(sink("s", generation=2))
    await world.until_empty()
    assert set(world.arrived()) == {f"a{number}" for number in range(30)}
    assert world.held() == {}
    assert await world.dead() == []


async def test_a_sink_that_was_held_before_a_restart_is_not_held_once_something_arrives(worlds: Make) -> None:
    world = worlds()
    world.senders["s"].script = [SINK]
    await world.start()
    await world.put("a")
    await world.until(lambda: world.held() == {"s": "HTTP401"})
    await world.stop()
    again = await worlds().start()
    await again.put("b")
    await again.until(lambda: ("s", "Delivered") in [(name, health.reason) for name, health in again.health])
    assert (again.arrived(), again.held()) == (["b"], {})


async def test_one_hanging_sink_delays_no_other(worlds: Make) -> None:
    world = worlds(sink("s"), sink("t"), maxInFlight=9)
    world.senders["s"].script = [HANG] * 1000
    await world.start()
    for number in range(200):
        await world.put(f"a{number}", sinks=("s", "t"))
    await world.until(lambda: len(world.arrived("t")) == 200)
    assert len(world.senders["s"].sent) == 8  # its own concurrency, and no more


async def test_a_resolution_never_overtakes_its_firing_alert(worlds: Make) -> None:
    world = worlds()
    world.senders["s"].script = [TRANSIENT] * 5
    await world.start()
    for name in ("firing", "resolved", "again"):
        await world.put(name, key="same")
    await world.until_empty()
    assert world.arrived() == ["firing"] * 6 + ["resolved", "again"]


async def test_what_waits_in_the_queue_beyond_the_window_is_read_in_time(worlds: Make) -> None:
    release = asyncio.Event()
    world = worlds(window=1000, maxInMemory=1000)
    original = world.senders["s"].send

    async def slow(message: Message) -> Outcome:
        await release.wait()
        return await original(message)

    world.senders["s"].send = slow  # type: ignore[method-assign]
    await world.start()
    for start in range(0, 2500, 250):
        await world.put(*(f"a{n}" for n in range(start, start + 250)))
    health = world.dispatcher.health(uid("s"))
    assert health is not None
    assert 0 < health.waiting <= 1000
    release.set()
    await world.until_empty()
    assert sorted(world.arrived()) == sorted(f"a{n}" for n in range(2500))


async def test_a_delivery_read_from_the_queue_and_reported_too_is_sent_once(worlds: Make) -> None:
    world = await worlds(sink("s", suspend=True)).start()
    await world.put("a")
    world.queue.announce(await world.queue.take(uid("s"), after=0, limit=10))
    world.directory.put(sink("s"))
    await world.until_empty()
    await world.put("b")
    await world.until_empty()
    assert [alerts for _, alerts in world.senders["s"].sent] == [["a"], ["b"]]


async def test_what_waited_before_a_restart_is_sent_after_it_in_the_same_composition(worlds: Make) -> None:
    batching = sink("s", webhook={"batch": 3})
    world = worlds(batching)
    world.senders["s"].script = [HANG] * 8
    await world.start()
    await world.put("a", "b", "c", "d")
    await world.until(lambda: len(world.senders["s"].sent) == 2)
    before = sorted(world.senders["s"].sent)
    assert [alerts for _, alerts in before] == [["a", "b", "c"], ["d"]]
    await world.stop()
    again = worlds(batching)
    await again.start()
    await again.until_empty()
    assert sorted(again.senders["s"].sent) == before


async def test_a_rejected_batch_is_taken_apart_and_only_the_bad_alert_is_dead_lettered(worlds: Make) -> None:
    def refuse_b(message: Message) -> Outcome:
        return MESSAGE if b"b" in message.alerts else Delivered(200)

    world = worlds(sink("s", webhook={"batch": 3}))
    world.senders["s"].script = [refuse_b] * 20
    await world.start()
    await world.put("a", "b", "c")
    await world.until_empty()
    assert [one.name for one in await world.dead()] == ["b"]
    assert {"a", "c"} <= set(world.arrived())


async def test_a_slack_message_is_a_digest_of_everything_waiting_and_is_found_by_its_id(worlds: Make) -> None:
    world = worlds(slack_sink(), rateLimitInterval="300ms")
    world.senders["s"].script = [Delivered(200, "C1/1.5"), Delivered(200, "C1/2.5")]
    await world.start()
    await world.put("first")
    await world.until(lambda: world.senders["s"].sent)
    await world.put(*(f"a{n}" for n in range(60)))
    await world.until_empty()
    messages = world.senders["s"].sent
    assert [len(alerts) for _, alerts in messages] == [1, 60]
    found = await world.queue.look_up(DeliveryFilter(message=messages[1][0]), limit=100)
    assert [record.name for record in found] == [f"a{n}" for n in range(60)]
    assert {record.reference for record in found} == {"C1/2.5"}


async def test_sinks_that_share_a_channel_take_turns_and_another_channel_does_not_wait(worlds: Make) -> None:
    world = await worlds(slack_sink("a"), slack_sink("b"), slack_sink("c", "C2"), rateLimitInterval="200ms").start()
    started = asyncio.get_running_loop().time()
    for number in range(3):
        await world.put(f"x{number}", sinks=("a", "b", "c"))
        await world.until(lambda count=number + 1: all(len(world.senders[one].sent) >= count for one in "ab"))  # type: ignore[misc]
    shared = sorted(world.senders["a"].times + world.senders["b"].times)
    assert all(later - earlier >= 0.19 for earlier, later in itertools.pairwise(shared))
    assert world.senders["c"].times[0] - started < shared[1] - started


async def test_when_a_channel_asks_to_wait_all_its_sinks_do(worlds: Make) -> None:
    world = worlds(slack_sink("a"), slack_sink("b"), rateLimitInterval="1ms")
    limited = Failed(FailureClass.TRANSIENT, "RateLimited", "Slack asks to wait", 429, retry_after=0.5)
    world.senders["a"].script = [limited]
    await world.start()
    await world.put("x", sinks=("a",))
    await world.until(lambda: world.health or world.senders["a"].sent)
    await world.put("y", sinks=("b",))
    await world.until_empty()
    assert world.senders["b"].times[0] - world.senders["a"].times[0] >= 0.49


async def test_nothing_is_sent_to_a_suspended_or_withdrawn_sink_until_it_is_resumed(worlds: Make) -> None:
    withdrawn = sink("s").model_copy(update={"withdrawn": Withdrawn(reason="TenantNotOwned", since=""), "webhook": None})
    world = await worlds(withdrawn).start()
    await world.put("a")
    await world.queue.flush()
    health = world.dispatcher.health(uid("s"))
    assert health is not None
    assert (health.reason, health.waiting, world.arrived()) == ("Withdrawn", 1, [])
    world.directory.put(sink("s", suspend=True))
    assert world.health[-1][1].reason == "Suspended"
    world.directory.put(sink("s"))
    await world.until_empty()
    assert world.arrived() == ["a"]


async def test_the_deliveries_of_a_deleted_sink_become_dead_letters(worlds: Make) -> None:
    world = worlds()
    world.senders["s"].script = [HANG] * 8
    await world.start()
    await world.put(*(f"a{n}" for n in range(20)))
    world.directory.remove(uid("s"))
    await world.until_empty()
    assert {one.reason for one in await world.dead()} == {"SinkDeleted"}
    assert len(await world.dead()) == 20
    assert world.gone == [uid("s")]
    await world.put("late")  # accepted a moment before the sink went
    await world.until(lambda: world.queue.depth().dead == 21)
    assert world.senders["s"].closed


async def test_a_sink_that_was_deleted_while_the_router_was_down_leaves_dead_letters(worlds: Make) -> None:
    world = worlds()
    world.senders["s"].script = [HANG]
    await world.start()
    await world.put("a")
    await world.stop()
    other = await worlds(sink("t")).start()
    assert [one.reason for one in await other.dead()] == ["SinkDeleted"]


async def test_a_sink_that_cannot_be_read_is_not_taken_for_deleted(worlds: Make) -> None:
    world = worlds()
    world.senders["s"].script = [HANG]
    await world.start()
    await world.put("a")
    await world.stop()
    other = World(world.folder, sink("t"))
    other.senders["s"] = ScriptedSender()
    other.queue = await AnnouncingQueue.open(QueueSettings(path=world.folder / "q.db", min_free_bytes=0))
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


async def test_a_delivery_of_another_tenant_is_never_sent(worlds: Make) -> None:
    world = await worlds().start()
    await world.put("stolen", tenant="globex")
    await world.until_empty()
    assert world.arrived() == []
    assert [one.reason for one in await world.dead()] == ["TenantMismatch"]


async def test_an_expired_delivery_is_dead_lettered_and_what_follows_is_sent(worlds: Make) -> None:
    world = worlds()
    world.senders["s"].script = [SINK] * 8
    await world.start()
    await world.put("old", max_age=0.0)
    await world.put("young")
    expiry = asyncio.ensure_future(world.dispatcher.watch_expiry())
    await world.until(lambda: world.queue.depth().dead == 1)
    expiry.cancel()
    assert [(one.name, one.reason) for one in await world.dead()] == [("old", "MaxAge")]
    assert world.queue.depth().waiting == 1


async def test_stopping_lets_messages_in_flight_finish_and_keeps_the_rest(worlds: Make) -> None:
    world = worlds()
    release = asyncio.Event()
    original = world.senders["s"].send

    async def slow(message: Message) -> Outcome:
        await release.wait()
        return await original(message)

    world.senders["s"].send = slow  # type: ignore[method-assign]
    await world.start()
    await world.put(*(f"a{n}" for n in range(20)))
    await world.until(lambda: world.dispatcher.in_flight == 8)
    stopping = asyncio.ensure_future(world.dispatcher.stop(DEADLINE_SECONDS))
    await asyncio.sleep(0)
    release.set()
    await stopping
    await world.queue.flush()
    assert len(world.arrived()) == 8
    assert world.queue.depth().waiting == 12
