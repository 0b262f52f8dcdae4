"""Sources that send what fires all the time: who is notified when, and what ends by itself."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eventsink.router.planning.alert_states import EVICTED_AT_ONCE
from eventsink.router.planning.heartbeats import (
    LOOK_AGAIN_SECONDS,
    LOOKED_AT_ONCE,
    MAX_REPLICAS,
    RETRY_SECONDS,
    Heartbeats,
    Overdue,
)
from eventsink.router.planning.state_settings import StateSettings
from eventsink.router.planning.timeouts import ALERTS_AT_ONCE, STOPPED_SECONDS
from eventsink.router.queue.protocol import QueueUnavailable
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from eventsink.router.queue.sqlite.store import Store
from tests.support.clock import ManualClock
from tests.unit.router.planning.planning import HALF_A, HALF_B, PlanningUnderTest
from tests.unit.router.sinks import directory, sink, source, uid

Start = Callable[..., Awaitable[PlanningUnderTest]]
FIRING, RESOLVED = [("s", "firing")], [("s", "resolved")]
MINUTE = 60.0
GRACE = StateSettings().resolve_grace
VALID = 240.0
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts planning over these sinks with a source of the format prometheus; called again, it is a restart.

    Time passes without a restart's grace unless `grace` is given.
    """
    clock = ManualClock()
    running: list[PlanningUnderTest] = []

    async def stop() -> None:
        for one in running:
            await one.stop()
            await one.queue.close()
        running.clear()

    async def started(
        *sinks: Any,
        grace: float = 0.0,
        source_format: str = "prometheus",
        drop: tuple[str, ...] = (),
        max_bytes: int = 1024**3,
        **settings: Any,
    ) -> PlanningUnderTest:
        await stop()
        bounds = QueueSettings(path=tmp_path / "q.db", min_free_bytes=0, max_bytes=max_bytes)
        opened = await SqliteQueue.open(bounds, monotonic=clock)
        planning = PlanningUnderTest(
            opened,
            clock,
            directory(*sinks),
            source=source(format=source_format, dropLabels=list(drop)),
            resolve_grace=grace,
            **settings,
        )
        running.append(planning)
        await planning.start()
        return planning

    yield started
    await stop()


def alert(name: str = "A", *, valid: float | None = VALID, since: float = 0, **labels: str) -> dict[str, Any]:
    """An alert as Prometheus posts it, which fires since so many seconds after START and for `valid` seconds from now on."""
    ends = {} if valid is None else {"endsAt": (datetime.now(UTC) + timedelta(seconds=valid)).isoformat()}
    return {
        "labels": {"alertname": name, "namespace": "acme", **labels},
        "startsAt": (START + timedelta(seconds=since)).isoformat(),
        **ends,
    }


def ended(name: str = "A", *, since: float = 0, at: float = 600, **labels: str) -> dict[str, Any]:
    return {**alert(name, valid=None, since=since, **labels), "endsAt": (START + timedelta(seconds=at)).isoformat()}


async def post(planning: PlanningUnderTest, *alerts: dict[str, Any], sender: str = HALF_A) -> list[tuple[str, str]]:
    return await planning.send(json.dumps(alerts).encode(), sender)


async def beat(
    planning: PlanningUnderTest, seconds: float, *alerts: dict[str, Any], sender: str = HALF_A
) -> list[tuple[str, str]]:
    """Let time pass with a post every minute: what was queued meanwhile."""
    found = []
    for _ in range(int(seconds / MINUTE)):
        found += await planning.pass_time(MINUTE)
        found += await post(planning, *alerts, sender=sender)
    return found


# ---- repeats


async def test_a_resend_notifies_nobody_before_the_sinks_repeat_interval(start: Start) -> None:
    planning = await start(sink("s", delivery={"repeat_interval": 1800.0}), sink("never"))
    assert sorted(await post(planning, alert())) == [("never", "firing"), ("s", "firing")]
    assert await beat(planning, 1740, alert()) == []
    assert await beat(planning, 60, alert()) == FIRING
    assert await beat(planning, 1740, alert()) == []
    assert planning.suppressed["Unchanged"] > 50


async def test_an_end_is_notified_once_although_it_is_resent_for_15_minutes(start: Start) -> None:
    planning = await start(sink("s"))
    await post(planning, alert())
    assert await post(planning, ended()) == RESOLVED
    assert await beat(planning, 900, ended()) == []
    assert await post(planning, alert(since=1800)) == FIRING


