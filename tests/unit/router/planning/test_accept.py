"""From the bytes of a request to a committed batch: each sink gets its own alerts, once, in the form that it asked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from eventsink.alerts.alert import Alert, IncomingNotification, Status, UnusablePayload
from eventsink.alerts.formats import alertmanager, grafana
from eventsink.alerts.formats import json as json_format
from eventsink.alerts.formats.registry import FORMATS
from eventsink.router.directory import SinkDirectory
from eventsink.router.planning import accept, parts
from eventsink.router.planning.accept import Acceptor, NothingAccepted, NotLoaded
from eventsink.router.planning.alert_states import AlertStates
from eventsink.router.planning.match import SinkIndex
from eventsink.router.planning.parts import MOST_ALERTS
from eventsink.router.planning.state_settings import StateSettings
from eventsink.router.queue.delivery_log import DeliveryFilter
from eventsink.router.queue.protocol import PayloadKind, QueueFull
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from eventsink.runtime.turns import Steps
from eventsink.sinks.sink import Sink, Tenancy
from tests.support.clock import ManualClock
from tests.support.parts import alert, notification
from tests.support.throwaway_formats import BEACON, TICKER, readings
from tests.unit.router.planning.planning import HALF_A, HALF_B, PlanningUnderTest, Start
from tests.unit.router.sinks import directory, sink, source, uid, withdrawn_sink

MakePlanning = Callable[..., PlanningUnderTest]


@pytest.fixture
async def make_planning(tmp_path: Path) -> AsyncIterator[MakePlanning]:
    """Makes planning over these sinks."""
    clock = ManualClock()
    settings = QueueSettings(path=tmp_path / "q.db", min_free_bytes=0, max_waiting=50)
    queue = await SqliteQueue.open(settings, monotonic=clock)
    yield lambda *sinks: PlanningUnderTest(queue, clock, directory(*sinks))
    await queue.close()


async def test_a_sink_is_notified_once_of_the_firing_and_once_of_the_resolution(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s"))
    firing, resolved = alert("Disk", namespace="acme"), alert("Disk", status="resolved", namespace="acme")
    assert await planning.post(firing) == [("s", "firing")]
    assert await planning.post(firing, sender=HALF_B) == []  # a duplicate from the other half
    planning.later(4 * 3600)
    assert await planning.post(firing) == [("s", "firing")]  # Alertmanager's repeat
    assert await planning.post(resolved) == [("s", "resolved")]
    assert await planning.post(resolved) == await planning.post(resolved, sender=HALF_B) == []
    assert planning.queued == []


async def test_each_tenant_gets_its_own_alerts_of_a_shared_notification(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("mine"), sink("theirs", tenant="globex"))
    queued = await planning.post(alert("A", namespace="acme"), alert("B", namespace="globex"))
    assert queued == [("mine", "firing"), ("theirs", "firing")]
    assert {one.sink: json.loads(one.body)["name"] for one in planning.queued} == {uid("mine"): "A", uid("theirs"): "B"}
    assert all(json.loads(one.body)["tenant"] == one.tenant for one in planning.queued)


async def test_what_is_queued_for_a_sink_of_all_tenants_says_whose_alert_it_is(start: Start) -> None:
    groups = sink("groups", tenant="*", webhook={"format": "alertmanager"})
    planning = await start(sink("all", tenant="*"), sink("own"), groups)
    await planning.post(alert("A", namespace="acme"), alert("G", namespace="globex"))
    await planning.post(alert("G2", namespace="globex"), group="other")
    await planning.put(sink("late", tenant="*"))
    listed = await planning.queue.look_up(DeliveryFilter(), limit=20)
    assert sorted((planning.names[one.sink], one.name, one.tenant) for one in listed) == [
        ("all", "A", "acme"),
        ("all", "G", "globex"),
        ("all", "G2", "globex"),
        ("groups", "A", "*"),  # alerts of both
        ("groups", "G2", "globex"),
        ("late", "A", "acme"),
        ("late", "G", "globex"),
        ("late", "G2", "globex"),
        ("own", "A", "acme"),
    ]
    assert await planning.queue.look_up(DeliveryFilter(tenant="globex", sink=uid("own")), limit=20) == []


async def test_a_group_that_is_all_for_one_sink_is_passed_on_byte_for_byte(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("g", webhook={"format": "alertmanager"}))
    body = json.dumps(notification(alert("A", namespace="acme"), alert("B", namespace="acme")), indent=3).encode()
    await planning.acceptor.accept_bytes(planning.source, body, HALF_A)
    assert [(one.kind, one.body) for one in planning.queued] == [(PayloadKind.GROUP, body)]


async def test_a_tenant_gets_only_its_own_alerts_of_a_shared_group(make_planning: MakePlanning) -> None:
    planning = make_planning(
        sink("g", webhook={"format": "alertmanager"}), sink("h", tenant="globex", webhook={"format": "alertmanager"})
    )
    mine = alert("A", status="resolved", namespace="acme")
    await planning.post(alert("A", namespace="acme"))
    await planning.post(mine, alert("B", namespace="globex"), alert("C", namespace="nobody"), group="g", futureMember={"x": 1})
    groups = {one.sink: json.loads(one.body) for one in planning.queued}
    assert [one["labels"]["alertname"] for one in groups[uid("g")]["alerts"]] == ["A"]
    assert [one["labels"]["alertname"] for one in groups[uid("h")]["alerts"]] == ["B"]
    assert (groups[uid("g")]["status"], groups[uid("h")]["status"]) == ("resolved", "firing")
    assert groups[uid("g")]["alerts"][0].items() >= mine.items()
    assert groups[uid("g")]["groupKey"] == "g"
    assert "futureMember" not in groups[uid("g")]


async def test_a_group_is_sent_whole_once_anything_in_it_is_new(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("g", webhook={"format": "alertmanager"}), sink("e"))
    old, new = alert("A", namespace="acme"), alert("B", namespace="acme")
    await planning.post(old)
    await planning.post(old, new)
    bodies = {one.sink: json.loads(one.body) for one in planning.queued}
    assert len(bodies[uid("g")]["alerts"]) == 2
    assert bodies[uid("e")]["name"] == "B"
    assert await planning.post(old, new, sender=HALF_B) == []


async def test_resolutions_are_left_out_for_a_sink_that_does_not_want_them(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("g", webhook={"format": "alertmanager"}, delivery={"send_resolved": False}))
    await planning.post(alert("A", namespace="acme"))
    await planning.post(alert("A", status="resolved", namespace="acme"), alert("B", namespace="acme"))
    assert [one["labels"]["alertname"] for one in json.loads(planning.queued[0].body)["alerts"]] == ["B"]
    assert await planning.post(alert("B", status="resolved", namespace="acme")) == []


async def test_a_suspended_sink_queues_nothing_and_a_withdrawn_one_is_queued_for(make_planning: MakePlanning) -> None:
    groups = withdrawn_sink("g", webhook={"format": "alertmanager"})
    planning = make_planning(sink("asleep", suspend=True), withdrawn_sink("w"), groups)
    assert await planning.post(alert("A", namespace="acme")) == [("w", "firing"), ("g", "firing")]
    assert [one.kind for one in planning.queued] == [PayloadKind.ALERT, PayloadKind.GROUP]


@pytest.fixture
def large_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notification is planned in parts as large as where there are many of them."""
    monkeypatch.setattr(accept, "PART_ALERTS", MOST_ALERTS)


