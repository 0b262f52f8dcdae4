"""Alerts that are sent while pods are lost, and whether all that were acknowledged arrived."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.controlplane.binaries import kubectl as find_kubectl
from tests.pods.installation import Installation
from tests.pods.workloads import TENANT, Client, Receiver
from tests.support.waiting import wait_until

DELIVERED_SECONDS = 60.0
STOP_SECONDS = 90.0


@dataclass
class Load:
    """A program in the client's pod that sends alerts until it is told to stop."""

    process: subprocess.Popen[str]
    acknowledged: list[str] = field(default_factory=list)
    outage: float = 0.0
    """The longest time between two acknowledgements, in seconds."""

    def stop(self) -> None:
        """Stop sending; `acknowledged` and `outage` are known then."""
        output, _ = self.process.communicate("stop\n", timeout=STOP_SECONDS)
        last = json.loads(output.splitlines()[-1])
        self.acknowledged, self.outage = last["acknowledged"], last["longestGap"]


@contextmanager
def load(installation: Installation, client: Client, prefix: str) -> Iterator[Load]:
    """Alerts of the tenant, named `prefix-0`, `prefix-1` and so on, some 40 a second, while the block runs."""
    url = f"http://eventsink-router.{installation.namespace}:8080/v1/alerts/alertmanager"
    command = [
        "exec",
        "-i",
        "-n",
        client.namespace,
        client.name,
        "--",
        "python3",
        "/programs/load.py",
        url,
        "/intake/token",
        TENANT,
    ]
    kubectl = [str(find_kubectl()), f"--kubeconfig={client.kubectl.kubeconfig}"]
    with subprocess.Popen([*kubectl, *command, prefix], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            running = Load(process)
            yield running
            running.stop()
        finally:
            process.kill()


def wait_refused(receiver: Receiver, path: str, prefix: str) -> None:
    """Wait until the receiver, told to respond with 503, refused an alert of that load: from then on alerts wait in the queue."""

    def probe() -> bool:
        seen = [one for one in receiver.received(path) if one["status"] == 503]
        return any(one["name"].startswith(f"{prefix}-") for one in seen)

    wait_until("alerts that wait in the queue", probe, poll=0.5)


def assert_delivered(receiver: Receiver, path: str, names: list[str]) -> None:
    """Wait until every alert of `names` was delivered; none came with a wrong signature."""
    missing: set[str] = set()

    def probe() -> bool:
        nonlocal missing
        missing = set(names) - set(receiver.names(path))
        return not missing

    wait_until(
        "delivery of what was acknowledged", probe, deadline=DELIVERED_SECONDS, poll=0.5, show=lambda: sorted(missing)[:20]
    )
    assert all(one["verified"] for one in receiver.received(path))
