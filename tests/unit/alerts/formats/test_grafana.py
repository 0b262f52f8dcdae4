"""Grafana's notifications become alerts: its values and links are annotations and links, and sinks of groups get Alertmanager's format."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eventsink.alerts.alert import Severity, Status, UnusablePayload
from eventsink.alerts.formats import alertmanager
from eventsink.alerts.formats.grafana import FORMAT, parse
from eventsink.alerts.limits import MAX_LABELS
from tests.unit.alerts.formats.format_contract import FormatContract

DATA = Path(__file__).parents[3] / "data" / "grafana"
DOCUMENTED, NO_DATA = [(DATA / f"{name}.json").read_bytes() for name in ("group", "no_data")]


def notification(*alerts: object, **members: Any) -> bytes:
    return json.dumps({"version": "1", "groupKey": "{}", "alerts": alerts, **members}).encode()


def alert(**members: Any) -> dict[str, Any]:
    return {"status": "firing", "labels": {"alertname": "A"}, "startsAt": "2026-01-01T00:00:00Z", **members}


def annotations_of(**members: Any) -> dict[str, str]:
    [found] = parse(notification(alert(**members))).alerts
    return found.annotations


class TestGrafanaFormat(FormatContract):
    format = FORMAT

    def sample(self, severity: str = "") -> bytes:
        return notification(alert(labels={"alertname": "A", "severity": severity}, values={"B": 1.5}))


def test_a_documented_notification_is_parsed_completely() -> None:
    payload = parse(DOCUMENTED)
    firing, resolved = payload.alerts
    assert (firing.name, firing.namespace, firing.status) == ("High memory usage", "acme", Status.FIRING)
    assert (firing.severity, firing.summary) == (Severity.CRITICAL, "Memory of node-1 is nearly used up")
    assert firing.starts_at == datetime(2026, 10, 12, 7, 51, 3, 157076, UTC)
    assert firing.links.source.startswith("https://grafana.example.com/alerting/grafana/1afz29v7z/view")
    assert firing.links.runbook == "https://runbooks.example.com/memory"
    assert firing.links.dashboard == "https://grafana.example.com/d/abc?orgId=1"
    assert firing.links.silence.startswith("https://grafana.example.com/alerting/silence/new?")
    assert firing.annotations["panel_url"] == "https://grafana.example.com/d/abc?orgId=1&viewPanel=2"
    assert firing.annotations["values"] == "B=93.23943737541909, C=1"
    assert (firing.annotations["value.B"], firing.annotations["value.C"]) == ("93.23943737541909", "1")
    assert "image_url" not in firing.annotations
    assert (resolved.status, resolved.ends_at) == (Status.RESOLVED, datetime(2026, 10, 12, 7, 50, 3, tzinfo=UTC))
    assert resolved.annotations["value_string"] == "[ var='B' labels={} value=41.3 ]"
    assert payload.group is not None
    assert (payload.group.key, payload.group.labels) == ('{}/{}:{namespace="acme"}', {"namespace": "acme"})


def test_a_query_without_data_is_an_alert_without_values() -> None:
    [found] = parse(NO_DATA).alerts
    assert (found.name, found.severity, found.summary) == ("DatasourceNoData", Severity.UNKNOWN, "DatasourceNoData")
    assert found.labels["rule_uid"] == "cfj2nzmpo21hcf"
    assert "values" not in found.annotations


def test_a_sink_of_groups_gets_alertmanagers_format_with_the_values_as_annotations() -> None:
    body = json.loads(parse(DOCUMENTED).body)
    assert body["version"] == "4"
    assert body["alerts"][0]["annotations"]["value.C"] == "1"
    assert {"title", "orgId", "values"}.isdisjoint(body)
    assert "silenceURL" not in body["alerts"][0]
    again = alertmanager.parse(parse(DOCUMENTED).body).alerts
    assert [one.labels for one in again] == [one.labels for one in parse(DOCUMENTED).alerts]


def test_grafanas_page_for_a_silence_stays_when_labels_are_dropped() -> None:
    [found] = parse(notification(alert(labels={"alertname": "A", "replica": "a"}, silenceURL="https://g.example.com/s"))).alerts
    made = found.identify(source="s", tenant="t", dropped_labels=frozenset({"replica"}))
    assert made.links.silence == "https://g.example.com/s"


def silence(rule: str) -> str:
    return f"https://g.example.com/alerting/silence/new?alertmanager=grafana&matcher=__alert_rule_uid__%3D{rule}&matcher=a%3Db&orgId=1"


@pytest.mark.parametrize("said", [lambda rule: {"ruleUID": rule}, lambda rule: {"silenceURL": silence(rule)}])
def test_alerts_of_two_rules_with_one_title_are_two(said: Callable[[str], dict[str, Any]]) -> None:
    payload = parse(notification(alert(**said("one")), alert(status="resolved", endsAt="2026-01-01T01:00:00Z", **said("two"))))
    assert [one.labels for one in payload.alerts] == [{"alertname": "A", "rule_uid": name} for name in ("one", "two")]
    assert len({one.identify(source="s", tenant="t").fingerprint for one in payload.alerts}) == 2
    again = alertmanager.parse(payload.body).alerts
    assert [one.labels for one in again] == [one.labels for one in payload.alerts]


def test_a_label_of_the_rule_itself_is_kept() -> None:
    [found] = parse(notification(alert(labels={"rule_uid": "mine"}, ruleUID="other"))).alerts
    assert found.labels == {"rule_uid": "mine"}


@pytest.mark.parametrize(
    "url", ["https://[g.example.com?__alert_rule_uid__", "__alert_rule_uid__=x", silence("x" * 10_000), silence("")]
)
def test_a_page_for_a_silence_that_names_no_rule_adds_no_label(url: str) -> None:
    assert [one.labels for one in parse(notification(alert(silenceURL=url))).alerts] == [{"alertname": "A"}]


def test_what_a_rule_annotates_itself_is_kept() -> None:
    given = {"values": "mine", "dashboard_url": "https://mine.example.com/"}
    found = annotations_of(annotations=given, values={"B": 1}, dashboardURL="https://other.example.com/")
    assert found == {**given, "value.B": "1"}


@pytest.mark.parametrize(
    ("members", "annotations"),
    [
        ({"values": None, "valueString": None, "panelURL": None}, {}),
        ({"values": {"A": None, "B": True, "C": "text"}}, {"values": "B=true, C=text", "value.B": "true", "value.C": "text"}),
        ({"values": [1, 2]}, {}),
        ({"valueString": 5}, {"value_string": "5"}),
        ({"annotations": None, "silenceURL": "javascript:alert()"}, {"silence_url": "javascript:alert()"}),
    ],
)
def test_members_of_another_type_are_read_as_what_they_mean(members: dict[str, Any], annotations: dict[str, str]) -> None:
    assert annotations_of(**members) == annotations


def test_only_a_web_page_becomes_a_link() -> None:
    [found] = parse(notification(alert(silenceURL="javascript:alert()", dashboardURL="ftp://x"))).alerts
    assert (found.links.silence, found.links.dashboard) == ("", "")


def test_so_many_values_are_annotations_of_their_own() -> None:
    assert len(annotations_of(values={f"V{number}": number for number in range(1000)})) == MAX_LABELS + 1


def test_what_cannot_be_used_is_reported_by_index_and_the_rest_is_accepted() -> None:
    found = parse(notification("text", alert(), alert(status="pending"), None, alert(startsAt=None)))
    assert found.positions() == [1]
    assert [one.index for one in found.rejected] == [0, 2, 4]


@pytest.mark.parametrize("version", ["1", 1, 1.0])
def test_version_1_may_be_a_number(version: object) -> None:
    assert len(parse(notification(alert(), version=version)).alerts) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b"<html>", "not JSON"),
        (b"[]", "as Grafana's webhook sends it"),
        (b'{"version": "1", "alerts": 5}', "a list of alerts"),
        (b"{}", 'the member "version" is absent'),
        (notification(alert(), version="2"), 'says "2"'),
        (notification(alert(), version="4"), "give the source the format alertmanager"),
        (notification(), "holds no alert"),
        (notification(alert(labels={})), "needs labels"),
    ],
)
def test_a_body_of_which_nothing_can_be_used_says_what_is_wrong(body: bytes, words: str) -> None:
    with pytest.raises(UnusablePayload, match=words):
        parse(body)


def test_a_source_of_alertmanagers_format_says_what_a_notification_of_grafana_is() -> None:
    with pytest.raises(UnusablePayload, match="give the source the format grafana"):
        alertmanager.parse(DOCUMENTED)
