"""A control plane that the tests of one module share, one after the other: for those that stop it, count requests, or need its operator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.controlplane import ControlPlane
from tests.support.cluster import Installed, install, install_crd
from tests.support.kubectl import Kubectl


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        yield running


@pytest.fixture(scope="module")
def admin(plane: ControlPlane) -> Kubectl:
    return Kubectl(plane.admin_kubeconfig)


@pytest.fixture(scope="module")
def installed(plane: ControlPlane, admin: Kubectl) -> Installed:
    install_crd(admin)
    return install(plane, admin)


@pytest.fixture
def acme(admin: Kubectl, installed: Installed) -> Iterator[str]:
    """A namespace of the tenant acme."""
    with admin.namespace(tenant="acme") as namespace:
        yield namespace
