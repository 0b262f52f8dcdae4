"""Quotas of tenants: what is over one is not queued, nobody else notices, and the sinks are caught up with the newest state."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eventsink.alerts.formats.registry import FORMATS
from eventsink.router.planning.quota_settings import QuotaSettings
from eventsink.router.planning.quotas import BURST_SECONDS, QuotaLimit, Quotas, sink_room
from eventsink.router.queue.protocol import Batch, NewDelivery, Payload, PayloadKind, QueueUnavailable
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from eventsink.router.queue.sqlite.store import Store
from eventsink.sinks.sink import Tenancy
from tests.support.clock import ManualClock
from tests.support.parts import alert
from tests.support.throwaway_formats import TICKER, readings
from tests.unit.router.planning.planning import PlanningUnderTest
from tests.unit.router.planning.test_heartbeats import alert as heartbeat
from tests.unit.router.planning.test_heartbeats import post as post_heartbeat
from tests.unit.router.sinks import directory, sink, source, uid

Start = Callable[..., Awaitable[PlanningUnderTest]]
ROOM_FOR_FOUR = {"default": {"waitingDeliveries": 6}}
"""One sink of a tenant leaves a third of it to others."""


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts planning over these sinks; called again, it is a restart."""
    clock = ManualClock()
    running: list[PlanningUnderTest] = []

    async def stop() -> None:
        for one in running:
            await one.stop()
            await one.queue.close()
        running.clear()

    async def started(*sinks: Any, quotas: dict[str, Any], **members: Any) -> PlanningUnderTest:
        await stop()
        opened = await SqliteQueue.open(QueueSettings(path=tmp_path / "q.db", min_free_bytes=0), monotonic=clock, by_tenant=True)
        settings = QuotaSettings.model_validate(quotas)
        planning = PlanningUnderTest(opened, clock, directory(*sinks), quotas=settings, source=source(**members))
        running.append(planning)
        await planning.start()
        return planning

    yield started
    await stop()


def alerts(count: int, *, namespace: str = "acme", status: str = "firing", first: int = 0) -> list[dict[str, Any]]:
    return [alert(f"A{number}", namespace=namespace, status=status) for number in range(first, first + count)]


def names(planning: PlanningUnderTest) -> list[str]:
    return [json.loads(one.body)["name"] for one in planning.queued]


async def drained(planning: PlanningUnderTest, *sinks: str) -> list[tuple[str, str]]:
    """(name, status) of what sinks are caught up with until they are, while everything is delivered."""
    found: list[tuple[str, str]] = []
    assert planning.quotas is not None
    for _ in range(200):
        if not planning.quotas.sinks_behind:
            return found
        await planning.make_room(*sinks)
        found += [(json.loads(one.body)["name"], one.status) for one in planning.queued]
    raise AssertionError("the sinks were never caught up")


@pytest.mark.parametrize(
    ("free", "of_sink", "room"),
    [(0, 0, 0), (-5, 0, 0), (1, 0, 1), (2, 0, 1), (9, 0, 6), (3, 6, 0), (2, 4, 0), (6, 3, 3), (100, 0, 66), (1, 5, 0), (1, 1, 0)],
)
def test_a_sink_leaves_something_of_the_quota_to_the_others(free: int, of_sink: int, room: int) -> None:
    assert sink_room(free, of_sink) == room


@pytest.mark.parametrize(
    ("settings", "bounded"),
    [
        ({}, False),
        ({"default": {"rate": 1}}, True),
        ({"tenants": {"acme": {"waitingBytes": 1}}}, True),
        ({"default": {"burst": 5}}, False),
        ({"tenants": {"acme": {}}}, False),
    ],
)
def test_a_router_without_quotas_has_none_to_look_at(settings: dict[str, Any], bounded: bool) -> None:
    assert Quotas.any_in(QuotaSettings.model_validate(settings)) is bounded


def test_an_override_changes_what_it_names_and_0_means_no_bound() -> None:
    settings = QuotaSettings.model_validate(
        {"default": {"waitingDeliveries": 5, "rate": 3}, "tenants": {"acme": {"rate": 0, "waitingBytes": 9}}}
    )
    assert settings.of("acme").model_dump() == {"waiting_deliveries": 5, "waiting_bytes": 9, "rate": 0, "burst": 0}
    assert settings.of("globex") == settings.default


