"""Fixtures of the one control plane of a test session, and of what is installed in it (taken over by tests/conftest.py)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.controlplane import ControlPlane
from tests.support.kubectl import Kubectl

if TYPE_CHECKING:  # most tests need no REST API
    from tests.support.rest import Rest, RestClient

ROOT = Path(__file__).parents[2]
CRDS = ROOT / "crds" / "eventsink.dev_eventsinks.yaml"
MANIFESTS = ROOT / "manifests"
CRD = "eventsinks.eventsink.dev"
SYSTEM_NAMESPACE = "eventsink-system"
SINKS_NAMESPACE = "eventsink-system-sinks"

MakeNamespace = Callable[..., str]
"""`make_namespace(tenant=None)`: a new namespace that is deleted at the end of the test."""
MakeControlPlane = Callable[[], ControlPlane]


@dataclass(frozen=True)
class Installed:
    """What `kubectl apply -k manifests/default` made: kubeconfigs with exactly the permissions that are shipped, valid for an hour."""

    operator: Path
    router: Path
    rest: Path
    namespace: str = SYSTEM_NAMESPACE
    sinks_namespace: str = SINKS_NAMESPACE


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """The session's control plane. Tests that stop its API server use `fresh_control_plane`."""
    with ControlPlane() as running:
        yield running


@pytest.fixture
def fresh_control_plane() -> Iterator[MakeControlPlane]:
    """Starts control planes for one test alone; they end with it."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(ControlPlane())


@pytest.fixture(scope="session")
def kubectl(control_plane: ControlPlane) -> Kubectl:
    """kubectl as cluster administrator."""
    return Kubectl(control_plane.admin_kubeconfig)


@pytest.fixture(scope="session")
def crd_installed(kubectl: Kubectl) -> None:
    """The EventSink is known to the API server."""
    install_crd(kubectl)


@pytest.fixture(scope="session")
def install_manifests(control_plane: ControlPlane, kubectl: Kubectl, crd_installed: None) -> Installed:
    """What a person installs, and the ServiceAccounts that its parts run as."""
    return install(control_plane, kubectl)


@pytest.fixture
def make_namespace(kubectl: Kubectl, crd_installed: None) -> Iterator[MakeNamespace]:
    """Makes namespaces for one test."""
    with ExitStack() as stack:

        def make(tenant: str | None = None) -> str:
            made: AbstractContextManager[str] = kubectl.namespace(tenant=tenant)
            return stack.enter_context(made)

        yield make


@pytest.fixture
def tenant() -> str:
    """A tenant of this test alone."""
    return f"t-{secrets.token_hex(4)}"


@pytest.fixture
def namespace(make_namespace: MakeNamespace, request: pytest.FixtureRequest) -> str:
    """A namespace in a cluster that knows EventSinks: the `tenant`'s where the test has one, else one that no tenant owns."""
    return make_namespace(request.getfixturevalue("tenant") if "tenant" in request.fixturenames else None)


@pytest.fixture
def client(rest: Rest, tenant: str, namespace: str) -> RestClient:
    """A client with a key of the tenant, at the test module's `rest`, which knows the tenant's namespace."""
    made = rest.client(tenant)
    made.wait_for_namespace(tenant)
    return made


def install_crd(kubectl: Kubectl) -> None:
    """Apply `crds/` and wait until the API server serves it."""
    kubectl.apply(CRDS, server_side=True)
    kubectl.wait_established(CRD)


def install(control_plane: ControlPlane, kubectl: Kubectl) -> Installed:
    """Apply `manifests/namespaces` and `manifests/default` to any control plane."""
    for one in ("namespaces", "default"):
        kubectl.run("apply", "--server-side", "-k", str(MANIFESTS / one))
    return Installed(
        operator=control_plane.service_account_kubeconfig(SYSTEM_NAMESPACE, "eventsink-operator"),
        router=control_plane.service_account_kubeconfig(SYSTEM_NAMESPACE, "eventsink-router"),
        rest=control_plane.service_account_kubeconfig(SYSTEM_NAMESPACE, "eventsink-rest"),
    )
