"""What the demo runs on: `eventsink run` over a folder, or operator and router on a real API server."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from string import Template
from typing import Any, Protocol

from demo.draw import aside
from tests.controlplane import ControlPlane
from tests.support.cluster import install, install_crd
from tests.support.kubectl import Kubectl
from tests.support.parts import Router, cluster_router, merged, request, start_operator, write_settings
from tests.support.ports import free_port
from tests.support.processes import RunningProcess, eventsink
from tests.support.slack import Slack

SINKS = sorted((Path(__file__).parent / "sinks").glob("*.yaml"))
INVALID = Path(__file__).parent / "invalid.yaml"
VALIDATE_TIMEOUT_SECONDS = 60


class Installation(Protocol):
    """One way to run EventSink."""

    url: str
    """Of the router's intake."""
    token: str
    """Bearer token of the source."""

    def start(self, values: dict[str, str]) -> None:
        """Start, with the sample sinks, and return when all are ready."""
        ...

    def reject(self) -> str:
        """The error for a manifest with a mistake; empty if it was accepted."""
        ...

    def kill(self) -> None:
        """kill -9 of the process that holds the queue."""
        ...

    def restart(self) -> None:
        """Start that process again, and return when it is ready."""
        ...

    def deliveries(self, query: str) -> list[dict[str, Any]]:
        """The deliveries that the admin API lists."""
        ...

    def close(self) -> None:
        """Stop everything."""
        ...


def settings(slack: Slack) -> dict[str, Any]:
    """Settings of both: loopback as a destination, the stand-in for Slack, and short waits."""
    return {
        "egress": {"allow": ["127.0.0.0/8"]},
        "slack": {"apiUrl": slack.api_url, "hookUrls": [slack.url]},
        "state": {"haWindow": "10ms"},  # what is sent again by hand is no duplicate from the other half of a pair
        "dispatch": {"retry": {"first": "500ms", "longest": "2s", "sinkLongest": "1s"}},
    }


class StandaloneInstallation:
    """`eventsink run` over a folder of YAML."""

    def __init__(self, folder: Path, slack: Slack) -> None:
        self._folder = folder
        self._documents = folder / "documents"
        self._data = folder / "data"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/v1/alerts/alertmanager"
        self.token = ""
        self._admin = free_port()
        own = {
            "log": {"format": "json"},
            "folder": {"poll": "200ms"},
            "intake": {"address": f"127.0.0.1:{port}"},
            "admin": {"address": f"127.0.0.1:{self._admin}"},
            "rest": {"address": "127.0.0.1:0"},
            "monitor": {"address": "127.0.0.1:0"},
            "shutdown": {"unready": "0s", "grace": "5s"},
        }
        self._settings = write_settings(folder / "standalone.yaml", merged(settings(slack), own))
        self._process: RunningProcess | None = None

    def start(self, values: dict[str, str]) -> None:
        self._documents.mkdir()
        for file in SINKS:
            (self._documents / file.name).write_text(Template(file.read_text()).substitute(values))
        aside(f"eventsink run {self._documents} --data {self._data} --config {self._settings}")
        self.restart()
        self.token = (self._data / "alertmanager-token").read_text().strip()

    def reject(self) -> str:
        aside("eventsink validate demo/invalid.yaml")
        command = [sys.executable, "-m", "eventsink", "validate", f"demo/{INVALID.name}"]
        folder = INVALID.parents[1]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=VALIDATE_TIMEOUT_SECONDS)
        return done.stdout.strip() if done.returncode == 1 else ""

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill9()

    def restart(self) -> None:
        self.close()
        self._process = eventsink("run", self._documents, "--data", self._data, "--config", self._settings, folder=self._folder)
        self._process.wait_ready()

    def deliveries(self, query: str) -> list[dict[str, Any]]:
        token = (self._data / "admin-token").read_text().strip()
        found: list[dict[str, Any]] = request(f"http://127.0.0.1:{self._admin}/v1/deliveries?{query}", token)[1]["deliveries"]
        return found

    def close(self) -> None:
        if self._process is not None:
            self._process.close()


class ClusterInstallation:
    """Operator and router as processes over a real API server, with the roles of manifests/."""

    def __init__(self, folder: Path, slack: Slack) -> None:
        self._folder = folder
        self._slack = slack
        self._stack = ExitStack()
        self.url = ""
        self.token = ""
        self._kubectl: Kubectl
        self._router: Router

    def start(self, values: dict[str, str]) -> None:
        aside("etcd, kube-apiserver and kube-controller-manager (built once, if missing; that takes about six minutes)")
        plane = self._stack.enter_context(ControlPlane())
        self._kubectl = Kubectl(plane.admin_kubeconfig)
        for folder in ("crds", "manifests/namespaces", "manifests/default"):
            aside(f"kubectl apply -k {folder}")
        install_crd(self._kubectl)
        installed = install(plane, self._kubectl)
        shared = settings(self._slack)
        operator = {key: shared[key] for key in ("egress", "slack")}
        self._stack.enter_context(start_operator(installed, self._folder, **operator)).wait_ready()
        self._router = cluster_router(
            installed,
            self._folder,
            **shared,
            intake={"address": f"127.0.0.1:{free_port()}"},
            admin={"address": f"127.0.0.1:{free_port()}"},
        )
        self._stack.callback(lambda: self._router.running.close())
        self._router.start()
        self.url, self.token = self._router.url, self._router.token
        # Namespaces first: the rest belongs to them.
        for file in sorted(SINKS, key=lambda one: one.name != "tenants.yaml"):
            aside(f"kubectl apply -f demo/sinks/{file.name}")
            target = self._folder / file.name
            target.write_text(Template(file.read_text()).substitute(values))
            self._kubectl.apply(target)
        for one in self._kubectl.list("eventsink"):
            name, namespace = one["metadata"]["name"], one["metadata"]["namespace"]
            self._kubectl.wait_condition("eventsink", name, "Ready", "True", namespace=namespace)
            self._router.wait_known(f"{namespace}/{name}")

    def reject(self) -> str:
        aside("kubectl apply -f demo/invalid.yaml")
        return self._kubectl.apply(INVALID, expect_failure=True).strip()

    def kill(self) -> None:
        self._router.running.kill9()

    def restart(self) -> None:
        self._router.start()

    def deliveries(self, query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._router.admin(f"/v1/deliveries?{query}")[1]["deliveries"]
        return found

    def close(self) -> None:
        self._stack.close()
