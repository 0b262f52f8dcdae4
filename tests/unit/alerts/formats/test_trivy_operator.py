"""Reports of the Trivy operator become an alert for each severity, which ends with the first report that has none of it."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eventsink.alerts.alert import IncomingAlert, IncomingNotification, OversizedPayload, Severity, Status, UnusablePayload
from eventsink.alerts.formats.trivy_operator import FORMAT, LEVELS, SHOWN, parse
from tests.unit.alerts.formats.format_contract import FormatContract

DATA = Path(__file__).parents[3] / "data" / "trivy_operator"
NOW = datetime(2026, 11, 3, tzinfo=UTC)


def recorded(name: str) -> bytes:
    return (DATA / f"{name}.json").read_bytes()


def report(*severities: str | None, ttl: str = "24h0m0s", **members: Any) -> bytes:
    found = [{"vulnerabilityID": f"CVE-{number}", "severity": one} for number, one in enumerate(severities)]
    metadata = {"name": "r", "namespace": "acme", "annotations": {"trivy-operator.aquasecurity.github.io/report-ttl": ttl}}
    body = {"kind": "VulnerabilityReport", "metadata": metadata, "report": {"vulnerabilities": found}, **members}
    return json.dumps(body).encode()


def firing(body: bytes) -> dict[str, IncomingAlert]:
    """What fires, by its severity in the scanner's words."""
    alerts = parse(body, NOW).alerts
    assert len({tuple(sorted(one.labels.items())) for one in alerts}) == len(alerts)
    return {one.labels["severity"]: one for one in alerts if one.status is Status.FIRING}


class TestTrivyOperatorFormat(FormatContract):
    format = FORMAT

    def sample(self, severity: str = "") -> bytes:
        return report(severity or None)

    def parsed(self, severity: str = "") -> tuple[IncomingNotification, IncomingAlert]:
        notification = parse(self.sample(severity), NOW)
        [alert] = [one for one in notification.alerts if one.status is Status.FIRING]
        return notification, alert


def test_a_vulnerability_report_is_an_alert_for_each_severity() -> None:
    found = firing(recorded("vulnerability"))
    assert {level: one.annotations["count"] for level, one in found.items()} == {"critical": "2", "high": "1", "low": "1"}
    critical = found["critical"]
    assert (critical.severity, critical.name, critical.namespace) == (Severity.CRITICAL, "VulnerabilityReport", "acme")
    assert critical.labels == {
        "alertname": "VulnerabilityReport",
        "severity": "critical",
        "namespace": "acme",
        "kind": "ReplicaSet",
        "name": "api-6d4cf56db6",
        "replicaset": "api-6d4cf56db6",
        "container": "api",
    }
    assert critical.summary == "2 vulnerabilities of severity critical in ReplicaSet api-6d4cf56db6"
    assert critical.description.splitlines() == [
        "CVE-2019-20367 libbsd0 0.9.1-2 -> 0.9.1-2+deb10u1: out-of-bounds read in nlist.c",
        "CVE-2021-3711 libssl1.1 1.1.1d-0+deb10u2 -> 1.1.1d-0+deb10u7: openssl: SM2 Decryption Buffer Overflow",
    ]
    assert found["low"].description == "CVE-2011-3374 apt 1.8.2, no fix"
    assert critical.annotations["image"] == "index.docker.io/library/nginx:1.16"
    assert critical.links.source == "https://avd.aquasec.com/nvd/cve-2019-20367"
    assert critical.starts_at == datetime(2026, 11, 2, 12, 46, 22, tzinfo=UTC)


def test_what_is_not_in_a_report_any_more_has_ended() -> None:
    alerts = {one.labels["severity"]: one for one in parse(recorded("no_vulnerability"), NOW).alerts}
    assert set(alerts) == set(LEVELS)
    assert {(one.status, one.ends_at) for one in alerts.values()} == {(Status.RESOLVED, NOW)}
    before, after = [
        {one.labels["severity"]: one.identify(source="s", tenant="t") for one in parse(report(*found), NOW).alerts}
        for found in (("HIGH", "LOW"), ("LOW",))
    ]
    assert {level: one.fingerprint for level, one in before.items()} == {level: one.fingerprint for level, one in after.items()}
    assert (before["high"].status, after["high"].status, after["low"].status) == ("firing", "resolved", "firing")


