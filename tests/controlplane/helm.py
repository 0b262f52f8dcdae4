"""Helm, built once from its pinned Go module."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.controlplane.go import GoProgram, build_programs, cache_root

MODULE = Path(__file__).parent / "build" / "helm"
PROGRAM = GoProgram(name="helm", module=MODULE, package="helm.sh/helm/v4/cmd/helm", linker_flags="", usual_seconds=150)


def find_or_build_helm() -> Path:
    """The program from the cache, built first if need be.

    Raises
    ------
    MissingProgram
        The build failed.
    """
    folder = cached_helm()
    if not (folder / PROGRAM.name).exists():
        build_programs([PROGRAM], folder)
    return folder / PROGRAM.name


def cached_helm() -> Path:
    """The folder that a build of today's pins goes to."""
    digest = hashlib.sha256()
    for file in (MODULE / "go.mod", MODULE / "go.sum"):
        digest.update(file.read_bytes())
    return cache_root() / "helm" / digest.hexdigest()[:16]
