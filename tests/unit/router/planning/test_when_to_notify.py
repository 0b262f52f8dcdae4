"""When a sink is notified: what pairs, silences, flapping alerts and changed sinks make of it. A duplicate is a nuisance, a miss is not."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from eventsink.router.queue.protocol import Batch, QueueUnavailable
from eventsink.router.queue.sqlite.store import Store, StoreChange
from tests.support.parts import alert
from tests.unit.router.planning.planning import HALF_A, HALF_B, PlanningUnderTest, Start
from tests.unit.router.sinks import sink, slack_sink, source, uid

HOURS = 3600.0


def firing(name: str = "A", **labels: Any) -> dict[str, Any]:
    return alert(name, namespace="acme", **labels)


def ended(name: str = "A", ends_at: str = "2026-01-01T13:00:00Z", **labels: Any) -> dict[str, Any]:
    return {**alert(name, status="resolved", namespace="acme", **labels), "endsAt": ends_at}


FIRING, RESOLVED = [("s", "firing")], [("s", "resolved")]


# ---- pairs and their duplicates


async def test_the_resolution_of_an_alert_whose_start_became_earlier_is_sent(start: Start) -> None:
    planning = await start(sink("s"))
    assert await planning.post(firing(starts_at="2026-01-01T12:00:07Z")) == FIRING
    planning.later(5)
    assert await planning.post(ended(starts_at="2026-01-01T12:00:01Z"), sender=HALF_B) == RESOLVED


async def test_an_alert_that_fires_again_with_its_old_start_is_notified_at_once_if_its_end_had_the_same_sender(
    start: Start,
) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    await planning.post(ended())
    planning.later(10)
    assert await planning.post(firing()) == FIRING
    planning.later(10)
    assert await planning.post(ended(ends_at="2026-01-01T13:30:00Z")) == RESOLVED


async def test_what_fires_again_may_be_a_late_duplicate_and_is_held_for_the_window_but_never_dropped(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    await planning.post(ended())
    planning.later(10)
    assert await planning.post(firing(), sender=HALF_B) == []
    planning.later(20)
    assert await planning.settled() == []
    planning.later(31)
    assert await planning.settled() == FIRING
    assert planning.suppressed["Held"] == 1


async def test_a_held_alert_whose_end_arrives_is_not_notified(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    await planning.post(ended())
    assert await planning.post(firing(), sender=HALF_B) == []
    assert await planning.post(ended(), sender=HALF_A) == []  # the known end again: it ends what is held too
    assert await planning.post(ended(), sender=HALF_B) == []
    planning.later(100)
    assert await planning.settled() == []
    assert planning.suppressed["LateDuplicate"] == 1


async def test_whoever_reported_the_end_and_repeats_it_after_the_other_half_said_firing_is_believed(start: Start) -> None:
    # The other half was slow: with gossip this is how it comes from a healthy pair, and nothing comes after it.
    planning = await start(sink("s"))
    await planning.post(firing())
    await planning.post(ended())
    assert await planning.post(firing(), sender=HALF_B) == []
    assert await planning.post(ended()) == []
    planning.later(100)
    assert await planning.settled() == []


async def test_the_known_end_ends_what_was_notified_as_firing_after_it(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    await planning.post(ended())
    planning.later(61)
    assert await planning.post(firing(), sender=HALF_B) == FIRING
    assert await planning.post(ended(), sender=HALF_B) == RESOLVED


async def test_a_held_alert_that_ended_does_not_hold_the_next_one_longer(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    await planning.post(ended(), sender=HALF_B)
    for within_the_window in (True, True, False):  # one half has lost its Prometheus, and contradicts the other one
        planning.later(29)
        assert await planning.post(firing()) == ([] if within_the_window else FIRING)
        assert await planning.post(ended(), sender=HALF_B) == ([] if within_the_window else RESOLVED)


async def test_a_sink_that_missed_the_first_end_gets_the_end_of_what_was_held(start: Start) -> None:
    planning = await start(sink("s"), sink("other"))
    await planning.post(firing())
    await planning.put(sink("s", suspend=True))
    assert await planning.post(ended(), sender=HALF_B) == [("other", "resolved")]
    assert await planning.post(firing()) == []
    assert await planning.put(sink("s")) == []  # it takes it for firing, which it may be
    assert await planning.post(ended(ends_at="2026-01-01T13:10:00Z")) == RESOLVED


async def test_a_suspended_sink_gets_the_end_of_what_was_held_when_it_is_resumed(start: Start) -> None:
    planning = await start(sink("s"), sink("other"))
    await planning.post(firing())
    await planning.put(sink("s", suspend=True))
    await planning.post(ended(), sender=HALF_B)
    await planning.post(firing())
    await planning.post(ended(ends_at="2026-01-01T13:10:00Z"))
    assert await planning.put(sink("s")) == RESOLVED


async def test_a_held_alert_is_released_after_a_restart(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    await planning.post(ended())
    await planning.post(firing(), sender=HALF_B)
    planning = await start(sink("s"))
    planning.later(61)
    assert await planning.settled() == FIRING


async def test_a_held_alert_that_the_reporter_of_its_end_names_again_is_notified_at_once(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    await planning.post(ended())
    await planning.post(firing(), sender=HALF_B)
    assert await planning.post(firing()) == FIRING
    planning.later(100)
    assert await planning.settled() == FIRING  # nothing was added


async def test_a_dead_mans_switch_within_the_window_is_notified_each_time(start: Start) -> None:
    planning = await start(sink("s"))
    for _ in range(20):
        assert await planning.post(firing("Watchdog")) == FIRING
        planning.later(30)


async def test_a_dead_mans_switch_of_both_halves_is_notified_once_in_a_window_since_duplicates_do_not_extend_it(
    start: Start,
) -> None:
    planning = await start(sink("s"))
    notified = []
    for second in range(0, 600, 30):
        if await planning.post(firing("Watchdog"), sender=(HALF_A, HALF_B)[second // 30 % 2]):
            notified.append(second)
        planning.later(30)
    assert len(notified) >= 6
    assert all(later - before <= 90 for before, later in itertools.pairwise(notified))


async def test_a_duplicate_of_the_other_half_repeats_nothing_that_the_first_did_not(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"), firing("B"))
    planning.later(2 * HOURS)
    assert await planning.post(ended("A"), firing("B")) == RESOLVED
    planning.later(5)
    assert await planning.post(ended("A"), firing("B"), sender=HALF_B) == []


async def test_the_halves_of_a_partitioned_pair_each_repeat(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    planning.later(5)
    assert await planning.post(firing(), sender=HALF_B) == []
    planning.later(2 * HOURS)
    assert await planning.post(firing()) == FIRING
    planning.later(HOURS)
    assert await planning.post(firing(), sender=HALF_B) == FIRING


async def test_a_later_start_is_a_new_episode_whose_end_may_have_been_lost(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"), firing("B"))
    planning.later(HOURS)
    again = firing("A", starts_at="2026-01-01T14:00:00Z")
    assert await planning.post(again, firing("B"), firing("C")) == FIRING * 2
    planning.later(5)
    assert await planning.post(again, firing("B"), firing("C"), sender=HALF_B) == []


async def test_two_starts_in_turn_are_one_new_episode_only(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A", starts_at="2026-01-01T12:00:01Z"))
    for number in range(4):
        planning.later(HOURS)
        later = number % 2 == 0
        at, sender = ("2026-01-01T12:00:07Z", HALF_B) if later else ("2026-01-01T12:00:01Z", HALF_A)
        queued = await planning.post(firing("A", starts_at=at), firing(f"new{number}"), sender=sender)
        assert len(queued) == (2 if number == 0 else 1)


async def test_the_late_end_of_an_earlier_episode_counts_since_alertmanager_corrects_it(start: Start) -> None:
    # A notification of one half had to be sent again, while the other half went on. If nothing fires, nothing comes after it.
    planning = await start(sink("s"))
    await planning.post(firing())
    await planning.post(firing(starts_at="2026-01-01T14:00:00Z"))
    assert await planning.post(ended(), sender=HALF_B) == RESOLVED
    planning.later(300)
    assert await planning.post(firing(starts_at="2026-01-01T14:00:00Z")) == FIRING


async def test_one_alert_in_two_groups_is_notified_for_each(start: Start) -> None:
    planning = await start(sink("s"))
    assert await planning.post(firing(), group="one") == FIRING
    assert await planning.post(firing(), group="two") == FIRING


async def test_replicas_in_groups_of_their_own_end_when_the_last_one_does(start: Start) -> None:
    planning = await start(sink("s"))
    planning.source = source(dropLabels=["replica"])
    assert await planning.post(firing(replica="0"), group="0") == FIRING
    await planning.post(firing(replica="1"), group="1")
    assert await planning.post(ended(replica="0"), group="0") == []
    assert planning.suppressed["FiringInAnotherReplica"] == 1
    assert await planning.post(ended(replica="1", ends_at="2026-01-01T13:00:15Z"), group="1") == RESOLVED


# ---- silences


async def test_what_reappears_in_its_group_after_a_silence_is_notified_again(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"), firing("B"))
    planning.later(4 * HOURS)
    assert await planning.post(firing("B")) == FIRING
    planning.later(60)
    assert await planning.post(firing("A"), firing("B")) == FIRING
    assert json.loads(planning.queued[0].body)["name"] == "A"


async def test_what_reappears_is_known_after_a_restart(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"), firing("B"))
    planning.later(4 * HOURS)
    await planning.post(firing("B"))
    planning = await start(sink("s"))
    assert await planning.post(firing("A"), firing("B"), firing("C")) == FIRING * 2
    assert {json.loads(one.body)["name"] for one in planning.queued} == {"A", "C"}


async def test_something_new_for_one_sink_is_no_repeat_for_the_others_after_a_restart(start: Start) -> None:
    sinks = sink("a", match={"matchers": ('alertname="A"',)}), sink("b", match={"matchers": ('alertname="B"',)})
    planning = await start(*sinks)
    await planning.post(firing("A"))
    planning = await start(*sinks)
    planning.later(HOURS)
    assert await planning.post(firing("A"), firing("B")) == [("b", "firing")]


# ---- sinks that change


@pytest.mark.parametrize(
    ("how", "changed"),
    [
        ("its match excludes the alert", sink("s", match={"matchers": ('alertname="Other"',)})),
        ("it sends elsewhere", sink("s", url="https://elsewhere.example.com/")),
        ("its format changed", sink("s", webhook={"format": "alertmanager"})),
        ("it became a Slack sink", slack_sink("s")),
    ],
)
async def test_the_resolution_goes_to_a_sink_that_was_notified_whatever_it_is_now(start: Start, how: str, changed: Any) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    await planning.put(changed)
    assert await planning.post(ended()) == RESOLVED, how


async def test_a_sink_pointed_elsewhere_and_back_gets_the_resolution(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    await planning.deliver_all("s")
    assert await planning.put(sink("s", url="https://elsewhere.example.com/")) == FIRING
    await planning.deliver_all("s")
    assert await planning.put(sink("s")) == FIRING
    assert await planning.post(ended()) == RESOLVED


async def test_a_new_sink_is_notified_at_once_of_what_fires_and_it_wants(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"), firing("B"), firing("C"))
    await planning.post(firing("A"), firing("B"), ended("C"))
    assert await planning.put(sink("new", match={"matchers": ('alertname!="B"',)})) == [("new", "firing")]
    assert json.loads(planning.queued[0].body)["name"] == "A"
    assert await planning.put(sink("theirs", tenant="globex")) == []
    assert await planning.post(ended("A"), firing("B")) == [("s", "resolved"), ("new", "resolved")]


async def test_a_sink_of_groups_is_caught_up_with_groups(start: Start) -> None:
    planning = await start()
    await planning.post(firing("A", team="x"), firing("B", team="x"), group="g")
    await planning.post(firing("C"), group="h")
    assert await planning.put(sink("s", webhook={"format": "alertmanager"})) == FIRING * 2
    bodies = [json.loads(one.body) for one in planning.queued]
    assert [(body["groupKey"], body["status"], len(body["alerts"])) for body in bodies] == [
        ("g", "firing", 2),
        ("h", "firing", 1),
    ]
    assert bodies[0]["commonLabels"] == {"namespace": "acme", "severity": "critical", "team": "x"}
    await planning.post(ended("A", team="x"), ended("B", team="x"), group="g")
    assert len({one.key for one in await planning.queue.take(uid("s"), after=0, limit=10)}) == 2


async def test_a_new_sink_is_not_notified_of_what_its_group_left_out_last_since_it_may_be_silenced(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"), firing("B"))
    planning.later(4 * HOURS)
    await planning.post(firing("B"))
    assert await planning.put(sink("new")) == [("new", "firing")]
    assert json.loads(planning.queued[0].body)["name"] == "B"
    assert sorted(await planning.post(firing("A"), firing("B"))) == [("new", "firing"), ("s", "firing")]


async def test_a_new_sink_is_not_notified_of_what_a_source_sent_that_is_gone(start: Start) -> None:
    planning = await start(sink("s"))
    planning.source = source(name="removed")
    await planning.post(firing("A"))
    assert await planning.put(sink("new")) == []


async def test_a_sink_whose_match_covers_more_is_notified_of_the_rest_only(start: Start) -> None:
    planning = await start(sink("s", match={"matchers": ('alertname="A"',)}))
    await planning.post(firing("A"), firing("B"))
    assert await planning.put(sink("s", match={"matchers": ('alertname=~"A|B"',)})) == FIRING
    assert json.loads(planning.queued[0].body)["name"] == "B"


async def test_a_corrected_url_gets_what_waited_and_nothing_twice(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"))
    await planning.deliver_all("s")
    await planning.post(firing("B"), group="b")
    assert await planning.put(sink("s", url="https://corrected.example.com/")) == FIRING
    assert json.loads(planning.queued[0].body)["name"] == "A"  # B waits already


async def test_a_sink_that_is_pointed_elsewhere_while_it_is_suspended_is_notified_there_when_it_is_resumed(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"))
    await planning.deliver_all("s")
    elsewhere = "https://elsewhere.example.com/"
    await planning.put(sink("s", suspend=True))
    await planning.put(sink("s", suspend=True, url=elsewhere))
    planning = await start(sink("s", suspend=True, url=elsewhere))
    assert await planning.put(sink("s", url=elsewhere)) == FIRING


async def test_an_end_that_waits_does_not_keep_a_new_destination_from_what_fires_again(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"))
    await planning.deliver_all("s")
    await planning.put(sink("s", match={"matchers": ('alertname="Other"',)}))
    assert await planning.post(ended("A")) == RESOLVED  # it waits: the receiver does not get on
    planning.later(120)
    assert await planning.post(firing("A", starts_at="2026-01-01T14:00:00Z")) == []
    assert await planning.put(sink("s", url="https://corrected.example.com/")) == FIRING


async def test_a_group_that_waits_does_not_keep_a_new_destination_from_what_it_was_not_notified_of(start: Start) -> None:
    only_b = {"matchers": ('alertname="B"',)}
    planning = await start(sink("s", webhook={"format": "alertmanager"}, match=only_b))
    await planning.post(firing("A"), firing("B"))
    widened = sink("s", url="https://corrected.example.com/", webhook={"format": "alertmanager"})
    assert await planning.put(widened) == FIRING
    assert [one["labels"]["alertname"] for one in json.loads(planning.queued[0].body)["alerts"]] == ["A"]


async def test_sinks_that_change_at_once_are_caught_up_in_one_pass_over_the_alerts(start: Start) -> None:
    planning = await start()
    await planning.post(*[firing(f"A{n}") for n in range(100)])
    read: list[int] = []
    alert_bodies = planning.queue.alert_bodies

    def reading(rows: Sequence[int]) -> Awaitable[dict[int, bytes]]:
        read.extend(rows)
        return alert_bodies(rows)

    planning.queue.alert_bodies = reading  # type: ignore[method-assign,assignment]
    planning.queued.clear()
    for number in range(30):
        one = sink(f"s{number}", match={"matchers": ('alertname!="A7"',)})
        planning.names[one.uid] = "s"
        planning.directory.put(one)
    assert await planning.settled() == FIRING * 30 * 99
    assert len(read) == 100


async def test_a_sink_that_is_deleted_and_made_again_before_it_is_forgotten_inherits_nothing(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"))
    planning.queued.clear()
    for _ in range(2):
        planning.directory.remove(uid("s"))
        planning.directory.put(sink("s"))
    assert await planning.settled() == FIRING
    planning = await start(sink("s"))
    assert await planning.post(ended("A")) == RESOLVED


async def test_a_sink_that_is_made_again_is_new_to_what_is_received_before_the_deleted_one_is_forgotten(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"), firing("B"))
    planning.directory.remove(uid("s"))
    planning.directory.put(sink("s"))
    planning.later(1)
    assert await planning.post(firing("A"), ended("B")) == FIRING
    assert await planning.settled() == FIRING  # not twice
    planning = await start(sink("s"))
    assert await planning.post(ended("A")) == RESOLVED
    assert await planning.post(ended("B")) == []


async def test_a_sink_that_is_made_again_while_another_is_caught_up_inherits_nothing(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(*[firing(f"A{n}") for n in range(600)])
    planning.queued.clear()
    planning.names[uid("other")] = "other"
    planning.directory.put(sink("other"))
    async with asyncio.timeout(30):
        while not planning.queued:
            await asyncio.sleep(0)
    planning.directory.remove(uid("s"))
    planning.directory.put(sink("s"))
    await planning.settled()
    assert sorted(planning.shown()) == [("other", "firing")] * 600 + [("s", "firing")] * 600


async def test_a_resumed_sink_is_notified_of_what_fires_and_may_have_expired_meanwhile(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("Old"))
    planning.later(30 * HOURS)
    await planning.post(firing("Young"), group="young")
    await planning.put(sink("s", suspend=True))
    planning.later(50 * HOURS)
    assert await planning.put(sink("s")) == FIRING  # maxAge is 72 h
    assert json.loads(planning.queued[0].body)["name"] == "Old"


async def test_a_resumed_sink_is_notified_of_what_fires_and_of_the_ends_it_missed(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"), firing("B"))
    await planning.put(sink("s", suspend=True))
    assert await planning.post(ended("A"), firing("B"), firing("C")) == []
    await planning.post(firing("Short"), group="other")
    await planning.post(ended("Short"), group="other")
    assert sorted(await planning.put(sink("s"))) == [("s", "firing"), ("s", "resolved")]
    assert {json.loads(one.body)["name"] for one in planning.queued} == {"A", "C"}


async def test_a_sink_resumed_while_the_router_was_not_running_is_caught_up(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"))
    await planning.put(sink("s", suspend=True))
    await planning.post(ended("A"))
    planning = await start(sink("s"))
    assert planning.shown() == RESOLVED


async def test_the_end_that_a_suspended_sink_missed_is_kept_longer_than_other_ends(start: Start) -> None:
    planning = await start(sink("s"), sink("other"))
    await planning.post(firing("A"))
    await planning.put(sink("s", suspend=True))
    await planning.post(ended("A"))
    planning.later(48 * HOURS)
    await planning.states.prune([uid("s"), uid("other")])
    assert await planning.put(sink("s")) == RESOLVED
    planning.later(2 * HOURS)
    assert await planning.states.prune([uid("s"), uid("other")]) == 1
    assert len(planning.states) == 0


async def test_a_sink_that_is_deleted_and_made_again_inherits_nothing(start: Start) -> None:
    planning = await start(sink("s"), sink("other"))
    await planning.post(firing("A"))
    await planning.remove("s")
    assert await planning.post(ended("A"), firing("B")) == [("other", "resolved"), ("other", "firing")]
    assert await planning.put(sink("s")) == FIRING
    assert json.loads(planning.queued[0].body)["name"] == "B"


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_failed_commit_does_not_bring_back_what_a_deleted_sink_was_notified_of(
    start: Start, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    monkeypatch.setattr("eventsink.router.planning.catch_up.RETRY_SECONDS", 0.01)
    planning = await start(sink("s"), sink("other"))
    await planning.post(firing("A"))
    commit, writing, go_on = Store.commit, threading.Event(), threading.Event()

    def fail_later(*_: object) -> None:
        monkeypatch.setattr(Store, "commit", commit)
        writing.set()
        go_on.wait(30)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Store, "commit", fail_later)
    posting = asyncio.ensure_future(planning.post(ended("A")))
    assert await asyncio.to_thread(writing.wait, 30)
    planning.directory.remove(uid("s"))
    async with asyncio.timeout(30):
        while any(one.sink == uid("s") for one in next(iter(planning.states.of_tenant("acme").values())).notified):
            await asyncio.sleep(0.001)
    if at_once:
        planning.later(1)
        planning.directory.put(sink("s"))
    go_on.set()
    with pytest.raises(QueueUnavailable):
        await posting
    await planning.settled()
    if not at_once:
        await planning.put(sink("s"))
    assert planning.shown() == FIRING


async def test_a_sink_deleted_while_the_router_was_not_running_leaves_nothing(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"))
    planning = await start()
    planning = await start(sink("s"))
    assert planning.shown() == FIRING


async def test_a_restart_notifies_nobody_of_what_they_know(start: Start) -> None:
    sinks = [sink("s"), sink("g", webhook={"format": "alertmanager"}), slack_sink("slack"), sink("asleep", suspend=True)]
    planning = await start(*sinks)
    await planning.post(firing("A"), firing("B"))
    await planning.post(ended("A"), firing("B"))
    planning = await start(*sinks)
    assert planning.queued == []


# ---- what is remembered


async def test_a_tenant_with_too_many_alerts_forgets_its_own(start: Start) -> None:
    planning = await start(sink("s"), sink("theirs", tenant="globex"), max_alerts=1000)
    await planning.post(alert("Mine", namespace="globex"), group="theirs")
    await planning.post(*[firing(f"A{n}") for n in range(1100)])
    await planning.states.make_room()
    assert len(planning.states) <= 1000
    assert planning.states.evicted > 0
    assert await planning.post(alert("Mine", status="resolved", namespace="globex"), group="theirs") == [("theirs", "resolved")]


async def test_a_group_is_forgotten_with_its_last_alert(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("A"), firing("B"), group="g")
    await planning.post(ended("A"), firing("B"), group="g")
    assert planning.states.groups == 1
    await planning.post(ended("B"), group="g")
    assert planning.states.groups == 0
    planning = await start(sink("s"))
    assert planning.states.groups == 0


async def test_an_alert_that_is_not_received_any_more_is_forgotten_with_its_body(start: Start) -> None:
    planning = await start(sink("s"), retention=1000, resolved_retention=500)
    await planning.post(firing("A"))
    planning.later(900)
    await planning.post(firing("B"), group="b")
    planning.later(200)
    assert await planning.states.prune([uid("s")]) == 1
    planning = await start(sink("s"), retention=1000, resolved_retention=500)
    assert (len(planning.states), planning.states.firing) == (1, 1)


async def test_a_notification_is_planned_in_parts_where_many_sinks_have_to_be_looked_at(start: Start) -> None:
    planning = await start(*[sink(f"s{n}", match={"matchers": ('alertname=~"X.*"',)}) for n in range(200)], sink("all"))
    puts = []
    submit = planning.queue.submit
    planning.queue.submit = lambda *given: puts.append(given) or submit(*given)  # type: ignore[method-assign,func-returns-value]
    alerts = [firing(f"A{n}") for n in range(1000)]
    assert len(await planning.post(*alerts)) == 1000
    assert len(puts) > 3
    planning.later(HOURS)
    assert len(await planning.post(*alerts)) == 1000  # of a repeat, every part repeats
    assert len(await planning.post(*alerts, firing("new"))) == 1  # something new in the last part is no repeat of the first


async def test_alerts_that_nobody_gets_fill_no_queue(start: Start) -> None:
    planning = await start(sink("theirs", tenant="globex"), queue={"max_bytes": 2 * 1024**2})
    for number in range(50):
        large = {**firing(f"A{number}"), "annotations": {"description": "x" * 60_000}}
        assert await planning.post(large, group=f"g{number}") == []
    assert planning.states.room.bodies_left_out.count > 20
    assert await planning.post(alert("Mine", namespace="globex"), group="theirs") == [("theirs", "firing")]


async def test_an_end_without_the_dropped_label_ends_an_alert_also_in_a_replica_that_is_gone(start: Start) -> None:
    planning = await start(sink("s"))
    planning.source = source(dropLabels=["replica"])
    assert await planning.post(firing(replica="gone"), group="gone") == FIRING
    await planning.post(firing(replica="here"), group="here")
    assert await planning.post(ended(replica="here"), group="here") == []
    by_hand = ended()
    document = {
        "version": "4",
        "groupKey": "by hand",
        "alerts": [{n: by_hand[n] for n in ("status", "labels", "startsAt", "endsAt")}],
    }
    assert await planning.send(json.dumps(document).encode()) == RESOLVED


SMALL_QUEUE = {"max_bytes": 2 * 1024**2}


async def fill(planning: PlanningUnderTest) -> None:
    """Deliveries to another tenant's sink take two thirds of a small queue."""
    number = 0
    while planning.queue.depth().bytes < SMALL_QUEUE["max_bytes"] * 2 / 3:
        large = {**alert(f"Large{number}", namespace="globex"), "annotations": {"description": "x" * 60_000}}
        await planning.post(large, group=f"large{number}")
        await planning.queue.keep_house()
        number += 1


