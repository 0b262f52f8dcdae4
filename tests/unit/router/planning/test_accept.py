"""From the bytes of a request to a committed batch: each sink gets its own alerts, once, in the form that it asked for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from eventsink.alerts.alert import Status
from eventsink.alerts.formats import alertmanager
from eventsink.alerts.formats.registry import FORMATS
from eventsink.router.directory import SinkChange, SinkDirectory
from eventsink.router.planning.accept import Acceptor, NothingAccepted, NotLoaded
from eventsink.router.planning.match import SinkIndex
from eventsink.router.planning.notification_log import NotificationLog, StateSettings
from eventsink.router.queue.protocol import Delivery, PayloadKind, QueueFull
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from tests.support.parts import alert, notification
from tests.support.throwaway_formats import BEACON, TICKER, readings
from tests.unit.router.sinks import directory, sink, source, uid


class Clock:
    """A monotonic clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0


class System:
    """An acceptor over a real queue."""

    def __init__(self, queue: SqliteQueue, clock: Clock, known: SinkDirectory) -> None:
        self.queue = queue
        self.clock = clock
        self.names = {one.uid: one.name for one in known.sinks.values()}
        self.index = SinkIndex()
        for one in known.sinks.values():
            self.index.change(SinkChange(None, one))
        self.log = NotificationLog(queue, StateSettings())
        self.acceptor = Acceptor(known, self.index, self.log, queue, StateSettings())
        self.source = source()
        self.heard: list[Delivery] = []
        queue.subscribe(self.heard.extend)

    async def post(self, *alerts: dict[str, Any], **members: Any) -> list[tuple[str, str]]:
        """Post a notification: (sink, status) of the deliveries that were queued."""
        return await self.send(json.dumps(notification(*alerts, **members)).encode())

    async def send(self, body: bytes) -> list[tuple[str, str]]:
        """Post bytes: (sink, status) of the deliveries that were queued."""
        self.heard.clear()
        await self.acceptor.accept_bytes(self.source, body)
        return [(self.names[one.sink], one.status) for one in self.heard]

    def later(self, seconds: float) -> None:
        """Let the queue clock go on."""
        self.clock.now += seconds


MakeSystem = Callable[..., System]


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[MakeSystem]:
    """Makes a system of these sinks."""
    clock = Clock()
    settings = QueueSettings(path=tmp_path / "q.db", min_free_bytes=0, max_waiting=50)
    queue = await SqliteQueue.open(settings, monotonic=lambda: clock.now)
    yield lambda *sinks: System(queue, clock, directory(*sinks))
    await queue.close()


async def test_a_sink_is_notified_once_of_the_firing_and_once_of_the_resolution(system: MakeSystem) -> None:
    at = system(sink("s"))
    firing, resolved = alert("Disk", namespace="acme"), alert("Disk", status="resolved", namespace="acme")
    assert await at.post(firing) == [("s", "firing")]
    assert await at.post(firing) == []  # a duplicate from the other half
    at.later(4 * 3600)
    assert await at.post(firing) == [("s", "firing")]  # Alertmanager's repeat
    assert await at.post(resolved) == [("s", "resolved")]
    assert await at.post(resolved) == []
    assert at.heard == []


async def test_each_tenant_gets_its_own_alerts_of_a_shared_notification(system: MakeSystem) -> None:
    at = system(sink("mine"), sink("theirs", tenant="globex"))
    queued = await at.post(alert("A", namespace="acme"), alert("B", namespace="globex"))
    assert queued == [("mine", "firing"), ("theirs", "firing")]
    assert {one.sink: json.loads(one.body)["name"] for one in at.heard} == {uid("mine"): "A", uid("theirs"): "B"}
    assert all(json.loads(one.body)["tenant"] == one.tenant for one in at.heard)


async def test_a_group_goes_to_the_byte_where_all_of_it_is_the_sinks(system: MakeSystem) -> None:
    at = system(sink("g", webhook={"format": "alertmanager"}))
    body = json.dumps(notification(alert("A", namespace="acme"), alert("B", namespace="acme")), indent=3).encode()
    await at.acceptor.accept_bytes(at.source, body)
    assert [(one.kind, one.body) for one in at.heard] == [(PayloadKind.GROUP, body)]