async def test_the_end_of_an_earlier_episode_ends_nothing(start: Start) -> None:
    planning = await start(sink("s"))
    await post(planning, alert(since=1000))
    assert await post(planning, ended(since=0, at=600)) == []
    assert await planning.pass_time(MINUTE) == []


async def test_a_new_episode_whose_end_was_missed_is_notified(start: Start) -> None:
    planning = await start(sink("s"), grace=GRACE)
    await post(planning, alert())
    planning = await start(sink("s"), grace=GRACE)
    await planning.pass_time(VALID)
    assert await post(planning, alert(since=120)) == FIRING
    assert await post(planning, alert(since=120)) == []


async def test_a_restarted_server_which_gives_what_fires_a_later_start_repeats_nothing(start: Start) -> None:
    planning = await start(sink("s"), drop=("replica",))
    assert await post(planning, alert(replica="a"), alert(replica="b")) == FIRING
    assert await beat(planning, 180, alert(replica="b", since=60)) == []
    assert await beat(planning, 600, alert(replica="a", since=180), alert(replica="b", since=60)) == []
    assert await post(planning, ended(replica="a", since=180), ended(replica="b", since=60)) == RESOLVED


async def test_an_alert_whose_source_names_no_start_keeps_the_one_that_it_had(start: Start) -> None:
    planning = await start(sink("s", delivery={"repeat_interval": 60.0}))
    bare = {"labels": {"alertname": "A", "namespace": "acme"}}
    assert await post(planning, bare) == FIRING
    [first] = [one.body for one in planning.queued]
    await planning.pass_time(90)
    assert await post(planning, bare) == FIRING
    [again] = [one.body for one in planning.queued]
    assert json.loads(first)["startsAt"] == json.loads(again)["startsAt"]
    assert json.loads(first)["id"] == json.loads(again)["id"]


async def test_a_new_sink_is_notified_of_what_fires_and_of_its_end(start: Start) -> None:
    planning = await start(sink("s"))
    await post(planning, alert())
    assert await planning.put(sink("late")) == [("late", "firing")]
    assert sorted(await planning.pass_time(VALID)) == [("late", "resolved"), ("s", "resolved")]


# ---- what is not sent any more


async def test_what_is_not_sent_any_more_ends_when_its_time_has_come(start: Start) -> None:
    planning = await start(sink("s"), sink("ends-unwanted", delivery={"send_resolved": False}))
    await post(planning, alert())
    assert await planning.pass_time(VALID - 2) == []
    assert await planning.pass_time(4) == RESOLVED
    [end] = [json.loads(one.body) for one in planning.queued]
    assert (end["status"], end["labels"]["alertname"], end["startsAt"]) == ("resolved", "A", "2026-01-01T12:00:00Z")
    assert datetime.fromisoformat(end["endsAt"]) - datetime.now(UTC) < timedelta(seconds=10)
    assert await planning.pass_time(VALID) == []
    assert planning.timeouts.resolved == 1


async def test_each_resend_gives_it_more_time_on_disk_too(start: Start) -> None:
    planning = await start(sink("s"))
    await post(planning, alert())
    assert await beat(planning, 3600, alert()) == []
    planning = await start(sink("s"))
    assert await planning.pass_time(VALID - 2 - GRACE) == []
    assert await planning.pass_time(VALID) == RESOLVED


async def test_without_an_end_it_has_the_time_that_the_router_gives(start: Start) -> None:
    planning = await start(sink("s"), resolve_timeout=100.0)
    await post(planning, alert(valid=None))
    assert await planning.pass_time(98) == []
    assert await planning.pass_time(4) == RESOLVED


async def test_a_late_resend_after_that_is_a_new_start_at_once(start: Start) -> None:
    planning = await start(sink("s"))
    await post(planning, alert())
    assert await planning.pass_time(VALID + 2) == RESOLVED
    assert await post(planning, alert()) == FIRING


def test_the_grace_of_a_start_is_five_minutes_unless_the_platform_sets_another() -> None:
    assert GRACE == 300


@pytest.mark.parametrize("valid", [VALID, 10.0])
async def test_nothing_ends_by_itself_within_the_grace_of_a_start(start: Start, valid: float) -> None:
    planning = await start(sink("s"))
    await post(planning, alert("A", valid=valid), alert("B", valid=valid))
    planning = await start(sink("s"), grace=GRACE)
    await planning.pass_time(GRACE - 20)
    assert planning.shown() == []
    assert await post(planning, alert("A"), alert("C", valid=5)) == FIRING
    assert await planning.pass_time(16) == []
    assert await planning.pass_time(6) == [*RESOLVED, *RESOLVED]