async def test_what_is_over_the_quota_arrives_once_there_is_room_and_nothing_twice(start: Start) -> None:
    planning = await start(sink("s"), quotas=ROOM_FOR_FOUR)
    assert len(await planning.post(*alerts(10))) == 4
    first = names(planning)
    assert planning.not_queued == {("acme", "waitingDeliveries", "deferred"): 6}
    rest = await drained(planning, "s")
    assert sorted(first + [name for name, _ in rest]) == sorted(f"A{number}" for number in range(10))
    assert {status for _, status in rest} == {"firing"}


async def test_a_tenant_over_its_quota_costs_others_in_the_same_request_nothing(start: Start) -> None:
    planning = await start(sink("noisy"), sink("quiet", tenant="globex"), quotas=ROOM_FOR_FOUR)
    mixed = [one for pair in zip(alerts(4, namespace="globex"), alerts(4, first=4), strict=True) for one in pair]
    await planning.post(*alerts(20, first=10))
    assert await planning.post(*mixed) == [("quiet", "firing")] * 4


async def test_the_newest_state_is_what_arrives_and_an_end_only_where_the_start_did(start: Start) -> None:
    planning = await start(sink("s"), quotas=ROOM_FOR_FOUR)
    await planning.post(*alerts(6))
    assert names(planning) == ["A0", "A1", "A2", "A3"]
    assert await planning.post(*alerts(3, status="resolved"), *alerts(1, status="resolved", first=4)) == []
    assert sorted(await drained(planning, "s")) == [("A0", "resolved"), ("A1", "resolved"), ("A2", "resolved"), ("A5", "firing")]


async def test_nothing_overtakes_what_a_sink_that_is_behind_has_yet_to_get(start: Start) -> None:
    planning = await start(sink("s"), quotas=ROOM_FOR_FOUR)
    await planning.post(*alerts(6))
    await planning.deliver_all("s")
    assert await planning.post(alert("Later", namespace="acme"), group="other") == []
    assert sorted(await drained(planning, "s")) == [("A4", "firing"), ("A5", "firing"), ("Later", "firing")]
    assert await planning.post(alert("Direct", namespace="acme"), group="third") == [("s", "firing")]


async def test_a_sink_that_is_behind_is_caught_up_after_a_restart_whatever_the_quota_is_then(start: Start) -> None:
    planning = await start(sink("s"), quotas=ROOM_FOR_FOUR)
    await planning.post(*alerts(20))
    planning = await start(sink("s"), quotas={"default": {"waitingDeliveries": 9}})
    assert len(planning.queued) == 2  # so that 6 wait, and 3 are free
    planning = await start(sink("s"), quotas={})
    assert len(planning.queued) == 14


async def test_a_resolution_that_waits_for_room_survives_a_restart(start: Start) -> None:
    planning = await start(sink("s"), quotas=ROOM_FOR_FOUR)
    await planning.post(*alerts(5))
    await planning.post(*alerts(1, status="resolved"))
    planning = await start(sink("s"), quotas=ROOM_FOR_FOUR)
    assert sorted(await drained(planning, "s")) == [("A0", "resolved"), ("A4", "firing")]


async def test_one_dead_sink_of_a_tenant_leaves_room_for_its_other_sinks(start: Start) -> None:
    planning = await start(
        sink("dead", match={"matchers": ('for="dead"',)}),
        sink("well", match={"matchers": ('for="well"',)}),
        quotas={"default": {"waitingDeliveries": 30}},
    )
    await planning.post(*[alert(f"D{number}", namespace="acme", **{"for": "dead"}) for number in range(100)])
    assert len(planning.queued) == 20
    assert (
        await planning.post(*[alert(f"W{n}", namespace="acme", **{"for": "well"}) for n in range(5)], group="w")
        == [("well", "firing")] * 5
    )
    await planning.post(*[alert(f"X{n}", namespace="acme", **{"for": "well"}) for n in range(30)], group="x")
    got = names(planning)
    for _ in range(50):
        if len(got) == 30:
            break
        await planning.make_room("well")
        got += names(planning)
    assert sorted(got) == sorted(f"X{number}" for number in range(30))


