"""A message says where the object in trouble is, not the exporter that reported it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eventsink.alerts.alert import Alert, Links, Severity, Status
from eventsink.alerts.place import Place, place_of
from tests.unit.destinations.slack.mixin_alerts import ALERTS, KSM, NODE, PROMETHEUS, SHOP


def place(labels: dict[str, str], count: int = 0) -> Place:
    return place_of(
        Alert(
            id="a",
            fingerprint="f",
            source="alertmanager",
            tenant="acme",
            status=Status.FIRING,
            severity=Severity.HIGH,
            name="A",
            summary="",
            description="",
            namespace=labels.get("namespace", ""),
            labels=labels,
            annotations={},
            starts_at=datetime(2026, 3, 1, tzinfo=UTC),
            ends_at=None,
            links=Links(),
            count=count,
        )
    )


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_of_kube_prometheus_stack_names_what_is_in_trouble(name: str) -> None:
    labels, expected = ALERTS[name]
    assert place(labels).text == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (
            {"namespace": "shop", "pod": "api-0", "service": "api", "job": "api", "instance": "10.2.0.3:80", "node": "n"},
            "shop/api-0",
        ),
        ({"namespace": "shop", "service": "api"}, "shop/api"),
        ({"instance": "db.example.com:9100"}, "db.example.com:9100"),
        (SHOP | {"pod": "api-0", "node": "node-3"}, "shop/api-0"),
        (SHOP | {"cronjob": "nightly"}, "shop/nightly"),
        ({"namespace": "prod", "pod": "api-0", "device": "sda"}, "prod/api-0"),
    ],
)
def test_other_alerts_say_where_by_their_most_telling_label(labels: dict[str, str], expected: str) -> None:
    assert place(labels).text == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"namespace": "shop", "kind": "Certificate", "name": "api-tls", "node": "node-3"}, "shop/api-tls"),
        ({"namespace": "shop", "kind": "Pod", "name": "api-0", "pod": "api-0", "node": "node-3"}, "shop/api-0"),
        ({"kind": "Node", "name": "node-3", "node": "node-3"}, "node-3"),
    ],
)
def test_a_kubernetes_event_names_the_object_that_it_regards(labels: dict[str, str], expected: str) -> None:
    assert place(labels, count=1).text == expected


def test_an_exporter_in_trouble_is_named_itself() -> None:
    assert place(KSM).text == "monitoring/kps-kube-state-metrics-6d9f7-abcde"
    assert place({"job": "kube-state-metrics", "namespace": "monitoring", "service": "kps-kube-state-metrics"}).text == (
        "monitoring/kps-kube-state-metrics"
    )


def test_labels_of_the_exporter_are_told_from_those_of_the_object() -> None:
    assert place(SHOP | {"deployment": "checkout", "cluster": "eu"}).of_exporter == frozenset(
        {"job", "instance", "endpoint", "service", "pod", "container", "metrics_path", "uid"}
    )
    assert "container" not in place(SHOP | {"pod": "api-0", "container": "app"}).of_exporter
    assert "instance" not in place(NODE).of_exporter
    assert place(PROMETHEUS).of_exporter == frozenset()
