"""`helm install` on real pods, and what a person tries first."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.pods.installation import EVENTS, OPERATOR, RELEASE, REST, ROUTER, Installation, restarts
from tests.pods.shell import assert_works, port_forward
from tests.pods.workloads import RECEIVER_URL, Receiver
from tests.support.cluster import ROOT
from tests.support.kubectl import Kubectl

PARTS = [OPERATOR, ROUTER, REST, EVENTS]
LOOK = """
import json, os
def writable(folder):
    try:
        open(os.path.join(folder, "probe"), "w").close()
    except OSError:
        return False
    return True
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "uid": os.getuid(),
    "gid": os.getgid(),
    "capabilities": int(status["CapEff"], 16),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "seccomp": status["Seccomp"].strip(),
    "writable": [folder for folder in ("/", "/opt/eventsink", "/var", "/etc", "/home", "/etc/eventsink") if writable(folder)],
}))
"""

PACKAGES = """
import importlib.metadata, json, re
listed = json.load(open("/usr/share/doc/eventsink/sbom.cdx.json"))
found = importlib.metadata.distributions(path=["/opt/eventsink/lib/python3.11/site-packages"])
name = lambda text: re.sub("[-_.]+", "-", text).lower()
print(json.dumps({
    "format": listed["bomFormat"],
    "listed": sorted([name(one["name"]), one["version"]] for one in listed["components"]),
    "installed": sorted([name(one.name), one.version] for one in found if one.name != "eventsink"),
}))
"""


def test_every_pod_is_ready_at_its_first_start(installation: Installation) -> None:
    for part in PARTS:
        for pod in installation.wait_ready(part, count=len(installation.pods(part))):
            assert restarts(pod) == 0
            assert pod["spec"]["serviceAccountName"] == part.split("=")[1]


@pytest.mark.parametrize("part", PARTS)
def test_a_container_runs_without_root_and_cannot_change_itself(kubectl: Kubectl, installation: Installation, part: str) -> None:
    name = installation.pods(part)[0]["metadata"]["name"]
    seen = json.loads(kubectl.run("exec", "-n", installation.namespace, name, "--", "python3", "-c", LOOK).stdout)

    assert seen == {
        "uid": 65532,
        "gid": 65532,
        "capabilities": 0,
        "no_new_privileges": "1",
        "seccomp": "2",
        "writable": [],
    }


def test_the_bill_of_materials_lists_what_is_installed(kubectl: Kubectl, installation: Installation) -> None:
    name = installation.pods(REST)[0]["metadata"]["name"]
    seen = json.loads(kubectl.run("exec", "-n", installation.namespace, name, "--", "python3", "-c", PACKAGES).stdout)

    assert seen["format"] == "CycloneDX"
    assert len(seen["installed"]) > 30
    assert seen["listed"] == seen["installed"]


def test_the_samples_become_ready(kubectl: Kubectl, installation: Installation) -> None:
    kubectl.run("apply", "-f", str(ROOT / "manifests" / "samples"))
    sinks = [one for one in kubectl.list("eventsink") if one["metadata"]["namespace"].startswith("sample-")]
    assert sinks
    for one in sinks:
        kubectl.wait_condition("eventsink", one["metadata"]["name"], "Ready", "True", namespace=one["metadata"]["namespace"])


def test_the_commands_of_the_notes_work_as_printed(installation: Installation, receiver: Receiver, tmp_path: Path) -> None:
    notes = installation.helm("get", "notes", RELEASE).stdout
    prose = re.compile(r"(NOTES:|([0-9]\. )?[A-Z][a-z][^=]*[.:])$")
    commands = [line for line in notes.splitlines() if not prose.match(line)]
    assert sum(line.startswith("kubectl") for line in commands) >= 5
    with port_forward(installation, "service/eventsink-router", 8080) as port:
        environment = {"RECEIVER": f"{RECEIVER_URL}/open/notes", "INTAKE": f"http://127.0.0.1:{port}"}
        assert_works("\n".join(commands), {**installation.environment, **environment}, tmp_path)

    assert [one["name"] for one in receiver.received("/open/notes")] == ["Test"]