@pytest.mark.parametrize(
    ("quota", "named"),
    [
        ({"waitingDeliveries": 6}, "waitingDeliveries: 6"),
        ({"rate": 1_500_000, "burst": 4}, "rate: 1500000"),
        ({"waitingBytes": 3000}, "waitingBytes: 3000"),
    ],
)
async def test_the_status_of_a_sink_that_is_behind_says_so_until_it_is_not(
    start: Start, quota: dict[str, int], named: str
) -> None:
    planning = await start(sink("s"), quotas={"default": quota})
    assert planning.quotas is not None
    assert planning.quotas.problem(uid("s")) is None
    for number in range(10):
        await planning.post(*alerts(1, first=number), group=str(number))
    problem = planning.quotas.problem(uid("s"))
    assert problem is not None
    limit = named.partition(":")[0]
    assert f"more is sent to the sinks of tenant acme than its quota allows ({named}): " in problem.message
    assert f"have the platform team raise quotas.tenants.acme.{limit} of the router" in problem.message
    await planning.post(*alerts(20, first=10))
    assert planning.quotas.problem(uid("s")) == problem  # the same text, so that no status is written for each alert
    await drained(planning, "s")
    assert planning.quotas.problem(uid("s")) is None


async def test_a_deleted_sink_is_not_behind_any_more(start: Start) -> None:
    planning = await start(sink("s"), quotas=ROOM_FOR_FOUR)
    await planning.post(*alerts(10))
    await planning.remove("s")
    assert planning.quotas is not None
    assert planning.quotas.sinks_behind == 0


async def test_events_over_the_quota_are_dropped_counted_and_shown(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, TICKER.name, TICKER)
    planning = await start(sink("s"), quotas=ROOM_FOR_FOUR, format=TICKER.name, tenant={"fixed": "acme"})
    await planning.send(readings(*[f"E{number}" for number in range(10)]))
    assert len(planning.queued) == 4
    assert planning.not_queued == {("acme", "waitingDeliveries", "dropped"): 6}
    assert planning.quotas is not None
    problem = planning.quotas.problem(uid("s"))
    assert problem is not None
    assert problem.dropped == 6
    assert planning.quotas.sinks_behind == 0
    await planning.deliver_all("s")
    assert len(await planning.send(readings("Next"))) == 1
    planning.later(3600)
    assert planning.quotas.problem(uid("s")) is None


async def test_a_rate_allows_a_burst_and_then_so_many_a_second(start: Start) -> None:
    planning = await start(sink("s"), quotas={"default": {"rate": 2}})
    assert len(await planning.post(*alerts(50))) == 2 * BURST_SECONDS
    planning.queued.clear()
    planning.later(1)
    planning.catch_up.look_at_behind()
    assert await planning.settled() == []  # so little is not worth looking at all alerts
    planning.later(5)
    planning.catch_up.look_at_behind()
    assert len(await planning.settled()) == 12
    assert len(await drained(planning, "s")) == 18


async def test_only_tenants_of_which_something_has_changed_are_looked_at(start: Start) -> None:
    tenants = {f"t{number}": f"t{number}" for number in range(5)}
    sinks = [sink(f"{tenant}-{number}", tenant=tenant) for tenant in tenants for number in range(3)]
    planning = await start(*sinks, quotas=ROOM_FOR_FOUR | {"tenants": {"t4": {"waitingDeliveries": 0, "rate": 1, "burst": 4}}})
    planning.directory.set_tenancy(Tenancy(owners=tenants))
    quotas, looked_at = planning.quotas, Counter[str]()
    assert quotas is not None

    def found() -> tuple[set[str], set[str]]:
        """Whose sinks are to be caught up, and whose alerts that would be."""
        looked_at.clear()
        uids = quotas.to_catch_up(lambda tenant: looked_at.update([tenant]) or 0)
        return {planning.names[one] for one in uids}, set(looked_at)

    for tenant in tenants:
        await planning.post(*alerts(9, namespace=tenant), group=tenant)
    assert quotas.sinks_behind == 15
    found()
    assert found() == (set(), set())
    await planning.deliver_all("t1-0")
    assert found() == ({"t1-0", "t1-1", "t1-2"}, {"t1"})
    planning.later(0.5)
    await planning.deliver_all("t1-1")
    assert found() == (set(), {"t1"}), "once a second"
    planning.later(0.5)
    assert found() == ({"t1-0", "t1-1", "t1-2"}, {"t1"})
    planning.later(2)
    assert found() == ({"t4-0", "t4-1", "t4-2"}, {"t4"}), "half of the burst"
    await planning.remove("t4-0")
    await planning.remove("t4-1")
    await planning.remove("t4-2")
    planning.later(100)
    assert found() == (set(), set())