@pytest.mark.parametrize(
    ("module", "bound", "value", "first"),
    [
        (parts, "TURN_SECONDS", -1.0, parts.LEAST_ALERTS),
        (parts, "DELIVERIES_OF_ALERT", 8 / MOST_ALERTS, 8),
        (accept, "MOST_ALERTS", 20, 20),
        (accept, "PART_ALERTS", 4, 4),
    ],
)
@pytest.mark.usefixtures("large_parts")
async def test_what_takes_long_is_planned_in_parts_between_which_others_have_their_turn(
    make_planning: MakePlanning, monkeypatch: pytest.MonkeyPatch, module: ModuleType, bound: str, value: float, first: int
) -> None:
    planning = make_planning(sink("s"), sink("quiet", tenant="globex"))
    monkeypatch.setattr(module, bound, value)
    many = asyncio.ensure_future(planning.post(*[alert(f"A{number}", namespace="acme") for number in range(24)], group="a"))
    await asyncio.sleep(0)
    body = json.dumps(notification(alert("B", namespace="globex"), group="b")).encode()
    await planning.acceptor.accept_bytes(planning.source, body, HALF_A)
    await many
    names = [json.loads(one.body)["name"] for one in planning.queued]
    assert sorted(names) == sorted([f"A{number}" for number in range(24)] + ["B"])
    assert names.index("B") <= first
    await planning.deliver_all("s")
    planning.later(4 * 3600)
    again = await planning.post(*[alert(f"A{number}", namespace="acme") for number in range(24)], group="a")
    assert again == [("s", "firing")] * 24  # all of it is known to be a repeat


