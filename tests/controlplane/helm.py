"""Helm, built once from its pinned Go module; with OLDER=1 in the environment, Helm 3."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.controlplane.binaries import older
from tests.controlplane.go import GoProgram, build_programs, cache_root

BUILD = Path(__file__).parent / "build"
HELM_4 = GoProgram("helm", BUILD / "helm", "helm.sh/helm/v4/cmd/helm", linker_flags="", usual_seconds=150)
HELM_3_VERSIONS = " ".join(  # otherwise it takes a cluster that it does not ask for one of 1.20
    f"-X helm.sh/helm/v3/pkg/{package}.k8sVersion{part}"
    for package in ("chartutil", "lint/rules")
    for part in ("Major=1", "Minor=36")
)
HELM_3 = GoProgram("helm", BUILD / "helm3", "helm.sh/helm/v3/cmd/helm", HELM_3_VERSIONS, usual_seconds=150)


def find_or_build_helm() -> Path:
    """The program from the cache, built first if need be.

    Raises
    ------
    MissingProgram
        The build failed.
    """
    program = HELM_3 if older() else HELM_4
    folder = cached_helm(program)
    if not (folder / program.name).exists():
        build_programs([program], folder)
    return folder / program.name


def cached_helm(program: GoProgram = HELM_4) -> Path:
    """The folder that a build of today's pins goes to."""
    digest = hashlib.sha256()
    for file in (program.module / "go.mod", program.module / "go.sum"):
        digest.update(file.read_bytes())
    return cache_root() / "helm" / digest.hexdigest()[:16]
