"""The policies of a release with a name and a namespace of its own hold its router and its REST API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.controlplane import ControlPlane
from tests.support.attacks import patched_by_router, rest_secret, rest_sink
from tests.support.cluster import Installed
from tests.support.helm import Helm
from tests.support.kubectl import Kubectl
from tests.support.sinks import event_sink, secret
from tests.support.waiting import wait_until

RELEASE = "held"
TENANT = "held"


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane, kubectl: Kubectl, crd_installed: None) -> Iterator[Installed]:
    with kubectl.namespace(prefix="held") as namespace:
        helm = Helm(control_plane.admin_kubeconfig, release=RELEASE, namespace=namespace)
        helm.install(
            {"crds": {"enabled": False}, "operator": {"admission": {"enabled": False}}, "sinksNamespace": {"keep": False}}
        )
        tokens = {
            part: control_plane.service_account_kubeconfig(namespace, f"{RELEASE}-eventsink-{part}")
            for part in ("operator", "router", "rest")
        }
        yield Installed(**tokens, namespace=namespace, sinks_namespace=f"{namespace}-sinks")
        helm.run("uninstall", RELEASE)


def test_a_rest_api_that_was_taken_over_writes_only_what_is_its_own(kubectl: Kubectl, installed: Installed) -> None:
    def created(obj: Mapping[str, Any]) -> str:
        done = Kubectl(installed.rest).run("create", "--dry-run=server", "-f", "-", input=json.dumps(obj), check=False)
        return str(done.stderr)

    sentence = "the REST API may not write in a namespace of the system"
    wait_until("the policy", lambda: sentence in created(rest_secret(installed.namespace)))
    for namespace in (installed.namespace, installed.sinks_namespace, "kube-system"):
        assert sentence in created(rest_secret(namespace))
        assert sentence in created(rest_sink(namespace, TENANT))
    assert "which belongs to no tenant" in created(rest_sink("default", TENANT))
    with kubectl.namespace(tenant=TENANT) as namespace:
        assert created(rest_sink(namespace, TENANT)) == ""
        wait_until("the policy of EventSinks", lambda: "is named rest-<20 digits>" in created(event_sink(namespace)))
        wait_until("the policy of Secrets", lambda: "of the type eventsink.dev/rest only" in created(secret(namespace, "x")))


def test_a_router_that_was_taken_over_changes_only_its_own_condition(kubectl: Kubectl, installed: Installed) -> None:
    made = {"status": "True", "reason": "A", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    sentence = "the router may change the condition Delivering only"
    with kubectl.namespace(tenant=TENANT) as namespace:
        kubectl.apply(event_sink(namespace))

        def patched(type: str) -> str:
            return patched_by_router(installed, namespace, {"conditions": [{"type": type, **made}]})

        wait_until("the policy", lambda: sentence in patched("Ready"))
        assert json.loads(patched("Delivering"))["kind"] == "EventSink"
