"""The five minutes of the README, command by command, with Helm and without. No nodes are needed: the pods are played."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from tests.controlplane.helm import find_or_build_helm
from tests.support.cluster import ROOT, MakeControlPlane
from tests.support.kubectl import Kubectl
from tests.support.played_pods import PlayedPods
from tests.support.receiver import Receiver

README = (ROOT / "README.md").read_text()
BLOCK_TIMEOUT_SECONDS = 240


def commands(mark: str) -> list[str]:
    """The blocks of the README that carry this mark."""
    return re.findall(rf"<!-- test: {mark} -->\n```sh\n(.*?)```", README, re.DOTALL)


def test_the_readme_has_its_five_steps() -> None:
    assert [len(commands(mark)) for mark in ("quickstart helm", "quickstart kubectl", "quickstart")] == [1, 1, 4]


@pytest.mark.parametrize("tool", ["helm", "kubectl"])
def test_the_five_minutes_on_a_cluster(
    fresh_control_plane: MakeControlPlane, receiver: Receiver, tmp_path: Path, tool: str
) -> None:
    plane = fresh_control_plane()
    kubectl = Kubectl(plane.admin_kubeconfig)
    with PlayedPods(plane, tmp_path) as pods:
        environment = {
            **os.environ,
            "KUBECONFIG": str(plane.admin_kubeconfig),
            "PATH": f"{Path(sys.executable).parent}:{find_or_build_helm().parent}:{os.environ['PATH']}",
            "RECEIVER": receiver.url("/hook"),
            "INTAKE": pods.intake,
        }
        for number, block in enumerate([*commands(f"quickstart {tool}"), *commands("quickstart")]):
            running = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", block],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if number == 0:
                pods.start()
            output, _ = running.communicate(timeout=BLOCK_TIMEOUT_SECONDS)
            assert running.returncode == 0, f"step {number + 1} of the README failed:\n{output}"
    assert re.search(r"security-alerts\s+acme\s+webhook\s+True\s+True", output), output
    secret = base64.b64decode(kubectl.get("secret", "hook", namespace="acme")["data"]["secret"]).decode()
    message = receiver.wait_for(1)[0]
    event: dict[str, Any] = standardwebhooks.Webhook(secret).verify(message.body, dict(message.headers))
    assert (event["data"]["name"], event["tenant"]) == ("DiskFull", "acme")
