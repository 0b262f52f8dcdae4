"""The start of `eventsink run` with many documents, the first time and again, and how it grows from a tenth of them, in one run.

python -m tests.benchmarks.standalone [DOCUMENTS | full]
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path

from tests.support.load import size
from tests.support.standalone import Standalone

DEADLINE_SECONDS = 300.0
DOCUMENT = """apiVersion: eventsink.dev/v1alpha1
kind: EventSink
metadata: {{name: sink-{number}, namespace: ns-{tenant}}}
spec:
  tenant: tenant-{tenant}
  name: Sink {number}
  match: {{minSeverity: high, matchers: ['team="{number}"']}}
  webhook: {{url: "https://hooks.example.com/{number}"}}
"""
TENANTS = 100


def measure(folder: Path, documents: int) -> list[tuple[float, float, int]]:
    """Seconds until it is ready, seconds of CPU until then, and resident bytes: of the first start, and of the next one."""
    root = folder / str(documents)
    root.mkdir()
    standalone = Standalone(root)
    for number in range(documents):
        text = DOCUMENT.format(number=number, tenant=number % TENANTS)
        (standalone.documents / f"{number:05}.yaml").write_text(text)
    found = []
    for _ in range(2):
        began = time.perf_counter()
        with standalone.start(ready=False) as process:
            process.wait_ready(deadline=DEADLINE_SECONDS)
            found.append((time.perf_counter() - began, *used(process.pid)))
    return found


def used(pid: int) -> tuple[float, int]:
    """Seconds of CPU, and resident bytes."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[11:13]
    resident = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert resident is not None
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), int(resident[1]) * 1024


def main(documents: int) -> None:
    """Print a line for each start."""
    with tempfile.TemporaryDirectory() as name:
        few, many = (measure(Path(name), count) for count in (documents // 10, documents))
    for which, before, after in zip(("first start", "restart"), few, many, strict=True):
        each = (after[2] - before[2]) / (documents - documents // 10) / 1000
        print(
            f"{which:>11}, {documents} documents: {after[0]:5.1f} s until ready, {after[1]:5.1f} s CPU, {each:4.1f} kB a sink; "
            f"{after[1] / before[1]:4.1f} times the CPU of {documents // 10}"
        )


if __name__ == "__main__":
    main(size(1_000, 10_000))
