"""Plays the kubelet for an installation on a control plane without nodes.

The three programs run as processes of their own, with the ServiceAccounts and settings that the installation gives them, and their pods are
reported as ready.
"""

from __future__ import annotations

import base64
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.controlplane import ControlPlane
from tests.support.cluster import SYSTEM_NAMESPACE, Installed
from tests.support.kubectl import Kubectl
from tests.support.kubelet import Kubelet
from tests.support.parts import Router, cluster_router, start_operator
from tests.support.ports import free_port
from tests.support.processes import RunningProcess
from tests.support.rest import Rest
from tests.support.waiting import wait_until

TOKENS = "eventsink-source-tokens"


class PlayedPods:
    """The pods of an installation named eventsink in `eventsink-system`. Use as a context manager, and `start` it once it is installed.

    `intake` is where the router accepts alerts, from the start.
    """

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self._plane = plane
        self._folder = folder
        self._kubectl = Kubectl(plane.admin_kubeconfig)
        self._port = free_port()
        self._programs: dict[str, RunningProcess] = {}
        self._kubelet = Kubelet(self._kubectl, SYSTEM_NAMESPACE, self._programs)
        self.router: Router | None = None

    @property
    def intake(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._kubelet.is_alive():
            self._kubelet.stop()
        for program in self._programs.values():
            program.close()

    def start(self) -> None:
        """Wait for the ServiceAccounts, start the operator, and the others once there is a token."""
        installed = Installed(operator=self._account("operator"), router=self._account("router"), rest=self._account("rest"))
        self._programs["eventsink-operator"] = start_operator(installed, self._folder, **self._operator_settings())
        token = base64.b64decode(self._wait_for("secret", TOKENS)["data"]["alertmanager"]).decode()
        self.router = cluster_router(installed, self._folder, intake={"address": f"127.0.0.1:{self._port}"})
        self.router.token = token
        self._programs["eventsink-router"] = self.router.start()
        self._programs["eventsink-rest"] = Rest(installed, self._folder).start()
        self._kubelet.start()

    def _account(self, part: str) -> Path:
        self._wait_for("serviceaccount", f"eventsink-{part}")
        return self._plane.service_account_kubeconfig(SYSTEM_NAMESPACE, f"eventsink-{part}")

    def _wait_for(self, kind: str, name: str) -> dict[str, Any]:
        return self._kubectl.wait_until(kind, name, bool, namespace=SYSTEM_NAMESPACE)

    def _operator_settings(self) -> dict[str, Any]:
        """Those of the installed ConfigMap, except where it listens: the API server reaches no Service without nodes."""

        def found() -> list[dict[str, Any]]:
            every = self._kubectl.list("configmap", namespace=SYSTEM_NAMESPACE)
            return [yaml.safe_load(one["data"]["operator.yaml"]) for one in every if "operator.yaml" in one["data"]]

        [settings] = wait_until("the operator's settings", found)
        return {name: value for name, value in settings.items() if name not in ("monitor", "admission")}
