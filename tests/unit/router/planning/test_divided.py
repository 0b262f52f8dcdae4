"""An alert that many sinks want is notified in parts, between which others have their turn: each sink still gets it once, whatever happens."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from eventsink.router.planning import accept, parts
from eventsink.router.planning.quota_settings import QuotaSettings
from eventsink.router.queue.protocol import QueueFull, QueueUnavailable
from eventsink.router.queue.sqlite.store import Store, StoreChange
from eventsink.sinks.sink import Sink
from tests.support.parts import alert, notification
from tests.unit.router.planning.planning import HALF_A, PlanningUnderTest, Start
from tests.unit.router.planning.test_when_to_notify import EVENTS, grown
from tests.unit.router.sinks import sink, uid

EVERY = [f"s{number:02}" for number in range(70)]
A = alert("A", namespace="acme")
ENDED = {**A, "status": "resolved"}
ONLY_A = {"matchers": ('alertname="A"',)}
ROOM = {"max_waiting": 10_000}
HOURS = 3600.0


def all_of(status: str) -> list[tuple[str, str]]:
    return [(name, status) for name in EVERY]


def commits(planning: PlanningUnderTest) -> list[int]:
    """How many deliveries are in each commit from now on."""
    seen: list[int] = []
    planning.queue.subscribe(lambda deliveries: seen.append(len(deliveries)))
    return seen


async def test_each_sink_is_notified_once_and_others_have_their_turn_between_the_parts(start: Start) -> None:
    planning = await start(*map(sink, EVERY), sink("quiet", tenant="globex"), queue=ROOM)
    seen = commits(planning)
    many = asyncio.ensure_future(planning.post(A))
    await asyncio.sleep(0)
    body = json.dumps(notification(alert("B", namespace="globex"), group="b")).encode()
    await planning.acceptor.accept_bytes(planning.source, body, HALF_A)
    await many
    notified = planning.shown()
    assert sorted(notified) == sorted([("quiet", "firing"), *all_of("firing")])
    assert notified.index(("quiet", "firing")) <= parts.PART_SINKS
    assert max(seen) <= parts.PART_SINKS + 1


async def test_it_is_repeated_to_all_and_so_is_its_end_and_its_next_episode(start: Start) -> None:
    planning = await start(*map(sink, EVERY), queue=ROOM)
    seen = commits(planning)
    assert sorted(await planning.post(A)) == all_of("firing")
    planning.later(4 * HOURS)
    assert sorted(await planning.post(A)) == all_of("firing")  # the source repeats it
    assert sorted(await planning.post(ENDED)) == all_of("resolved")
    assert await planning.post(ENDED) == []
    assert sorted(await planning.post(alert("A", namespace="acme", starts_at="2026-01-02T12:00:00Z"))) == all_of("firing")
    assert max(seen) <= parts.PART_SINKS
    assert planning.suppressed == {"EndKnown": 1}


@pytest.mark.parametrize("status", ["firing", "resolved"])
async def test_a_part_looks_only_at_the_sinks_that_are_left_to_it(
    start: Start, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"s{number:03}" for number in range(640)]
    planning = await start(*map(sink, names), queue=ROOM)
    if status == "resolved":
        await planning.post(A)
    looked_at = 0

    class Sinks(dict[str, Sink]):
        def get(self, uid: str, default: Any = None) -> Any:
            nonlocal looked_at
            looked_at += 1
            return super().get(uid, default)

    monkeypatch.setattr(planning.directory, "_sinks", Sinks(planning.directory.sinks))
    assert len(await planning.post({**A, "status": status})) == len(names)
    assert looked_at <= 3 * len(names)


async def test_a_restart_and_the_other_half_of_a_pair_find_that_all_were_notified(start: Start) -> None:
    planning = await start(*map(sink, EVERY), queue=ROOM)
    await planning.post(A)
    assert await planning.post(A, sender="10.0.0.2") == []
    planning = await start(*map(sink, EVERY), queue=ROOM)
    assert planning.shown() == []
    assert await planning.post(A, sender="10.0.0.2") == []
    assert sorted(await planning.post(ENDED)) == all_of("resolved")


async def test_many_sinks_of_groups_get_an_alert_that_came_alone_in_parts_and_several_alerts_at_once(start: Start) -> None:
    planning = await start(*[sink(name, webhook={"format": "alertmanager"}) for name in EVERY], queue=ROOM)
    seen = commits(planning)
    assert sorted(await planning.post(A)) == all_of("firing")
    assert max(seen) <= parts.PART_SINKS
    assert sorted(await planning.post(A, alert("B", namespace="acme"))) == all_of("firing")
    assert {len(json.loads(one.body)["alerts"]) for one in planning.queued} == {2}


async def test_an_alert_of_several_is_divided_and_the_others_follow_it(start: Start) -> None:
    planning = await start(*[sink(name, match=ONLY_A) for name in EVERY], sink("b"), queue=ROOM)
    seen = commits(planning)
    some = [alert(f"B{number}", namespace="acme") for number in range(6)]
    expected = Counter([*all_of("firing"), *[("b", "firing")] * 7])
    assert Counter(await planning.post(some[0], A, *some[1:])) == expected
    assert max(seen) <= parts.PART_SINKS + accept.PART_ALERTS


async def test_where_the_rest_might_find_no_room_it_is_not_divided(start: Start) -> None:
    planning = await start(*map(sink, EVERY), queue={"max_waiting": 200})
    seen = commits(planning)
    await planning.post(A)
    assert max(seen) <= parts.PART_SINKS
    await planning.post(alert("B", namespace="acme"))
    with pytest.raises(QueueFull):
        await planning.post(alert("C", namespace="acme"))
    assert planning.shown() == []


def fail_commits(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Commits of deliveries fail after so many."""
    numbers, commit = itertools.count(1), Store.commit

    def fail_later(store: Store, clock: float, change: StoreChange) -> None:
        if change.new and next(numbers) > after:
            raise OSError("no")
        commit(store, clock, change)

    monkeypatch.setattr(Store, "commit", fail_later)


