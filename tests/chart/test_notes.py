"""The notes after an installation name what this release has; that their commands work is in test_lifecycle.py and in tests/pods."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controlplane.binaries import older
from tests.support.helm import Helm

SOURCE = {"name": "am", "tokenKeys": ["first", "second"]}


@pytest.fixture(scope="module")
def helm(request: pytest.FixtureRequest) -> Helm:
    """Helm 3 asks for a cluster's version even if it sends nothing."""
    return Helm(request.getfixturevalue("control_plane").admin_kubeconfig if older() else None)


def notes(helm: Helm, values: dict[str, Any]) -> str:
    """What `helm install` would print."""
    return helm.install(values, "--dry-run=client").split("NOTES:\n")[1]


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({}, ["kubectl label namespace acme eventsink.dev/tenant=acme", '"labels": {"alertname":"Test","namespace":"acme",']),
        ({"namespaces": [{"name": "shop", "tenant": "s"}]}, ['namespace: "shop"}', 'spec: {tenant: "s",', '"namespace":"shop"']),
        ({"sources": [{**SOURCE, "tenant": {"fixed": "globex"}}]}, ["eventsink.dev/tenant=globex", 'index .data "first"']),
        ({"sources": [{**SOURCE, "tenant": {"label": "team"}}]}, ["/v1/alerts/am", '"team":"acme"']),
        ({"tokens": {"sources": "mine"}}, ["get secret mine"]),
        (
            {"router": {"tls": {"secretName": "tls"}}},
            ["curl -sS --fail-with-body --insecure", "${INTAKE:-https://127.0.0.1:8080}"],
        ),
        ({"fullnameOverride": "es"}, ["deployment/es-operator", "statefulset/es-router", "service/es-router"]),
    ],
)
def test_the_commands_follow_the_values(helm: Helm, values: dict[str, Any], lines: list[str]) -> None:
    text = notes(helm, values)
    assert [line for line in lines if line not in text] == [], text


def test_listed_namespaces_are_not_labelled(helm: Helm) -> None:
    assert "kubectl label" not in notes(helm, {"namespaces": [{"name": "shop", "tenant": "s"}]})


def test_without_a_source_there_is_no_test_alert(helm: Helm) -> None:
    assert "curl" not in notes(helm, {"sources": []})