async def test_what_the_disk_did_not_take_is_room_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    planning = await start(sink("s"), sink("t"), quotas={"default": {"waitingDeliveries": 9}})
    await planning.post(*alerts(20))
    quotas = planning.quotas
    assert quotas is not None
    stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    batch = Batch(
        [Payload(PayloadKind.ALERT, b"{}", "A")], [NewDelivery(0, uid("s"), "acme", str(n), "firing", 1e6) for n in range(9)]
    )
    quotas.take(batch, stored)
    await planning.deliver_all("s")
    await planning.deliver_all("t")
    assert quotas.to_catch_up(lambda _: 0) == []
    stored.set_exception(QueueUnavailable("the disk is full"))
    await asyncio.sleep(0)
    assert set(quotas.to_catch_up(lambda _: 0)) == {uid("s"), uid("t")}


async def test_a_burst_may_be_set(start: Start) -> None:
    planning = await start(sink("s"), quotas={"tenants": {"acme": {"rate": 2, "burst": 3}}})
    assert len(await planning.post(*alerts(50))) == 3


async def test_bytes_bound_what_waits_after_the_notification_that_exceeds_them(start: Start) -> None:
    planning = await start(sink("s"), sink("quiet", tenant="globex"), quotas={"default": {"waitingBytes": 3000}})
    for number in range(10):
        await planning.post(*alerts(1, first=number), group=str(number))
    waiting = replace(planning.queue.waiting_of("acme"))
    assert 2000 <= waiting.bytes <= 4000
    assert waiting.deliveries < 10
    assert planning.not_queued["acme", "waitingBytes", "deferred"] == 10 - waiting.deliveries
    assert len(await planning.post(*alerts(1, namespace="globex"), group="g")) == 1
    assert len(await drained(planning, "s")) == 10 - waiting.deliveries


async def test_bytes_bound_what_a_sink_is_caught_up_with(start: Start) -> None:
    planning = await start(sink("s"), quotas={"default": {"waitingBytes": 20_000}})
    for number in range(10):
        await planning.post(*alerts(20, first=20 * number), group=str(number))
    await planning.make_room("s")
    assert 5_000 < planning.queue.waiting_of("acme").bytes <= 24_000
    await planning.put(sink("new", generation=1))
    assert planning.queue.waiting_of("acme").bytes <= 24_000
    await drained(planning, "s", "new")


async def test_a_group_that_is_over_the_quota_is_sent_as_groups_later(start: Start) -> None:
    planning = await start(sink("g", webhook={"format": "alertmanager"}), quotas={"default": {"waitingDeliveries": 1}})
    assert await planning.post(*alerts(3), group="one") == [("g", "firing")]
    assert await planning.post(*alerts(3, first=3), group="two") == []
    await planning.make_room("g")
    assert {one["labels"]["alertname"] for queued in planning.queued for one in json.loads(queued.body)["alerts"]} == {
        "A3",
        "A4",
        "A5",
    }


async def test_the_end_of_what_is_not_sent_any_more_waits_for_room(start: Start) -> None:
    planning = await start(sink("s"), quotas={"default": {"waitingDeliveries": 2}}, format="prometheus")
    planning.timeouts.begin()
    planning.later(400)
    assert await post_heartbeat(planning, heartbeat("A")) == [("s", "firing")]
    await planning.pass_time(600)
    await planning.settled()
    assert planning.queued == []
    assert await drained(planning, "s") == [("A", "resolved")]