@pytest.mark.parametrize("status", ["firing", "resolved"])
@pytest.mark.parametrize("restarts", [True, False])
@pytest.mark.parametrize("stored", [1, 2])
async def test_those_that_were_not_notified_before_a_commit_failed_are_when_it_is_sent_again(
    start: Start, monkeypatch: pytest.MonkeyPatch, status: str, restarts: bool, stored: int
) -> None:
    sinks = [*[sink(name, match=ONLY_A) for name in EVERY], sink("b", match={"matchers": ('alertname="B"',)})]
    planning = await start(*sinks, queue=ROOM)
    alerts: list[dict[str, Any]] = [{**A, "status": status}, alert("B", namespace="acme")]
    if status == "resolved":
        await planning.post(A)
    with monkeypatch.context() as patch:
        fail_commits(patch, stored)
        with pytest.raises(QueueUnavailable):
            await planning.post(*alerts)
    first = planning.shown()
    assert len(first) == stored * parts.PART_SINKS < len(EVERY)
    if restarts:
        planning = await start(*sinks, queue=ROOM)
        first += planning.shown()
    rest = await planning.post(*alerts)
    assert sorted(first + rest) == sorted([*all_of(status), ("b", "firing")])


QUOTA = QuotaSettings.model_validate({"tenants": {"acme": {"rate": 40, "burst": 80}}})


async def test_what_is_over_the_quota_in_one_part_or_another_arrives_later(start: Start) -> None:
    planning = await start(*map(sink, EVERY), queue=ROOM, quotas=QUOTA)
    got = Counter(await planning.post(A))
    assert got == Counter(all_of("firing"))
    got = Counter(await planning.post(ENDED, alert("B", namespace="acme")))
    assert got.total() == 10
    assert planning.not_queued == {("acme", "rate", "deferred"): 2 * len(EVERY) - 10}
    for _ in range(10):
        got += Counter(await planning.make_room(*EVERY))
    assert got == Counter([*all_of("resolved"), *all_of("firing")])


async def test_the_end_reaches_all_of_later_parts_in_which_the_quota_allows_none(start: Start) -> None:
    burst = len(EVERY) + parts.PART_SINKS
    quota = QuotaSettings.model_validate({"tenants": {"acme": {"rate": 40, "burst": burst}}})
    planning = await start(*map(sink, EVERY), queue=ROOM, quotas=quota)
    await planning.post(A)
    got = await planning.post(ENDED)
    assert len(got) == parts.PART_SINKS
    for _ in range(3):
        got += await planning.make_room(*EVERY)
    assert sorted(got) == all_of("resolved")