@pytest.mark.parametrize(
    ("name", "levels", "words"),
    [
        ("config_audit", {"high": "1", "medium": "1"}, "KSV014 Root file system is not read-only"),
        ("exposed_secret", {"critical": "1"}, "aws-access-key-id /app/.env: AWS Access Key ID"),
        ("cluster_rbac_assessment", {"critical": "1"}, "KSV046 Manage all resources"),
        ("cluster_compliance", {"medium": "1", "low": "1"}, "1.0 Non-root containers (3 failed)"),
        ("update", {"critical": "2", "high": "1", "low": "1"}, "CVE-2019-20367"),
    ],
)
def test_reports_of_each_kind_are_read_as_they_were_recorded(name: str, levels: dict[str, str], words: str) -> None:
    found = firing(recorded(name))
    assert {level: one.annotations["count"] for level, one in found.items()} == levels
    assert next(iter(found.values())).description.startswith(words)


def test_an_alert_of_the_cluster_has_no_namespace_and_names_its_object() -> None:
    labels = firing(recorded("cluster_rbac_assessment"))["critical"].labels
    assert labels["name"] == "system:controller:generic-garbage-collector"
    assert (labels["kind"], "namespace" in labels) == ("ClusterRole", False)


def test_no_part_of_an_exposed_secret_is_in_an_alert() -> None:
    assert b"canary-of-an-exposed-secret" in recorded("exposed_secret")
    assert "canary-of-an-exposed-secret" not in str(parse(recorded("exposed_secret")).alerts)


def test_what_is_said_of_a_deleted_report_is_not_believed() -> None:
    body = recorded("delete_of_another_report")
    assert b"daemonset-agent-agent" not in body  # the one that was deleted
    assert parse(body) == IncomingNotification(alerts=[], rejected=[])


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [("24h0m0s", 36 * 3600), ("1h30m0s", 2.25 * 3600), ("", math.inf), ("0s", math.inf), ("1.5s", math.inf), ("soon", math.inf)],
)
def test_an_alert_whose_report_is_not_made_again_ends_some_time_after_the_reports_own_time(ttl: str, seconds: float) -> None:
    assert firing(report("HIGH", ttl=ttl))["high"].valid_for == seconds


def test_a_report_that_lists_fewer_than_it_counts_fires_for_all_of_them() -> None:
    body = report(
        "HIGH", report={"summary": {"highCount": "3", "lowCount": 1}, "vulnerabilities": [{"severity": "HIGH", "title": "T"}]}
    )
    found = firing(body)
    assert (found["high"].annotations["count"], found["high"].description) == ("3", "T\nand 2 more")
    assert (found["low"].annotations["count"], found["low"].description) == ("1", "")


def test_a_description_names_the_first_findings_and_the_number_of_the_others() -> None:
    lines = firing(report(*["HIGH"] * 500))["high"].description.splitlines()
    assert (len(lines), lines[-1]) == (SHOWN + 1, f"and {500 - SHOWN} more")


def test_a_label_cannot_move_a_report_to_another_namespace() -> None:
    metadata = {"name": "r", "namespace": "acme", "labels": {"trivy-operator.resource.namespace": "globex"}}
    assert firing(report("HIGH", metadata=metadata))["high"].namespace == "acme"


@pytest.mark.parametrize(
    "body", [{"kind": "SbomReport", "report": {"components": {}}}, {"verb": "delete", "operatorObject": None}]
)
def test_in_what_finds_nothing_there_is_no_alert(body: dict[str, Any]) -> None:
    if "verb" in body:
        body["operatorObject"] = {"kind": "VulnerabilityReport"}
    assert parse(json.dumps(body).encode()).alerts == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b"[]", "reports of the Trivy operator"),
        (b"{", "not JSON"),
        (b"{}", '"kind" is no report'),
        (b'{"kind": "Pod"}', '"kind" is no report'),
        (b'{"verb": "update", "operatorObject": 5}', '"kind" is no report'),
    ],
)
def test_a_body_that_is_no_report_says_what_is_wrong(body: bytes, words: str) -> None:
    with pytest.raises(UnusablePayload, match=words):
        parse(body)


def test_of_a_report_with_too_many_findings_nothing_is_made() -> None:
    with pytest.raises(OversizedPayload, match="too many findings"):
        parse(b'{"report": {"vulnerabilities": [' + b'{"title":""},' * 900_000 + b"{}]}}")