async def test_a_commit_that_fails_leaves_the_quota_as_it_was(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    planning = await start(sink("s"), quotas=ROOM_FOR_FOUR)

    def fail(*_args: object) -> None:
        raise ValueError

    with monkeypatch.context() as broken:
        broken.setattr(Store, "commit", fail)
        with pytest.raises(QueueUnavailable):
            await planning.post(*alerts(10))
    await asyncio.sleep(0)
    assert planning.quotas is not None
    assert planning.quotas.room(sink("s")).deliveries == 4
    await planning.post(*alerts(10))
    await drained(planning, "s")


async def test_a_sink_that_is_pointed_elsewhere_gets_everything_there_once(start: Start) -> None:
    planning = await start(sink("s"), quotas={"default": {"waitingDeliveries": 30}})
    await planning.post(*alerts(15))
    await planning.deliver_all("s")
    planning.queued.clear()
    await planning.put(sink("s", url="https://elsewhere.example.com/", generation=2))
    assert len(planning.queued) == 15
    planning = await start(sink("s", url="https://elsewhere.example.com/"), quotas=ROOM_FOR_FOUR)
    await planning.deliver_all("s")
    planning.later(1)
    await planning.put(sink("s", url="https://third.example.com/", generation=3))
    got = names(planning) + [name for name, _ in await drained(planning, "s")]
    assert sorted(got) == sorted(f"A{number}" for number in range(15))


async def test_the_platforms_own_sinks_have_no_quota_but_one_of_their_name(start: Start) -> None:
    planning = await start(quotas=ROOM_FOR_FOUR)
    assert planning.quotas is not None
    assert planning.quotas.room(sink("p", tenant="*")).deliveries > 10**9
    planning = await start(quotas={"tenants": {"*": {"waitingDeliveries": 3}}})
    assert planning.quotas is not None
    assert planning.quotas.room(sink("p", tenant="*")).limit is QuotaLimit.DELIVERIES


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_the_sinks_know_what_fires_in_the_end(start: Start, seed: int) -> None:
    draw = random.Random(seed)
    quotas = draw.choice([ROOM_FOR_FOUR, {"default": {"rate": 1}}, {"default": {"waitingBytes": 4000}}])
    sinks = (sink("a"), sink("b", match={"matchers": ('alertname=~"A[0-9]"',)}), sink("c", tenant="globex"))
    planning = await start(*sinks, quotas=quotas)
    firing: dict[tuple[str, str], bool] = {}
    last: dict[str, dict[str, str]] = {"a": {}, "b": {}, "c": {}}

    def take_note() -> None:
        for one in planning.queued:
            body = json.loads(one.body)
            last[planning.names[one.sink]][body["name"]] = one.status
        planning.queued.clear()

    for moment in range(60):
        move = draw.random()
        if move < 0.1:
            take_note()
            planning = await start(*sinks, quotas=quotas)
        elif move < 0.3:
            await planning.deliver_all(draw.choice("abc"))
            planning.later(draw.random() * 5)
        elif move < 0.4:
            planning.catch_up.look_at_behind()
            await planning.settled()
        else:
            posted = []
            for number in draw.sample(range(20), draw.randint(1, 12)):
                tenant = draw.choice(("acme", "acme", "globex"))
                fires = draw.random() < 0.6
                at = f"2026-01-01T12:{moment:02}:00Z"
                was = firing.get((tenant, f"A{number}"), False)
                firing[tenant, f"A{number}"] = fires
                one = alert(f"A{number}", namespace=tenant, status="firing" if fires else "resolved", starts_at=at)
                if not fires:
                    one["endsAt"] = f"2026-01-01T12:{moment:02}:30Z"
                    if not was:
                        continue
                posted.append(one)
            if posted:
                await planning.post(*posted, group=str(moment))
        take_note()
    for _ in range(100):
        await planning.make_room("a", "b", "c")
        take_note()
        if planning.quotas is not None and not planning.quotas.sinks_behind:
            break
    assert planning.quotas is not None
    assert not planning.quotas.sinks_behind
    for name, tenant, wants in (("a", "acme", 3), ("b", "acme", 2), ("c", "globex", 3)):
        expected = {alert for (of, alert), fires in firing.items() if fires and of == tenant and len(alert) <= wants}
        assert {alert for alert, status in last[name].items() if status == "firing"} == expected
