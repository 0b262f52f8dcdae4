"""docs/rest.md, call by call with curl, and the OpenAPI document, against the API server and against `eventsink run`.

What schemathesis generates from the document is sent to both: valid requests, invalid ones, and those that follow from responses.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane import ControlPlane
from tests.support.cluster import ROOT, install, install_crd
from tests.support.kubectl import Kubectl
from tests.support.parts import cluster_router, start_operator
from tests.support.receiver import Receiver
from tests.support.rest import Rest, RestClient
from tests.support.slack import Slack
from tests.support.standalone import Standalone
from tests.support.waiting import wait_until

PAGE = (ROOT / "docs" / "rest.md").read_text()
CALLS = re.findall(r"<!-- test: rest -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
WAITS = {"createWait": "5s", "testWait": "2s"}
EXAMPLES = 25
"""Requests generated per call, in each of two ways to generate them."""
CHECKED = Path(__file__).with_name("schemathesis.toml")


@dataclass
class System:
    """A running REST API."""

    server: str
    key: str = field(repr=False)
    receiver: Receiver
    slack: Slack

    def code(self) -> str:
        """An OAuth code of Slack."""
        return self.slack.issue_code("T1")


def on_a_cluster(folder: Path, slack: Slack, receiver: Receiver, stack: ExitStack) -> System:
    plane = stack.enter_context(ControlPlane())
    kubectl = Kubectl(plane.admin_kubeconfig)
    install_crd(kubectl)
    installed = install(plane, kubectl)
    kubectl.run("create", "namespace", "acme")
    kubectl.run("label", "namespace", "acme", "eventsink.dev/tenant=acme")
    api = {"apiUrl": slack.api_url, "hookUrls": [slack.url]}
    operator = start_operator(installed, folder, slack=api, slackApp=app_of(slack, folder), egress={"allow": ["127.0.0.0/8"]})
    stack.enter_context(operator)
    router = cluster_router(installed, folder, slack=api)
    stack.enter_context(router.start())
    rest = Rest(
        installed,
        folder,
        {**WAITS, "router": {"url": router.admin_url, "tokenFile": str(folder / "admin-token")}},
        admin_kubeconfig=plane.admin_kubeconfig,
    )
    stack.enter_context(rest.start())
    key = rest.key("acme")
    asked = RestClient(rest.port, key)
    wait_until("the tenant's namespace at the REST API", lambda: "namespace" not in asked.create("acme", {"Slack": {}}).error)
    return System(f"http://127.0.0.1:{rest.port}", key, receiver, slack)


def on_a_folder(folder: Path, slack: Slack, receiver: Receiver, stack: ExitStack) -> System:
    standalone = Standalone(folder)
    process = standalone.start(
        rest={**WAITS}, slack={"apiUrl": slack.api_url, "hookUrls": [slack.url]}, slackApp=app_of(slack, folder)
    )
    stack.enter_context(process)
    key = (standalone.data / "rest-key").read_text().strip()
    return System(f"http://127.0.0.1:{process.port_of('rest')}", key, receiver, slack)


def app_of(slack: Slack, folder: Path) -> dict[str, Any]:
    """Settings of the Slack app."""
    file = folder / "client-secret"
    file.write_text(slack.client_secret)
    return {"clientId": slack.client_id, "clientSecretFile": str(file)}


@pytest.fixture(scope="module", params=[on_a_cluster, on_a_folder], ids=["cluster", "folder"])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with ExitStack() as stack:
        slack = stack.enter_context(Slack(lists_per_minute=0))
        slack.add_workspace("T1", "Acme")
        slack.add_channel("T1", "security-alerts")
        receiver = stack.enter_context(Receiver())
        yield request.param(tmp_path_factory.mktemp("system"), slack, receiver, stack)


def test_the_page_has_calls() -> None:
    assert len(CALLS) == 8


def test_the_calls_on_the_page_work(system: System) -> None:
    # Each response on a line of its own, to be looked at; the calls themselves are those of the page.
    script = 'curl() { command curl "$@" && echo; }\n' + "\n".join(CALLS)
    environment = {
        **os.environ,
        "SERVER": system.server,
        "KEY": system.key,
        "RECEIVER": system.receiver.url("/hook"),
        "CODE": system.code(),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    responses = [json.loads(line) for line in done.stdout.splitlines()]
    made, read, channel, listed, paged, changed, muted, unmuted, tested, deleted = responses
    sink = made["event_sink"]
    assert (sink["ready"], sink["reason"]) == (True, "")
    assert re.fullmatch(r"[0-9-]{10}T[0-9:]{8}Z", sink["created_at"])
    shown = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    assert sink.keys() == json.loads(shown[1])["event_sink"].keys()
    assert read == {
        "event_sink": {**sink, "delivering": read["event_sink"]["delivering"]}
    }  # the router may have reported meanwhile
    assert channel["event_sink"]["ready"] is True, channel
    assert {one["id"] for one in listed["event_sinks"]} == {sink["id"], channel["event_sink"]["id"]}
    assert (len(paged["event_sinks"]), bool(paged["pagination"]["next_page_token"])) == (1, True)
    assert changed["event_sink"]["name"] == "Security alerts, all of them"
    assert changed["event_sink"]["configuration"]["Webhook"]["timeout"] == "5s"
    assert [one["comment"] for one in muted["event_sink"]["mutes"]] == ["database migration"]
    assert "mutes" not in unmuted["event_sink"]
    assert (tested["delivered"], tested["status"]) == (True, "2xx")
    assert system.receiver.wait_for(1)[0].headers["webhook-id"] == tested["delivery_id"]
    assert deleted == {"id": sink["id"], "tenant_id": "acme"}


def test_requests_generated_from_the_openapi_document_find_no_defect(system: System, tmp_path: Path) -> None:
    command: list[str] = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CHECKED), "run", f"{system.server}/openapi.json"),
        *("--header", f"Authorization: Bearer {system.key}", "--checks", "all", "--max-examples", str(EXAMPLES)),
        *("--generation-deterministic", "--no-color"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    assert "9 selected / 9 total" in done.stdout
