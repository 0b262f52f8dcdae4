"""The chart on a real API server without nodes: what it installs, what survives, and what is left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventsink.resources.names import OPERATOR_LABELS
from tests.controlplane import ControlPlane
from tests.controlplane.helm import find_or_build_helm
from tests.support.cluster import CRD, ROOT, SINKS_NAMESPACE, SYSTEM_NAMESPACE, MakeControlPlane, install_crd
from tests.support.helm import CHART, Helm, HelmFailed
from tests.support.kubectl import Kubectl
from tests.support.played_pods import PlayedPods
from tests.support.receiver import Receiver

QUEUE = "queue-eventsink-router-0"
README = (CHART / "README.md").read_text()
SECRETS = [
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"eventsink-{name}", "namespace": SYSTEM_NAMESPACE},
        "stringData": {"alertmanager": "made-once"},
    }
    for name in ("source-tokens", "admin", "rest-keys")
]
MADE_BY_THE_OPERATOR: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": SYSTEM_NAMESPACE, "labels": OPERATOR_LABELS},
        "stringData": {"token": "made-once"},
    }
    for name in ("eventsink-operator-webhook", "slack-of-a-code")
] + [
    {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "eventsink-operator", "namespace": SYSTEM_NAMESPACE},
    }
]
"""There are no pods here, so the test makes what the operator would make."""
SPEC = {"tenant": "acme", "name": "Alerts", "webhook": {"url": "https://example.com/hook"}}
OWN_SINK = {
    "apiVersion": "eventsink.dev/v1alpha1",
    "kind": "EventSink",
    "metadata": {"name": "own", "namespace": "acme"},
    "spec": SPEC,
}
KINDS = (
    "deployment,statefulset,configmap,service,serviceaccount,role,rolebinding,clusterrole,clusterrolebinding,poddisruptionbudget,"
    "networkpolicy,validatingadmissionpolicy,validatingadmissionpolicybinding,validatingwebhookconfiguration"
)
OF_THE_RELEASE = "app.kubernetes.io/instance=eventsink"


class Kept:
    """What people would lose: an EventSink, the tokens, the queue's claim, the namespace of compiled sinks, the CRD."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def uids(self) -> dict[str, str]:
        claim = self._kubectl.wait_until("pvc", QUEUE, bool, namespace=SYSTEM_NAMESPACE)
        objects = {
            "sink": self._kubectl.get("eventsink", "own", namespace="acme"),
            "tokens": self._kubectl.get("secret", "eventsink-source-tokens", namespace=SYSTEM_NAMESPACE),
            "queue": claim,
            "compiled": self._kubectl.get("namespace", SINKS_NAMESPACE),
            "crd": self._kubectl.get("crd", CRD),
        }
        return {name: one["metadata"]["uid"] for name, one in objects.items()}


def log_level(kubectl: Kubectl) -> str:
    settings = kubectl.get("configmap", "eventsink-router", namespace=SYSTEM_NAMESPACE)["data"]["router.yaml"]
    return "debug" if "level: debug" in settings else "info"


def names_left(kubectl: Kubectl) -> list[str]:
    found = kubectl.run("get", KINDS, "--all-namespaces", f"--selector={OF_THE_RELEASE}", "-o", "name").stdout
    return found.splitlines()


