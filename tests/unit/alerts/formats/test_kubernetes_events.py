"""Kubernetes Events become alerts of the status event, which stay the same alert while their count grows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eventsink.alerts.alert import IncomingAlert, Severity, Status, UnusablePayload
from eventsink.alerts.formats.kubernetes_events import FORMAT, REASONS, SUPPRESSED, parse
from tests.unit.alerts.formats.format_contract import FormatContract

RECORDED = (Path(__file__).parents[3] / "data" / "kubernetes-events" / "events.json").read_bytes()


def event(**members: Any) -> dict[str, Any]:
    given = {
        "metadata": {"name": "api-0.1", "namespace": "shop", "uid": "u-1", "creationTimestamp": "2026-01-01T12:00:00Z"},
        "regarding": {"kind": "Pod", "namespace": "shop", "name": "api-0"},
        "reason": "FailedScheduling",
        "note": "0/3 nodes are available",
        "type": "Warning",
        "reportingController": "default-scheduler",
        "eventTime": "2026-01-01T12:00:00.123456Z",
        **members,
    }
    return {name: value for name, value in given.items() if value is not ...}


def events(*given: Any) -> bytes:
    return json.dumps({"apiVersion": "events.k8s.io/v1", "kind": "EventList", "items": list(given)}).encode()


def only(**members: Any) -> IncomingAlert:
    [found] = parse(events(event(**members))).alerts
    return found


class TestKubernetesEventsFormat(FormatContract):
    format = FORMAT

    def sample(self, severity: str = "") -> bytes:
        if severity.lower() in REASONS:
            return events(event(reason=severity))
        return events(event(type=severity or None))

    def payloads(self) -> list[bytes]:
        return [*super().payloads(), self.sample("Warning")]


def test_events_of_a_real_api_server_are_parsed_completely() -> None:
    oom, not_ready, back_off, scheduling = sorted(
        parse(RECORDED).alerts, key=lambda one: (one.namespace, -one.severity.rank, -one.count)
    )
    assert (back_off.name, back_off.severity, back_off.status) == ("BackOff", Severity.MEDIUM, Status.EVENT)
    assert back_off.summary.startswith("Back-off restarting failed container api in pod api-7d9c5b6f4-x2x7k_shop")
    assert back_off.starts_at == datetime(2026, 11, 26, 12, 0, 1, tzinfo=UTC)
    assert back_off.count == 7
    assert back_off.annotations == {"count": "7", "last_seen": "2026-11-26T12:00:09Z"}
    assert len(back_off.labels.pop("event_uid")) == 36
    assert back_off.labels == {
        "alertname": "BackOff",
        "reason": "BackOff",
        "type": "Warning",
        "namespace": "shop",
        "kind": "Pod",
        "name": "api-7d9c5b6f4-x2x7k",
        "pod": "api-7d9c5b6f4-x2x7k",
        "container": "api",
        "node": "node-1",
        "reporting_controller": "kubelet",
    }
    assert (scheduling.name, scheduling.count, scheduling.namespace) == ("FailedScheduling", 3, "shop")
    assert scheduling.labels["reporting_controller"] == "default-scheduler"
    assert scheduling.annotations["action"] == "Scheduling"
    assert scheduling.annotations["last_seen"] == "2026-11-26T12:05:03Z"
    assert (oom.name, oom.severity, oom.count) == ("SystemOOM", Severity.CRITICAL, 1)
    assert (not_ready.name, not_ready.severity, not_ready.labels["node"]) == ("NodeNotReady", Severity.CRITICAL, "node-2")


def test_an_event_of_the_core_api_reads_the_same() -> None:
    new = only(series={"count": 3, "lastObservedTime": "2026-01-01T13:00:00Z"}, eventTime="2026-01-01T12:00:00Z")
    old = event(
        regarding=..., involvedObject=event()["regarding"], note=..., message=event()["note"], count="3", reportingController="",
        source={"component": "default-scheduler"}, eventTime=None, firstTimestamp="2026-01-01T12:00:00Z",
        lastTimestamp="2026-01-01T13:00:00Z",
    )  # fmt: skip
    assert parse(json.dumps(old).encode()).alerts == [new]


@pytest.mark.parametrize(
    ("type_", "reason", "severity"),
    [
        ("Warning", "AnythingElse", Severity.MEDIUM),
        ("Warning", "Evicted", Severity.HIGH),
        ("Normal", "Failed", Severity.INFORMATIONAL),
        ("Normal", "Pulled", Severity.INFORMATIONAL),
        ("Normal", "NodeNotReady", Severity.CRITICAL),
        ("Odd", "Evicted", Severity.UNKNOWN),
    ],
)
def test_a_severity_is_that_of_the_type_and_of_a_warnings_known_reason(type_: str, reason: str, severity: Severity) -> None:
    assert only(type=type_, reason=reason).severity is severity


@pytest.mark.parametrize(
    ("own", "regarding", "namespace"),
    [
        ("shop", {"kind": "Pod", "namespace": "shop", "name": "api-0"}, "shop"),
        ("default", {"kind": "Pod", "namespace": "default", "name": "api-0"}, "default"),
        ("default", {"kind": "Node", "name": "node-1"}, ""),
        ("kube-system", {"kind": "Node", "name": "node-1"}, ""),
        ("default", {"kind": "PersistentVolume", "name": "pv-1"}, ""),
        ("default", {"kind": "Namespace", "name": "shop"}, ""),
        ("shop", {"kind": "Pod", "namespace": "globex", "name": "api-0"}, "shop"),
        ("shop", {"kind": "Node", "name": "node-1"}, "shop"),
    ],
    ids=[
        "an object's",
        "in default",
        "a node's",
        "a node's in kube-system",
        "a volume's",
        "a namespace's",
        "another one is claimed",
        "a node is claimed",
    ],
)
def test_the_namespace_is_the_one_in_which_its_writer_may_write_and_none_for_an_object_in_none(
    own: str, regarding: dict[str, str], namespace: str
) -> None:
    found = only(metadata={"name": "e", "namespace": own, "uid": "u"}, regarding=regarding)
    assert (found.namespace, found.labels.get("namespace", "")) == (namespace, namespace)


@pytest.mark.parametrize(("kind", "label"), [("PersistentVolume", "persistentvolume"), ("StorageClass", ""), ("Namespace", "")])
def test_an_event_about_any_object_in_no_namespace_names_it(kind: str, label: str) -> None:
    found = only(
        metadata={"name": "e", "namespace": "default"}, regarding={"kind": kind, "name": "one"}, reason="VolumeFailedDelete"
    )
    named = {key: value for key, value in found.labels.items() if key in ("kind", "name", "namespace", label)}
    assert named == {"kind": kind, "name": "one", **({label: "one"} if label else {})}


def test_an_event_whose_count_has_grown_is_the_same_alert_and_another_event_is_another() -> None:
    def identity(**members: Any) -> str:
        return only(**members).identify(source="s", tenant="t").identity

    assert identity(series={"count": 9}) == identity()
    assert identity(metadata={"name": "api-0.1", "namespace": "shop", "uid": "u-2"}) != identity()


def test_how_many_others_were_not_sent_is_said() -> None:
    found = only(metadata={"name": "e", "namespace": "shop", "annotations": {SUPPRESSED: "1200"}})
    assert found.annotations["suppressed"] == "1200"
    assert found.description == "0/3 nodes are available\n\n1,200 more of this object and reason were not sent."


def test_what_can_be_read_is_accepted_and_the_rest_reported_by_position() -> None:
    found = parse(events(event(), None, 7, {"metadata": {}}, event(eventTime="never", metadata=None, series=None)))
    assert [one.name for one in found.alerts] == ["FailedScheduling"] * 2
    assert found.absent == {1}
    assert [(one.index, one.reason) for one in found.rejected] == [
        (2, "is not an object with the members of an Event"),
        (3, "it has none of reason, note and regarding, and is no Event"),
    ]


def test_an_event_of_the_older_api_may_have_no_reason() -> None:
    found = only(reason="")
    assert (found.name, found.labels["alertname"]) == ("Event", "Event")
    assert "reason" not in found.labels


@pytest.mark.parametrize("body", [b"[]", b'{"items": 7}', b"7"])
def test_what_is_no_list_of_events_is_explained(body: bytes) -> None:
    with pytest.raises(UnusablePayload, match="this source takes Events: an EventList, or one Event"):
        parse(body)
