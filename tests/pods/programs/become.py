"""Waits for a program to be copied here, and becomes it: `become.py PROGRAM ARGUMENTS...`.

So a pod of the image under test runs a program that no image has. `become.py --copy PROGRAM` writes it from standard input.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

DEADLINE_SECONDS = 120
POLL_SECONDS = 0.1


def copy(program: Path) -> None:
    """Write the program from standard input; it appears when it is complete."""
    unfinished = program.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    unfinished.chmod(0o755)
    unfinished.rename(program)


def main() -> None:
    """Copy, or wait and become the program."""
    if sys.argv[1] == "--copy":
        copy(Path(sys.argv[2]))
        return
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not Path(sys.argv[1]).exists():
        if time.monotonic() > deadline:
            sys.exit(f"{sys.argv[1]} was not copied within {DEADLINE_SECONDS} s")
        time.sleep(POLL_SECONDS)
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
