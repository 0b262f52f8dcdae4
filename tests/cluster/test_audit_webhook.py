"""A real API server posts its audit log to the router, which sends what the rules select."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.controlplane import ControlPlane
from tests.support.kubectl import Kubectl
from tests.support.parts import Router
from tests.support.receiver import Receiver
from tests.support.router_process import start_router


@pytest.fixture
def router(tmp_path: Path, receiver: Receiver) -> Iterator[Router]:
    """A router with a source of the format audit, and a sink of the tenant acme."""
    source = {
        "name": "audit",
        "format": "audit",
        "tokenFiles": [str(tmp_path / "token")],
        "pathToken": True,
        "tenant": {"namespaceOwner": {}},
        "defaultTenant": "acme",
        "audit": {"rules": [{"name": "Robot", "ignore": True, "users": ["admin"], "resources": ["configmaps", "namespaces"]}]},
    }
    with start_router(tmp_path, receiver.url("/hook"), sources=[source]) as running:
        yield running


def audit_webhook(folder: Path, router: Router) -> list[str]:
    """The API server's flags; over HTTP it sends no token in a header."""
    server = f"{router.url.removesuffix('alertmanager')}audit/{router.token}"
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "router", "cluster": {"server": server}}],
        "contexts": [{"name": "router", "context": {"cluster": "router", "user": ""}}],
        "current-context": "router",
    }
    file = folder / "audit-webhook.yaml"
    file.write_text(yaml.safe_dump(kubeconfig))
    return [f"--audit-webhook-config-file={file}", "--audit-webhook-batch-max-wait=500ms"]


def test_what_people_do_in_a_cluster_reaches_the_owner_of_the_namespace_once(
    tmp_path: Path, router: Router, receiver: Receiver
) -> None:
    with ControlPlane(api_server_flags=audit_webhook(tmp_path, router)) as control_plane:
        kubectl = Kubectl(control_plane.admin_kubeconfig)
        kubectl.run("create", "namespace", "acme")
        kubectl.run("-n", "acme", "create", "configmap", "unimportant")
        kubectl.run("-n", "acme", "create", "secret", "generic", "db", "--from-literal=password=canary-of-a-secret")
        kubectl.run("-n", "acme", "get", "secret", "db", "-o", "yaml")
        kubectl.run("create", "clusterrolebinding", "jane", "--clusterrole=cluster-admin", "--user=jane")
        alerts = [one.json()["data"] for one in receiver.wait_for(2, path="/hook")]
    assert {(one["name"], one["severity"], one["labels"]["verb"], one["labels"]["name"]) for one in alerts} == {
        ("SecretRead", "high", "get", "db"),
        ("ClusterRoleChange", "high", "create", "jane"),
    }
    assert {(one["tenant"], one["status"], one["labels"]["user"]) for one in alerts} == {("acme", "event", "admin")}
    assert b"canary-of-a-secret" not in b"".join(one.body for one in receiver.requests("/hook"))
    assert router.token not in router.running.text()