async def test_of_a_shared_group_a_tenant_gets_its_own_part_only(system: MakeSystem) -> None:
    at = system(sink("g", webhook={"format": "alertmanager"}), sink("h", tenant="globex", webhook={"format": "alertmanager"}))
    mine = alert("A", status="resolved", namespace="acme")
    await at.post(alert("A", namespace="acme"))
    await at.post(mine, alert("B", namespace="globex"), alert("C", namespace="nobody"), group="g", futureMember={"x": 1})
    groups = {one.sink: json.loads(one.body) for one in at.heard}
    assert [one["labels"]["alertname"] for one in groups[uid("g")]["alerts"]] == ["A"]
    assert [one["labels"]["alertname"] for one in groups[uid("h")]["alerts"]] == ["B"]
    assert (groups[uid("g")]["status"], groups[uid("h")]["status"]) == ("resolved", "firing")
    assert groups[uid("g")]["alerts"][0] == mine
    assert groups[uid("g")]["groupKey"] == "g"
    assert groups[uid("g")]["futureMember"] == {"x": 1}


async def test_a_group_is_sent_whole_once_anything_in_it_is_new(system: MakeSystem) -> None:
    at = system(sink("g", webhook={"format": "alertmanager"}), sink("e"))
    old, new = alert("A", namespace="acme"), alert("B", namespace="acme")
    await at.post(old)
    await at.post(old, new)
    bodies = {one.sink: json.loads(one.body) for one in at.heard}
    assert len(bodies[uid("g")]["alerts"]) == 2
    assert bodies[uid("e")]["name"] == "B"
    assert await at.post(old, new) == []


async def test_resolutions_are_left_out_for_a_sink_that_does_not_want_them(system: MakeSystem) -> None:
    at = system(sink("g", webhook={"format": "alertmanager"}, delivery={"send_resolved": False}))
    await at.post(alert("A", namespace="acme"))
    await at.post(alert("A", status="resolved", namespace="acme"), alert("B", namespace="acme"))
    assert [one["labels"]["alertname"] for one in json.loads(at.heard[0].body)["alerts"]] == ["B"]
    assert await at.post(alert("B", status="resolved", namespace="acme")) == []


async def test_a_suspended_sink_queues_nothing_and_a_withdrawn_one_is_queued_for(system: MakeSystem) -> None:
    withdrawn = sink("w").model_copy(update={"withdrawn": {"reason": "TenantNotOwned", "since": ""}, "webhook": None})
    at = system(sink("asleep", suspend=True), withdrawn)
    assert await at.post(alert("A", namespace="acme")) == [("w", "firing")]


async def test_the_same_alert_twice_in_one_request_is_one(system: MakeSystem) -> None:
    at = system(sink("s"))
    at.source = source(dropLabels=["replica"])
    one, two = alert("A", namespace="acme", replica="0"), alert("A", namespace="acme", replica="1")
    assert await at.post(one, two) == [("s", "firing")]


async def test_alerts_that_differ_in_a_dropped_label_count_as_one_that_fires_while_any_does(system: MakeSystem) -> None:
    at = system(sink("s"), sink("only-1", match={"matchers": ('replica="1"',)}))
    at.source = source(dropLabels=["replica"])
    zero = alert("A", namespace="acme", replica="0", starts_at="2026-01-01T12:00:07Z")
    one = alert("A", namespace="acme", replica="1", starts_at="2026-01-01T12:00:01Z")
    assert sorted(await at.post(zero, one)) == [("only-1", "firing"), ("s", "firing")]
    assert {json.loads(d.body)["labels"]["replica"] for d in at.heard} == {"1"}
    assert await at.post({**zero, "status": "resolved"}, one) == []
    assert sorted(await at.post({**zero, "status": "resolved"}, {**one, "status": "resolved"})) == [
        ("only-1", "resolved"),
        ("s", "resolved"),
    ]


