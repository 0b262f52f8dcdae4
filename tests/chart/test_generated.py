"""What the chart takes from elsewhere is what `make chart` makes, and its versions are the project's."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.support.helm import CHART, ROOT

GENERATED = [
    "README.md",
    "files/alerts.yaml",
    "templates/crd.yaml",
    "templates/rest/policy.yaml",
    "templates/router/policy.yaml",
    "values.schema.json",
]


def generate(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.chart", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chart") / "eventsink"
    shutil.copytree(CHART, folder)
    assert generate(folder).returncode == 0
    return folder


@pytest.mark.parametrize("file", GENERATED)
def test_a_generated_file_is_up_to_date(generated: Path, file: str) -> None:
    assert (generated / file).read_text() == (CHART / file).read_text(), "run `make chart`"


def test_a_value_without_a_comment_is_not_accepted(tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "chart")
    values = tmp_path / "chart" / "values.yaml"
    values.write_text(values.read_text() + "\nundocumented: 1\n")
    result = generate(tmp_path / "chart")
    assert "values.yaml: undocumented has no comment" in result.stderr


def test_the_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (project, project)
