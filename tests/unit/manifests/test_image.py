"""The Containerfile: what an image is made of is pinned, and nothing in it installs packages."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LINES = [
    line
    for line in (ROOT / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.lstrip().startswith("#")
]
STAGES = [index for index, line in enumerate(LINES) if line.startswith("FROM ")]
PINNED = re.compile(r"^([a-z0-9-]+)==(\S+) \\$", re.MULTILINE)


def pinned(file: str) -> dict[str, str]:
    """Package -> version."""
    return dict(PINNED.findall((ROOT / "requirements" / file).read_text()))


def commands(lines: list[str], *words: str) -> list[str]:
    """The commands of RUN lines that contain all these words."""
    parts = [part.strip() for line in lines if line.startswith("RUN ") for part in line.removeprefix("RUN ").split("&&")]
    return [part for part in parts if set(words) <= set(part.split())]


def test_the_base_is_an_argument_without_a_default_so_that_it_is_named_by_its_digest() -> None:
    assert LINES[0] == "ARG BASE"
    assert {LINES[index].split()[1] for index in STAGES} == {"${BASE}"}


def test_what_is_installed_is_locked_and_never_built_by_something_that_is_not() -> None:
    installs = [one for one in commands(LINES, "install") if "pip" in one]
    assert len(installs) == 3
    for one in installs:
        assert "--no-index" in one.split() or {"--require-hashes", ":all:"} <= set(one.split()), one
    (built,) = commands(LINES, "wheel", "--no-build-isolation")
    assert "--no-deps" in built


def test_the_build_backend_is_the_locked_one() -> None:
    build_system = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    names = {re.split(r"[<>=~! ]", one, maxsplit=1)[0] for one in build_system["requires"]}
    locked = pinned("build.txt")
    assert set(locked) == names
    assert locked == {name: pinned("dev.txt")[name] for name in names}


@pytest.mark.parametrize("package", ["pip", "setuptools", "wheel"])
def test_the_image_has_nothing_that_installs_packages(package: str) -> None:
    last = LINES[STAGES[-1] :]
    assert not commands(last, "install")
    assert len(commands(last, "uninstall", package)) == 1
    assert commands(last, "rm", "-r") != []
    assert package not in pinned("runtime.txt")
    assert commands(LINES[: STAGES[-1]], "venv", "--without-pip", "/opt/eventsink")


def test_the_image_says_what_it_is_and_contains() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [label] = [line for line in LINES[STAGES[-1] :] if line.startswith("LABEL ")]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', label))
    assert labels["title"] == project["name"]
    assert labels["version"] == project["version"]
    assert labels["licenses"] == project["license"]
    assert labels["description"]
    assert [line for line in LINES[STAGES[-1] :] if line.startswith("COPY --from=build /sbom.cdx.json ")]


def test_the_bill_of_materials_lists_what_the_lock_lists() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "sbom.py"], capture_output=True, text=True, timeout=30, check=True)
    bill = json.loads(done.stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert {one["name"]: one["version"] for one in bill["components"]} == pinned("runtime.txt")
    assert {one["purl"] for one in bill["components"]} == {f"pkg:pypi/{name}@{v}" for name, v in pinned("runtime.txt").items()}
    own = bill["metadata"]["component"]
    needs = {one["ref"]: {ref.split("/")[1].split("@")[0] for ref in one["dependsOn"]} for one in bill["dependencies"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert needs[own["purl"]] == {re.split(r"[<>=~]", one, maxsplit=1)[0] for one in project["dependencies"]}
    assert needs.keys() == {own["purl"], *(one["purl"] for one in bill["components"])}


def test_the_image_runs_as_nobody_in_particular() -> None:
    assert "USER 65532:65532" in LINES[STAGES[-1] :]