async def test_a_firing_alert_is_repeated_when_alertmanager_repeats_it_and_not_when_others_change(system: MakeSystem) -> None:
    at = system(sink("mine"), sink("theirs", tenant="globex"))
    mine, theirs = alert("A", namespace="acme"), alert("B", namespace="globex")
    nobodys = alert("C", namespace="unowned")
    await at.post(mine)
    for change in ([theirs], [theirs, nobodys], [{**theirs, "status": "resolved"}, nobodys]):
        at.later(300)
        assert "mine" not in [name for name, _ in await at.post(mine, *change)]
    at.later(4 * 3600)
    assert await at.post(mine, nobodys) == [("mine", "firing")]


async def test_a_duplicate_of_a_change_from_the_other_half_repeats_nothing(system: MakeSystem) -> None:
    at = system(sink("s"))
    old, new = alert("A", namespace="acme"), alert("B", namespace="acme")
    await at.post(old)
    at.later(3600)
    assert await at.post(old, new) == [("s", "firing")]
    at.later(15)
    assert await at.post(old, new) == []


async def test_a_change_that_could_not_be_stored_is_a_change_when_it_comes_again(system: MakeSystem) -> None:
    at = system(sink("s"), sink("theirs", tenant="globex"))
    mine = alert("A", namespace="acme")
    await at.post(mine)
    at.later(3600)
    many = [alert(f"B{n}", namespace="globex") for n in range(50)]
    with pytest.raises(QueueFull):
        await at.post(mine, *many)
    assert await at.post(mine, *many[:49]) == [("theirs", "firing")] * 49


async def test_a_resolution_that_a_sink_does_not_want_is_recorded_so_that_firing_again_is_new(system: MakeSystem) -> None:
    at = system(sink("s", delivery={"send_resolved": False}))
    firing = alert("A", namespace="acme")
    assert await at.post(firing) == [("s", "firing")]
    assert await at.post({**firing, "status": "resolved"}) == []
    at.later(300)
    assert await at.post(firing) == [("s", "firing")]


