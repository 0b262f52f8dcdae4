"""Helm, built once from its pinned Go module; with OLDER=1 in the environment, Helm 3."""

from __future__ import annotations

from pathlib import Path

from tests.controlplane.binaries import older
from tests.controlplane.go import GoProgram, find_or_build_program

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
    return find_or_build_program(HELM_3 if older() else HELM_4)
