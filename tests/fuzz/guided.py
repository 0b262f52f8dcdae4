"""One target under atheris: python -m tests.fuzz.guided TARGET [what libFuzzer takes]. Ends the process."""

from __future__ import annotations

import importlib
import sys
from typing import Any

atheris: Any = importlib.import_module(
    "atheris"
)  # there is none for some versions of Python, on which the tests run all the same

with atheris.instrument_imports(include=["eventsink"]):
    from tests.fuzz.targets import TARGETS


def main(arguments: list[str]) -> None:
    """Run until libFuzzer ends."""
    atheris.Setup([sys.argv[0], *arguments[1:]], TARGETS[arguments[0]].check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
