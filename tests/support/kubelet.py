"""A stand-in for the kubelet, for commands that wait for pods on a control plane without nodes."""

from __future__ import annotations

import json
import threading

from tests.support.kubectl import Kubectl
from tests.support.processes import RunningProcess

POLL_SECONDS = 0.5


class Kubelet(threading.Thread):
    """Reports each pod of a namespace as ready once the program of its name has started.

    Parameters
    ----------
    programs
        By the label app.kubernetes.io/name of their pods; may be filled later. None: every pod is ready, and runs nothing.
    """

    def __init__(self, kubectl: Kubectl, namespace: str, programs: dict[str, RunningProcess] | None) -> None:
        super().__init__(daemon=True)
        self._kubectl = kubectl
        self._namespace = namespace
        self._programs = programs
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.wait(POLL_SECONDS):
            for pod in self._kubectl.list("pod", namespace=self._namespace):
                name = pod["metadata"]["labels"].get("app.kubernetes.io/name")
                started = self._programs is None or name in self._programs
                if started and pod["status"]["phase"] == "Pending":
                    report_pod(self._kubectl, self._namespace, pod["metadata"]["name"], ready=True)

    def stop(self) -> None:
        """Stop reporting."""
        self._ending.set()
        self.join(30)


def report_pod(kubectl: Kubectl, namespace: str, name: str, *, ready: bool) -> None:
    """Report a pod as running, and as ready or not; a pod that is gone is no failure."""
    status = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]}}
    arguments = [f"--namespace={namespace}", "--subresource=status", "--type=merge", "-p", json.dumps(status)]
    kubectl.run("patch", "pod", name, *arguments, check=False)
