"""The program that judges objects as GitOps tools do, built once from the libraries of these tools."""

from __future__ import annotations

from pathlib import Path

from tests.controlplane.go import GoProgram, find_or_build_program

MODULE = Path(__file__).parent / "build" / "gitops"
PROGRAM = GoProgram(name="gitops", module=MODULE, package=".", linker_flags="", usual_seconds=120)


def find_or_build_gitops() -> Path:
    """The program from the cache, built first if need be.

    Raises
    ------
    MissingProgram
        The build failed.
    """
    return find_or_build_program(PROGRAM)