def test_sinks_queue_and_tokens_survive_everything_that_helm_does(fresh_control_plane: MakeControlPlane) -> None:
    plane = fresh_control_plane()
    kubectl, helm = Kubectl(plane.admin_kubeconfig), Helm(plane.admin_kubeconfig)
    acme = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme", "labels": {"eventsink.dev/tenant": "acme"}}}
    with pytest.raises(HelmFailed, match="the cluster does not know EventSinks yet"):
        helm.install({"sinks": [{"name": "chart", "namespace": "acme", "spec": SPEC}]}, "--create-namespace")
    [install] = re.findall(r"<!-- test: install -->\n```sh\n(.*?)```", README, re.DOTALL)
    run(install, plane)
    kubectl.wait_established(CRD)
    kubectl.apply([acme, *SECRETS, *MADE_BY_THE_OPERATOR, OWN_SINK])
    kept = Kept(kubectl)
    before = kept.uids()

    changed: dict[str, Any] = {
        "router": {"config": {"log": {"level": "debug"}}, "podDisruptionBudget": {"enabled": True}},
        "sinks": [{"name": "chart", "namespace": "acme", "spec": SPEC}],
    }
    helm.upgrade(changed)
    assert (log_level(kubectl), kept.uids()) == ("debug", before)
    assert {one["metadata"]["name"] for one in kubectl.list("eventsink", namespace="acme")} == {"own", "chart"}

    with pytest.raises(HelmFailed, match="additional properties 'loglevel' not allowed"):
        helm.upgrade({"router": {"config": {"loglevel": "debug"}}})
    with pytest.raises(HelmFailed, match="the queue's claim was made with 10Gi, and an upgrade cannot change it"):
        helm.upgrade({"router": {"queue": {"size": "20Gi"}}})
    assert log_level(kubectl) == "debug"

    helm.run("rollback", "eventsink", "1")
    assert (log_level(kubectl), kept.uids()) == ("info", before)
    assert kubectl.list("poddisruptionbudget", namespace=SYSTEM_NAMESPACE) == []

    helm.run("uninstall", "eventsink")
    assert names_left(kubectl) == []
    assert kept.uids() == before

    helm.install()
    assert (kept.uids(), log_level(kubectl)) == (before, "info")

    helm.run("uninstall", "eventsink")
    removals = re.findall(r"^\| .+ \| `(kubectl .+)` \|$", README, re.MULTILINE)
    assert len(removals) == 7
    for command in removals:
        run(command, plane)
    assert kubectl.list("secret", namespace=SYSTEM_NAMESPACE) == []
    assert kubectl.list("pvc", namespace=SYSTEM_NAMESPACE) == []
    assert kubectl.list("lease", namespace=SYSTEM_NAMESPACE) == []
    assert kubectl.find("crd", CRD) is None

    install_crd(kubectl)
    with pytest.raises(HelmFailed, match="cannot be imported into the current release"):
        helm.install()
    run("helm upgrade --install eventsink helm/eventsink --namespace eventsink-system --take-ownership", plane)
    assert kubectl.get("crd", CRD)["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def run(commands: str, plane: ControlPlane, **environment: str) -> str:
    """Run commands as a person would, in the root of the repository; returns what they wrote.

    Raises
    ------
    AssertionError
        One failed.
    """
    programs = f"{Path(sys.executable).parent}:{find_or_build_helm().parent}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=ROOT,
        env={
            **os.environ,
            "KUBECONFIG": str(plane.admin_kubeconfig),
            "PATH": f"{programs}:{os.environ['PATH']}",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_commands_of_the_notes_work(fresh_control_plane: MakeControlPlane, receiver: Receiver, tmp_path: Path) -> None:
    plane = fresh_control_plane()
    helm = Helm(plane.admin_kubeconfig)
    notes = helm.install({}, "--create-namespace").split("NOTES:\n")[1]
    with PlayedPods(plane, tmp_path) as pods:
        pods.start()
        said = run("\n".join(commands_in(notes)), plane, RECEIVER=receiver.url("/hook"), INTAKE=pods.intake)
        assert '{"accepted":1,"rejected":[]}' in said.replace(" ", "")
        [message, *_] = receiver.wait_for(1, path="/hook")
        assert message.json()["data"]["name"] == "Test"


def commands_in(notes: str) -> Iterator[str]:
    """The lines between the sentences of the notes: from a command to the empty line after it."""
    within = False
    for line in notes.splitlines():
        within = bool(line) and (within or line.startswith(("kubectl ", "TOKEN=")))
        if within:
            yield line
