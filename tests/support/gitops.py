"""What GitOps tools say of EventSinks, by the health checks in manifests/gitops."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.gitops import find_or_build_gitops

FOLDER = Path(__file__).parents[2] / "manifests" / "gitops"
HEALTH_KEY = "resource.customizations.health.eventsink.dev_EventSink"
RUN_TIMEOUT_SECONDS = 60


class NotUnderstood(AssertionError):
    """The tools' libraries reject what they were given; the text is what they say."""


@dataclass(frozen=True)
class Verdict:
    """What the tools say of one object."""

    kstatus: str
    """Current, InProgress, Failed or Terminating."""
    flux: str
    """The same, by `healthCheckExprs`."""
    argo: str
    """Healthy, Progressing or Degraded."""
    message: str
    """That Argo CD shows."""


def judge(objects: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Ask kstatus, Flux and Argo CD."""
    [sinks] = [one for one in documents("flux/sinks.yaml") if one["kind"] == "Kustomization"]
    [expressions] = sinks["spec"]["healthCheckExprs"]
    [health] = documents("argocd/health.yaml")
    given = {"health": health["data"][HEALTH_KEY], "expressions": expressions, "objects": list(objects)}
    return [
        Verdict(one["kstatus"]["status"], one["flux"], one["argo"]["status"], one["argo"]["message"])
        for one in json.loads(_run("judge", given))
    ]


def decode(objects: Sequence[Mapping[str, Any]]) -> None:
    """Have Flux' own types read objects of Flux.

    Raises
    ------
    NotUnderstood
        One has a field that Flux does not know, or one of another type.
    """
    _run("decode", list(objects))


def documents(name: str) -> list[dict[str, Any]]:
    """The documents of a file below manifests/gitops."""
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def _run(command: str, given: object) -> str:
    ended = subprocess.run(
        [find_or_build_gitops(), command],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_SECONDS,
    )
    if ended.returncode:
        raise NotUnderstood(ended.stderr)
    return ended.stdout
