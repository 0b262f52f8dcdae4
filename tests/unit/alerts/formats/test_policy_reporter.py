"""Results that Policy Reporter forwards become alerts of the status event."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eventsink.alerts.alert import IncomingAlert, IncomingNotification, OversizedPayload, Severity, Status, UnusablePayload
from eventsink.alerts.formats.policy_reporter import FORMAT, parse
from tests.unit.alerts.formats.format_contract import FormatContract

DATA = Path(__file__).parents[3] / "data" / "policy_reporter"


def recorded(name: str) -> bytes:
    return (DATA / f"{name}.json").read_bytes()


def result(**members: Any) -> bytes:
    given = {"policy": "p", "rule": "r", "status": "fail", "priority": "", "creationTimestamp": "2026-01-01T12:00:00Z", **members}
    return json.dumps({name: value for name, value in given.items() if value is not ...}).encode()


def only(body: bytes) -> IncomingAlert:
    [found] = parse(body).alerts
    return found


class TestPolicyReporterFormat(FormatContract):
    format = FORMAT

    def sample(self, severity: str = "") -> bytes:
        return result(severity=severity or None, message="m")


def test_a_result_is_read_completely() -> None:
    found = only(recorded("version_3"))
    assert (found.status, found.severity, found.name) == (Status.EVENT, Severity.HIGH, "disallow-privileged-containers")
    assert found.starts_at == datetime(2026, 11, 2, 12, 46, 22, tzinfo=UTC)
    assert found.labels == {
        "alertname": "disallow-privileged-containers",
        "rule": "privileged-containers",
        "result": "fail",
        "category": "Pod Security Standards (Baseline)",
        "engine": "kyverno",
        "severity": "high",
        "cluster": "production",
        "namespace": "acme",
        "kind": "Pod",
        "name": "api-7d9c5b6f4-x2x7k",
        "pod": "api-7d9c5b6f4-x2x7k",
    }
    assert found.annotations == {"cluster": "production", "controls": "baseline"}
    assert found.summary.startswith("validation error: Privileged mode is disallowed.")


def test_an_older_version_says_a_priority_instead_of_a_severity() -> None:
    assert only(recorded("version_2")).severity is Severity.HIGH  # error
    assert only(result(severity="low", priority="error")).severity is Severity.LOW


@pytest.mark.parametrize("word", ["pass", "skip"])
def test_a_result_that_passes_is_informational_whatever_its_policy_says(word: str) -> None:
    assert only(result(status=word, severity="critical")).severity is Severity.INFORMATIONAL


def test_a_result_that_is_posted_again_is_one_and_another_one_is_another() -> None:
    def identity(body: bytes) -> str:
        return only(body).identify(source="s", tenant="t").identity

    assert identity(result()) == identity(result())
    without_time = recorded("version_3_without_resource")
    assert identity(without_time) == identity(without_time)
    assert datetime.now(UTC) - only(without_time).starts_at < timedelta(seconds=10)
    others = [
        result(rule="s"),
        result(creationTimestamp="2026-01-01T12:00:01Z"),
        result(resource={"name": "x"}),
        result(status="warn"),
    ]
    assert len({identity(body) for body in [result(), *others]}) == 5


def test_in_a_heartbeat_there_is_no_alert() -> None:
    assert parse(recorded("heartbeat")) == IncomingNotification(alerts=[], rejected=[])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b"[]", "Policy Reporter"),
        (b"{", "not JSON"),
        (b"{}", '"policy" is absent'),
        (b'{"event": "\xff"}', "is not valid JSON"),
        (result(policy=None), '"policy" is absent'),
        (result(creationTimestamp="noon"), "time must be a time with a zone"),
    ],
)
def test_a_body_that_cannot_be_used_says_what_is_wrong(body: bytes, words: str) -> None:
    with pytest.raises(UnusablePayload, match=words):
        parse(body)


def test_of_a_result_with_too_many_members_nothing_is_made() -> None:
    with pytest.raises(OversizedPayload, match="too many members"):
        parse(b'{"properties": {' + b",".join(b'"%d":""' % number for number in range(900_000)) + b"}}")
