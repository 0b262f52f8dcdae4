"""What all tests share: the rule on skips, the logs of processes, and the control plane."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.controlplane.alertmanager import CurrentAlertmanager, find_or_build_alertmanager
from tests.support import no_skips
from tests.support.cluster import (
    client,
    control_plane,
    crd_installed,
    fresh_control_plane,
    install_manifests,
    kubectl,
    make_namespace,
    namespace,
    tenant,
)
from tests.support.debian import MonitoringPrograms, find_or_fetch
from tests.support.processes import open_processes
from tests.support.receiver import Receiver

__all__ = [
    "client",
    "control_plane",
    "crd_installed",
    "fresh_control_plane",
    "install_manifests",
    "kubectl",
    "make_namespace",
    "namespace",
    "tenant",
]


def pytest_configure(config: pytest.Config) -> None:
    """Take over the rule on skips."""
    config.pluginmanager.register(no_skips, "no-skips")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the log's tail of every process that runs when a test fails."""
    report = yield
    if report.failed:
        for process in open_processes:
            report.sections.append((f"process {process.name}", process.tail()))
    return report


@pytest.fixture(scope="session")
def monitoring() -> MonitoringPrograms:
    """Prometheus and Alertmanager, fetched once if need be."""
    return find_or_fetch()


@pytest.fixture(scope="session")
def current_alertmanager() -> CurrentAlertmanager:
    """A current Alertmanager, built once if need be."""
    return find_or_build_alertmanager()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks for one test."""
    with Receiver() as running:
        yield running
