"""Each command of docs/install.md is run, in order, on a real API server; there are no nodes, so that pods are only said to run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.controlplane import ControlPlane
from tests.support.cluster import CRD, ROOT, SYSTEM_NAMESPACE
from tests.support.kubectl import Kubectl
from tests.support.kubelet import Kubelet
from tests.support.kustomize import build, copied
from tests.support.sinks import event_sink
from tests.support.waiting import wait_until

PAGE = (ROOT / "docs" / "install.md").read_text()
BLOCKS = re.findall(r"(?:<!-- ([^\n]*) -->\n)?```sh\n(.*?)```", PAGE, re.DOTALL)
OVERLAY = re.search(r"<!-- overlay -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
BLOCK_TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Person:
    """Somebody who types the commands of the page, in a copy of the repository."""

    kubectl: Kubectl
    folder: Path

    def run(self, commands: str) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env={**os.environ, "KUBECONFIG": str(self.kubectl.kubeconfig), "PATH": path},
            capture_output=True,
            text=True,
            timeout=BLOCK_TIMEOUT_SECONDS,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"

    def left(self) -> set[str]:
        """What there is of an installation."""
        kinds = "namespace", "crd", "pvc", "secret", "statefulset", "deployment", "clusterrole", "validatingadmissionpolicy"
        found = {f"{kind}/{one['metadata']['name']}" for kind in kinds for one in self.kubectl.list(kind)}
        return {one for one in found if "eventsink" in one and not one.startswith("secret/bootstrap")}


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    with ControlPlane() as plane:
        kubectl = Kubectl(plane.admin_kubeconfig)
        kubelet = Kubelet(kubectl, SYSTEM_NAMESPACE, None)
        kubelet.start()
        yield Person(kubectl, copied(tmp_path_factory.mktemp("repository")).parent)
        kubelet.stop()


def commands(marker: str) -> list[str]:
    return [text for given, text in BLOCKS if given == marker]


def test_each_command_of_the_page_is_run_or_says_why_not() -> None:
    assert {marker.partition(":")[0] for marker, _ in BLOCKS} == {"test", "not run"}


def test_the_page_installs_changes_and_removes_in_steps(person: Person) -> None:
    *before, programs, namespaces, crds = commands("test: install")
    person.run(before[0])
    person.kubectl.wait_established(CRD)
    for one in before[1:]:
        person.run(one)
    kept = {
        "namespace/eventsink-system",
        "namespace/eventsink-system-sinks",
        "crd/eventsinks.eventsink.dev",
        "pvc/queue-eventsink-router-0",
        "secret/eventsink-source-tokens",
    }
    wait_until("the router's volume", lambda: kept < person.left())
    with person.kubectl.namespace(tenant="acme") as acme:
        person.kubectl.apply(event_sink(acme))
        person.run(programs)
        assert person.left() == kept
        assert person.kubectl.get("eventsink", "alerts", namespace=acme)
        person.run(namespaces)
        assert person.left() == {"crd/eventsinks.eventsink.dev"}
        assert person.kubectl.get("eventsink", "alerts", namespace=acme)
        person.run(crds)
        assert person.left() == set()


def test_the_page_installs_for_listed_namespaces(person: Person) -> None:
    for one in commands("test: scoped"):
        person.run(one)
    assert not {one for one in person.left() if one.startswith(("clusterrole/", "validatingadmissionpolicy/"))}
    assert person.kubectl.get("rolebinding", "eventsink-operator", namespace="acme")


def test_the_overlay_of_the_page_can_be_built(tmp_path: Path) -> None:
    assert OVERLAY is not None
    copied(tmp_path)
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(OVERLAY[1])
    (overlay / "router.yaml").write_text("queue: {path: /elsewhere}\n")
    built = build(overlay)
    assert {one["metadata"].get("namespace") for one in built} == {"alerting", "alerting-sinks", None}
    [router] = [one for one in built if one["kind"] == "StatefulSet"]
    claim = router["spec"]["volumeClaimTemplates"][0]["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("fast", "50Gi")
    replicas = {one["metadata"]["name"]: one["spec"]["replicas"] for one in built if one["kind"] == "Deployment"}
    assert replicas == {"eventsink-operator": 2, "eventsink-rest": 1}
    config = next(one for one in router["spec"]["template"]["spec"]["volumes"] if one["name"] == "config")
    [settings] = [one for one in built if one["metadata"]["name"] == config["configMap"]["name"]]
    assert settings["data"] == {"router.yaml": "queue: {path: /elsewhere}\n"}