async def test_a_possible_late_duplicate_is_delivered_at_once_if_there_is_no_room_to_hold_it(start: Start) -> None:
    planning = await start(sink("s"), sink("theirs", tenant="globex"), queue=SMALL_QUEUE)
    assert await planning.post(firing()) == FIRING
    assert await planning.post(ended()) == RESOLVED
    await fill(planning)
    assert await planning.post(firing(), sender=HALF_B) == FIRING
    assert planning.states.room.not_held.count == 1
    assert await planning.post(ended(ends_at="2026-01-01T14:00:00Z"), sender=HALF_B) == RESOLVED


async def test_what_is_held_already_stays_held_when_the_room_is_gone(start: Start) -> None:
    planning = await start(sink("s"), sink("theirs", tenant="globex"), queue=SMALL_QUEUE)
    await planning.post(firing())
    await planning.post(ended())
    assert await planning.post(firing(), sender=HALF_B) == []
    await fill(planning)
    assert await planning.post(firing(), sender=HALF_B) == []
    planning.queued.clear()
    planning.later(61)
    assert await planning.settled() == FIRING


async def test_an_end_for_which_there_is_no_room_is_made_of_the_firing_alert_when_the_sink_is_resumed(start: Start) -> None:
    planning = await start(sink("s"), sink("theirs", tenant="globex"), queue=SMALL_QUEUE)
    await planning.post(firing())
    await planning.put(sink("s", suspend=True))
    await fill(planning)
    size = planning.queue.depth().bytes
    end = ended(ends_at="2026-01-01T14:00:00Z")
    assert await planning.post({**end, "annotations": {"description": "x" * 60_000}}) == []
    assert planning.states.room.ends_left_out.count == 1
    await planning.queue.keep_house()
    assert planning.queue.depth().bytes == size
    assert await planning.put(sink("s")) == RESOLVED
    body = json.loads(planning.queued[0].body)
    assert (body["status"], body["endsAt"], body["labels"]["alertname"]) == ("resolved", "2026-01-01T14:00:00Z", "A")
    assert await planning.post(end) == []


