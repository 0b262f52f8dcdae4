"""Signals the program of another pod on this node: `end.py POD_UID SIGNAL`; prints when, in seconds since the epoch.

It runs in the node's own process namespace: inside its own, a container's first process gets no SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

PROGRAM = b"eventsink"


def processes(pod: str) -> list[int]:
    """Those of the pod's containers that run EventSink."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            group = (folder / "cgroup").read_text().replace("_", "-")
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if pod in group and PROGRAM in command:
            found.append(int(folder.name))
    return found


def main() -> None:
    """Send the signal."""
    pod, name = sys.argv[1:]
    found = processes(pod)
    if not found:
        sys.exit(f"no program of the pod {pod} runs on this node")
    now = time.time()
    for one in found:
        os.kill(one, signal.Signals[name])
    print(now, flush=True)


if __name__ == "__main__":
    main()
