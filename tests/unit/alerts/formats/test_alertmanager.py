"""Alertmanager's notifications become alerts, and what cannot be used is reported by index."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.alerts.alert import Links, Severity, Status, UnusablePayload, epoch_micros, fingerprint_of
from eventsink.alerts.formats.alertmanager import FORMAT, parse
from eventsink.alerts.severity import RULE_SEVERITIES, severity_of
from tests.unit.alerts.formats.format_contract import FormatContract, json_values, read_or_reject

RECORDED = (Path(__file__).parents[3] / "data" / "alertmanager" / "group.json").read_bytes()


def notification(*alerts: object, **members: Any) -> bytes:
    return json.dumps({"version": "4", "groupKey": "{}", "alerts": alerts, **members}).encode()


def alert(**members: Any) -> dict[str, Any]:
    return {"status": "firing", "labels": {"alertname": "A"}, "startsAt": "2026-01-01T00:00:00Z", **members}


def test_a_recorded_notification_is_parsed_completely() -> None:
    payload = parse(RECORDED)
    firing, resolved = payload.alerts
    assert payload.rejected == []
    assert (firing.name, firing.namespace, firing.status) == ("KubePodCrashLooping", "payments", Status.FIRING)
    assert (firing.severity, firing.summary) == (Severity.MEDIUM, "Pod is crash looping.")
    assert firing.description.startswith("Pod payments/api")
    assert firing.starts_at == datetime(2026, 11, 2, 8, 14, 31, 123457, UTC)  # nanoseconds are rounded
    assert firing.ends_at is None
    assert firing.links.runbook == "https://runbooks.example.com/KubePodCrashLooping"
    assert firing.links.source.startswith("http://prometheus.example.com/graph")
    assert firing.links.silence.startswith("http://alertmanager.example.com:9093/#/silences/new?filter=%7Balertname%3D%22Kube")
    assert resolved.starts_at == datetime(2026, 11, 2, 8, 10, tzinfo=UTC)
    assert resolved.ends_at == datetime(2026, 11, 2, 8, 20, tzinfo=UTC)
    assert payload.group is not None
    assert payload.group.labels == {"alertname": "KubePodCrashLooping"}
    assert payload.group.key == '{}/{tenant="acme"}:{alertname="KubePodCrashLooping"}'


def test_each_alert_keeps_its_own_bytes_and_the_group_the_rest() -> None:
    payload = parse(RECORDED)
    whole = json.loads(RECORDED)
    assert [json.loads(one.raw) for one in payload.alerts] == whole.pop("alerts")
    assert payload.envelope is not None
    assert {name: json.loads(bytes(raw)) for name, raw in payload.envelope.items()} == whole


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is not JSON"),
        (b"<html>", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"[" * 100_000, "must be a JSON object"),
        (b"[]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"{}", '"version" says another'),
        (notification(alert(), version="3"), '"version" says another'),
        (notification(alert(), version=4), '"version" says another'),
        (notification(), '"alerts" is empty'),
        (b'{"version": "4"}', "alerts"),
        (b'{"version": "4", "alerts": {}}', "alerts"),
        (notification(alert(), groupLabels=[1]), "groupLabels"),
        (notification(*[alert()] * 10_001), "max_alerts"),
        (notification(alert(labels={})), "none of the 1 alerts can be used; alerts[0]: an alert needs labels"),
    ],
)
def test_a_notification_without_a_usable_alert_is_rejected(body: bytes, sentence: str) -> None:
    with pytest.raises(UnusablePayload) as error:
        parse(body)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (17, "object"),
        (alert(status="event"), 'status must be "firing" or "resolved"'),
        (alert(status="canary"), "status"),
        (alert(labels=None), "labels"),
        (alert(labels={"a": 1}), "labels"),
        (alert(labels={"": "x"}), "a name has 1 to 256"),
        (alert(labels={"x" * 300: "x"}), "a name has 1 to 256"),
        (alert(labels={"a": "x" * 20_000}), "at most 16384"),
        (alert(labels={str(n): "x" for n in range(129)}), "may have 128"),
        (alert(startsAt="0001-01-01T00:00:00Z"), "startsAt must be a time"),
        (alert(startsAt="2026-01-01T00:00:00"), "startsAt must be a time"),
        (alert(startsAt="canary"), "startsAt"),
        (alert(startsAt="9999-12-31T23:59:59-23:59"), "out of range"),
        ({"status": "firing", "labels": {"a": "b"}}, "startsAt"),
    ],
)
def test_an_unusable_alert_is_reported_by_index_and_the_others_are_read(bad: object, reason: str) -> None:
    payload = parse(notification(alert(), bad, alert(labels={"alertname": "B"})))
    assert [one.name for one in payload.alerts] == ["A", "B"]
    assert [one.index for one in payload.rejected] == [1]
    assert reason in payload.rejected[0].reason
    assert "canary" not in payload.rejected[0].reason


def test_unknown_members_are_ignored() -> None:
    payload = parse(notification(alert(new=1), newer={"x": []}))
    assert len(payload.alerts) == 1


def test_only_web_addresses_become_links() -> None:
    annotations = {"runbook_url": "javascript:alert(1)", "dashboard_url": "https://x/ y"}
    payload = parse(notification(alert(annotations=annotations, generatorURL="ftp://x"), externalURL="//x"))
    assert payload.alerts[0].links == Links()


@pytest.mark.parametrize(
    ("label", "severity"),
    [
        ("critical", Severity.CRITICAL),
        (" Warning", Severity.MEDIUM),
        ("page", Severity.CRITICAL),
        ("none", Severity.INFORMATIONAL),
        ("", Severity.UNKNOWN),
        ("severe-ish", Severity.UNKNOWN),
        ("ERROR", Severity.HIGH),
        ("fatal", Severity.FATAL),
    ],
)
def test_severity_labels_are_mapped_by_the_table(label: str, severity: Severity) -> None:
    assert severity_of(label, RULE_SEVERITIES) is severity


@pytest.mark.parametrize("severity", list(Severity))
def test_an_unknown_severity_is_never_hidden_and_the_others_are_ordered(severity: Severity) -> None:
    assert Severity.UNKNOWN.passes(severity)
    assert severity.passes(None)
    assert severity.passes(Severity.INFORMATIONAL)
    assert severity.passes(Severity.FATAL) is (severity in (Severity.FATAL, Severity.UNKNOWN))


def test_the_id_is_the_same_from_both_halves_of_a_pair_and_differs_by_tenant_and_source() -> None:
    one = parse(notification(alert(labels={"alertname": "A", "replica": "0"}))).alerts[0]
    two = parse(notification(alert(labels={"alertname": "A", "replica": "1"}))).alerts[0]
    drop = frozenset({"replica"})
    first = one.identify(source="am", tenant="acme", dropped_labels=drop)
    assert first.id == two.identify(source="am", tenant="acme", dropped_labels=drop).id
    assert first.id != two.identify(source="am", tenant="acme").id
    assert first.fingerprint != one.identify(source="am", tenant="other", dropped_labels=drop).fingerprint
    assert first.fingerprint != one.identify(source="other", tenant="acme", dropped_labels=drop).fingerprint


def test_a_fingerprint_depends_on_the_labels_and_not_on_their_order() -> None:
    assert fingerprint_of("t", "s", {"a": "b", "c": "d"}) == fingerprint_of("t", "s", {"c": "d", "a": "b"})
    assert fingerprint_of("t", "s", {"a": "bc"}) != fingerprint_of("t", "s", {"ab": "c"})
    assert fingerprint_of("ts", "", {}) != fingerprint_of("t", "s", {})


def test_epoch_micros_counts_microseconds() -> None:
    assert epoch_micros(datetime(1970, 1, 1, 0, 0, 1, 5, UTC)) == 1_000_005


members = st.sampled_from(["status", "labels", "annotations", "startsAt", "endsAt", "generatorURL"])


@given(st.dictionaries(members, json_values), json_values)
def test_broken_members_are_parsed_or_rejected(broken: dict[str, object], envelope: object) -> None:
    for body in (notification({**alert(), **broken}), notification(alert(), groupLabels=envelope)):
        read_or_reject(FORMAT, body)


class TestAlertmanagerFormat(FormatContract):
    format = FORMAT

    def sample(self, severity: str = "") -> bytes:
        labels = {"alertname": "A"} | ({"severity": severity} if severity else {})
        return notification(alert(labels=labels))
