"""The kubectl commands of docs/operator.md, docs/queue.md and docs/status.md are run on a real API server, as they are written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.controlplane import ControlPlane
from tests.controlplane.binaries import kubectl as find_kubectl
from tests.support.cluster import CRD, SYSTEM_NAMESPACE, MakeControlPlane, install
from tests.support.kubectl import Kubectl
from tests.support.kustomize import copied
from tests.support.parts import start_operator
from tests.support.sinks import event_sink
from tests.unit.docs.pages import in_text, marked, page

PAGES = ("operator.md", "queue.md", "status.md")
NEED_PODS = ("kubectl -n eventsink-system logs ", "kubectl -n eventsink-system port-forward ")
"""Run on real pods by tests/pods."""
NEEDS_A_FILE = "kubectl apply --dry-run=server"
COMMAND_SECONDS = 120

Run = Callable[[str], str]


@pytest.fixture
def plane(fresh_control_plane: MakeControlPlane) -> ControlPlane:
    return fresh_control_plane()


@pytest.fixture
def admin(plane: ControlPlane) -> Kubectl:
    return Kubectl(plane.admin_kubeconfig)


@pytest.fixture
def run(admin: Kubectl, tmp_path: Path) -> Run:
    """Runs commands in a copy of the repository; returns what they wrote."""
    folder = copied(tmp_path / "repository").parent
    path = os.pathsep.join((str(Path(find_kubectl()).parent), str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "KUBECONFIG": str(admin.kubeconfig), "PATH": path}

    def runs(commands: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout

    return runs


def test_the_commands_of_the_pages_work(plane: ControlPlane, admin: Kubectl, run: Run, tmp_path: Path) -> None:
    said = {one for name in PAGES for one in in_text(page(name), "kubectl") if not one.startswith(NEED_PODS)} - {NEEDS_A_FILE}
    crd, parts = "kubectl apply -k crds", "kubectl apply -k manifests/default"
    assert {crd, parts} < said
    installed = install(plane, admin)
    run(crd)
    admin.wait_established(CRD)
    run(parts)
    admin.run("create", "namespace", "acme")
    with start_operator(installed, tmp_path, leaderElection={"enabled": True}, tenancy={"allowUnowned": True}) as operator:
        operator.wait_ready()
        admin.apply(event_sink("acme", "security-alerts"))
        admin.wait_condition("eventsink", "security-alerts", "Ready", "True", namespace="acme")
        for one in sorted(said - {crd, parts}):
            run(one)
        wrote = "".join(run(commands) for name in PAGES for commands in marked(page(name), "test: cluster"))
    for text in ("DELIVERING", "security-alerts", "Accepted", "eventsink-operator", "namespace/acme unlabeled"):
        assert text in wrote
    assert admin.get("secret", "eventsink-admin", namespace=SYSTEM_NAMESPACE)["data"].keys() == {"token"}
