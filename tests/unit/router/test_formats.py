"""A new source format is one module and one line: two that only the tests have run from the HTTP request to the delivery."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from tests.support.parts import Router, request
from tests.support.receiver import Receiver
from tests.support.router_process import start_router
from tests.support.throwaway_formats import readings

TIME = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def router(tmp_path: Path, receiver: Receiver) -> Iterator[Router]:
    """A router with a source of each format, and a sink of the tenant acme."""
    common = {"tokenFiles": [str(tmp_path / "token")], "pathToken": True, "tenant": {"fixed": "acme"}}
    sources = [{"name": name, "format": name, **common} for name in ("beacon", "ticker")]
    with start_router(tmp_path, receiver.url("/hook"), module="tests.support.router_with_formats", sources=sources) as running:
        yield running


def post(router: Router, path: str, body: bytes, token: str | None = None) -> int:
    """Post as a source does: the status."""
    url = router.url.removesuffix("alertmanager") + path
    return request(url, router.token if token is None else token, body)[0]


def delivered(receiver: Receiver, count: int) -> list[tuple[str, str]]:
    """Wait for so many messages: name and status of the alert in each."""
    alerts = [json.loads(one.body)["data"] for one in receiver.wait_for(count, path="/hook")]
    return [(one["name"], one["status"]) for one in alerts]


def test_a_heartbeat_is_delivered_once_until_it_resolves(router: Router, receiver: Receiver) -> None:
    for _ in range(3):
        assert post(router, "beacon", readings("Disk")) == 200
    assert post(router, "beacon", readings("Disk", over=True)) == 200
    assert post(router, "beacon", readings("Last")) == 200
    assert delivered(receiver, 3) == [("Disk", "firing"), ("Disk", "resolved"), ("Last", "firing")]


def test_an_event_is_delivered_once_for_each_id(router: Router, receiver: Receiver) -> None:
    for minute in (1, 0, 1, 0):  # the source repeats both, and the older one comes later
        assert post(router, "ticker", readings("Login", at=f"2026-01-01T12:0{minute}:00Z")) == 200
    assert post(router, "ticker", readings("Last")) == 200
    assert delivered(receiver, 3) == [("Login", "event"), ("Login", "event"), ("Last", "event")]


def test_the_url_suffix_of_a_format_is_not_taken_for_a_token(router: Router, receiver: Receiver) -> None:
    for path, token in (
        ("beacon/api/v2/alerts", router.token),
        (f"beacon/{router.token}/api/v2/alerts", ""),
        (f"beacon/{router.token}", ""),
        (f"ticker/{router.token}", ""),
    ):
        assert post(router, path, readings("Disk"), token) == 200, path
    for path, token in (
        ("beacon/api/v2/alerts", ""),
        ("beacon/wrong/api/v2/alerts", router.token),
        ("ticker/api/v2/alerts", router.token),
        (f"ticker/{router.token}/api/v2/alerts", ""),
    ):
        assert post(router, path, readings("Disk"), token) == 401, path


def test_a_payload_that_the_format_cannot_read_gets_400(router: Router) -> None:
    assert post(router, "beacon", b"{}") == 400


GRAFANA = (Path(__file__).parents[2] / "data" / "grafana" / "group.json").read_bytes()


def test_an_alert_of_grafana_reaches_sinks_with_its_values_and_links(tmp_path: Path, receiver: Receiver) -> None:
    source = {"name": "grafana", "format": "grafana", "tokenFiles": [str(tmp_path / "token")], "tenant": {"namespaceOwner": {}}}
    urls = receiver.url("/hook"), receiver.url("/group") + "#format=alertmanager"
    with start_router(tmp_path, *urls, sources=[source]) as running:
        assert post(running, "grafana", GRAFANA) == 200
        [alert] = [one.json()["data"] for one in receiver.wait_for(1, path="/hook")]
        [group] = [one.json() for one in receiver.wait_for(1, path="/group")]
    assert alert["links"]["dashboard"] == "https://grafana.example.com/d/abc?orgId=1"
    assert alert["links"]["silence"].startswith("https://grafana.example.com/alerting/silence/new?")
    assert alert["annotations"]["value.C"] == "1"
    assert (group["version"], group["alerts"][0]["annotations"]["panel_url"]) == ("4", alert["annotations"]["panel_url"])


FALCO = (Path(__file__).parents[2] / "data" / "falco" / "falco.json").read_bytes()


def test_an_event_of_falco_with_its_token_in_the_path_is_delivered_once(tmp_path: Path, receiver: Receiver) -> None:
    tenant: dict[str, object] = {"namespaceOwner": {}}
    source = {"name": "falco", "format": "falco", "tokenFiles": [str(tmp_path / "token")], "pathToken": True, "tenant": tenant}
    with start_router(tmp_path, receiver.url("/hook") + "#matcher=proc_name%3D%22cat%22", sources=[source]) as running:
        for body in (FALCO, FALCO, FALCO.replace(b"12:46:22", b"12:46:23")):
            assert post(running, f"falco/{running.token}", body, "") == 200
        alerts = [one.json()["data"] for one in receiver.wait_for(2, path="/hook")]
        assert running.token not in running.running.text()
    assert [one["startsAt"][:19] for one in alerts] == ["2026-11-02T12:46:22", "2026-11-02T12:46:23"]
    assert {(one["status"], one["namespace"], one["severity"]) for one in alerts} == {("event", "acme", "medium")}


def test_an_event_of_the_official_sdk_is_delivered_once_in_whichever_form_it_is_posted(
    tmp_path: Path, receiver: Receiver
) -> None:
    def event(identifier: str) -> CloudEvent:
        attributes = {"id": identifier, "source": "/ci", "type": "com.example.failed", "time": TIME, "severity": "high"}
        return CloudEvent(attributes=attributes, data={"summary": f"build {identifier} failed"})

    batch = b"[%s]" % b",".join(JSONFormat().write(event(one)) for one in "123")  # the SDK writes no batches
    messages = (
        to_structured_event(event("1")),
        to_binary_event(event("2")),
        HTTPMessage({"content-type": "application/cloudevents-batch+json"}, batch),
    )
    source = {"name": "s", "format": "cloudevents", "tokenFiles": [str(tmp_path / "token")], "tenant": {"fixed": "acme"}}
    with start_router(tmp_path, receiver.url("/hook"), sources=[source]) as running:
        url = running.url.removesuffix("alertmanager") + "s"
        for message in messages:
            status, response = request(url, running.token, message.body, message.headers)
            assert (status, response["rejected"]) == (200, [])
        alerts = [one.json()["data"] for one in receiver.wait_for(3, path="/hook")]
    assert [(one["labels"]["event_id"], one["summary"]) for one in alerts] == [(one, f"build {one} failed") for one in "123"]
    assert {(one["status"], one["severity"], one["startsAt"]) for one in alerts} == {("event", "high", "2026-01-01T12:00:00Z")}


@pytest.mark.parametrize(
    ("source_format", "file", "found"),
    [
        ("policy-reporter", "version_3", {("disallow-privileged-containers", "event", "high")}),
        ("policy-report", "wgpolicy", {("disallow-privileged-containers", "firing", "high")}),
        ("trivy-operator", "vulnerability", {("VulnerabilityReport", "firing", one) for one in ("critical", "high", "low")}),
    ],
)
def test_a_report_reaches_the_sinks_of_the_owner_of_its_namespace(
    tmp_path: Path, receiver: Receiver, source_format: str, file: str, found: set[tuple[str, str, str]]
) -> None:
    source = {"name": "s", "format": source_format, "tokenFiles": [str(tmp_path / "token")], "tenant": {"namespaceOwner": {}}}
    body = (Path(__file__).parents[2] / "data" / source_format.replace("-", "_") / f"{file}.json").read_bytes()
    with start_router(tmp_path, receiver.url("/hook"), sources=[source]) as running:
        assert post(running, "s", body) == 200
        alerts = [one.json()["data"] for one in receiver.wait_for(len(found), path="/hook")]
    assert {(one["name"], one["status"], one["severity"]) for one in alerts} == found
    assert {(one["tenant"], one["namespace"]) for one in alerts} == {("acme", "acme")}


def test_a_notification_without_alerts_is_accepted(tmp_path: Path, receiver: Receiver) -> None:
    source = {"name": "s", "format": "policy-reporter", "tokenFiles": [str(tmp_path / "token")], "tenant": {"fixed": "acme"}}
    heartbeat = (Path(__file__).parents[2] / "data" / "policy_reporter" / "heartbeat.json").read_bytes()
    with start_router(tmp_path, receiver.url("/hook"), sources=[source]) as running:
        url = running.url.removesuffix("alertmanager") + "s"
        assert request(url, running.token, heartbeat) == (200, {"accepted": 0, "rejected": []})


def test_an_alert_that_one_router_sends_to_another_fires_and_ends_there(tmp_path: Path, receiver: Receiver) -> None:
    folders = tmp_path / "one", tmp_path / "other"
    for folder in folders:
        folder.mkdir()
    token = str(folders[1] / "token")
    source = {"name": "up", "format": "cloudevents", "tokenFiles": [token], "pathToken": True, "tenant": {"label": "tenant"}}
    with start_router(folders[1], receiver.url("/hook"), sources=[source]) as other:
        address = f"{other.url.removesuffix('alertmanager')}up/{other.token}"
        with start_router(folders[0], address, cluster="production") as one:
            for status, ends in (("firing", {}), ("resolved", {"endsAt": "2026-01-01T13:00:00Z"})):
                labels = {"alertname": "DiskFull", "namespace": "acme", "severity": "critical"}
                alert = {"status": status, "labels": labels, "startsAt": "2026-01-01T12:00:00Z", **ends}
                body = json.dumps({"version": "4", "groupKey": "g", "alerts": [alert]}).encode()
                assert request(one.url, one.token, body)[0] == 200
                found = receiver.wait_for(1 if status == "firing" else 2, path="/hook")[-1].json()["data"]
                assert (found["status"], found["tenant"], found["severity"]) == (status, "acme", "critical")
                assert (found["labels"]["cluster"], found["startsAt"]) == ("production", "2026-01-01T12:00:00Z")
