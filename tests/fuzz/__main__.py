"""Fuzz the parsers guided by coverage, one after the other: `make fuzz`, or python -m tests.fuzz [SECONDS for each] [TARGET ...].

What is found is written to the corpus of its target, where the tests read it, and ends the run: fix it, and keep the input.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import CORPUS, MAX_BYTES, TARGETS, inputs

DEFAULT_SECONDS = 60
MAX_MEMORY_MIB = 2048
LONGEST_SECONDS = 10
"""For one input, until it counts as one that hangs."""


def main(arguments: list[str]) -> int:
    """Exit status 1: something was found."""
    seconds = int(arguments[0]) if arguments else DEFAULT_SECONDS
    for name in arguments[1:] or TARGETS:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            for index, data in enumerate(inputs(name)):
                (Path(folder) / f"seed-{index}").write_bytes(data)
            found = CORPUS / name
            found.mkdir(exist_ok=True)
            command = [sys.executable, "-m", "tests.fuzz.guided", name, folder, f"-max_total_time={seconds}"]
            command += [f"-max_len={MAX_BYTES}", f"-timeout={LONGEST_SECONDS}", f"-rss_limit_mb={MAX_MEMORY_MIB}"]
            ended = subprocess.run([*command, f"-artifact_prefix={found}/", "-print_final_stats=1", "-verbosity=0"], check=False)
            if not any(found.iterdir()):
                found.rmdir()
            if ended.returncode:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
