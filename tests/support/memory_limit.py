"""A limit of memory for processes, as a container has one: beyond it the kernel kills.

A cgroup of version 1 or 2 where this user may make one; elsewhere nothing limits, and `peak_bytes` is what a test has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
NAME = "eventsink-test"
EMPTY_WITHIN_SECONDS = 10.0
_ENTER = ["sh", "-c", 'echo $$ > "$0" && exec "$@"']


@contextmanager
def memory_limit(limit: int) -> Iterator[Sequence[str]]:
    """What to put before a command so that the process has at most `limit` bytes; empty where no limit can be set."""
    folder = _make(limit)
    if folder is None:
        yield ()
        return
    try:
        yield [*_ENTER, str(folder / "cgroup.procs")]
    finally:
        _remove(folder)


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had resident so far."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def _make(limit: int) -> Path | None:
    own = {fields[1]: fields[2] for line in Path("/proc/self/cgroup").read_text().splitlines() if (fields := line.split(":", 2))}
    v1 = MOUNT / "memory" / own.get("memory", "").lstrip("/") / f"{NAME}-{time.monotonic_ns()}"
    v2 = MOUNT / own.get("", "").lstrip("/") / f"{NAME}-{time.monotonic_ns()}"
    for folder, file in ((v1, "memory.limit_in_bytes"), (v2, "memory.max")):
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / file).write_text(str(limit))
        except OSError:
            folder.rmdir()
            continue
        return folder
    return None


def _remove(folder: Path) -> None:
    end = time.monotonic() + EMPTY_WITHIN_SECONDS
    while True:
        try:
            folder.rmdir()
        except OSError:  # a process in it has not ended yet
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
