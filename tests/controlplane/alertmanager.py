"""A current Alertmanager, built once from its pinned Go module; Debian's is older (tests/support/debian.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.controlplane.go import GoProgram, find_or_build_program

MODULE = Path(__file__).parent / "build" / "alertmanager"
VERSION = "0.28.1"
"""The one that go.mod pins, for `--version`."""
PROGRAM = GoProgram(
    name="alertmanager",
    module=MODULE,
    package="github.com/prometheus/alertmanager/cmd/alertmanager",
    linker_flags=f"-X github.com/prometheus/common/version.Version={VERSION}",
    usual_seconds=90,
)


@dataclass(frozen=True)
class CurrentAlertmanager:
    """Path of the program."""

    alertmanager: Path

    def alertmanager_command(self) -> list[str | Path]:
        """The start of the command that runs it."""
        return [self.alertmanager]


def find_or_build_alertmanager() -> CurrentAlertmanager:
    """The program from the cache, built first if need be.

    Raises
    ------
    MissingProgram
        The build failed.
    """
    return CurrentAlertmanager(find_or_build_program(PROGRAM))
