"""Helm as people use it: the real program, on the chart of this project."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.go import cache_root
from tests.controlplane.helm import find_or_build_helm

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "eventsink"
RUN_TIMEOUT_SECONDS = 120
EVENTSINK_API = "eventsink.dev/v1alpha1/EventSink"

Values = Mapping[str, Any]


class HelmFailed(AssertionError):
    """Helm ended with another status than expected; the text holds the command and what it wrote."""


class Helm:
    """Runs Helm, with a kubeconfig where it is to reach a cluster.

    Parameters
    ----------
    release, namespace
        Of every command.
    """

    def __init__(
        self,
        kubeconfig: Path | None = None,
        *,
        release: str = "eventsink",
        namespace: str = "eventsink-system",
        chart: Path = CHART,
    ) -> None:
        self.release, self.namespace, self.chart = release, namespace, chart
        self._kubeconfig = kubeconfig
        self._program = find_or_build_helm()
        self._home = cache_root() / "helm" / "home"

    def run(self, *arguments: str, values: Values | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one command in the namespace, with `values` as a file of values.

        Raises
        ------
        HelmFailed
            Its status is not 0 and `check` is set.
        """
        given = ["--values", "-"] if values is not None else []
        folders = {f"HELM_{kind}_HOME": str(self._home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        result = subprocess.run(
            [self._program, *arguments, *given, f"--namespace={self.namespace}"],
            input=json.dumps(values)
            if values is not None
            else None,  # which is YAML, and quotes what YAML 1.1 takes for something else
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_SECONDS,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self._home),
                **folders,
                "KUBECONFIG": str(self._kubeconfig or "/nonexistent"),
            },
        )
        if check and result.returncode:
            raise HelmFailed(f"helm {' '.join(arguments)}: status {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def text(self, values: Values | None = None, *options: str) -> str:
        """What `helm template` writes, in a cluster that knows EventSinks."""
        arguments = ("template", self.release, str(self.chart), f"--api-versions={EVENTSINK_API}", *options)
        return self.run(*arguments, values=values or {}).stdout

    def render(self, values: Values | None = None, *options: str) -> list[dict[str, Any]]:
        """The objects of `helm template`."""
        return [one for one in yaml.load_all(self.text(values, *options), _LOADER) if one]

    def documents(self, values: Values | None = None) -> frozenset[str]:
        """The text of each object of `helm template`: to compare many renderings, parsing costs more than rendering."""
        return frozenset(one for one in re.split(r"^---$", self.text(values), flags=re.MULTILINE) if "kind:" in one)

    def refusal(self, values: Values, *options: str) -> str:
        """What `helm template` writes where it refuses the values.

        Raises
        ------
        HelmFailed
            It does not.
        """
        result = self.run("template", self.release, str(self.chart), *options, values=values, check=False)
        if not result.returncode:
            raise HelmFailed(f"helm template accepted {values}")
        return result.stderr

    def install(self, values: Values | None = None, *options: str) -> str:
        """`helm install`; returns what it says."""
        return self.run("install", self.release, str(self.chart), *options, values=values or {}).stdout

    def upgrade(self, values: Values | None = None, *options: str) -> str:
        """`helm upgrade`; returns what it says."""
        return self.run("upgrade", self.release, str(self.chart), *options, values=values or {}).stdout


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def key_of(obj: Mapping[str, Any]) -> tuple[str, str, str]:
    """Kind, namespace and name."""
    metadata = obj["metadata"]
    return obj["kind"], metadata.get("namespace", ""), metadata["name"]


def of_kind(objects: Sequence[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    """The objects of these kinds."""
    return [one for one in objects if one["kind"] in kinds]


def find(objects: Sequence[dict[str, Any]], kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
    """The one object of this kind and name.

    Raises
    ------
    ValueError
        There is none, or there are several.
    """
    [found] = [
        one
        for one in of_kind(objects, kind)
        if one["metadata"]["name"] == name and namespace in (None, one["metadata"].get("namespace"))
    ]
    return found


def pod_of(objects: Sequence[dict[str, Any]], part: str) -> dict[str, Any]:
    """The template of a part's pod, of a release named eventsink."""
    kind = "StatefulSet" if part == "router" else "Deployment"
    template: dict[str, Any] = find(objects, kind, f"eventsink-{part}")["spec"]["template"]
    return template


def settings_text(objects: Sequence[dict[str, Any]], part: str) -> str:
    """The settings of a part, of a release named eventsink."""
    text: str = find(objects, "ConfigMap", f"eventsink-{part}")["data"][f"{part}.yaml"]
    return text
