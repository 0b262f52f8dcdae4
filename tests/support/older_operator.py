"""The `eventsink` command with the compiler of the version before: `python -m tests.support.older_operator operator`."""

from __future__ import annotations

from eventsink.cli import main
from eventsink.controller import reconcile
from eventsink.controller.compile import COMPILER_VERSION

OLDER_VERSION = COMPILER_VERSION - 1

if __name__ == "__main__":
    vars(reconcile)["COMPILER_VERSION"] = OLDER_VERSION
    main()
