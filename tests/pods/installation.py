"""One installation of EventSink on a cluster with pods, as people make it: with helm."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.binaries import kubectl as find_kubectl
from tests.pods.workloads import BROKEN
from tests.support.cluster import ROOT, SINKS_NAMESPACE, SYSTEM_NAMESPACE
from tests.support.kubectl import Kubectl
from tests.support.parts import merged
from tests.support.waiting import wait_until

CHART = ROOT / "helm" / "eventsink"
RELEASE = "eventsink"
ROLLOUT_SECONDS = 120
HELM_SECONDS = 180
QUICK_RETRIES = {"longest": "2s", "sinkLongest": "2s"}
"""A test that makes the receiver fail does not wait for minutes until it is tried again."""
DENIED_HOST = "denied.example.com"
"""Which the operator's settings forbid in webhooks."""
OPERATOR, ROUTER, REST, EVENTS = (f"app.kubernetes.io/name=eventsink-{part}" for part in ("operator", "router", "rest", "events"))
"""Selectors of the parts' pods."""


class HelmFailed(AssertionError):
    """helm ended with another status than expected; the text is what it wrote."""


@dataclass
class Installation:
    """The release `eventsink` in the namespace `eventsink-system`.

    Attributes
    ----------
    values
        Those of every command; single commands add to them.
    """

    kubectl: Kubectl
    helm_program: Path
    values: dict[str, Any] = field(default_factory=dict)
    namespace: str = SYSTEM_NAMESPACE
    sinks_namespace: str = SINKS_NAMESPACE

    def helm(self, *arguments: str, input: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run helm in the release's namespace.

        Raises
        ------
        HelmFailed
            Its status is not 0 and `check` is set.
        """
        done = subprocess.run(
            [self.helm_program, *arguments, "--namespace", self.namespace],
            input=input,
            capture_output=True,
            text=True,
            timeout=HELM_SECONDS,
            env=self.environment,
        )
        if check and done.returncode:
            raise HelmFailed(f"helm {' '.join(arguments)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    @property
    def environment(self) -> dict[str, str]:
        """In which a person runs kubectl and helm for this cluster."""
        home = self.kubectl.kubeconfig.parent
        path = f"{self.helm_program.parent}:{find_kubectl().parent}:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(home), "KUBECONFIG": str(self.kubectl.kubeconfig)}

    def install(self) -> None:
        """`helm install`, which waits until every pod is ready."""
        self._apply("install", {})

    def upgrade(self, *options: str, check: bool = True, **values: Any) -> subprocess.CompletedProcess[str]:
        """`helm upgrade` with the installation's values and these."""
        return self._apply("upgrade", values, *options, check=check)

    def rollback(self) -> None:
        """`helm rollback` to the revision before."""
        self.helm("rollback", RELEASE, "--wait", "--timeout", f"{ROLLOUT_SECONDS}s")

    def uninstall(self) -> None:
        """`helm uninstall`, which waits until all is gone."""
        self.helm("uninstall", RELEASE, "--wait", "--timeout", f"{ROLLOUT_SECONDS}s")

    def _apply(
        self, command: str, values: Mapping[str, Any], *options: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        given = yaml.safe_dump(merged(self.values, values))
        timeout = [] if "--timeout" in options else ["--timeout", f"{ROLLOUT_SECONDS}s"]
        return self.helm(command, RELEASE, str(CHART), "--wait", *timeout, *options, "-f", "-", input=given, check=check)

    def pods(self, selector: str | None = None) -> list[dict[str, Any]]:
        """The pods of the installation, or of one part of it, except those that are being deleted."""
        found = self.kubectl.list("pod", namespace=self.namespace, selector=selector)
        return [one for one in found if "deletionTimestamp" not in one["metadata"]]

    def pod(self, selector: str) -> dict[str, Any]:
        """The one pod of a part."""
        (found,) = self.pods(selector)
        return found

    def wait_ready(
        self, selector: str, *, count: int = 1, not_uid: str = "", deadline: float = ROLLOUT_SECONDS
    ) -> list[dict[str, Any]]:
        """Wait until exactly `count` pods of a part are there and ready, none of them `not_uid`; returns them."""
        found: list[dict[str, Any]] = []

        def probe() -> bool:
            nonlocal found
            found = self.pods(selector)
            return len(found) == count and all(ready(one) and one["metadata"]["uid"] != not_uid for one in found)

        wait_until(
            f"{count} ready pods with {selector}", probe, deadline=deadline, poll=0.2, show=lambda: [state(one) for one in found]
        )
        return found


def ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod's condition Ready is True."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))


def restarts(pod: Mapping[str, Any]) -> int:
    """How often its container was started again."""
    return sum(one["restartCount"] for one in pod["status"].get("containerStatuses", []))


def state(pod: Mapping[str, Any]) -> str:
    """A pod in one line, for failures."""
    containers = pod["status"].get("containerStatuses", [])
    inner = [{kind: more.get("reason", "") for kind, more in one["state"].items()} for one in containers]
    return f"{pod['metadata']['name']} {pod['status']['phase']} ready={ready(pod)} restarts={restarts(pod)} {inner}"


def values(image: str, addresses: Sequence[str]) -> dict[str, Any]:
    """The values of these tests: the image, two operators, ServiceAccounts at the REST API, the Kubernetes Events of one namespace, the stand-in
    for Slack, and the addresses in the cluster to which messages are sent.
    """
    repository, _, tag = image.rpartition(":")
    outgoing = {
        "egress": {"allow": [f"{address}/32" for address in addresses]},
        "slack": {"apiUrl": "http://slack.slack-stand-in/api/"},
    }
    return {
        "image": {"repository": repository, "tag": tag},
        "slack": {"app": {"clientId": "1.2", "secretName": "slack-app"}, "tokenSecretName": "slack-workspace"},
        "operator": {"replicas": 2, "config": {**outgoing, "webhooks": {"deniedHosts": [DENIED_HOST]}}},
        "router": {"config": {**outgoing, "dispatch": {"retry": QUICK_RETRIES}}},
        "rest": {"config": {"kubernetesTokens": {"enabled": True}}},
        "events": {"enabled": True, "config": {"filter": {"include": {"namespaces": [BROKEN]}}}},
    }