async def test_a_defect_while_planning_leaves_no_trace(system: MakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    at = system(sink("a"), sink("b"))
    record, calls = at.log.record, iter([True, False])

    def fail_at_the_second(*given: Any) -> Any:
        if next(calls):
            return record(*given)
        raise KeyError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(at.log, "record", fail_at_the_second)
        with pytest.raises(KeyError):
            await at.post(alert("A", namespace="acme"))
    assert sorted(await at.post(alert("A", namespace="acme"))) == [("a", "firing"), ("b", "firing")]


async def test_a_sink_with_a_new_destination_is_notified_again(system: MakeSystem) -> None:
    at = system(sink("s"))
    await at.post(alert("A", namespace="acme"))
    moved = sink("s", url="https://elsewhere.example.com/")
    at.index.change(SinkChange(sink("s"), moved))
    assert await at.post(alert("A", namespace="acme")) == [("s", "firing")]


async def test_alerts_that_nobody_wants_are_accepted(system: MakeSystem) -> None:
    at = system(sink("s", match={"matchers": ('alertname="Other"',)}))
    assert await at.post(alert("A", namespace="acme")) == []


async def test_alerts_without_a_tenant_are_reported_by_index(system: MakeSystem) -> None:
    at = system(sink("s"))
    body = json.dumps(
        notification(alert("A"), alert("B", namespace="acme"), alert("C", namespace="none"), {"status": "x"} | {})
    ).encode()
    accepted = await at.acceptor.accept_bytes(at.source, body)
    assert accepted.alerts == 1
    assert [one.index for one in accepted.rejected] == [0, 2, 3]
    assert [one.value for one in accepted.reasons] == ["NoNamespace", "NamespaceWithoutOwner"]
    with pytest.raises(NothingAccepted, match=r"alerts\[0\]: the alert has no label namespace"):
        await at.post(alert("A"))


async def test_nothing_is_accepted_before_all_sinks_are_known(system: MakeSystem) -> None:
    known = SinkDirectory()
    queue = system().queue
    acceptor = Acceptor(known, SinkIndex(), NotificationLog(queue, StateSettings()), queue, StateSettings())
    with pytest.raises(NotLoaded):
        await acceptor.accept_bytes(source(), b"{}")


async def test_what_could_not_be_stored_is_notified_when_it_is_sent_again(system: MakeSystem) -> None:
    at = system(sink("s"))
    many = [alert(f"A{n}", namespace="acme") for n in range(60)]
    with pytest.raises(QueueFull):
        await at.post(*many)
    assert len(at.log) == 0
    assert len(await at.post(*many[:50])) == 50
    with pytest.raises(QueueFull):  # nor is a resolution recorded that was not stored
        await at.post(alert("A0", status="resolved", namespace="acme"))
    await at.queue.settle([one.seq for one in await at.queue.take(uid("s"), after=0, limit=100)])
    await at.queue.flush()
    assert await at.post(alert("A0", status="resolved", namespace="acme")) == [("s", "resolved")]


@pytest.fixture
def throwaway_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (BEACON, TICKER):
        monkeypatch.setitem(FORMATS, one.name, one)


@pytest.mark.usefixtures("throwaway_formats")
async def test_a_heartbeat_is_notified_again_after_the_sinks_repeat_interval_only(system: MakeSystem) -> None:
    at = system(sink("hourly", delivery={"repeat_interval": 3600.0}), sink("once"))
    at.source = source(format="beacon", tenant={"fixed": "acme"})
    assert sorted(await at.send(readings("Disk"))) == [("hourly", "firing"), ("once", "firing")]
    for _ in range(4):
        at.later(890)
        assert await at.send(readings("Disk")) == []
    at.later(60)
    assert sorted(await at.send(readings("Disk", "Memory"))) == [("hourly", "firing")] * 2 + [("once", "firing")]
    assert await at.send(readings("Disk")) == []
    assert sorted(await at.send(readings("Disk", over=True))) == [("hourly", "resolved"), ("once", "resolved")]
    at.later(7200)
    assert await at.send(readings("Disk", over=True)) == []
    assert sorted(await at.send(readings("Disk", at="2026-01-01T15:00:00Z"))) == [("hourly", "firing"), ("once", "firing")]


@pytest.mark.usefixtures("throwaway_formats")
async def test_events_are_notified_once_for_each_id_also_in_one_request(system: MakeSystem) -> None:
    at = system(sink("s", delivery={"repeat_interval": 3600.0}))
    at.source = source(format="ticker", tenant={"fixed": "acme"})
    first, second = json.loads(readings("Login")), json.loads(readings("Login", at="2026-01-01T11:00:00Z"))
    assert await at.send(json.dumps(first + second).encode()) == [("s", "event"), ("s", "event")]
    at.later(1800)
    assert await at.send(json.dumps(second + first).encode()) == []


@pytest.mark.usefixtures("throwaway_formats")
async def test_a_sink_of_groups_gets_a_group_of_each_alert_of_a_source_without_groups(system: MakeSystem) -> None:
    at = system(sink("g", webhook={"format": "alertmanager"}), sink("also", webhook={"format": "alertmanager"}), sink("e"))
    at.source = source(format="beacon", name="beacon", tenant={"fixed": "acme"})
    await at.send(readings("Disk"))
    await at.send(readings("Disk", over=True))
    kinds = {one.sink: one.kind for one in at.heard}
    assert kinds == {uid("g"): PayloadKind.GROUP, uid("also"): PayloadKind.GROUP, uid("e"): PayloadKind.ALERT}
    [resolved, _] = [one for one in at.heard if one.kind is PayloadKind.GROUP]
    body = json.loads(resolved.body)
    assert (body["status"], body["receiver"], body["alerts"][0]["labels"]) == ("resolved", "beacon", {"alertname": "Disk"})
    assert body["commonAnnotations"] == {"summary": "Disk was read"}
    # It is what Alertmanager sends: the router itself can read it.
    [read] = alertmanager.parse(resolved.body).alerts
    assert (read.status, read.name, read.summary) == (Status.RESOLVED, "Disk", "Disk was read")


async def test_a_notification_that_nobody_posted_is_accepted_as_well(system: MakeSystem) -> None:
    at = system(sink("s"))
    at.source = source(tenant={"fixed": "acme"})
    accepted = await at.acceptor.accept(at.source, alertmanager.parse(json.dumps(notification(alert("A"))).encode()))
    assert (accepted.alerts, accepted.deliveries) == (1, 1)