async def test_a_router_that_was_stopped_for_a_while_gives_everything_its_grace_again(start: Start) -> None:
    planning = await start(sink("s"), grace=GRACE)
    await planning.pass_time(GRACE)
    await post(planning, alert())
    planning.later(VALID + STOPPED_SECONDS + 1)  # nothing was looked at meanwhile
    await planning.timeouts.look()
    assert planning.shown() == FIRING
    assert await planning.pass_time(GRACE - 2) == []
    assert await planning.pass_time(4) == RESOLVED


async def test_the_grace_begins_when_alerts_are_accepted(start: Start) -> None:
    planning = await start(sink("s"))
    await post(planning, alert())
    planning = await start(sink("s"), grace=GRACE)
    await planning.pass_time(20)  # sinks are still being loaded, and every post gets a 503
    planning.timeouts.begin()
    assert await planning.pass_time(GRACE - 1) == []
    assert await planning.pass_time(2) == RESOLVED


@pytest.mark.parametrize(("share", "deliveries", "lost"), [(0.55, RESOLVED, 0), (0.65, [], 1)])
async def test_what_an_end_is_made_of_is_kept_while_the_queue_has_room_for_what_is_needed(
    start: Start, share: float, deliveries: list[tuple[str, str]], lost: int
) -> None:
    planning = await start(sink("s"), sink("theirs", tenant="globex"), max_bytes=2 * 1024**2)
    number = 0
    while planning.queue.depth().bytes < share * 2 * 1024**2:
        number += 1
        large = alert(f"Large{number}", valid=86_400, namespace="globex")
        await post(planning, {**large, "annotations": {"description": f"{number}" * 20_000}})
        await planning.queue.keep_house()
    await post(planning, alert())
    assert await planning.pass_time(VALID + 2) == deliveries
    assert planning.states.room.ends_lost.count == lost


async def test_of_many_that_are_not_sent_any_more_each_ends_once(start: Start) -> None:
    planning = await start(sink("s"))
    await post(planning, *[alert(f"A{number}") for number in range(450)])
    assert await planning.pass_time(VALID + 2) == 450 * RESOLVED


async def test_a_suspended_sink_is_notified_of_the_end_when_it_is_resumed(start: Start) -> None:
    planning = await start(sink("s"))
    await post(planning, alert())
    await planning.put(sink("s", suspend=True, generation=2))
    assert await planning.pass_time(VALID + 2) == []
    assert await planning.put(sink("s", generation=3)) == RESOLVED


