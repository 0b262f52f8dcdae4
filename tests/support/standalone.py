"""`eventsink run` as a process of its own, over a folder of documents and a data folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from eventsink.client import Client
from tests.support.parts import alert, merged, notification, request, write_settings
from tests.support.processes import RunningProcess, eventsink

POLL = "100ms"


def sink(name: str, url: str, *, namespace: str = "acme", tenant: str = "acme", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "eventsink.dev/v1alpha1",
        "kind": "EventSink",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"tenant": tenant, "name": name, "webhook": {"url": url}, **spec},
    }


def secret(name: str, **values: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "acme"}, "stringData": values}


NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme", "labels": {"eventsink.dev/tenant": "acme"}}}


class Standalone:
    """A folder of documents, a data folder, and the process that runs on them."""

    def __init__(self, root: Path, *, module: str = "eventsink") -> None:
        self.root = root
        self.module = module
        self.documents = root / "documents"
        self.data = root / "data"
        self.documents.mkdir()
        self.settings: dict[str, Any] = {
            "folder": {"poll": POLL},
            "log": {"format": "json"},
            "intake": {"address": "127.0.0.1:0"},
            "monitor": {"address": "127.0.0.1:0"},
            "admin": {"address": "127.0.0.1:0"},
            "rest": {"address": "127.0.0.1:0"},
            "queue": {"minFreeBytes": 0},
            "egress": {"allow": ["127.0.0.0/8"]},
            "shutdown": {"grace": "10s"},
        }
        self.process: RunningProcess | None = None

    def put(self, file: str, *documents: dict[str, Any]) -> None:
        """Write a file as a careful program does: whole, by renaming."""
        self.put_text(file, yaml.safe_dump_all(documents))

    def put_text(self, file: str, text: str) -> None:
        target = self.documents / file
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f".{target.name}.new")
        new.write_text(text)
        new.replace(target)

    def start(self, *, ready: bool = True, **settings: Any) -> RunningProcess:
        file = write_settings(self.root / "standalone.yaml", merged(self.settings, settings))
        self.process = eventsink(
            "run", self.documents, "--data", self.data, "--config", file, folder=self.root, module=self.module
        )
        if ready:
            self.process.wait_ready()
        return self.process

    @property
    def running(self) -> RunningProcess:
        assert self.process is not None
        return self.process

    def post_alert(self, name: str, **labels: str) -> None:
        """Send an alert of the namespace acme; it must be accepted."""
        url = f"http://127.0.0.1:{self.running.port_of('intake')}/v1/alerts/alertmanager"
        token = (self.data / "alertmanager-token").read_text().strip()
        body = notification(alert(name, **{"namespace": "acme", **labels}), group=name)
        status, response = request(url, token, json.dumps(body).encode())
        assert status == 200, response

    def deliveries(self, **conditions: str) -> list[dict[str, Any]]:
        """As the admin API lists them, asked with the token that the first start made."""
        port = self.running.port_of("admin")
        arguments = [f"--{name}={value}" for name, value in conditions.items()]
        token = self.data / "admin-token"
        command = ["deliveries", "--server", f"http://127.0.0.1:{port}", "--token-file", str(token), "-o", "json", *arguments]
        listed: list[dict[str, Any]] = json.loads(run(*command).stdout)
        return listed

    def rest(self) -> Client:
        """A client of the REST API, with the key that the first start made."""
        key = (self.data / "rest-key").read_text().strip()
        return Client(f"http://127.0.0.1:{self.running.port_of('rest')}", key)

    def logged(self, event: str, **members: object) -> dict[str, Any]:
        return self.running.wait_logged(
            f"{event} {members}", lambda line: line["event"] == event and members.items() <= line.items()
        )


def run(*arguments: str | Path, given: str = "", module: str = "eventsink") -> subprocess.CompletedProcess[str]:
    command: Sequence[str | Path] = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)
