"""The Trivy operator's own controller posts the reports of a real API server to the router."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane import ControlPlane
from tests.controlplane.go import find_or_build_program
from tests.controlplane.senders import TRIVY_OPERATOR, trivy_operator_crds
from tests.support.cluster import ROOT, MakeControlPlane
from tests.support.kubectl import Kubectl
from tests.support.parts import Router
from tests.support.processes import RunningProcess
from tests.support.receiver import Receiver
from tests.support.router_process import start_router
from tests.support.waiting import wait_until

RECORDED = ROOT / "tests" / "data" / "trivy_operator"


@pytest.fixture
def plane(fresh_control_plane: MakeControlPlane) -> ControlPlane:
    return fresh_control_plane()


@pytest.fixture
def admin(plane: ControlPlane) -> Kubectl:
    kubectl = Kubectl(plane.admin_kubeconfig)
    applied = kubectl.run("apply", "--server-side", "-f", str(trivy_operator_crds()), "-o", "name").stdout.split()
    kubectl.wait_established(*(one.partition("/")[2] for one in applied))
    for namespace in ("acme", "globex"):
        kubectl.run("create", "namespace", namespace)
    return kubectl


@pytest.fixture
def router(receiver: Receiver, tmp_path: Path) -> Iterator[Router]:
    source = {
        "name": "trivy",
        "format": "trivy-operator",
        "tokenFiles": [str(tmp_path / "token")],
        "tenant": {"namespaceOwner": {"label": "namespace"}},
        "defaultTenant": "platform",
    }
    sinks = [receiver.url(f"/{tenant}#tenant={tenant}") for tenant in ("acme", "globex", "platform")]
    with start_router(tmp_path, *sinks, sources=[source]) as running:
        yield running


def trivy_operator(router: Router, plane: ControlPlane) -> RunningProcess:
    """Start it, as its chart's values on the page say."""
    environment = {
        "KUBECONFIG": str(plane.admin_kubeconfig),
        "OPERATOR_NAMESPACE": "trivy-system",
        "OPERATOR_WEBHOOK_BROADCAST_URL": router.url.removesuffix("alertmanager") + "trivy",
        "OPERATOR_WEBHOOK_BROADCAST_CUSTOM_HEADERS": f"Authorization:Bearer {router.token}",
    }
    return RunningProcess(
        [find_or_build_program(TRIVY_OPERATOR)], log=router.folder / "trivy.log", name="trivy-operator", environment=environment
    )


def recorded(name: str, **metadata: Any) -> dict[str, Any]:
    """A report as a scanner made it, whatever the API server added."""
    made: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    own = {
        member: value for member, value in made["metadata"].items() if member in ("name", "namespace", "labels", "annotations")
    }
    return {**made, "metadata": own | metadata}


def seen(receiver: Receiver, path: str) -> list[str]:
    """Name, severity and status of each alert that a sink was sent."""
    alerts = [json.loads(request.body)["data"] for request in receiver.requests(path)]
    return sorted(f"{one['name']} {one['labels']['severity']} {one['status']}" for one in alerts)


def test_reports_fire_in_the_namespace_of_their_owner_and_end_with_the_findings(
    plane: ControlPlane, admin: Kubectl, router: Router, receiver: Receiver
) -> None:
    def arrive(tenant: str, *expected: str) -> None:
        wait_until(
            "the alerts", lambda: seen(receiver, f"/{tenant}") == sorted(expected), show=lambda: seen(receiver, f"/{tenant}")
        )

    report = recorded("vulnerability")
    firing = [f"VulnerabilityReport {severity} firing" for severity in ("critical", "high", "low")]
    admin.apply(report)
    with trivy_operator(router, plane):
        arrive("acme", *firing)
        admin.apply(recorded("cluster_rbac_assessment"))
        arrive("platform", "ClusterRbacAssessmentReport critical firing")
        left = [one for one in report["report"]["vulnerabilities"] if one["severity"] == "LOW"]
        summary = {**report["report"]["summary"], "criticalCount": 0, "highCount": 0}
        admin.apply({**report, "report": {**report["report"], "vulnerabilities": left, "summary": summary}})
        ended = [f"VulnerabilityReport {severity} resolved" for severity in ("critical", "high")]
        arrive("acme", *firing, *ended)
    with trivy_operator(router, plane):  # which posts all reports when it starts
        admin.apply(recorded("exposed_secret", namespace="globex"))
        arrive("globex", "ExposedSecretReport critical firing")
        arrive("acme", *firing, *ended)