async def test_an_end_that_cannot_be_stored_is_stored_later(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    planning = await start(sink("s"))
    await post(planning, alert())

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    planning.later(VALID + 2)
    with monkeypatch.context() as patched:
        patched.setattr(Store, "commit", broken)
        with pytest.raises(QueueUnavailable):
            await planning.timeouts.look()
    assert planning.states.firing == 1
    assert await planning.pass_time(2 * RETRY_SECONDS) == RESOLVED


async def test_a_slow_disk_is_no_stop_after_which_sources_are_waited_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    planning = await start(sink("s"), grace=GRACE)
    await planning.pass_time(GRACE)
    await post(planning, *[alert(f"{number}") for number in range(4 * ALERTS_AT_ONCE)])
    submit = SqliteQueue.submit

    def slow(queue: SqliteQueue, *arguments: Any) -> asyncio.Future[None]:
        planning.later(0.9 * STOPPED_SECONDS)
        return submit(queue, *arguments)

    await planning.pass_time(VALID - 10)
    await post(planning, alert("last", valid=60))
    with monkeypatch.context() as patched:
        patched.setattr(SqliteQueue, "submit", slow)
        assert len(await planning.pass_time(20)) == 4 * ALERTS_AT_ONCE
    assert await planning.pass_time(2) == RESOLVED


async def test_alerts_of_a_source_that_is_grouped_by_now_do_not_end_by_themselves(start: Start) -> None:
    planning = await start(sink("s"))
    await post(planning, alert())
    planning = await start(sink("s"), source_format="alertmanager")
    assert await planning.pass_time(VALID + 2) == []


async def test_a_sink_of_another_tenant_or_one_that_is_gone_gets_no_end(start: Start) -> None:
    planning = await start(sink("s"), sink("gone"))
    await post(planning, alert())
    await planning.remove("gone")
    await planning.put(sink("s", tenant="globex", generation=2))
    planning.queued.clear()
    assert await planning.pass_time(VALID + 2) == []
    assert uid("gone") not in planning.directory.sinks


# ---- pairs


@pytest.mark.parametrize("drop", [(), ("replica",)])
async def test_a_pair_counts_as_one(start: Start, drop: tuple[str, ...]) -> None:
    """Whether its label is dropped here, or by the servers themselves, which are then known by their addresses."""
    planning = await start(sink("s"), drop=drop)

    async def both(make: Callable[..., dict[str, Any]], **members: Any) -> list[tuple[str, str]]:
        labels = [{"replica": "a"}, {"replica": "b"}] if drop else [{}, {}]
        found = await post(planning, make(since=0, **members, **labels[0]), sender=HALF_A)
        await planning.pass_time(2)
        return found + await post(planning, make(since=7, **members, **labels[1]), sender=HALF_B)

    assert await both(alert) == FIRING
    for _ in range(20):
        assert await planning.pass_time(58) == []
        assert await both(alert) == []
    assert await both(ended, at=600) == RESOLVED
    for _ in range(15):
        assert await both(ended, at=600) == []
    assert await both(alert) == FIRING


async def test_it_fires_until_no_server_of_a_pair_says_so(start: Start) -> None:
    planning = await start(sink("s"))
    await post(planning, alert(), sender=HALF_A)
    await post(planning, alert(), sender=HALF_B)
    for _ in range(15):
        await planning.pass_time(MINUTE)
        assert await post(planning, ended(), sender=HALF_A) == []
        assert await post(planning, alert(), sender=HALF_B) == []
    assert await post(planning, ended(at=1500), sender=HALF_B) == RESOLVED


async def test_a_server_that_is_gone_does_not_keep_an_alert_firing(start: Start) -> None:
    planning = await start(sink("s"))
    await post(planning, alert(), sender=HALF_A)
    await post(planning, alert(), sender=HALF_B)
    assert await beat(planning, 600, alert(), sender=HALF_B) == []
    assert await post(planning, ended(), sender=HALF_B) == RESOLVED


async def test_a_server_that_has_moved_to_another_address_does_not_repeat_what_fires(start: Start) -> None:
    planning = await start(sink("s"))
    await post(planning, alert(), sender=HALF_A)
    assert await beat(planning, 600, alert(), sender="10.0.0.3") == []
    assert await post(planning, ended(), sender="10.0.0.3") == RESOLVED


# ---- the heap


def test_a_shorter_time_counts_as_well_as_a_longer_one() -> None:
    heartbeats = Heartbeats()
    heartbeats.hear("t", "i", ["r"], 100)
    heartbeats.hear("t", "i", ["r"], 50)
    assert heartbeats.overdue(49, 10) == []
    assert heartbeats.overdue(50, 10) == [Overdue("t", "i")]
    heartbeats.hear("t", "i", ["r"], 200)
    assert heartbeats.overdue(199, 10) == []
    assert heartbeats.overdue(200, 10) == [Overdue("t", "i")]


def test_as_many_are_given_as_are_asked_for_and_each_again_later() -> None:
    heartbeats = Heartbeats()
    for number in range(5):
        heartbeats.hear("t", f"{number}", ["r"], 1)
    assert [len(heartbeats.overdue(1, 3)) for _ in range(3)] == [3, 2, 0]
    assert len(heartbeats.overdue(1 + RETRY_SECONDS, 10)) == 5
    for number in range(5):
        heartbeats.forget("t", f"{number}")
    assert (heartbeats.overdue(1e9, 10), len(heartbeats)) == ([], 0)


def test_of_many_that_are_sent_again_in_time_some_are_looked_at_in_a_turn() -> None:
    heartbeats = Heartbeats()
    for until in (1, 100):
        for number in range(LOOKED_AT_ONCE + 1):
            heartbeats.hear("t", f"{number}", ["r"], until)
    turns = 0
    while heartbeats.are_due(1):
        assert heartbeats.overdue(1, 10) == []
        turns += 1
    assert turns == 2


async def test_nothing_is_kept_of_what_was_forgotten_to_make_room_although_it_would_fire_for_days(start: Start) -> None:
    planning = await start(sink("s"), max_alerts=1000)
    await planning.pass_time(20)
    for number in range(3):
        await post(planning, *[alert(f"{number}", pod=f"{pod}", valid=4 * 86400) for pod in range(1500)])
        await planning.pass_time(20)
    assert len(planning.states.heartbeats) == len(planning.states) <= 2000
    await planning.pass_time(LOOK_AGAIN_SECONDS)
    assert planning.states.heartbeats.looked_after == len(planning.states)


@pytest.mark.parametrize("making_room", [True, False])
async def test_of_more_than_can_be_remembered_sinks_are_notified_again_of_the_excess_alone(
    start: Start, making_room: bool
) -> None:
    most, excess = 3000, 100
    planning = await start(sink("s"), max_alerts=most)
    names = [f"A{number}" for number in range(most + excess + (0 if making_room else EVICTED_AT_ONCE))]
    notified = []
    for _ in range(3):
        notified.append(0)
        for at in range(0, len(names), 100):
            notified[-1] += len(await post(planning, *[alert(name) for name in names[at : at + 100]]))
            if making_room:
                await planning.states.make_room()
        await planning.pass_time(MINUTE)
    assert notified[0] == len(names)
    assert max(notified[1:]) <= excess + 2 * EVICTED_AT_ONCE < most
    assert len(await post(planning, *[ended(name) for name in names[: most - 2 * EVICTED_AT_ONCE]])) == most - 2 * EVICTED_AT_ONCE


def test_so_many_replicas_are_remembered_the_latest_ones() -> None:
    heartbeats = Heartbeats()
    for number in range(2 * MAX_REPLICAS):
        heartbeats.hear("t", "i", [f"{number}"], 10)
    silent, everywhere = heartbeats.silent("t", "i", 10)
    assert (silent[-1], len(silent), everywhere) == (f"{2 * MAX_REPLICAS - 1}", MAX_REPLICAS, True)


# ---- anything that may happen to a pair


class Server:
    """One server of a pair: it sees what happens a little later than it does, and posts it every minute while it is up.
    After a restart it knows no earlier start, nor what had ended."""

    def __init__(self, address: str, lag: float) -> None:
        self.address = address
        self.lag = lag
        self.up_since: float | None = 0.0

    def turn(self, now: float) -> None:
        """Stop it, or start it again."""
        self.up_since = now if self.up_since is None else None

    def post(self, episodes: list[tuple[float, float]], now: float) -> list[dict[str, Any]]:
        seen = [(since + self.lag, until + self.lag) for since, until in episodes if since + self.lag <= now]
        if not seen or self.up_since is None:
            return []
        since, until = seen[-1]
        if now < until:
            return [alert(since=max(since, self.up_since))]
        if until < self.up_since:
            return []
        return [ended(since=since, at=until)] if now - until <= 900 else []


@pytest.mark.parametrize("seed", range(3))
async def test_each_episode_is_notified_once_and_ends_once_whatever_happens_to_one_server_and_to_the_router(
    start: Start, seed: int
) -> None:
    chance = random.Random(seed)
    planning = await start(sink("s"), grace=GRACE)
    servers = [Server(HALF_A, chance.uniform(0, 30)), Server(HALF_B, chance.uniform(0, 30))]
    episodes: list[tuple[float, float]] = []
    found: list[tuple[float, str]] = []
    now = 0.0
    while now < 2 * 3600 or now < episodes[-1][1] + 900:
        if not episodes or (now < 2 * 3600 and now > episodes[-1][1] + chance.uniform(900, 1800)):
            episodes.append((now, now + chance.uniform(180, 1200)))
        if chance.random() < 0.02:
            servers[1].turn(now)
        if chance.random() < 0.05:
            servers[0].up_since = now
        if chance.random() < 0.01:
            planning = await start(sink("s"), grace=GRACE)
        for one in servers:
            if posted := one.post(episodes, now):
                found += [(now, status) for _, status in await post(planning, *posted, sender=one.address)]
        now += 60
        found += [(now, status) for _, status in await planning.pass_time(60)]
    found += [(now, status) for _, status in await planning.pass_time(VALID + GRACE)]
    assert [status for _, status in found] == ["firing", "resolved"] * len(episodes)
    for (since, until), (fired, _), (resolved, _) in zip(episodes, found[::2], found[1::2], strict=True):
        assert 0 <= fired - since <= 120
        assert 0 <= resolved - until <= VALID + GRACE + 120
