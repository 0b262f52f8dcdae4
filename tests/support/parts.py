"""The operator and the router as processes of their own, with the permissions that manifests/ gives them."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.cluster import Installed
from tests.support.kubectl import Kubectl
from tests.support.processes import RunningProcess, eventsink
from tests.support.waiting import wait_until

HTTP_TIMEOUT_SECONDS = 60.0


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with `above` over it, member by member."""
    result = dict(below)
    for key, value in above.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return result


def start_operator(installed: Installed, folder: Path, *, module: str = "eventsink", **settings: Any) -> RunningProcess:
    """Start `eventsink operator` with the settings that manifests/ ships and those given here; `module` as of `eventsink`."""
    shipped = {
        "sinksNamespace": installed.sinks_namespace,
        # One alone: after a kill, the next one does not wait for the Lease of the one before.
        "leaderElection": {"namespace": installed.namespace, "enabled": False},
        "monitor": {"address": "127.0.0.1:0"},
        "kubernetes": {"kubeconfig": str(installed.operator)},
    }
    file = write_settings(folder / "operator.yaml", merged(shipped, settings))
    return eventsink("operator", "--config", file, folder=folder, module=module)


def write_settings(file: Path, settings: Mapping[str, Any]) -> Path:
    """Write a configuration file."""
    file.write_text(yaml.safe_dump(dict(settings)))
    return file


@dataclass
class Router:
    """A router's folder and settings; `start` runs it, as often as a test wants.

    Loopback is allowed as a destination, since that is where the tests' receivers are.
    """

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    admin_token: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    process: RunningProcess | None = field(default=None, repr=False)

    def start(self, *, ready: bool = True, module: str = "eventsink") -> RunningProcess:
        """Start `eventsink router`, and wait until it is ready; `module` as of `eventsink`."""
        (self.folder / "token").write_text(self.token)
        (self.folder / "admin-token").write_text(self.admin_token)
        file = write_settings(self.folder / "router.yaml", self.configuration())
        self.process = eventsink("router", "--config", file, folder=self.folder, module=module)
        if ready:
            self.process.wait_ready()
        return self.process

    def wait_known(self, sink: str) -> None:
        """Wait until it has the sink `namespace/name`."""
        wait_until(f"{sink} at the router", lambda: sink in [one["sink"] for one in self.admin("/v1/sinks")[1]["sinks"]])

    def configuration(self) -> dict[str, Any]:
        """What its configuration file says."""
        own = {
            "intake": {"address": "127.0.0.1:0"},
            "monitor": {"address": "127.0.0.1:0"},
            "admin": {"address": "127.0.0.1:0", "tokenFile": str(self.folder / "admin-token")},
            "queue": {"path": str(self.folder / "queue.db"), "minFreeBytes": 0},
            "egress": {"allow": ["127.0.0.0/8"]},
            "shutdown": {"unready": 0, "grace": "10s"},
            "sources": [
                {
                    "name": "alertmanager",
                    "tokenFiles": [str(self.folder / "token")],
                    "tenant": {"namespaceOwner": {"label": "namespace"}},
                }
            ],
        }
        return merged(own, self.settings)

    @property
    def running(self) -> RunningProcess:
        """The process; it must have been started."""
        assert self.process is not None
        return self.process

    @property
    def url(self) -> str:
        """Where the source `alertmanager` posts."""
        return f"http://127.0.0.1:{self.running.port_of('intake')}/v1/alerts/alertmanager"

    @property
    def admin_url(self) -> str:
        """Of the admin API."""
        return f"http://127.0.0.1:{self.running.port_of('admin')}"

    def post(self, notification: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Post as the source would: status and response."""
        return self.post_bytes(json.dumps(notification).encode())

    def post_bytes(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Post any body."""
        return request(self.url, self.token, body)

    def admin(self, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Ask the admin API."""
        return request(self.admin_url + path, self.admin_token, json.dumps(body).encode() if body is not None else None)

    def metrics(self) -> str:
        """What Prometheus would read."""
        return self.running.metrics()


def apply_and_wait(kubectl: Kubectl, router: Router, *objects: Mapping[str, Any]) -> None:
    """Apply EventSinks and what they need, and wait until they are Ready and the router has them."""
    kubectl.apply([dict(one) for one in objects])
    for one in objects:
        if one["kind"] == "EventSink":
            name, namespace = one["metadata"]["name"], one["metadata"]["namespace"]
            kubectl.wait_condition("eventsink", name, "Ready", "True", namespace=namespace)
            router.wait_known(f"{namespace}/{name}")


def cluster_router(installed: Installed, folder: Path, **settings: Any) -> Router:
    """A router that watches the compiled sinks of a cluster."""
    own = {"sinksNamespace": installed.sinks_namespace, "kubernetes": {"kubeconfig": str(installed.router)}}
    return Router(folder, merged(own, settings))


def request(
    url: str, token: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """GET, or POST where there is a body (JSON unless the headers say what it is), with a bearer token: status and JSON response."""
    own = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    asked = urllib.request.Request(url, data=body, headers={**own, **(headers or {})})
    try:
        with urllib.request.urlopen(asked, timeout=HTTP_TIMEOUT_SECONDS) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def notification(*alerts: Mapping[str, Any], group: str = "{}:{}", **members: Any) -> dict[str, Any]:
    """A notification as Alertmanager's webhook sends it."""
    firing = any(one["status"] == "firing" for one in alerts)
    return {
        "version": "4",
        "groupKey": group,
        "status": "firing" if firing else "resolved",
        "receiver": "eventsink",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.com",
        "truncatedAlerts": 0,
        "alerts": list(alerts),
        **members,
    }


def alert(name: str, *, status: str = "firing", starts_at: str = "2026-01-01T12:00:00Z", **labels: str) -> dict[str, Any]:
    """One alert of a notification."""
    return {
        "status": status,
        "labels": {"alertname": name, "severity": "critical", **labels},
        "annotations": {"summary": f"{name} happened"},
        "startsAt": starts_at,
        "endsAt": "2026-01-01T13:00:00Z" if status == "resolved" else "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.com/graph",
    }
