"""Targets under atheris: python -m tests.fuzz.guided NAMES CPU_SECONDS RAN [what libFuzzer takes]. Ends the process.

The name of each target is written into the file RAN when it runs for the first time.

An input begins with the name of its target in a line, so that one process, which takes long to start, runs several of them.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

atheris: Any = importlib.import_module(
    "atheris"
)  # there is none for some versions of Python, on which the tests run all the same

PACKAGE = Path(__file__).parents[2] / "operator"
READERS = ("eventsink.alerts.", "eventsink.cel.", "eventsink.templates.")
"""Packages of which targets run more than the modules that they import."""


def left_out() -> list[str]:
    """Modules that targets at most pass through: to instrument all of them takes ten seconds."""
    imported = re.compile(r"^from (eventsink[\w.]*) import", re.MULTILINE)
    named = {
        module for file in Path(__file__).parent.glob("*.py") for module in imported.findall(file.read_text(encoding="utf-8"))
    }
    modules = {".".join(file.relative_to(PACKAGE).with_suffix("").parts) for file in PACKAGE.rglob("*.py")}
    return [one for one in modules - named if not one.startswith(READERS)]


with atheris.instrument_imports(include=["eventsink"], exclude=left_out() if float(sys.argv[2]) else None):
    from tests.fuzz.targets import TARGETS, unmarked


def main(arguments: list[str]) -> None:
    """Run until libFuzzer ends, or each target ran and this process has used its time of the processor since its start (0: any)."""
    names, cpu_seconds, ran = arguments[0].split(","), float(arguments[1]), Path(arguments[2])
    end, waiting = time.process_time() + cpu_seconds, set(names)

    def check(marked: bytes) -> None:
        name, data = unmarked(marked)
        if name in names:
            TARGETS[name].check(data)
        if name in waiting:
            waiting.remove(name)
            with ran.open("a", encoding="utf-8") as file:
                file.write(f"{name}\n")
        if cpu_seconds and not waiting and time.process_time() > end:
            os._exit(0)

    def mutate(marked: bytes, max_size: int, seed: int) -> bytes:
        name, data = unmarked(marked)
        mark = f"{name if name in names else names[seed % len(names)]}\n".encode()
        return mark + bytes(atheris.Mutate(data, max_size - len(mark)))

    atheris.Setup([sys.argv[0], *arguments[3:]], check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