async def test_the_end_reaches_all_of_later_parts_that_are_suspended_meanwhile_when_they_are_resumed(start: Start) -> None:
    planning = await start(*map(sink, EVERY), queue=ROOM)
    await planning.post(A)
    planning.queued.clear()
    pending = planning.acceptor.accept_bytes(planning.source, json.dumps(notification(ENDED)).encode(), HALF_A)
    (state,) = planning.states.of_tenant("acme").values()
    left = [name for name in EVERY if (uid(name), "firing") in {(one.sink, one.status) for one in state.notified}]
    for name in left:
        planning.directory.put(sink(name, suspend=True))
    await pending
    got = planning.shown()
    assert len(got) == len(EVERY) - len(left) == parts.PART_SINKS
    planning.queued.clear()
    for name in left:
        planning.directory.put(sink(name))
    assert sorted(got + await planning.settled()) == all_of("resolved")


async def test_sinks_that_change_between_the_parts_get_it_as_they_are_then(start: Start) -> None:
    planning = await start(*map(sink, EVERY), queue=ROOM)
    pending = planning.acceptor.accept_bytes(planning.source, json.dumps(notification(A)).encode(), HALF_A)
    narrowed, suspended, resumed, compiled, others, deleted = sorted(EVERY, key=uid)[-6:]
    changed: list[Sink] = [
        sink(narrowed, match={"matchers": ('alertname="B"',)}),
        sink(suspended, suspend=True),
        sink(resumed, suspend=True),
        sink(resumed),
        sink(compiled, generation=2),
        sink(others, tenant="globex"),
    ]
    for one in changed:
        planning.directory.put(one)
    planning.directory.remove(uid(deleted))
    await pending
    assert sorted(await planning.settled()) == [
        one for one in all_of("firing") if one[0] not in (narrowed, suspended, others, deleted)
    ]


@pytest.mark.parametrize("number", range(3))
async def test_a_sink_that_is_caught_up_between_the_parts_is_not_notified_again_in_whichever_part_it_would_be(
    start: Start, number: int
) -> None:
    names = [f"s{number:03}" for number in range(128)]
    planning = await start(*map(sink, names), queue=ROOM)
    pending = planning.acceptor.accept_bytes(planning.source, json.dumps(notification(A)).encode(), HALF_A)
    (state,) = planning.states.of_tenant("acme").values()
    caught_up = sorted(map(uid, names))[(1 + number) * parts.PART_SINKS]
    planning.states.replace_entries(state, (*state.notified, replace(state.notified[0], sink=caught_up)))
    await pending
    assert sorted(planning.shown()) == [(name, "firing") for name in names if uid(name) != caught_up]


async def test_an_alert_that_ends_in_another_group_between_the_parts_is_notified_to_all_and_so_is_its_end(start: Start) -> None:
    planning = await start(*map(sink, EVERY), queue=ROOM, ha_window=0.0)
    bodies = [json.dumps(notification(one, group=group)).encode() for one, group in ((A, "a"), (ENDED, "b"))]
    for pending in [planning.acceptor.accept_bytes(planning.source, body, HALF_A) for body in bodies]:
        await pending
    first = planning.shown()
    assert {name for name, status in first if status == "firing"} == set(EVERY)
    assert dict(first + await planning.post(ENDED, group="a")) == dict(all_of("resolved"))


async def test_sinks_to_which_an_event_has_grown_too_early_are_notified_in_their_time_in_whichever_part_they_are(
    start: Start,
) -> None:
    soon = [sink(name, delivery={"repeat_interval": HOURS}) for name in EVERY[:40]]
    late = [sink(name, delivery={"repeat_interval": 2 * HOURS}) for name in EVERY[40:]]
    planning = await start(*soon, *late, source=EVENTS, queue=ROOM)
    assert sorted(await planning.send(grown(1))) == all_of("event")
    planning.later(HOURS)
    assert sorted(await planning.send(grown(2))) == all_of("event")[:40]
    planning.later(HOURS)
    assert sorted(await planning.look_at_events()) == all_of("event")[40:]


async def test_sinks_that_another_notification_reaches_between_the_parts_are_not_notified_twice(start: Start) -> None:
    planning = await start(*map(sink, EVERY), queue=ROOM)
    bodies = [json.dumps(notification(A, group=group)).encode() for group in ("a", "b")]
    for pending in [planning.acceptor.accept_bytes(planning.source, body, HALF_A) for body in bodies]:
        await pending
    counts = Counter(name for name, _ in planning.shown())
    assert sorted(counts.values()) == [1] * (len(EVERY) - parts.PART_SINKS) + [2] * parts.PART_SINKS
