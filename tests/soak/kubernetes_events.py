"""10,000 Events reach a sink once each, while everything between it and them is killed, stopped or too old.

python -m tests.soak.kubernetes_events
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.controlplane import ControlPlane
from tests.support.kubectl import Kubectl
from tests.support.kubernetes_events import install, through_failures
from tests.support.receiver import Receiver

EVENTS = 10_000


def main(count: int = EVENTS) -> None:
    """Run the audit and print how long it took."""
    with tempfile.TemporaryDirectory() as name, ControlPlane() as plane, Receiver() as receiver:
        admin = Kubectl(plane.admin_kubeconfig)
        account = install(plane, admin)
        began = time.monotonic()
        through_failures(plane, admin, account, receiver, Path(name), count)
        print(f"{count:,} Events, each once at the sink, in {time.monotonic() - began:.0f} s: two kills, an outage, one 410")


if __name__ == "__main__":
    main()
