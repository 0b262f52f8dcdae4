"""The pods of these tests: a receiver, an Alertmanager and a client, all from the image under test and as restricted as Pod Security asks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.controlplane.binaries import kubectl as find_kubectl
from tests.support.kubectl import TENANT_LABEL, Kubectl

PROGRAMS = Path(__file__).parent / "programs"
TENANT = "payments"
"""A tenant, and its namespace."""
RECEIVERS = "receivers"
MONITORING = "monitoring"
SLACK = "slack-stand-in"
FAULTS = "faults"
"""The only namespace in which Pod Security `restricted` is not enforced: its pods see the processes of their node."""
BROKEN = "broken"
"""A tenant, and its namespace: the only one whose Kubernetes Events are sent."""
RECEIVER_URL = f"http://receiver.{RECEIVERS}:8080"
ALERTMANAGER_URL = f"http://alertmanager.{MONITORING}:9093"
START_SECONDS = 60
COPY_SECONDS = 120
CALL_SECONDS = 45
ROUTER_LABELS = {"app.kubernetes.io/name": "eventsink-router"}


def namespace(name: str, tenant: str | None = None) -> dict[str, Any]:
    """A namespace in which Pod Security `restricted` is enforced."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted", **({TENANT_LABEL: tenant} if tenant is not None else {})}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def programs(namespace: str) -> dict[str, Any]:
    """The programs as a ConfigMap."""
    data = {file.name: file.read_text() for file in PROGRAMS.glob("[a-z]*.py")}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "programs", "namespace": namespace}, "data": data}


def service(namespace: str, name: str, port: int) -> dict[str, Any]:
    """A Service for the pod of that name."""
    spec = {"selector": {"app": name}, "ports": [{"port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def pod(
    namespace: str,
    name: str,
    image: str,
    *command: str,
    mounts: Mapping[str, Mapping[str, Any]] | None = None,
    port: int | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A pod of the image that runs `python COMMAND`, away from the router's node where there is another.

    `mounts` maps paths to volumes (without names); `spec` adds to that of the pod.
    """
    volumes: dict[str, Mapping[str, Any]] = {
        "/programs": {"configMap": {"name": "programs"}},
        "/tmp": {"emptyDir": {}},
        **(mounts or {}),
    }
    named = [(f"volume-{number}", path, volume) for number, (path, volume) in enumerate(volumes.items())]
    container = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", *command],
        "env": [{"name": "PYTHONUNBUFFERED", "value": "1"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path, _ in named],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    }
    if port is not None:
        container["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
    whole: dict[str, Any] = {
        "containers": [container],
        "volumes": [{"name": volume, **dict(content)} for volume, _, content in named],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 1,
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [_away_from_the_router()]}},
        **spec,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": whole,
    }


def copy_program(kubectl: Kubectl, namespace: str, pod: str, program: Path, target: str) -> None:
    """Give a program to a pod that waits for it with become.py."""
    command = [str(find_kubectl()), f"--kubeconfig={kubectl.kubeconfig}", "exec", "-i", "-n", namespace, pod, "--"]
    with program.open("rb") as file:
        subprocess.run(
            [*command, "python3", "/programs/become.py", "--copy", target], stdin=file, check=True, timeout=COPY_SECONDS
        )


def _away_from_the_router() -> dict[str, Any]:
    term = {
        "labelSelector": {"matchLabels": ROUTER_LABELS},
        "namespaceSelector": {},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {"weight": 100, "podAffinityTerm": term}


@dataclass(frozen=True)
class Response:
    """What a program in the cluster was responded to with; status 0: nothing came back."""

    status: int
    body: str

    @property
    def json(self) -> Any:
        """The body, which must be JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """A pod from which the tests talk to Services, as programs of a tenant do."""

    kubectl: Kubectl
    namespace: str
    name: str = "client"

    def call(self, method: str, url: str, body: Any = None, *, token_file: str | None = None) -> Response:
        """One request; `body` is sent as JSON, a text as it is."""
        sent = "" if body is None else body if isinstance(body, str) else json.dumps(body)
        arguments = ["python3", "/programs/call.py", method, url, sent, *([token_file] if token_file else [])]
        done = self.kubectl.run("exec", "-n", self.namespace, self.name, "--", *arguments, timeout=CALL_SECONDS)
        return Response(**json.loads(done.stdout))


@dataclass(frozen=True)
class Receiver:
    """The receiver's pod."""

    client: Client

    def received(self, path: str | None = None) -> list[dict[str, Any]]:
        """What came so far, in order: path, verified, status, name and state of the alert of each."""
        found: list[dict[str, Any]] = self.client.call("GET", f"{RECEIVER_URL}/received").json
        return [one for one in found if path in (None, one["path"])]

    def names(self, path: str) -> list[str]:
        """The names of the alerts that were delivered (responded to with 200) to a path, in order."""
        return [one["name"] for one in self.received(path) if one["status"] == 200]

    def respond_with(self, status: int) -> None:
        """From now on respond with this status to every genuine message."""
        assert self.client.call("PUT", f"{RECEIVER_URL}/status", str(status)).status == 200
