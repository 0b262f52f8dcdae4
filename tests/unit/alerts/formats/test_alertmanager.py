"""Alertmanager's notifications become alerts, and what cannot be used is reported by index."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.alerts.alert import (
    Alert,
    Group,
    Links,
    OversizedPayload,
    Severity,
    Status,
    UnusablePayload,
    epoch_micros,
    fingerprint_of,
)
from eventsink.alerts.formats.alertmanager import FORMAT, parse
from eventsink.alerts.limits import MAX_KEY_CHARACTERS, may_be_made_of, size_made_of
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


def test_each_alert_keeps_its_own_bytes_and_the_notification_its_own() -> None:
    payload = parse(RECORDED)
    assert [json.loads(bytes(one.raw or b"")) for one in payload.alerts] == json.loads(RECORDED)["alerts"]
    assert payload.body == RECORDED


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is empty"),
        (b"\x1f\x8b\x08", "Content-Encoding"),
        (b'\xef\xbb\xbf{"version": "4"}', "byte order mark"),
        (b"<html>", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"[" * 100_000, "must be a JSON object"),
        (b"[]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b'[{"labels": {}}]', "the format prometheus"),
        (b"{}", 'version "4" of Alertmanager\'s webhook: the member "version" is absent'),
        (notification(alert(), version="3"), '"version" says "3"'),
        (notification(alert(), version=5), '"version" says "5"'),
        (notification(alert(), version="\n" + "x" * 100), '"version" says "' + "x" * 14 + "…"),
        (notification(), '"alerts" is empty'),
        (notification(None, None), '"alerts" is empty'),
        (b'{"version": "4"}', '"alerts" is empty'),
        (b'{"version": "4", "alerts": null}', '"alerts" is empty'),
        (b'{"version": "4", "alerts": {}}', '"alerts" must be a list'),
        (b'{"version": "4", "alerts": "canary"}', '"alerts" must be a list'),
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
        (alert(labels={"a": None}), "labels"),
        (alert(labels="canary"), "labels"),
        (alert(startsAt="0001-01-01T00:00:00Z"), "startsAt must be a time"),
        (alert(startsAt="2026-01-01T00:00:00"), "startsAt must be a time"),
        (alert(startsAt="canary"), "startsAt"),
        (alert(startsAt="9999-12-31T23:59:59-23:59"), "out of range"),
        (alert(startsAt=None), "startsAt must be a time"),
        (alert(startsAt={"canary": 1}), "startsAt must be a time"),
        (alert(startsAt=10**30), "startsAt must be a time"),
        ({"status": "firing", "labels": {"a": "b"}}, "startsAt"),
    ],
)
def test_an_unusable_alert_is_reported_by_index_and_the_others_are_read(bad: object, reason: str) -> None:
    payload = parse(notification(alert(), bad, alert(labels={"alertname": "B"})))
    assert [one.name for one in payload.alerts] == ["A", "B"]
    assert [one.index for one in payload.rejected] == [1]
    assert reason in payload.rejected[0].reason
    assert "canary" not in payload.rejected[0].reason


def read(*alerts: object, **members: Any) -> list[Alert]:
    """The alerts of a notification, as sinks get them."""
    return [one.identify(source="am", tenant="acme") for one in parse(notification(*alerts, **members)).alerts]


def test_members_of_another_type_are_read_as_what_they_mean() -> None:
    labels = {"alertname": "A", "code": 500, "ratio": 1.50, "gone": None, "ok": True, "list": [1, "b"]}
    [one] = read(
        alert(labels=labels, annotations=None, startsAt=1767225600, endsAt="canary", generatorURL=None),
        version=4,
        groupKey=None,
        receiver=7,
        groupLabels=[1],
        commonLabels={"alertname": "A", "code": 500, "x": None},
        externalURL=None,
        truncatedAlerts="3",
    )
    assert one.labels == {"alertname": "A", "code": "500", "ratio": "1.5", "ok": "true", "list": '[1, "b"]'}
    assert (one.annotations, one.starts_at, one.truncated) == ({}, datetime(2026, 1, 1, tzinfo=UTC), ())
    assert one.group == Group(key="", receiver="7", common_labels={"alertname": "A", "code": "500"}, truncated=3)
    assert one.id == read(alert(labels={**labels, "code": "500", "ratio": "1.5", "ok": "true"}))[0].id


def test_null_alerts_count_as_absent_and_indices_stay_those_of_the_notification() -> None:
    payload = parse(notification(None, alert(), None, 17, alert(labels={"alertname": "B"})))
    assert payload.positions() == [1, 4]
    assert [one.index for one in payload.rejected] == [3]


def test_many_alerts_are_one_notification() -> None:
    assert len(parse(notification(*[alert()] * 10_001)).alerts) == 10_001


def test_a_group_that_its_alerts_would_repeat_too_often_is_cut_and_marked() -> None:
    common = {"alertname": "A", "text": "x" * 2**20}
    labels = {str(n): "x" * 64 for n in range(200)}
    long = "http://alertmanager.example.com/" + "x" * 2**20
    one, _ = read(
        alert(), alert(), commonLabels=common, groupLabels=labels, externalURL=long, groupKey="k" * 2**20, receiver="r" * 999
    )
    assert one.group is not None
    assert one.group.common_labels["alertname"] == "A"
    assert one.group.common_labels["text"].endswith("x…")
    assert len(msgspec.json.encode(one)) < 25_000
    assert {"group.commonLabels.text", "group.labels", "group.externalUrl"} <= set(one.truncated)
    assert one.links.silence == ""


def test_the_key_of_a_group_is_cut_so_that_two_stay_two() -> None:
    first, second = (parse(notification(alert(), groupKey="k" * 5000 + end)).group for end in "ab")
    assert first is not None
    assert second is not None
    assert len(first.key) == len(second.key) == MAX_KEY_CHARACTERS
    assert first.key != second.key


def test_a_url_that_is_too_long_is_left_out_and_marked() -> None:
    [one] = read(alert(generatorURL="http://prometheus.example.com/graph?" + "x" * 9000))
    assert (one.links.source, one.truncated) == ("", ("links.source",))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"version":"4","alerts":[' + b",".join([b"0"] * 2**20) + b"]}", "too many members"),
        (notification(alert(labels={f"{n:x}": "" for n in range(800_000)})), "too many members"),
        (
            notification(
                *[{"status": "firing", "labels": {"a": "b"}, "startsAt": "2026-01-01T00:00:00Z"}] * 5000,
                commonLabels={"a": "💥" * 10**5},
            ),
            "each of its 5000 alerts repeats what they share",
        ),
    ],
)
def test_a_notification_of_which_too_much_would_be_made_is_refused_before_anything_is(body: bytes, why: str) -> None:
    with pytest.raises(
        OversizedPayload, match=f"MiB would be made of this request: .*{why}.*; let the source send smaller groups"
    ):
        parse(body)


@pytest.mark.parametrize(("alerts", "size"), [(10_001, 300), (16_000, 1000), (10_001, 75)])
def test_what_is_made_of_many_ordinary_alerts_is_not_too_much(alerts: int, size: int) -> None:
    labels = {"alertname": "KubePodCrashLooping", "namespace": "payments", "severity": "warning", "pod": "api-7c9d8"}
    one = json.dumps(alert(labels=labels, annotations={"description": "x" * (size - 220)}) if size > 220 else alert()).encode()
    body = b'{"version":"4","commonLabels":{"severity":"warning"},"alerts":[%s]}' % b",".join([one] * alerts)
    assert size_made_of(body, alerts, 500) <= may_be_made_of(body)


def test_unknown_members_are_ignored() -> None:
    payload = parse(notification(alert(new=1), newer={"x": []}))
    assert len(payload.alerts) == 1


def test_only_web_addresses_become_links() -> None:
    annotations = {"runbook_url": "javascript:alert(1)", "dashboard_url": "http://"}
    payload = parse(notification(alert(annotations=annotations, generatorURL="ftp://x"), externalURL="//x"))
    assert payload.alerts[0].links == Links()


def test_space_around_a_url_is_removed_and_the_case_of_its_scheme_does_not_matter() -> None:
    payload = parse(
        notification(alert(annotations={"runbook_url": " HTTPS://x.example.com/a\n"}, generatorURL="http://:9090/graph"))
    )
    assert payload.alerts[0].links.runbook == "HTTPS://x.example.com/a"
    assert payload.alerts[0].links.source == ""


def test_the_silence_leaves_out_the_labels_that_the_source_drops() -> None:
    [one] = parse(notification(alert(labels={"alertname": "A", "ruler": "b"}), externalURL="http://am")).alerts
    silence = one.identify(source="s", tenant="t", dropped_labels=frozenset({"ruler"})).links.silence
    assert silence == "http://am/#/silences/new?filter=%7Balertname%3D%22A%22%7D"
    assert "ruler" in one.identify(source="s", tenant="t").links.silence


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

    def payloads(self) -> list[bytes]:
        return [RECORDED]


@pytest.mark.parametrize("version", ["4", 4, 4.0])
def test_version_4_may_be_a_number(version: object) -> None:
    assert len(parse(notification(alert(), version=version)).alerts) == 1
