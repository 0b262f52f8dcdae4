"""The checks of docs/gitops.md, run as they are written there, in a repository with good and bad EventSinks."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.controlplane.binaries import kubectl
from tests.support.cluster import ROOT
from tests.support.sinks import event_sink
from tests.unit.docs.pages import page

BLOCKS = dict(re.findall(r"<!-- test: ([\w-]+) -->\n```\w+\n(.*?)```", page("gitops.md"), re.DOTALL))
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
COMMAND_TIMEOUT_SECONDS = 60
BAD = {"matchers": ['team=~"("']}


def pre_commit() -> str:
    """The command that pre-commit runs, with the files that it chooses by the configuration of the page."""
    [repo] = yaml.safe_load(BLOCKS["pre-commit"])["repos"]
    [used] = repo["hooks"]
    [hook] = [one for one in HOOKS if one["id"] == used["id"]]
    assert set(hook["types_or"]) == {"yaml", "json"}  # by the names of files
    names = f"git ls-files '*.yaml' '*.yml' '*.json' | grep -vE {shlex.quote(used['exclude'])}"
    return f"{hook['entry']} $({names})"


def github() -> str:
    """The step that checks."""
    [job] = yaml.safe_load(BLOCKS["github"])["jobs"].values()
    [step] = [one for one in job["steps"] if one.get("name") == "validate"]
    return str(step["run"])


def gitlab() -> str:
    """The step in a container, whose image has the same command."""
    [job] = yaml.safe_load(BLOCKS["gitlab"]).values()
    [line] = job["script"]
    return str(line)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two clusters' EventSinks, a chart, and YAML that is none of Kubernetes."""
    files: dict[str, Any] = {
        "overlays/staging/sink.yaml": event_sink("acme"),
        "overlays/production/sink.yaml": event_sink("acme"),
        "overlays/production/namespace.yaml": {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": "acme", "labels": {"eventsink.dev/tenant": "acme"}},
        },
        "overlays/production/kustomization.yaml": {"resources": ["sink.yaml", "namespace.yaml"]},
        "charts/sink.yaml": "apiVersion: eventsink.dev/v1alpha1\n{{- if }}\n",
        ".github/workflows/ci.yml": "on: push\n",
    }
    for name, content in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True, timeout=COMMAND_TIMEOUT_SECONDS)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True, timeout=COMMAND_TIMEOUT_SECONDS)
    return tmp_path


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{Path(kubectl()).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_SECONDS,
    )


@pytest.mark.parametrize("command", [pre_commit, github, gitlab], ids=lambda one: one.__name__)
def test_a_check_of_the_page_passes_good_sinks_and_names_the_field_of_a_bad_one(repository: Path, command: Any) -> None:
    good = run(command(), repository)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "2 EventSinks in order" in good.stderr
    (repository / "overlays/staging/sink.yaml").write_text(yaml.safe_dump(event_sink("acme", match=BAD)))
    bad = run(command(), repository)
    assert bad.returncode != 0
    assert re.search(r"overlays/staging/sink\.yaml:\d+: spec\.match\.matchers\[0\]: ", bad.stdout)


def test_what_kustomize_makes_is_checked_together(repository: Path) -> None:
    assert run(BLOCKS["rendered"], repository).returncode == 0
    (repository / "overlays/production/sink.yaml").write_text(yaml.safe_dump(event_sink("acme", tenant="globex")))
    ended = run(BLOCKS["rendered"], repository)
    assert ended.returncode == 1
    assert ": spec.tenant: " in ended.stdout


def test_each_block_of_the_page_is_run() -> None:
    # The one for a cluster: tests/cluster/test_gitops.py. The names of Secrets: tests/unit/manifests/test_secret_names.py.
    assert BLOCKS.keys() == {"cluster", "pre-commit", "github", "gitlab", "rendered", "secret-names"}
    assert page("gitops.md").count("```") == 2 * len(BLOCKS)
