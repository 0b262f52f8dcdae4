"""The program that judges objects as GitOps tools do, built once from the libraries of these tools."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.controlplane.go import GoProgram, build_programs, cache_root

MODULE = Path(__file__).parent / "build" / "gitops"
PROGRAM = GoProgram(name="gitops", module=MODULE, package=".", linker_flags="", usual_seconds=120)


def find_or_build_gitops() -> Path:
    """The program from the cache, built first if need be.

    Raises
    ------
    MissingProgram
        The build failed.
    """
    folder = cached_gitops()
    if not (folder / PROGRAM.name).exists():
        build_programs([PROGRAM], folder)
    return folder / PROGRAM.name


def cached_gitops() -> Path:
    """The folder that a build of today's pins and source goes to."""
    digest = hashlib.sha256()
    for file in sorted(MODULE.iterdir()):
        digest.update(file.read_bytes())
    return cache_root() / "gitops" / digest.hexdigest()[:16]
