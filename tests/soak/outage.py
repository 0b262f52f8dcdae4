"""An outage of the API server neither stops the operator nor makes it flood its log, or the API server when that is back.

python -m tests.soak.outage [SECONDS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.controlplane import ControlPlane
from tests.support.cluster import Installed, install, install_crd
from tests.support.kubectl import Kubectl
from tests.support.parts import start_operator
from tests.support.sinks import SECRET, event_sink, secret, signed, uid_of, wait_compiled

SECONDS = 600.0
USER = "system:serviceaccount:eventsink-system:eventsink-operator"
MAX_LINES = 30
"""Logged in an outage, and as many again in each minute of it."""
MAX_REQUESTS = 100
"""Since the start of the outage: nearly all come after its end."""


def requests_since(plane: ControlPlane, start: int) -> list[dict[str, Any]]:
    """The operator's requests to the API server after the first `start` audited ones."""
    return [one for one in plane.audited()[start:] if one["user"]["username"] == USER]


def outage(plane: ControlPlane, admin: Kubectl, installed: Installed, namespace: str, folder: Path, seconds: float) -> str:
    """Stop the API server for so long under an operator that has a sink; returns the figures.

    Raises
    ------
    AssertionError
        It ended, logged or asked too much, or did not apply the next change.
    """
    admin.apply([secret(namespace, secret=SECRET), event_sink(namespace, webhook=signed())])
    with start_operator(installed, folder) as operator:
        admin.wait_condition("eventsink", "alerts", "Ready", "True", namespace=namespace)
        uid = uid_of(admin, namespace)
        logged, audited = len(operator.text().splitlines()), len(plane.audited())
        plane.stop_api_server()
        time.sleep(seconds)  # the outage itself, not a wait for something
        assert operator.exit_code is None
        plane.start_api_server()
        # A change that is made now is applied without a restart.
        admin.apply(event_sink(namespace, webhook=signed("https://hooks.example.com/changed")))
        wait_compiled(admin, uid, lambda sink: sink["webhook"]["url"].endswith("/changed"))
        lines = operator.text().splitlines()[logged:]
        assert len(lines) < MAX_LINES * (1 + seconds / 60), lines
        requests = len(requests_since(plane, audited))
        assert requests < MAX_REQUESTS
        assert operator.terminate() == 0
    return f"{seconds:g} s without the API server: {len(lines)} lines logged, {requests} requests"


def main(seconds: float | None = None) -> None:
    """Run the audit and print its figures."""
    with tempfile.TemporaryDirectory() as name, ControlPlane() as plane:
        admin = Kubectl(plane.admin_kubeconfig)
        install_crd(admin)
        installed = install(plane, admin)
        with admin.namespace(tenant="acme") as namespace:
            print(outage(plane, admin, installed, namespace, Path(name), seconds or SECONDS))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else None)