async def test_a_notification_is_stored_at_once_where_the_queue_may_have_no_room_for_a_later_part(
    make_planning: MakePlanning,
) -> None:
    planning = make_planning(sink("s"))
    await planning.post(*[alert(f"A{number}", namespace="acme") for number in range(35)])
    with pytest.raises(QueueFull):
        await planning.post(*[alert(f"B{number}", namespace="acme") for number in range(24)])
    assert planning.shown() == []


@pytest.mark.parametrize("count", [10, 40, 60], ids=["few", "some", "more than the queue takes"])
async def test_sinks_are_sent_nothing_of_a_notification_before_the_rest_is_stored_or_cannot_be(
    make_planning: MakePlanning, count: int
) -> None:
    planning = make_planning(sink("s"), sink("quiet", tenant="globex"))
    gathered: Counter[str] = Counter()
    seen: list[tuple[int, int]] = []

    def gather(sinks: Collection[str]) -> Callable[[], None]:
        gathered.update(sinks)
        return lambda: gathered.subtract(sinks)

    planning.queue.subscribe(lambda deliveries: seen.append((len(deliveries), gathered[uid("s")])))
    planning.acceptor = Acceptor(*planning.of_acceptor, gather=gather)
    with contextlib.suppress(QueueFull):
        await planning.post(*[alert(f"A{number}", namespace="acme") for number in range(count)])
    stored = [number for number, _ in seen]
    assert len(stored) > 1
    assert sum(stored) == count or count > 50
    assert all(gathering > 0 for _, gathering in seen)
    assert gathered == {uid("s"): 0}


