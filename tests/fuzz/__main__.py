"""Fuzz the parsers guided by coverage, one after the other: `make fuzz`, or python -m tests.fuzz [SECONDS for each] [TARGET ...].

What is found is written to the corpus of its target, where the tests read it, and ends the run: fix it, and keep the input.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.targets import CORPUS, MAX_BYTES, TARGETS, inputs, unmarked

DEFAULT_SECONDS = 60
MAX_MEMORY_MIB = 2048
LONGEST_SECONDS = 10
"""For one input, until it counts as one that hangs."""


def main(arguments: list[str]) -> int:
    """Exit status 1: something was found."""
    seconds = int(arguments[0]) if arguments else DEFAULT_SECONDS
    for name in arguments[1:] or TARGETS:
        print(f"== {name}", flush=True)
        if not fuzz([name], seconds):
            return 1
    return 0


def fuzz(names: Sequence[str], seconds: int, *, cpu_seconds: float = 0.0, corpus: Path = CORPUS) -> bool:
    """Fuzz some targets in one process, which takes a few seconds to start; whether each of them ran and nothing was found.

    Parameters
    ----------
    seconds
        Without the start.
    cpu_seconds
        Of the processor, after the start; 0: any.
    corpus
        Where what is found is written to, in a folder of its target.
    """
    with tempfile.TemporaryDirectory() as folder:
        seeds, found, ran = Path(folder, "seeds"), Path(folder, "found"), Path(folder, "ran")
        seeds.mkdir()
        found.mkdir()
        ran.touch()
        for name in names:
            for index, data in enumerate(inputs(name)):
                (seeds / f"{name}-{index}").write_bytes(name.encode() + b"\n" + data[:MAX_BYTES])
        command = [sys.executable, "-m", "tests.fuzz.guided", ",".join(names), str(cpu_seconds), str(ran), str(seeds)]
        command += [f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", f"-timeout={LONGEST_SECONDS}"]
        command += [f"-rss_limit_mb={MAX_MEMORY_MIB}", f"-artifact_prefix={found}/", "-print_final_stats=1", "-verbosity=0"]
        ended = subprocess.run(command, check=False)
        for one in found.iterdir():
            name, data = unmarked(one.read_bytes())
            (corpus / name).mkdir(exist_ok=True)
            (corpus / name / one.name).write_bytes(data)
            print(f"found: {corpus / name / one.name}", flush=True)
        never = set(names) - set(ran.read_text(encoding="utf-8").splitlines())
        if never:
            print(f"never ran: {', '.join(sorted(never))}", flush=True)
    return not ended.returncode and not never


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