async def test_a_sink_that_an_older_version_could_not_read_gets_what_fires_as_soon_as_one_can(start: Start) -> None:
    planning = await start(sink("s"))
    await planning.post(firing("before"))
    planning = await start(withheld=[uid("s")])
    assert await planning.post(firing("meanwhile"), group="b") == []
    planning = await start(sink("s"))
    assert [json.loads(one.body)["name"] for one in planning.queued] == ["meanwhile"]


BETWEEN = pytest.mark.parametrize(
    "between", [{"suspend": True}, {"match": {"matchers": ('alertname="other"',)}}], ids=["suspended", "narrowed"]
)


@BETWEEN
async def test_a_sink_that_is_as_it_was_before_anybody_looked_has_missed_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch, between: dict[str, Any]
) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    read, reading, go_on = planning.queue.alert_bodies, asyncio.Event(), asyncio.Event()

    async def read_slowly(rows: Sequence[int]) -> dict[int, bytes]:
        reading.set()
        await go_on.wait()
        return await read(rows)

    monkeypatch.setattr(planning.queue, "alert_bodies", read_slowly)
    planning.names[uid("t")] = "t"
    planning.directory.put(sink("t"))
    await asyncio.wait_for(reading.wait(), 30)
    planning.directory.put(sink("s", generation=2, **between))
    await planning.post(ended(), firing("B"))
    planning.directory.put(sink("s", generation=3))
    go_on.set()
    await planning.settled()
    of_s = [one for one in planning.queued if one.sink == uid("s")]
    assert {(json.loads(one.body)["name"], one.status) for one in of_s} == {("A", "resolved"), ("B", "firing")}


