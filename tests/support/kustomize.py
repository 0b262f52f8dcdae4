"""Kustomizations as people apply them: the real kustomize, which is part of kubectl."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.binaries import kubectl
from tests.support.cluster import ROOT

BUILD_TIMEOUT_SECONDS = 30


class KustomizeFailed(AssertionError):
    """Nothing was built; the text is what kustomize wrote."""


def build(folder: Path) -> list[dict[str, Any]]:
    """The objects of a kustomization, in the order in which `kubectl apply -k` applies them.

    Raises
    ------
    KustomizeFailed
        It is not a valid one.
    """
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=BUILD_TIMEOUT_SECONDS)
    if done.returncode:
        raise KustomizeFailed(done.stderr)
    return list(yaml.safe_load_all(done.stdout))


def copied(target: Path, **parameters: str) -> Path:
    """`manifests/` and `crds/` in a folder of their own, as somebody edits them; returns the former.

    Parameters
    ----------
    parameters
        New values in parameters/parameters.yaml.
    """
    for one in ("crds", "manifests"):
        shutil.copytree(ROOT / one, target / one)
    file = target / "manifests" / "parameters" / "parameters.yaml"
    for name, value in parameters.items():
        edit(file, rf"^  {name}: .*$", f"  {name}: {value}")
    return target / "manifests"


def edit(file: Path, pattern: str, replacement: str) -> None:
    """Replace the one place of a file that matches."""
    text, count = re.subn(pattern, replacement, file.read_text(), flags=re.MULTILINE)
    assert count == 1, f"{pattern} matches {count} places of {file.name}"
    file.write_text(text)
