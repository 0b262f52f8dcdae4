"""Under CI a test that does not run is a failure; elsewhere it is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SKIPPED = "import pytest\n@pytest.mark.skip(reason='later')\ndef test_one(): pass\n"
XFAILED = "import pytest\n@pytest.mark.xfail\ndef test_one(): assert False\n"
MODULE = "import pytest\npytest.skip('not here', allow_module_level=True)\n"


@pytest.mark.parametrize(
    ("ci", "options"),
    [("", []), ("true", []), ("true", ["-p", "xdist.plugin", "--numprocesses=2"])],
    ids=["elsewhere", "ci", "ci, side by side"],
)
@pytest.mark.parametrize("code", [SKIPPED, XFAILED, MODULE], ids=["skipped", "expected to fail", "whole module"])
def test_a_skipped_test_fails_only_under_ci(tmp_path: Path, code: str, ci: str, options: list[str]) -> None:
    (tmp_path / "test_one.py").write_text("def test_other(): pass\n" + code if code is not MODULE else code)
    (tmp_path / "test_two.py").write_text("def test_two(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.no_skips", "-p", "no:cacheprovider", *options, str(tmp_path)],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert bool(result.returncode) is bool(ci), result.stdout
    assert ("counts as failed" in result.stdout) is bool(ci)
