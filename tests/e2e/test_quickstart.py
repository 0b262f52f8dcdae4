"""The five minutes of the README, command by command.

There are no nodes here, so this test plays the kubelet: it runs the three programs as processes of their own, with the ServiceAccounts and
the settings that the manifests give them, and reports their pods as ready.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from tests.support.cluster import ROOT, SYSTEM_NAMESPACE, Installed, MakeControlPlane
from tests.support.kubectl import Kubectl
from tests.support.kubelet import Kubelet
from tests.support.parts import Router, cluster_router, start_operator
from tests.support.ports import free_port
from tests.support.processes import RunningProcess
from tests.support.receiver import Receiver
from tests.support.rest import Rest
from tests.support.waiting import wait_until

BLOCK = re.compile(r"<!-- test: quickstart -->\n```sh\n(.*?)```", re.DOTALL)
COMMANDS = BLOCK.findall((ROOT / "README.md").read_text())
BLOCK_TIMEOUT_SECONDS = 240


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def test_the_readme_has_its_five_steps() -> None:
    assert len(COMMANDS) == 5


def test_the_five_minutes_on_a_cluster(fresh_control_plane: MakeControlPlane, receiver: Receiver, tmp_path: Path) -> None:
    plane = fresh_control_plane()
    kubectl = Kubectl(plane.admin_kubeconfig)
    port = free_port()
    programs: dict[str, RunningProcess] = {}
    kubelet = Kubelet(kubectl, SYSTEM_NAMESPACE, programs)
    environment = {
        **os.environ,
        "KUBECONFIG": str(plane.admin_kubeconfig),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RECEIVER": receiver.url("/hook"),
        "INTAKE": f"http://127.0.0.1:{port}",
    }
    router: Router | None = None

    def start_programs() -> None:
        """What the kubelet does once the ServiceAccounts and the Secret of tokens exist."""
        nonlocal router
        wait_until("the Secret of tokens", lambda: kubectl.find("secret", "eventsink-source-tokens", namespace=SYSTEM_NAMESPACE))
        installed = Installed(
            operator=plane.service_account_kubeconfig(SYSTEM_NAMESPACE, "eventsink-operator"),
            router=plane.service_account_kubeconfig(SYSTEM_NAMESPACE, "eventsink-router"),
            rest=plane.service_account_kubeconfig(SYSTEM_NAMESPACE, "eventsink-rest"),
        )
        tokens = kubectl.get("secret", "eventsink-source-tokens", namespace=SYSTEM_NAMESPACE)["data"]
        router = cluster_router(installed, tmp_path, intake={"address": f"127.0.0.1:{port}"})
        router.token = base64.b64decode(tokens["alertmanager"]).decode()
        programs["eventsink-operator"] = start_operator(installed, tmp_path)
        programs["eventsink-router"] = router.start()
        programs["eventsink-rest"] = Rest(installed, tmp_path).start()

    try:
        for number, commands in enumerate(COMMANDS):
            running = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", commands],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if number == 0:
                start_programs()
                kubelet.start()
            output, _ = running.communicate(timeout=BLOCK_TIMEOUT_SECONDS)
            assert running.returncode == 0, f"step {number + 1} of the README failed:\n{output}"
        assert re.search(r"security-alerts\s+acme\s+webhook\s+True\s+True", output), output
        secret = base64.b64decode(kubectl.get("secret", "hook", namespace="acme")["data"]["secret"]).decode()
        message = receiver.wait_for(1)[0]
        event: dict[str, Any] = standardwebhooks.Webhook(secret).verify(message.body, dict(message.headers))
        assert (event["data"]["name"], event["tenant"]) == ("DiskFull", "acme")
    finally:
        if kubelet.is_alive():
            kubelet.stop()
        for program in programs.values():
            program.close()
