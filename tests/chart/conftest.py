"""Helm and the default rendering, shared by the tests of the chart."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.helm import Helm


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Helm without a cluster: release eventsink in eventsink-system."""
    return Helm()


@pytest.fixture(scope="session")
def rendered(helm: Helm) -> list[dict[str, Any]]:
    """What the chart renders without any values."""
    return helm.render()