async def test_what_is_new_in_one_part_is_new_in_the_others_too(
    make_planning: MakePlanning, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning = make_planning(sink("s"))
    monkeypatch.setattr(accept, "PART_ALERTS", 20)
    many = [alert(f"A{number}", namespace="acme") for number in range(48)]
    await planning.post(*many, group="a")
    planning.later(600)
    assert await planning.post({**many[0], "status": "resolved"}, group="b") == [("s", "resolved")]
    planning.later(600)
    assert await planning.post(*many, group="a") == [("s", "firing")]  # the others are not repeated


async def test_a_group_that_goes_as_one_message_is_never_divided_because_it_takes_long(
    make_planning: MakePlanning, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning = make_planning(sink("g", webhook={"format": "alertmanager"}), sink("s"))
    monkeypatch.setattr(parts, "TURN_SECONDS", -1.0)
    queued = await planning.post(*[alert(f"A{number}", namespace="acme") for number in range(40)])
    assert sorted(queued) == [("g", "firing"), *[("s", "firing")] * 40]


@pytest.mark.parametrize("format", ["alertmanager", "json"])
async def test_half_a_character_costs_no_alert(make_planning: MakePlanning, format: str) -> None:
    groups = sink("groups", webhook={"format": "alertmanager"})
    planning = make_planning(sink("s"), groups)
    if format == "json":
        planning.source = source(format="json", tenant={"fixed": "acme"})
        body: Any = [{"name": "A", "summary": "C:\\ud83d cut \ud83d"}, {"name": "B"}]
    else:
        body = notification(alert("A", namespace="acme"), alert("B", namespace="acme"))
        body["alerts"][0]["annotations"] = {"summary": "C:\\ud83d cut \ud83d"}
        body["alerts"][1]["annotations"] = {}
    assert len(await planning.send(json.dumps(body).encode())) == (4 if format == "json" else 3)
    sent = [msgspec.json.decode(one.body) for one in planning.queued]  # as receivers read it that know no half of a character
    assert {one["name"]: one["summary"] for one in sent if "name" in one} == {"A": "C:\\ud83d cut \ufffd", "B": "B"}


async def test_the_same_alert_twice_in_one_request_is_one(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s"))
    planning.source = source(dropLabels=["replica"])
    one, two = alert("A", namespace="acme", replica="0"), alert("A", namespace="acme", replica="1")
    assert await planning.post(one, two) == [("s", "firing")]


async def test_alerts_that_differ_only_in_a_dropped_label_are_one_which_fires_while_any_does(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s"), sink("only-1", match={"matchers": ('replica="1"',)}))
    planning.source = source(dropLabels=["replica"])
    zero = alert("A", namespace="acme", replica="0", starts_at="2026-01-01T12:00:07Z")
    one = alert("A", namespace="acme", replica="1", starts_at="2026-01-01T12:00:01Z")
    assert sorted(await planning.post(zero, one)) == [("only-1", "firing"), ("s", "firing")]
    assert {json.loads(d.body)["labels"]["replica"] for d in planning.queued} == {"1"}
    assert await planning.post({**zero, "status": "resolved"}, one) == []
    assert sorted(await planning.post({**zero, "status": "resolved"}, {**one, "status": "resolved"})) == [
        ("only-1", "resolved"),
        ("s", "resolved"),
    ]


async def test_a_firing_alert_is_repeated_when_alertmanager_repeats_it_and_not_when_others_change(
    make_planning: MakePlanning,
) -> None:
    planning = make_planning(sink("mine"), sink("theirs", tenant="globex"))
    mine, theirs = alert("A", namespace="acme"), alert("B", namespace="globex")
    nobodys = alert("C", namespace="unowned")
    await planning.post(mine)
    for change in ([theirs], [theirs, nobodys], [{**theirs, "status": "resolved"}, nobodys]):
        planning.later(300)
        assert "mine" not in [name for name, _ in await planning.post(mine, *change)]
    planning.later(4 * 3600)
    assert await planning.post(mine, nobodys) == [("mine", "firing")]


async def test_a_duplicate_from_the_other_half_of_a_pair_repeats_nothing(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s"))
    old, new = alert("A", namespace="acme"), alert("B", namespace="acme")
    await planning.post(old)
    planning.later(3600)
    assert await planning.post(old, new) == [("s", "firing")]
    planning.later(15)
    assert await planning.post(old, new, sender=HALF_B) == []
    assert planning.suppressed == {"Unchanged": 1, "Duplicate": 2}


@pytest.mark.usefixtures("large_parts")
async def test_a_change_that_could_not_be_stored_is_still_a_change_when_resent(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s"), sink("theirs", tenant="globex"))
    mine = alert("A", namespace="acme")
    await planning.post(mine)
    planning.later(3600)
    many = [alert(f"B{n}", namespace="globex") for n in range(50)]
    with pytest.raises(QueueFull):
        await planning.post(mine, *many)
    assert await planning.post(mine, *many[:49]) == [("theirs", "firing")] * 49


async def test_of_a_notification_of_which_a_part_was_stored_the_rest_is_notified_when_it_is_resent(
    make_planning: MakePlanning,
) -> None:
    planning = make_planning(sink("s"))
    many = [alert(f"A{n}", namespace="acme") for n in range(60)]
    with pytest.raises(QueueFull):
        await planning.post(*many)
    stored = [json.loads(one.body)["name"] for one in planning.queued]
    assert 0 < len(stored) < 60
    await planning.deliver_all("s")
    planning.queued.clear()
    await planning.post(*many)
    assert sorted(stored + [json.loads(one.body)["name"] for one in planning.queued]) == sorted(f"A{n}" for n in range(60))


async def test_a_repeat_that_could_not_be_stored_is_still_a_repeat_when_resent(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s"))
    many = [alert(f"A{n}", namespace="acme") for n in range(50)]
    await planning.post(*many)
    planning.later(4 * 3600)
    with pytest.raises(QueueFull):
        await planning.post(*many)
    await planning.queue.settle([one.seq for one in await planning.queue.take(uid("s"), after=0, limit=100)])
    await planning.queue.flush()
    assert await planning.post(*many) == [("s", "firing")] * 50


async def test_a_resolution_that_a_sink_does_not_want_is_recorded_so_that_firing_again_is_new(
    make_planning: MakePlanning,
) -> None:
    planning = make_planning(sink("s", delivery={"send_resolved": False}))
    firing = alert("A", namespace="acme")
    assert await planning.post(firing) == [("s", "firing")]
    assert await planning.post({**firing, "status": "resolved"}) == []
    planning.later(300)
    assert await planning.post(firing) == [("s", "firing")]


async def test_an_exception_while_planning_leaves_the_states_unchanged(
    make_planning: MakePlanning, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning = make_planning(sink("a"), sink("b"))

    def fail(*_: Any) -> None:
        raise KeyError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(planning.states, "put_group", fail)
        with pytest.raises(KeyError):
            await planning.post(alert("A", namespace="acme"))
    assert sorted(await planning.post(alert("A", namespace="acme"))) == [("a", "firing"), ("b", "firing")]


async def test_alerts_that_nobody_wants_are_accepted(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s", match={"matchers": ('alertname="Other"',)}))
    assert await planning.post(alert("A", namespace="acme")) == []


async def test_alerts_without_a_tenant_are_reported_by_index(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s"))
    body = json.dumps(
        notification(alert("A"), alert("B", namespace="acme"), alert("C", namespace="none"), {"status": "x"} | {})
    ).encode()
    accepted = await planning.acceptor.accept_bytes(planning.source, body, HALF_A)
    assert accepted.alerts == 1
    assert [one.index for one in accepted.rejected] == [0, 2, 3]
    assert [one.value for one in accepted.reasons] == ["NoNamespace", "NamespaceWithoutOwner"]
    with pytest.raises(NothingAccepted, match=r"alerts\[0\]: the alert has no label namespace"):
        await planning.post(alert("A"))


async def test_nothing_is_accepted_before_all_sinks_are_known(make_planning: MakePlanning) -> None:
    known = SinkDirectory()
    queue = make_planning().queue
    acceptor = Acceptor(known, SinkIndex(), AlertStates(queue, StateSettings()), queue)
    with pytest.raises(NotLoaded):
        await acceptor.accept_bytes(source(), b"{}", HALF_A)


@pytest.mark.usefixtures("large_parts")
async def test_an_alert_that_could_not_be_stored_is_notified_when_resent(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s"))
    many = [alert(f"A{n}", namespace="acme") for n in range(60)]
    with pytest.raises(QueueFull):
        await planning.post(*many)
    assert len(planning.states) == 0
    assert len(await planning.post(*many[:50])) == 50
    with pytest.raises(QueueFull):  # nor is a resolution recorded that was not stored
        await planning.post(alert("A0", status="resolved", namespace="acme"))
    await planning.queue.settle([one.seq for one in await planning.queue.take(uid("s"), after=0, limit=100)])
    await planning.queue.flush()
    assert await planning.post(alert("A0", status="resolved", namespace="acme")) == [("s", "resolved")]


@pytest.fixture
def throwaway_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (BEACON, TICKER):
        monkeypatch.setitem(FORMATS, one.name, one)


@pytest.mark.usefixtures("throwaway_formats")
async def test_a_heartbeat_is_notified_again_only_after_the_sinks_repeat_interval(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("hourly", delivery={"repeat_interval": 3600.0}), sink("once"))
    planning.source = source(format="beacon", tenant={"fixed": "acme"})
    assert sorted(await planning.send(readings("Disk"))) == [("hourly", "firing"), ("once", "firing")]
    for _ in range(4):
        planning.later(890)
        assert await planning.send(readings("Disk")) == []
    planning.later(60)
    assert sorted(await planning.send(readings("Disk", "Memory"))) == [("hourly", "firing")] * 2 + [("once", "firing")]
    assert await planning.send(readings("Disk")) == []
    assert sorted(await planning.send(readings("Disk", over=True))) == [("hourly", "resolved"), ("once", "resolved")]
    planning.later(7200)
    assert await planning.send(readings("Disk", over=True)) == []
    assert sorted(await planning.send(readings("Disk", at="2026-01-01T15:00:00Z"))) == [("hourly", "firing"), ("once", "firing")]


@pytest.mark.usefixtures("throwaway_formats")
async def test_events_are_notified_once_for_each_id_even_within_one_request(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s", delivery={"repeat_interval": 3600.0}))
    planning.source = source(format="ticker", tenant={"fixed": "acme"})
    first, second = json.loads(readings("Login")), json.loads(readings("Login", at="2026-01-01T11:00:00Z"))
    assert await planning.send(json.dumps(first + second).encode()) == [("s", "event"), ("s", "event")]
    planning.later(1800)
    assert await planning.send(json.dumps(second + first).encode()) == []


async def test_json_with_a_status_fires_and_ends_and_is_repeated_as_its_source_sends_it(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s", match={"expression": 'alert.status != "resolved"'}))
    planning.source = source(format="json", tenant={"fixed": "acme"}, mapping={"status": "item.down"})
    assert await planning.send(b'{"name": "api", "down": true}') == [("s", "firing")]
    planning.later(600)
    assert await planning.send(b'{"name": "api", "down": true}') == [("s", "firing")]
    # An end goes to every sink that was notified of the start, whatever its expression says of it.
    assert await planning.send(b'{"name": "api", "down": false}') == [("s", "resolved")]
    assert await planning.send(b'{"name": "api", "down": false}') == []


def grown(count: int, uid: str = "u-1") -> bytes:
    """A Kubernetes Event that has happened so often."""
    event = {"metadata": {"uid": uid, "creationTimestamp": "2026-01-01T12:00:00Z"}, "reason": "BackOff", "type": "Warning"}
    return json.dumps({**event, "series": {"count": count}}).encode()


async def test_an_event_whose_count_grows_is_notified_again_after_the_sinks_repeat_interval_with_the_new_count(
    make_planning: MakePlanning,
) -> None:
    planning = make_planning(sink("hourly", delivery={"repeat_interval": 3600.0}), sink("once"))
    planning.source = source(format="kubernetes-events", tenant={"fixed": "acme"})
    assert sorted(await planning.send(grown(1))) == [("hourly", "event"), ("once", "event")]
    first = {json.loads(one.body)["id"] for one in planning.queued}
    for count in (1, 2, 2, 3):
        planning.later(890)
        assert await planning.send(grown(count)) == []
    assert planning.suppressed == {"Duplicate": 2, "Unchanged": 6}
    planning.later(60)
    assert await planning.send(grown(1)) == []
    assert await planning.send(grown(4)) == [("hourly", "event")]
    [again] = [json.loads(one.body) for one in planning.queued]
    assert (again["count"], {again["id"]}) == (4, first)
    planning.later(3600)
    assert await planning.send(grown(4)) == []
    assert sorted(await planning.send(grown(4, uid="u-2"))) == [("hourly", "event"), ("once", "event")]


async def test_the_largest_count_of_an_event_in_one_request_counts(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s"))
    planning.source = source(format="kubernetes-events", tenant={"fixed": "acme"})
    items = ",".join(grown(count).decode() for count in (2, 5, 3))
    assert await planning.send(f'{{"items": [{items}]}}'.encode()) == [("s", "event")]
    assert [json.loads(one.body)["count"] for one in planning.queued] == [5]


@pytest.mark.usefixtures("throwaway_formats")
async def test_a_sink_of_groups_gets_a_group_of_each_alert_of_a_source_without_groups(make_planning: MakePlanning) -> None:
    planning = make_planning(
        sink("g", webhook={"format": "alertmanager"}), sink("also", webhook={"format": "alertmanager"}), sink("e")
    )
    planning.source = source(format="beacon", name="beacon", tenant={"fixed": "acme"})
    await planning.send(readings("Disk"))
    await planning.send(readings("Disk", over=True))
    kinds = {one.sink: one.kind for one in planning.queued}
    assert kinds == {uid("g"): PayloadKind.GROUP, uid("also"): PayloadKind.GROUP, uid("e"): PayloadKind.ALERT}
    [resolved, _] = [one for one in planning.queued if one.kind is PayloadKind.GROUP]
    body = json.loads(resolved.body)
    assert (body["status"], body["receiver"], body["alerts"][0]["labels"]) == ("resolved", "beacon", {"alertname": "Disk"})
    assert body["commonAnnotations"] == {"summary": "Disk was read"}
    # It is what Alertmanager sends: the router itself can read it.
    [read] = alertmanager.parse(resolved.body).alerts
    assert (read.status, read.name, read.summary) == (Status.RESOLVED, "Disk", "Disk was read")


async def test_a_notification_that_was_not_posted_is_accepted_too(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s"))
    planning.source = source(tenant={"fixed": "acme"})
    accepted = await planning.acceptor.accept(
        planning.source, alertmanager.parse(json.dumps(notification(alert("A"))).encode()), HALF_A
    )
    assert (accepted.alerts, accepted.deliveries) == (1, 1)


async def test_what_was_truncated_or_left_out_is_said_of_a_notification(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s"))
    long = alert("B", namespace="acme")
    long["annotations"] = {"description": "x" * 70_000}
    body = json.dumps(notification(alert("A", namespace="acme"), long, truncatedAlerts=7)).encode()
    accepted = await planning.acceptor.accept_bytes(planning.source, body, HALF_A)
    assert (accepted.alerts, accepted.truncated, accepted.left_out) == (2, 1, 7)
    assert [json.loads(one.body).get("truncated") for one in planning.queued] == [None, ["annotations.description"]]


async def test_a_large_notification_of_a_format_without_steps_is_read_aside_of_the_event_loop(
    make_planning: MakePlanning, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning = make_planning(sink("s", match={"matchers": ('alertname=~".+"',)}))
    threads = []

    def parse(body: bytes) -> IncomingNotification:
        threads.append(threading.current_thread() is threading.main_thread())
        return alertmanager.parse(body)

    monkeypatch.setitem(FORMATS, "alertmanager", replace(alertmanager.FORMAT, parse=parse, steps=None))
    planning.source = source()
    small, large = alert("A", namespace="acme"), alert("B", namespace="acme")
    assert await planning.post(small) == [("s", "firing")]
    assert await planning.post(large, padding="x" * 300_000) == [("s", "firing")]
    many = [{**small, "labels": {"namespace": "acme", "n": f"{n}"}} for n in range(1000)]
    await planning.post(*many)
    assert threads == [True, False, False]


async def test_notifications_of_which_much_is_made_are_read_one_at_a_time(
    make_planning: MakePlanning, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning = make_planning(sink("s", match={"matchers": ('alertname="none of them"',)}))
    reading: list[int] = []
    most = 0

    def steps(body: bytes) -> Steps[IncomingNotification]:
        nonlocal most
        reading.append(1)
        most = max(most, len(reading))
        try:
            return (yield from alertmanager.steps(body))
        finally:
            reading.pop()

    monkeypatch.setitem(FORMATS, "alertmanager", replace(alertmanager.FORMAT, steps=steps))
    planning.source = source()
    bodies = [
        json.dumps(notification(*[alert(f"A{group}-{number}", namespace="acme") for number in range(400)], group=f"{group}"))
        for group in range(3)
    ]
    accepting = [planning.acceptor.accept_bytes(planning.source, body.encode(), HALF_A) for body in bodies]
    assert [one.alerts for one in await asyncio.gather(*accepting)] == [400] * 3
    assert most == 1


@pytest.mark.parametrize("format", ["grafana", "json"])
async def test_what_is_looked_at_before_the_first_alert_of_a_large_notification_is_so_aside_of_the_event_loop(
    make_planning: MakePlanning, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    module: Any = {"grafana": grafana, "json": json_format}[format]
    first = {"grafana": "_rewritten", "json": "without_nulls"}[format]
    original, threads = getattr(module, first), []

    def look(body: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return original(body)

    monkeypatch.setattr(module, first, look)
    planning = make_planning(sink("s"))
    planning.source = source(format=format, tenant={"fixed": "acme"})
    body = {**notification(alert("A", namespace="acme")), "name": "A", "version": "1", "padding": "x" * 300_000}
    assert await planning.send(json.dumps(body).encode()) == [("s", "event" if format == "json" else "firing")]
    assert set(threads) == {False}


async def test_a_notification_of_many_alerts_is_read_a_few_at_a_time_while_others_have_their_turns(
    make_planning: MakePlanning,
) -> None:
    planning = make_planning(sink("s", match={"matchers": ('alertname="none of them"',)}))
    body = json.dumps(notification(*[alert(f"A{number}", namespace="acme") for number in range(1000)], group="a")).encode()
    many = asyncio.ensure_future(planning.acceptor.accept_bytes(planning.source, body, HALF_A))
    between = 0
    while not many.done():
        other = json.dumps(notification(alert(f"B{between}", namespace="acme"), group=f"b{between}")).encode()
        await planning.acceptor.accept_bytes(planning.source, other, HALF_A)
        between += not many.done()
    assert (await many).alerts == 1000
    assert between > 10


async def test_what_is_wrong_with_a_notification_of_many_alerts_is_said_as_of_any_other(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s"))
    unusable = {**alert("X", namespace="acme"), "labels": {}}
    body = json.dumps(notification(*[alert(f"A{number}", namespace="acme") for number in range(40)], unusable)).encode()
    accepted = await planning.acceptor.accept_bytes(planning.source, body, HALF_A)
    assert (accepted.alerts, [one.index for one in accepted.rejected]) == (40, [40])
    with pytest.raises(UnusablePayload, match="none of the 40 alerts can be used"):
        await planning.acceptor.accept_bytes(planning.source, json.dumps(notification(*[unusable] * 40)).encode(), HALF_A)


class Turns:
    """Counts something between two turns of the event loop: the most of it in one turn."""

    def __init__(self) -> None:
        self.most = self.all = self._this = 0
        self._counting = asyncio.create_task(self._count())

    def add(self) -> None:
        self._this += 1
        self.all += 1
        self.most = max(self.most, self._this)

    async def _count(self) -> None:
        while True:
            self._this = 0
            await asyncio.sleep(0)

    async def end(self) -> None:
        self._counting.cancel()
        await asyncio.wait([self._counting])


async def test_a_notification_of_very_many_alerts_is_planned_in_slices(
    make_planning: MakePlanning, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning = make_planning(sink("s", match={"matchers": ('alertname="A7"',)}), sink("wants-none", match={"matchers": ("a=b",)}))
    assigned, matched = Turns(), Turns()
    matching = planning.index.matching

    class Owners(dict[str, str]):
        def get(self, namespace: str, default: Any = None) -> Any:
            assigned.add()
            return super().get(namespace, default)

    def match(alert: Alert) -> list[Sink]:
        matched.add()
        return matching(alert)

    planning.directory.set_tenancy(Tenancy.model_construct(owners=Owners(acme="acme")))
    monkeypatch.setattr(planning.index, "matching", match)
    assert await planning.post(*(alert(f"A{n}", namespace="acme") for n in range(3000))) == [("s", "firing")]
    await assigned.end()
    await matched.end()
    assert (assigned.all, matched.all) == (3000, 3000)
    assert assigned.most <= 500
    assert matched.most <= 1000


async def test_what_comes_after_a_notification_of_very_many_alerts_overtakes_it_only_in_another_group(
    make_planning: MakePlanning,
) -> None:
    planning = make_planning(sink("s", match={"matchers": ('alertname=~"First|Last|Other"',)}))
    filler = [alert(f"A{n}", namespace="acme") for n in range(1500)]
    first, last, other = (alert(name, namespace="acme") for name in ("First", "Last", "Other"))
    over = {**last, "status": "resolved"}
    accepting = [
        planning.acceptor.accept(planning.source, alertmanager.parse(json.dumps(body).encode()), HALF_A)
        for body in (
            notification(first, *filler, last, group="g"),
            notification(over, group="g"),
            notification(other, group="h"),
            notification(last, group="g"),
        )
    ]
    for one in accepting:
        await one
    queued = [(json.loads(one.body)["name"], one.status) for one in planning.queued]
    assert queued[0] == ("Other", "firing")
    assert queued[1:] == [("First", "firing"), ("Last", "firing"), ("Last", "resolved"), ("Last", "firing")]


@pytest.mark.usefixtures("large_parts")
async def test_what_waits_for_a_notification_that_failed_is_accepted(make_planning: MakePlanning) -> None:
    planning = make_planning(sink("s"))
    many = notification(*(alert(f"A{n}", namespace="acme") for n in range(1000)), group="g")
    one = notification(alert("A", namespace="acme"), group="g")
    large, small = (
        planning.acceptor.accept(planning.source, alertmanager.parse(json.dumps(body).encode()), HALF_A) for body in (many, one)
    )
    with pytest.raises(QueueFull):
        await large
    assert (await small).deliveries == 1
    assert len(planning.states) == 1