@BETWEEN
@pytest.mark.parametrize("when", ["while the router runs", "while it was stopped"])
async def test_what_a_sink_missed_before_anybody_looked_survives_a_crash(
    start: Start, between: dict[str, Any], when: str
) -> None:
    planning = await start(sink("s"))
    await planning.post(firing())
    if when == "while the router runs":
        await planning.stop()  # it is busy with others
        planning.directory.put(sink("s", generation=2, **between))
    else:
        planning = await start(sink("s", generation=2, **between), caught_up=False)
    assert await planning.post(ended(), firing("B")) == ([] if "suspend" in between else RESOLVED)
    planning.directory.put(sink("s", generation=3))
    planning = await start(sink("s", generation=3))
    missed = {("B", "firing")} | ({("A", "resolved")} if "suspend" in between else set())
    assert {(json.loads(one.body)["name"], one.status) for one in planning.queued} == missed


async def test_a_new_sink_is_notified_of_what_is_being_written_when_it_is_caught_up(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning = await start()
    commit, writing, go_on = Store.commit, threading.Event(), threading.Event()

    def commit_later(store: Store, clock: float, change: StoreChange) -> None:
        monkeypatch.setattr(Store, "commit", commit)
        writing.set()
        go_on.wait(30)
        commit(store, clock, change)

    monkeypatch.setattr(Store, "commit", commit_later)
    posting = asyncio.ensure_future(planning.post(firing()))
    assert await asyncio.to_thread(writing.wait, 30)
    read, put = planning.queue.alert_bodies, planning.queue.put

    async def read_too_early(rows: Sequence[int]) -> dict[int, bytes]:
        found = await read(rows)
        go_on.set()
        return found

    async def put_behind(batch: Batch, undo: Callable[[], None] | None = None) -> None:
        go_on.set()
        await put(batch, undo)

    monkeypatch.setattr(planning.queue, "alert_bodies", read_too_early)
    monkeypatch.setattr(planning.queue, "put", put_behind)
    planning.names[uid("s")] = "s"
    planning.directory.put(sink("s"))
    assert await planning.settled() == FIRING
    await posting


# ---- events that are counted


def grown(count: int) -> bytes:
    """An Event that has happened so often."""
    event = {"metadata": {"uid": "u-1", "creationTimestamp": "2026-01-01T12:00:00Z"}, "reason": "BackOff", "type": "Warning"}
    return json.dumps({**event, "series": {"count": count}}).encode()


EVENTS = source(format="kubernetes-events", tenant={"fixed": "acme"})
EVENT = [("s", "event")]


def counts(planning: PlanningUnderTest) -> list[int]:
    return [json.loads(one.body)["count"] for one in planning.queued]


async def test_an_event_that_grew_too_early_is_notified_when_the_repeat_interval_has_passed_also_after_a_restart(
    start: Start,
) -> None:
    hourly = sink("s", delivery={"repeat_interval": HOURS})
    planning = await start(hourly, source=EVENTS)
    assert await planning.send(grown(1)) == EVENT
    planning.later(600)
    assert await planning.send(grown(4)) == []
    assert await planning.send(grown(7)) == []
    assert await planning.look_at_events() == []
    planning = await start(hourly, source=EVENTS)
    planning.later(2999)
    assert await planning.look_at_events() == []
    planning.later(1)
    assert await planning.look_at_events() == EVENT
    assert counts(planning) == [7]
    assert await planning.look_at_events() == []
    assert await planning.send(grown(7)) == []
    planning.later(2 * HOURS)
    assert await planning.look_at_events() == []
    assert await planning.send(grown(8)) == EVENT


async def test_an_event_that_grew_is_notified_to_each_sink_in_its_own_time_and_to_none_without_a_repeat_interval(
    start: Start,
) -> None:
    sinks = [sink(name, delivery={"repeat_interval": hours * HOURS}) for name, hours in (("s", 1.0), ("t", 2.0))]
    planning = await start(*sinks, sink("once"), source=EVENTS)
    assert len(await planning.send(grown(1))) == 3
    assert await planning.send(grown(2)) == []
    planning.later(HOURS)
    assert await planning.look_at_events() == EVENT
    planning.later(0.9 * HOURS)
    await planning.states.prune([uid("s"), uid("t")])  # longer ago than resolvedRetention
    planning.later(0.1 * HOURS)
    assert await planning.look_at_events() == [("t", "event")]
    assert counts(planning) == [2]
    planning.later(HOURS + 1)
    assert await planning.states.prune([uid("s"), uid("t")]) == 1


MUTED = {"mutes": ({"matchers": ('alertname="BackOff"',), "since": 0.0, "until": 1e12},)}


@pytest.mark.parametrize(
    "change", [{"suspend": True}, {"match": {"matchers": ('alertname="Other"',)}}, {"delivery": {}}, MUTED, None]
)
async def test_a_sink_that_does_not_want_an_event_any_more_is_not_notified_of_its_growth(
    start: Start, change: dict[str, Any] | None
) -> None:
    hourly: dict[str, Any] = {"delivery": {"repeat_interval": HOURS}}
    planning = await start(sink("s", **hourly), source=EVENTS)
    await planning.send(grown(1))
    await planning.send(grown(2))
    if change is None:
        await planning.remove("s")
    else:
        await planning.put(sink("s", **(hourly | change)))
    planning.later(2 * HOURS)
    assert await planning.look_at_events() == []


async def test_an_event_that_could_not_be_queued_is_tried_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    planning = await start(sink("s", delivery={"repeat_interval": HOURS}), source=EVENTS)
    await planning.send(grown(1))
    await planning.send(grown(2))
    planning.later(HOURS)
    with monkeypatch.context() as failing:
        failing.setattr(planning.queue, "alert_bodies", _unavailable)
        with pytest.raises(QueueUnavailable):
            await planning.look_at_events()
    assert await planning.look_at_events() == EVENT


async def _unavailable(*_: object) -> None:
    raise QueueUnavailable("the disk is gone")


async def test_what_a_sink_was_notified_of_an_event_outlives_a_restart_and_is_remembered_while_the_event_grows(
    start: Start,
) -> None:
    twice_a_day = sink("s", delivery={"repeat_interval": 12 * HOURS})
    planning = await start(twice_a_day, source=EVENTS)
    assert await planning.send(grown(3)) == [("s", "event")]
    planning = await start(twice_a_day, source=EVENTS)
    assert await planning.send(grown(3)) == []
    for count in range(4, 15):  # each within resolvedRetention of the one before
        planning.later(0.9 * HOURS)
        await planning.states.prune([uid("s")])
        assert await planning.send(grown(count)) == []
    planning = await start(twice_a_day, source=EVENTS)
    planning.later(2.2 * HOURS)
    assert await planning.send(grown(15)) == [("s", "event")]


async def test_an_event_that_claims_to_have_happened_too_often_keeps_back_no_other(start: Start) -> None:
    planning = await start(sink("s"), source=EVENTS)
    assert await planning.send(grown(10**30)) == EVENT
    assert counts(planning) == [2**53 - 1]
