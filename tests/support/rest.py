"""The REST API as a process, with the permissions of manifests/, and a plain client for it."""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eventsink.kube.http import connect
from eventsink.kube.settings import KubernetesSettings
from eventsink.rest.access.key_store import SecretKeyStore
from eventsink.rest.access.keys import KeyRecord, make_key
from eventsink.rest.config import KeySettings
from eventsink.rest.http.operations import OPERATIONS
from tests.support.cluster import Installed
from tests.support.parts import merged, write_settings
from tests.support.processes import RunningProcess, eventsink
from tests.support.waiting import wait_until

SINKS = "/v1/event_sink"
TIMEOUT_SECONDS = 60.0
SLACK_INSTALL = {"clientId": "1.2", "redirectUrl": "https://sinks.example.com/v1/slack/callback"}
"""Settings with which links to connect Slack are offered."""


@dataclass(frozen=True)
class Response:
    """The response to a request."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """The body, which must be JSON."""
        assert self.headers["content-type"].startswith("application/json"), self.body
        return json.loads(self.body)

    @property
    def sink(self) -> dict[str, Any]:
        """The sink in a successful response."""
        assert self.status == 200, self.body
        found: dict[str, Any] = self.json["event_sink"]
        return found

    @property
    def error(self) -> str:
        """The sentence of an error, which is all that it contains."""
        assert self.status >= 400, self.body
        assert list(self.json) == ["error"]
        return str(self.json["error"])


@dataclass(frozen=True)
class Call:
    """A valid request to the REST API."""

    operation: str
    method: str
    path: str
    body: Any


def calls_about(uid: str, tenant: str) -> tuple[list[Call], list[Call]]:
    """Every call of the REST API: those about this sink, and those that name this tenant."""
    about_sink, about_tenant = [], []
    for one in OPERATIONS:
        fields = one.request.model_fields if one.request is not None else {}
        by_id, by_tenant = "{id}" in one.path or "id" in fields, "tenant_id" in {*fields, *one.query_names()}
        assert by_id or by_tenant, f"{one.name} names neither a sink nor a tenant"
        if by_id:
            named = {"id": uid} if "id" in fields else {}
            body = named if "{id}" not in one.path else {**one.example, **named} if one.request is not None else None
            about_sink.append(Call(one.name, one.method, one.path.replace("{id}", uid), body))
        if by_tenant:
            query = f"?tenant_id={tenant}" if "tenant_id" in one.query_names() else ""
            body = {**one.example, "tenant_id": tenant} if one.request is not None else None
            about_tenant.append(Call(one.name, one.method, one.path + query, body))
    return about_sink, about_tenant


@dataclass(frozen=True)
class RestClient:
    """Calls the REST API at a port of this machine, with one key."""

    port: int
    key: str = field(default="", repr=False)

    def ask(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """One request; `body` is sent as JSON, `raw` as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        sent = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        if body is not None or raw is not None:
            sent["Content-Type"] = "application/json"
        try:
            content = raw if raw is not None else json.dumps(body).encode() if body is not None else None
            connection.request(method, path, content, {**sent, **(headers or {})})
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, named, response.read())
        finally:
            connection.close()

    def call(self, call: Call) -> Response:
        """One of `calls_about`."""
        return self.ask(call.method, call.path, call.body)

    def create(self, tenant: str, args: Mapping[str, Any], *, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
        """POST a sink."""
        body = {"tenant_id": tenant, "name": "Alerts", "description": "", "event_sink_args": dict(args), **more}
        return self.ask("POST", SINKS, body, headers=headers)

    def get(self, uid: str) -> Response:
        """GET a sink."""
        return self.ask("GET", f"{SINKS}/{uid}")

    def update(self, uid: str, *, headers: Mapping[str, str] | None = None, **changes: Any) -> Response:
        """PUT changes."""
        return self.ask("PUT", f"{SINKS}/{uid}", {"id": uid, **changes}, headers=headers)

    def delete(self, uid: str) -> Response:
        """DELETE a sink."""
        return self.ask("DELETE", f"{SINKS}/{uid}")

    def wait_for_namespace(self, tenant: str) -> None:
        """Wait until the REST API knows a namespace of the tenant: then a create fails only at the destination."""
        wait_until("the tenant's namespace at the REST API", lambda: "namespace" not in self.create(tenant, {"Slack": {}}).error)

    def sinks(self, tenant: str) -> list[dict[str, Any]]:
        """All sinks of a tenant."""
        response = self.ask("GET", f"{SINKS}?tenant_id={tenant}")
        assert response.status == 200, response.body
        found: list[dict[str, Any]] = response.json["event_sinks"]
        return found


@dataclass
class Rest:
    """`eventsink rest` on a cluster."""

    installed: Installed
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    admin_kubeconfig: Path | None = None
    """Whose permissions `eventsink keys` has."""
    process: RunningProcess | None = field(default=None, repr=False)

    def start(self) -> RunningProcess:
        """Start it, and wait until it is ready."""
        own = {
            "address": "127.0.0.1:0",
            "monitor": {"address": "127.0.0.1:0"},
            "kubernetes": {"kubeconfig": str(self.installed.rest)},
            "keys": {"namespace": self.installed.namespace},
        }
        file = write_settings(self.folder / "rest.yaml", merged(own, self.settings))
        self.process = eventsink("rest", "--config", file, folder=self.folder)
        self.process.wait_ready()
        return self.process

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self.process is not None
        return self.process.port_of("rest")

    def key(self, *tenants: str, wait: bool = True) -> str:
        """A new key for these tenants, or for all, known to the REST API; created as `eventsink keys create` does, which takes a second more."""
        key, record = make_key("test", tenants or None, datetime.now(UTC))
        asyncio.run(self._keep(record))
        if wait:
            client = RestClient(self.port, key)
            wait_until("the REST API to know the key", lambda: client.ask("GET", f"{SINKS}/none").status == 404)
        return key

    async def _keep(self, record: KeyRecord) -> None:
        assert self.admin_kubeconfig is not None
        settings = KeySettings.model_validate({"namespace": self.installed.namespace, **self.settings.get("keys", {})})
        api = await connect(KubernetesSettings(kubeconfig=self.admin_kubeconfig), "keys")
        try:
            await SecretKeyStore(api, settings.namespace, settings.secret).add(record)
        finally:
            await api.close()

    def client(self, *tenants: str) -> RestClient:
        """A client with a new key for these tenants, or for all."""
        return RestClient(self.port, self.key(*tenants))


def eventsink_command(*arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line tool to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "eventsink", *arguments], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert done.returncode == status, done.stderr
    return done
