"""The control plane of the tests behaves like a real cluster's in what the tests rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.controlplane import ControlPlane
from tests.support.cluster import MakeControlPlane, MakeNamespace
from tests.support.kubectl import Kubectl
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


def test_a_service_account_may_do_what_a_role_grants_and_nothing_else(
    control_plane: ControlPlane, kubectl: Kubectl, make_namespace: MakeNamespace
) -> None:
    namespace = make_namespace()
    kubectl.run("create", "serviceaccount", "reader", "-n", namespace)
    reader = Kubectl(control_plane.service_account_kubeconfig(namespace, "reader"))
    denied = reader.run("get", "secrets", "-n", namespace, check=False)
    assert denied.returncode == 1
    assert f'User "system:serviceaccount:{namespace}:reader" cannot list resource "secrets"' in denied.stderr

    kubectl.run("create", "role", "reader", "-n", namespace, "--verb=list", "--resource=secrets")
    kubectl.run("create", "rolebinding", "reader", "-n", namespace, "--role=reader", f"--serviceaccount={namespace}:reader")
    wait_until("right to list", lambda: reader.run("get", "secrets", "-n", namespace, check=False).returncode == 0)
    assert reader.run("get", "configmaps", "-n", namespace, check=False).returncode == 1


def test_a_request_is_audited_with_its_user(control_plane: ControlPlane, kubectl: Kubectl, make_namespace: MakeNamespace) -> None:
    namespace = make_namespace()
    kubectl.run("create", "configmap", "audited", "-n", namespace)
    [event] = [
        event
        for event in control_plane.audited()
        if event["verb"] == "create"
        and event["objectRef"].get("name") == "audited"
        and event["objectRef"]["namespace"] == namespace
    ]
    assert event["user"]["username"] == "admin"
    assert event["userAgent"].startswith("kubectl/")


def test_namespaces_and_dependents_are_really_deleted(kubectl: Kubectl) -> None:
    with kubectl.namespace() as namespace:
        kubectl.run("create", "configmap", "owner", "-n", namespace)
        owner = kubectl.get("configmap", "owner", namespace=namespace)
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
        metadata = {"name": "dependent", "namespace": namespace, "ownerReferences": [reference]}
        kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
        kubectl.delete("configmap", "owner", namespace=namespace)
        kubectl.wait_gone("configmap", "dependent", namespace=namespace)
        kubectl.delete("namespace", namespace)
        assert kubectl.find("namespace", namespace) is None


def test_a_wait_that_times_out_shows_the_last_state_and_no_secret(kubectl: Kubectl, make_namespace: MakeNamespace) -> None:
    namespace = make_namespace()
    kubectl.run("create", "secret", "generic", "token", "-n", namespace, "--from-literal=value=hunter2")
    with pytest.raises(TimeoutError, match=f"no awaited state of secret token in {namespace}") as failure:
        kubectl.wait_until("secret", "token", lambda found: not found, namespace=namespace, deadline=0.1)
    assert "value: (not shown)" in str(failure.value)
    assert "aHVudGVyMg" not in str(failure.value)


def test_the_api_server_keeps_its_data_over_a_stop_and_a_start(fresh_control_plane: MakeControlPlane) -> None:
    control_plane = fresh_control_plane()
    kubectl = Kubectl(control_plane.admin_kubeconfig)
    kubectl.run("create", "configmap", "kept")
    control_plane.stop_api_server()
    assert "refused" in kubectl.run("get", "configmap", "kept", check=False).stderr
    control_plane.start_api_server()
    assert kubectl.get("configmap", "kept")["metadata"]["name"] == "kept"


def test_a_port_that_is_in_use_is_replaced_by_another(monkeypatch: pytest.MonkeyPatch, control_plane: ControlPlane) -> None:
    taken = int(control_plane.server.rsplit(":", 1)[1])
    drawn: list[list[int]] = []

    def draw(count: int) -> list[int]:
        drawn.append(free_ports(count) if drawn else [taken, *free_ports(count - 1)])
        return drawn[-1]

    monkeypatch.setattr("tests.controlplane.cluster.free_ports", draw)
    with ControlPlane() as other:
        assert other.request("/readyz") == b"ok"
    assert len(drawn) == 2


def test_no_program_outlives_tests_that_are_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.controlplane", "up", str(tmp_path / "cluster")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as owner:
        assert owner.stderr is not None
        for line in owner.stderr:
            if "] up;" in line:
                break
        started = running_below(tmp_path)
        owner.send_signal(signal.SIGKILL)
    assert {name for name, _ in started} == {"etcd", "kube-apiserver", "kube-controller"}
    wait_until("end of all programs", lambda: not running_below(tmp_path), show=lambda: running_below(tmp_path))


def running_below(folder: Path) -> set[tuple[str, int]]:
    """Name (of 15 characters at most) and process id of each program that was started with something in `folder`, except Python."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, command = (process / "comm").read_text().strip(), (process / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in command and not name.startswith("python"):
            found.add((name, int(process.name)))
    return found
