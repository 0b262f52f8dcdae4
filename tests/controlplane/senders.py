"""Programs that send alerts to the router, built once from their pinned Go modules."""

from __future__ import annotations

from pathlib import Path

from tests.controlplane.go import GoProgram, folder_of_module

BUILD = Path(__file__).parent / "build"
VMALERT = GoProgram("vmalert", BUILD / "vmalert", "github.com/VictoriaMetrics/VictoriaMetrics/app/vmalert", "", usual_seconds=40)
THANOS = GoProgram("thanos", BUILD / "thanos", "github.com/thanos-io/thanos/cmd/thanos", "", usual_seconds=300)
TRIVY_OPERATOR = GoProgram("trivy-operator", BUILD / "trivy-operator", ".", "", usual_seconds=150)


def trivy_operator_crds() -> Path:
    """The folder of the CRDs of the reports, in the module that is built."""
    return folder_of_module(TRIVY_OPERATOR, "github.com/aquasecurity/trivy-operator") / "deploy" / "helm" / "crds"
