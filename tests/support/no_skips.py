"""The rule that under CI a test that does not run is a failure (hooks of pytest, taken over by tests/conftest.py)."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

REASON = "CI=true: a skipped or expectedly failing test counts as failed; make it run or remove it"


def applies() -> bool:
    """Whether this run is CI's."""
    return os.environ.get("CI", "").lower() in ("1", "true")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip or an xfail into a failure."""
    report = yield
    if applies() and report.skipped:
        report.longrepr = f"{item.nodeid}: {REASON}\n{report.longrepr}"
        report.outcome = "failed"
        if hasattr(report, "wasxfail"):
            del report.wasxfail
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a module that skips itself into a failure."""
    report = yield
    if applies() and report.skipped:
        report.longrepr = f"{collector.nodeid}: {REASON}\n{report.longrepr}"
        report.outcome = "failed"
    return report
