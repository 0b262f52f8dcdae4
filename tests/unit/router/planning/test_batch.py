"""A notification in the form that each sink asks for: nothing of others' alerts is in it, and what is made of it is bounded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from eventsink.alerts.alert import IncomingNotification
from eventsink.alerts.formats import alertmanager
from eventsink.router.planning.alert_states import StateChange
from eventsink.router.planning.assign import Assignment
from eventsink.router.planning.batch import PARTS_LEAST_BYTES, BatchBuilder, Owned
from eventsink.router.queue.protocol import Batch
from eventsink.router.sources import PostingSource
from tests.soak.notifications import Fuzz
from tests.unit.router.sinks import sink, source_settings

MEMBERS = {
    "version",
    "groupKey",
    "truncatedAlerts",
    "status",
    "receiver",
    "groupLabels",
    "commonLabels",
    "commonAnnotations",
    "externalURL",
    "alerts",
}


def received(name: str, tenant: str, status: str = "firing", **members: Any) -> dict[str, Any]:
    """An alert as Alertmanager sends it."""
    return {
        "status": status,
        "labels": {"alertname": name, "tenant": tenant, "severity": "high"},
        "annotations": {"summary": "full", "owner": tenant},
        "startsAt": "2026-01-01T12:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.com/graph",
        "fingerprint": "0123456789abcdef",
        **members,
    }


def body_of(*alerts: Any, **members: Any) -> bytes:
    """A notification about them."""
    whole = {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 2,
        "status": "firing",
        "receiver": "eventsink",
        "groupLabels": {"severity": "high", "secret-of": "globex"},
        "commonLabels": {"severity": "high", "secret-of": "globex"},
        "commonAnnotations": {"summary": "full", "note": "of globex"},
        "externalURL": "http://alertmanager.example.com",
        "alerts": alerts,
        **members,
    }
    return json.dumps(whole).encode()


def owned(notification: IncomingNotification) -> list[Owned]:
    """All its alerts, of one tenant."""
    return [Owned(index, one.identify(source="am", tenant="acme")) for index, one in notification.numbered()]


def assigned(notification: IncomingNotification, cluster: str = "", **tenant: Any) -> list[Owned]:
    """Those with a tenant, by this rule, at a router with this name for its cluster."""
    assignment = Assignment(PostingSource(source_settings(tenant=tenant), cluster=cluster), notification, {})
    assignment.add(notification.numbered())
    return [one.one for one in assignment.merged()]


def sent(body: bytes, *wanted: Sequence[int]) -> Batch:
    """What is queued for sinks of groups that want these alerts, by their order among the usable ones."""
    notification = alertmanager.parse(body)
    return queued(notification, owned(notification), *wanted)


def queued(notification: IncomingNotification, alerts: Sequence[Owned], *wanted: Sequence[int]) -> Batch:
    builder = BatchBuilder(notification)
    for number, indices in enumerate(wanted):
        builder.add_received_group(sink(f"s{number}", webhook={"format": "alertmanager"}), [alerts[index] for index in indices])
    return builder.build(StateChange())


def bodies(batch: Batch) -> list[bytes]:
    """Of each delivery."""
    return [batch.payloads[one.payload].body for one in batch.deliveries]


def test_a_part_of_a_group_has_the_documented_members_and_nothing_of_the_other_alerts() -> None:
    mine = [received("A", "acme"), received("B", "acme", "resolved", new=1)]
    notification = alertmanager.parse(body_of(*mine, received("C", "globex"), futureMember={"of": "globex"}))
    [part] = bodies(queued(notification, assigned(notification, label="tenant"), [0, 1]))
    read = json.loads(part)
    assert read.keys() == MEMBERS
    assert b"globex" not in part
    assert b"C" not in part
    assert (read["status"], read["truncatedAlerts"], read["groupKey"]) == ("firing", 0, "{}:{}")
    assert read["groupLabels"] == {"severity": "high"}
    assert read["commonLabels"] == {"tenant": "acme", "severity": "high"}
    assert read["commonAnnotations"] == {"summary": "full", "owner": "acme"}
    assert read["alerts"][0] == mine[0]
    assert read["alerts"][1] == {name: value for name, value in mine[1].items() if name != "new"}


@pytest.mark.parametrize(
    ("another", "rule", "said"),
    [
        (received("C", "acme"), {"label": "tenant"}, 2),
        (received("C", "globex"), {"label": "tenant"}, 0),
        (received("C", "", labels={"alertname": "C"}), {"label": "tenant"}, 0),
        ("unusable", {"label": "tenant"}, 0),
        (None, {"label": "tenant"}, 0),
        (received("C", "globex"), {"fixed": "acme"}, 2),
        ("unusable", {"fixed": "acme"}, 2),
    ],
)
def test_alerts_that_the_source_left_out_are_counted_for_a_tenant_only_if_all_others_are_its_own(
    another: Any, rule: dict[str, str], said: int
) -> None:
    notification = alertmanager.parse(body_of(received("A", "acme"), received("B", "acme"), another))
    alerts = assigned(notification, **rule)
    builder = BatchBuilder(notification)
    builder.add_received_group(sink("part", webhook={"format": "alertmanager"}), alerts[:1])
    builder.add_alerts(sink("s"), alerts[1:2])
    part, alone = map(json.loads, bodies(builder.build(StateChange())))
    assert (part["truncatedAlerts"], alone["group"].get("truncated", 0)) == (said, said)
    assert {one.alert.group.truncated for one in alerts if one.alert.group} == {said}, "what Slack and templates show"


@pytest.mark.parametrize("cluster", ["", "prod-eu"])
def test_a_sink_of_the_platform_is_told_of_a_whole_group_what_the_source_left_out(cluster: str) -> None:
    body = body_of(received("A", "acme"), received("B", "globex"))
    notification = alertmanager.parse(body)
    [group] = bodies(queued(notification, assigned(notification, cluster, label="tenant"), [0, 1]))
    assert (group == body) == (not cluster)
    assert json.loads(group)["truncatedAlerts"] == 2


@pytest.mark.parametrize(
    ("alerts", "count"),
    [
        ((received("A", "acme"), None), 1),
        ((received("A", "acme"), {"labels": {"secret-of": "globex"}}), 1),
    ],
)
def test_a_group_with_an_absent_or_rejected_alert_is_rewritten(alerts: Sequence[Any], count: int) -> None:
    [part] = bodies(sent(body_of(*alerts), range(count)))
    assert json.loads(part)["alerts"] == [alerts[0]]
    assert b"globex" not in part


@pytest.mark.parametrize("padding", [0, 300_000])
@pytest.mark.parametrize(
    "double",
    [
        b'{"alerts": [], ',
        b'{"Alerts": [{"labels": {"secret-of": "globex"}}], ',
        b'{"groupKey": "other", ',
        b'{"x": {"y": 1, "y": 2}, ',
    ],
)
def test_a_group_is_passed_on_as_received_only_without_duplicate_members(double: bytes, padding: int) -> None:
    plain = body_of(received("A", "acme"), padding="x" * padding)
    assert bodies(sent(plain, [0])) == [plain]
    [written] = bodies(sent(double + plain[1:], [0]))
    assert written != double + plain[1:]
    assert json.loads(written)["alerts"] == [received("A", "acme")]
    assert json.loads(written).keys() == MEMBERS


def test_an_alert_in_a_part_keeps_all_its_labels_and_with_them_its_identity() -> None:
    labels = {f"label-{number}": "x" for number in range(200)}
    [part] = bodies(
        sent(body_of(received("A", "acme", labels=labels, annotations={"a": "x" * 70_000}), received("B", "acme")), [0])
    )
    [again] = alertmanager.parse(part).alerts
    assert again.labels == labels
    assert again.annotations["a"].endswith("x…")


def test_an_alert_with_members_of_another_type_is_passed_on_as_it_was_understood() -> None:
    odd = received("A", "acme", startsAt=1767225600, generatorURL=7, fingerprint=None)
    [part] = bodies(sent(body_of(odd, received("B", "acme")), [0]))
    [alert] = json.loads(part)["alerts"]
    assert (alert["startsAt"], alert["generatorURL"]) == ("2026-01-01T00:00:00Z", "")
    assert len(alert["fingerprint"]) == 16


def test_parts_of_a_group_for_many_sinks_are_bounded_and_no_alert_is_missing() -> None:
    alerts = [received(f"A{number}", "acme", annotations={"text": "x" * 10_000}) for number in range(20)]
    body = body_of(*alerts)
    parts = [[index for index in range(20) if index != left_out] for left_out in range(20)]
    batch = sent(body, *parts, range(20))
    assert sum(len(one.body) for one in batch.payloads) < PARTS_LEAST_BYTES + 3 * len(body)
    assert len({one.key for one in batch.deliveries}) == 1
    for number, part in enumerate(parts):
        uid = sink(f"s{number}").uid
        groups = [json.loads(batch.payloads[one.payload].body) for one in batch.deliveries if one.sink == uid]
        assert [one["labels"]["alertname"] for group in groups for one in group["alerts"]] == [f"A{index}" for index in part]
    assert bodies(batch)[-1] == body


def test_one_mebibyte_of_common_labels_is_not_copied_into_500_alerts() -> None:
    alerts = [received(f"A{number}", "acme") for number in range(500)]
    megabyte = "x" * 2**20
    body = body_of(*alerts, commonLabels={"a": megabyte}, groupLabels={"a": megabyte}, externalURL=f"http://{megabyte}")
    notification = alertmanager.parse(body)
    builder = BatchBuilder(notification)
    builder.add_alerts(sink("s"), owned(notification))
    batch = builder.build(StateChange())
    assert len(batch.deliveries) == 500
    assert sum(len(one.body) for one in batch.payloads) < 10 * len(body)
    assert all("group.commonLabels.a" in json.loads(one.body)["truncated"] for one in batch.payloads)


def test_whatever_a_notification_holds_it_is_rejected_or_becomes_json_about_its_own_alerts() -> None:
    fuzz = Fuzz(seed=1)
    for _ in range(2000):
        fuzz.one()
    assert fuzz.read > 200
    assert fuzz.rewritten > 200


def test_invalid_utf8_in_a_member_that_is_not_read_is_not_passed_on() -> None:
    body = body_of(received("A", "acme", fingerprint="FINGER"), received("B", "acme")).replace(b"FINGER", b"\xae")
    for wanted in ([0], [0, 1]):
        [group] = bodies(sent(body, wanted))
        assert len(json.loads(group)["alerts"][0]["fingerprint"]) == 16
