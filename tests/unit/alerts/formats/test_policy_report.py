"""Reports of policy engines: results that fail are alerts that fire, and those that pass end them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eventsink.alerts.alert import IncomingAlert, OversizedPayload, Round, Severity, Status, UnusablePayload
from eventsink.alerts.formats.policy_report import FORMAT, MAX_ALERTS, parse
from tests.unit.alerts.formats.format_contract import FormatContract

DATA = Path(__file__).parents[3] / "data" / "policy_report"
OPENREPORTS, WGPOLICY = [(DATA / f"{name}.json").read_bytes() for name in ("openreports", "wgpolicy")]
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def report(*results: Any, **members: Any) -> dict[str, Any]:
    metadata = {"name": "r", "namespace": "acme", "creationTimestamp": "2026-01-01T12:00:00Z"}
    given = {"apiVersion": "wgpolicyk8s.io/v1alpha2", "kind": "PolicyReport", "metadata": metadata, **members}
    return {**given, "results": list(results)}


def result(**members: Any) -> dict[str, Any]:
    return {"policy": "p", "rule": "r", "result": "fail", "message": "m", **members}


def read(document: Any) -> list[IncomingAlert]:
    return parse(json.dumps(document).encode(), NOW).alerts


class TestPolicyReportFormat(FormatContract):
    format = FORMAT

    def sample(self, severity: str = "") -> bytes:
        return json.dumps(report(result(severity=severity or None, timestamp={"seconds": 1793623582}))).encode()


def test_a_list_of_reports_as_kubectl_prints_it_is_read_completely() -> None:
    alerts = parse(OPENREPORTS, NOW).alerts
    assert [(one.name, one.status, one.severity) for one in alerts] == [
        ("disallow-privileged-containers", Status.FIRING, Severity.HIGH),
        ("disallow-host-path", Status.RESOLVED, Severity.MEDIUM),
        ("require-labels", Status.FIRING, Severity.UNKNOWN),
        ("require-requests", Status.RESOLVED, Severity.UNKNOWN),
        ("nodes-are-patched", Status.FIRING, Severity.CRITICAL),
        ("nodes-are-patched", Status.FIRING, Severity.CRITICAL),
        ("namespaces-have-quotas", Status.FIRING, Severity.LOW),
    ]
    assert alerts[0].labels == {
        "alertname": "disallow-privileged-containers",
        "rule": "privileged-containers",
        "engine": "kyverno",
        "namespace": "acme",
        "kind": "Pod",
        "name": "api-7d9c5b6f4-x2x7k",
        "pod": "api-7d9c5b6f4-x2x7k",
    }
    assert alerts[0].annotations["category"] == "Pod Security Standards (Baseline)"
    assert alerts[0].summary == "validation error: Privileged mode is disallowed."
    assert alerts[0].starts_at == datetime.fromtimestamp(1793623582, UTC)
    assert [one.labels.get("node") for one in alerts[4:]] == ["node-1", "node-2", None]
    assert [one.namespace for one in alerts[4:]] == ["", "", "acme"]


def test_the_older_api_is_read_in_the_same_way() -> None:
    [old], new = parse(WGPOLICY, NOW).alerts, parse(OPENREPORTS, NOW).alerts[0]
    assert (old.labels, old.starts_at, old.summary) == (new.labels, new.starts_at, new.summary)


@pytest.mark.parametrize(
    ("word", "status"),
    [("fail", "firing"), ("warn", "firing"), ("error", "firing"), ("?", "firing"), ("pass", "resolved"), ("Skip", "resolved")],
)
def test_a_result_fires_unless_nothing_is_wrong_and_is_the_same_alert_however_it_comes_out(word: str, status: str) -> None:
    [failed], [found] = read(report(result())), read(report(result(result=word, severity="low", message="other")))
    assert found.status == status
    assert found.ends_at == (NOW if status == "resolved" else None)
    assert found.labels == failed.labels


def test_of_a_deleted_report_all_alerts_have_ended() -> None:
    event = {"type": "DELETED", "object": report(result(), result(policy="q"))}
    assert [one.status for one in read(event)] == [Status.RESOLVED] * 2
    assert [one.status for one in read({**event, "type": "MODIFIED"})] == [Status.FIRING] * 2


def test_a_report_in_a_namespace_cannot_speak_for_another_one() -> None:
    about = [{"kind": "Pod", "namespace": "globex", "name": "x"}]
    assert [one.namespace for one in read(report(result(resources=about)))] == ["acme"]
    cluster = report(result(resources=about), kind="ClusterPolicyReport", metadata={"name": "c"})
    assert [one.namespace for one in read(cluster)] == ["globex"]


def test_what_is_no_result_is_reported_by_its_index_and_the_rest_is_accepted() -> None:
    items = [report(result(), result(policy=""), 5), {"kind": "Pod", "apiVersion": "v1"}, report(result())]
    found = parse(json.dumps({"kind": "List", "items": items}).encode())
    assert found.positions() == [0, 4]
    assert [(one.index, one.reason.split()[0]) for one in found.rejected] == [(1, '"policy"'), (2, '"policy"'), (3, "is")]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"round": "r1"}, Round("r1", ends=False)),
        ({"round": "r1", "ends": False}, Round("r1", ends=False)),
        ({"round": "r1", "ends": True}, Round("r1", ends=True)),
    ],
)
def test_who_posts_all_reports_says_where_the_round_begins_and_ends(document: Any, expected: Round) -> None:
    found = parse(json.dumps(document).encode())
    assert (found.round, found.alerts, found.rejected) == (expected, [], [])


@pytest.mark.parametrize("document", [report(), {"kind": "List", "items": []}, report(results=None)])
def test_in_a_report_without_results_there_is_no_alert(document: Any) -> None:
    assert read(document) == []


def test_a_result_without_a_time_began_with_its_report_or_now() -> None:
    [of_report] = read(report(result()))
    [now] = read(report(result(timestamp={"seconds": 0}), metadata={}))
    assert (of_report.starts_at, of_report.start_given) == (datetime(2026, 1, 1, 12, tzinfo=UTC), True)
    assert (now.starts_at, now.start_given) == (NOW, False)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b"[]", "PolicyReports of wgpolicyk8s.io"),
        (b"{", "not JSON"),
        (b"{}", "is no report"),
        (b'{"round": ""}', '"round" must be a text'),
        (b'{"round": "%s"}' % (65 * b"r"), '"round" must be a text'),
        (b'{"round": "r", "ends": 1}', "true, false or absent"),
        (b'{"apiVersion": "example.com/v1", "kind": "PolicyReport"}', "is no report"),
        (json.dumps(report({"policy": None})).encode(), '"policy" is absent'),
    ],
)
def test_a_body_that_cannot_be_used_says_what_is_wrong(body: bytes, words: str) -> None:
    with pytest.raises(UnusablePayload, match=words):
        parse(body)


def test_of_too_many_results_nothing_is_made() -> None:
    with pytest.raises(OversizedPayload, match="too many results"):
        parse(b'{"results": [' + b'{"policy":""},' * 900_000 + b"{}]}")


def test_of_a_report_with_very_many_objects_the_first_are_alerts_and_other_reports_are_complete() -> None:
    many = report(result(resources=[{"name": str(number)} for number in range(MAX_ALERTS + 1)]))
    alerts = read({"items": [many, report(result())]})
    assert [one.labels.get("name") for one in alerts] == [*map(str, range(MAX_ALERTS)), None]
    assert alerts[0].truncated == ("results",)
    assert alerts[-1].truncated == ()
