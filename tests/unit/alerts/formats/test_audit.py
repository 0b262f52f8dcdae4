"""Of the requests in an audit log, rules select those that become alerts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from eventsink.alerts.alert import IncomingAlert, IncomingNotification, OversizedPayload, Severity, Status, UnusablePayload
from eventsink.alerts.audit_rules import DEFAULT_RULES, AuditRule, AuditSettings
from eventsink.alerts.formats.audit import FORMAT, selecting
from tests.unit.alerts.formats.format_contract import FormatContract

DATA = Path(__file__).parents[3] / "data" / "audit"
SECRET, CHANGES, EXEC = [(DATA / f"{name}.json").read_bytes() for name in ("secret", "changes", "exec")]
TIME = "2026-01-01T12:00:00.123456Z"

OF_RULES: dict[str, dict[str, Any]] = {
    "AnonymousAccess": {"user": {"username": "system:anonymous"}},
    "PodExec": {"resource": "pods/exec", "verb": "create"},
    "PodPortForward": {"resource": "pods/portforward", "verb": "create"},
    "ProxyAccess": {"resource": "nodes/proxy"},
    "SecretRead": {"resource": "secrets", "verb": "list"},
    "ClusterRoleChange": {"resource": "clusterrolebindings", "group": "rbac.authorization.k8s.io", "verb": "create"},
    "RoleChange": {"resource": "roles", "group": "rbac.authorization.k8s.io", "verb": "patch"},
    "TokenRequest": {"resource": "serviceaccounts/token", "verb": "create"},
    "CertificateApproval": {"resource": "certificatesigningrequests/approval", "group": "certificates.k8s.io", "verb": "update"},
    "AdmissionChange": {"resource": "mutatingwebhookconfigurations", "group": "admissionregistration.k8s.io", "verb": "delete"},
    "NamespaceDelete": {"resource": "namespaces", "verb": "delete"},
    "Impersonation": {"impersonatedUser": {"username": "root"}},
}
"""What each default rule selects."""


def request(
    resource: str = "pods", *, verb: str = "get", group: str = "", namespace: str = "acme", code: int = 200, **members: Any
) -> Any:
    name, _, subresource = resource.partition("/")
    about = {"resource": name, "subresource": subresource, "apiGroup": group, "namespace": namespace, "name": "x"}
    return {
        "auditID": "1-2",
        "stage": "ResponseComplete",
        "verb": verb,
        "user": {"username": "jane", "groups": ["developers", "system:authenticated"]},
        "objectRef": {member: value for member, value in about.items() if value},
        "responseStatus": {"code": code},
        "requestReceivedTimestamp": TIME,
        **members,
    }


def batch(*requests: Any) -> bytes:
    return json.dumps({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": requests}).encode()


def alerts(*requests: Any, **settings: Any) -> list[IncomingAlert]:
    return selecting(AuditSettings.model_validate(settings)).parse(batch(*requests)).alerts


def names(*requests: Any, **settings: Any) -> list[str]:
    return [one.name for one in alerts(*requests, **settings)]


class TestAuditFormat(FormatContract):
    format = FORMAT

    def sample(self, severity: str = "") -> bytes:
        named = {name.lower(): members for name, members in OF_RULES.items()}
        return batch(request(**named.get(severity.lower(), OF_RULES["PodExec"])))

    def parsed(self, severity: str = "") -> tuple[IncomingNotification, IncomingAlert]:
        of_source = self.format
        if severity.lower() not in self.format.severities:  # then it is that of a rule of the source
            rule = {"name": "Mine", "severity": "unknown"}
            of_source = selecting(AuditSettings.model_validate({"rules": [rule]}))
        notification = of_source.parse(self.sample(severity))
        [alert] = notification.alerts
        return notification, alert

    def payloads(self) -> list[bytes]:
        return [*super().payloads(), batch(request(**OF_RULES["ClusterRoleChange"]))]


def test_each_default_rule_selects_what_it_is_for() -> None:
    assert list(OF_RULES) == [one.name for one in DEFAULT_RULES]
    for name, members in OF_RULES.items():
        assert names(request(**members)) == [name]


@pytest.mark.parametrize(
    "user", ["system:apiserver", "system:kube-scheduler", "system:node:node-1", "system:serviceaccount:kube-system:x"]
)
def test_what_kubernetes_own_components_do_is_no_alert(user: str) -> None:
    requests = [
        request(**{**members, "user": {"username": user}}) for name, members in OF_RULES.items() if name != "AnonymousAccess"
    ]
    assert names(*requests) == []


def test_what_a_real_api_server_posts_is_selected_and_read() -> None:
    assert [one.name for one in FORMAT.parse(CHANGES).alerts] == [
        "ClusterRoleChange",
        "Impersonation",
        "RoleChange",
        "NamespaceDelete",
    ]
    assert [one.summary for one in FORMAT.parse(CHANGES).alerts] == [
        "admin: create clusterrolebindings jane",
        "admin as mallory: get pods acme/api (denied)",
        "admin: create rolebindings acme/x",
        "admin: delete namespaces acme/acme",
    ]
    [found] = FORMAT.parse(EXEC).alerts
    assert (found.status, found.severity, found.namespace) == (Status.EVENT, Severity.HIGH, "acme")
    audit_id = json.loads(EXEC)["items"][1]["auditID"]
    assert found.labels == {
        "alertname": "PodExec",
        "audit_id": audit_id,
        "verb": "create",
        "resource": "pods/exec",
        "namespace": "acme",
        "name": "api",
        "pod": "api",
        "user": "admin",
        "impersonated_user": "mallory",
        "outcome": "denied",
    }
    assert found.annotations["source_ips"] == "127.0.0.1"
    assert found.annotations["code"] == "403"
    assert found.annotations["user_agent"].startswith("kubectl/")
    assert found.description == "admin as mallory: create pods/exec acme/api (denied), from 127.0.0.1"


def test_nothing_that_was_sent_or_returned_is_in_an_alert() -> None:
    assert b"canary-of-a-command" in EXEC
    assert "canary-of-a-command" not in str(FORMAT.parse(EXEC).alerts)
    read = request(
        "secrets", requestObject={"data": "canary-1"}, responseObject={"data": "canary-2"}, annotations={"a": "canary-3"}
    )
    assert "canary-" not in str(alerts(read))


def test_a_request_that_is_posted_at_several_stages_is_one_alert_at_the_first_one_at_which_its_outcome_is_known() -> None:
    stages = ("RequestReceived", "ResponseStarted", "ResponseComplete")
    found = alerts(
        *[request(**OF_RULES["PodExec"], stage=stage, stageTimestamp=f"2026-01-01T13:0{n}:00Z") for n, stage in enumerate(stages)]
    )
    assert len(found) == 2
    assert len({one.identify(source="s", tenant="t").identity for one in found}) == 1
    [other] = alerts(request(**OF_RULES["PodExec"], auditID="3"))
    assert other.identify(source="s", tenant="t").identity != found[0].identify(source="s", tenant="t").identity


@pytest.mark.parametrize(
    ("rule", "selected"),
    [
        ({}, ["get pods", "create pods/exec", "delete deployments", "get secrets"]),
        ({"verbs": ["create", "del*"]}, ["create pods/exec", "delete deployments"]),
        ({"resources": ["pods"]}, ["get pods"]),
        ({"resources": ["pods*"]}, ["get pods", "create pods/exec"]),
        ({"apiGroups": ["apps"]}, ["delete deployments"]),
        ({"namespaces": ["glo*"]}, ["get secrets"]),
        ({"users": ["ja*"]}, ["get pods", "create pods/exec", "delete deployments"]),
        ({"users": ["ja*"], "exceptUsers": ["jane"]}, []),
        ({"exceptUsers": ["jane"]}, ["get secrets"]),
        ({"groups": ["admins"]}, ["get secrets"]),
        ({"impersonatedUsers": ["root"]}, ["delete deployments"]),
        ({"outcomes": ["failed"]}, ["patch pods"]),
        ({"outcomes": ["denied"]}, ["get secrets"]),
        ({"verbs": ["get"], "resources": ["secrets"], "users": ["joe"], "namespaces": ["globex"]}, ["get secrets"]),
    ],
)
def test_a_rule_selects_by_everything_that_it_says(rule: dict[str, Any], selected: list[str]) -> None:
    requests = [
        request(),
        request("pods/exec", verb="create"),
        request("deployments", group="apps", verb="delete", impersonatedUser={"username": "root"}),
        request("secrets", namespace="globex", code=403, user={"username": "joe", "groups": ["admins"]}),
        request(verb="patch", code=409),
        {**request(), "objectRef": None, "requestURI": "/healthz"},
    ]
    found = alerts(*requests, rules=[{"name": "R", "severity": "low", **rule}], defaultRules=False)
    assert [f"{one.labels['verb']} {one.labels['resource']}" for one in found] == selected


def test_the_first_rule_that_selects_a_request_decides() -> None:
    rules = [
        {"name": "Robot", "ignore": True, "users": ["jane"], "resources": ["pods/*"]},
        {"name": "Mine", "severity": "fatal", "resources": ["secrets"]},
    ]
    requests = [request("pods/exec", verb="create"), request("secrets"), request("namespaces", verb="delete")]
    found = alerts(*requests, rules=rules)
    assert [(one.name, one.severity) for one in found] == [("Mine", Severity.FATAL), ("NamespaceDelete", Severity.HIGH)]
    assert names(*requests, rules=rules, defaultRules=False) == ["Mine"]


def test_requests_that_cannot_be_read_are_reported_by_their_index() -> None:
    broken = request(**OF_RULES["PodExec"], auditID="")
    found = FORMAT.parse(batch(request(), broken, request("secrets"), 5))
    assert found.positions() == [2]
    assert [(one.index, one.reason.split()[0]) for one in found.rejected] == [(1, '"auditID"'), (3, "Expected")]


def test_in_a_batch_of_which_nothing_is_selected_there_is_no_alert() -> None:
    assert FORMAT.parse(batch(request(), request())).alerts == []
    assert FORMAT.parse(batch()).alerts == []


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"name": "R"}, "exactly one of severity and ignore"),
        ({"name": "R", "severity": "low", "ignore": True}, "exactly one of severity and ignore"),
        ({"name": "R r", "severity": "low"}, "name"),
        ({"name": "R", "severity": "bad"}, "severity"),
        ({"name": "R", "severity": "low", "outcomes": ["ok"]}, "outcomes"),
        ({"name": "R", "severity": "low", "verbs": ["a"] * 65}, "verbs"),
        ({"name": "R", "severity": "low", "verb": ["get"]}, "verb"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_rejected_with_its_field(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        AuditRule.model_validate(rule)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b"[]", "EventList of audit.k8s.io"),
        (b"{", "not JSON"),
        (b"{}", "apiVersion"),
        (b'{"apiVersion": "v1", "kind": "EventList", "items": []}', "apiVersion"),
        (b'{"apiVersion": "audit.k8s.io/v1", "items": 5}', '"items" must be a list'),
        (batch(request(**OF_RULES["PodExec"], auditID=None)), '"auditID" is absent'),
        (batch(request(**OF_RULES["PodExec"], requestReceivedTimestamp="noon")), "time must be a time with a zone"),
    ],
)
def test_a_body_that_cannot_be_used_says_what_is_wrong(body: bytes, words: str) -> None:
    with pytest.raises(UnusablePayload, match=words):
        FORMAT.parse(body)


def test_of_too_many_requests_nothing_is_made() -> None:
    with pytest.raises(OversizedPayload, match="too many requests"):
        FORMAT.parse(b'{"apiVersion": "audit.k8s.io/v1", "items": [' + b'{"verb":""},' * 900_000 + b"{}]}")


def test_the_time_of_a_request_is_when_it_was_received() -> None:
    [found] = alerts(request("secrets", stageTimestamp="2026-01-01T13:00:00Z"))
    assert found.starts_at == datetime(2026, 1, 1, 12, 0, 0, 123456, UTC)
    [started] = alerts(request("secrets", requestReceivedTimestamp=None, stageTimestamp="2026-01-01T13:00:00Z"))
    assert started.starts_at == datetime(2026, 1, 1, 13, tzinfo=UTC)
