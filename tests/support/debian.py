"""Debian's Prometheus and Alertmanager, unpacked into the cache without installing them or their services."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.controlplane.go import MissingProgram, cache_root, only_one, say

PACKAGES = ("prometheus", "prometheus-alertmanager")
APT_TIMEOUT_SECONDS = 600
DEFAULT_TEMPLATES = Path("/usr/share/prometheus/alertmanager/default.tmpl")


@dataclass(frozen=True)
class MonitoringPrograms:
    """Paths of the programs."""

    prometheus: Path
    promtool: Path
    alertmanager: Path
    amtool: Path

    @classmethod
    def below(cls, folder: Path) -> MonitoringPrograms:
        """Where Debian's packages put them, below a folder that they were unpacked into."""
        programs = folder / "usr" / "bin"
        return cls(programs / "prometheus", programs / "promtool", programs / "prometheus-alertmanager", programs / "amtool")

    def alertmanager_command(self) -> list[str | Path]:
        """The start of the command that runs Alertmanager.

        Debian's build reads its default templates from /usr/share, wherever the program is. Where they are not installed, it runs
        in a mount namespace of its own in which /usr/share is that of the package; nobody else sees it. As another user than
        root, that takes user namespaces.
        """
        if DEFAULT_TEMPLATES.exists():
            return [self.alertmanager]
        mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
        mount = 'mount --bind "$0" /usr/share && exec "$@"'
        share = self.alertmanager.parents[1] / "share"
        return ["unshare", *mapped, "--mount", "sh", "-c", mount, share, self.alertmanager]

    def missing(self) -> list[str]:
        """Names of those that are not there."""
        every = (self.prometheus, self.promtool, self.alertmanager, self.amtool)
        return [program.name for program in every if not program.exists()]


def find_or_fetch() -> MonitoringPrograms:
    """The programs: those on the PATH, else from the cache, which apt-get fills once.

    Safe to interrupt and to run twice at once.

    Raises
    ------
    MissingProgram
        apt-get cannot fetch them; the text says why and what to do.
    """
    installed = MonitoringPrograms.below(Path("/"))
    if not installed.missing():
        return installed
    folder = cache_root() / "debian"
    folder.mkdir(parents=True, exist_ok=True)
    unpacked = folder / "unpacked"
    programs = MonitoringPrograms.below(unpacked)
    with only_one(folder / "lock"):
        if programs.missing():
            say(f"fetching Debian's {' and '.join(PACKAGES)} (once; about 60 MB)")
            _fetch(folder, unpacked)
    if missing := programs.missing():
        raise MissingProgram(f"Debian's packages hold no {', '.join(missing)}: remove {folder} and try again")
    return programs


def _fetch(folder: Path, unpacked: Path) -> None:
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise MissingProgram(f"{program} is missing: install Prometheus and Alertmanager (with amtool) into /usr/bin")
    unfinished = folder / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        _run(["apt-get", "download", "--quiet", *PACKAGES], unfinished)
    except MissingProgram:
        say("apt-get knows no such package: updating its lists")
        _run(["apt-get", "update", "--quiet"], unfinished)
        _run(["apt-get", "download", "--quiet", *PACKAGES], unfinished)
    for package in unfinished.glob("*.deb"):
        _run(["dpkg-deb", "--extract", str(package), str(unfinished)], unfinished)
        package.unlink()
    shutil.rmtree(unpacked, ignore_errors=True)
    unfinished.rename(unpacked)


def _run(command: list[str], folder: Path) -> None:
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=APT_TIMEOUT_SECONDS,
    )
    if result.returncode:
        raise MissingProgram(f"{' '.join(command)} failed:\n{(result.stdout + result.stderr)[-2000:]}")
