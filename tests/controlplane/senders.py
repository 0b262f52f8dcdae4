"""Programs that evaluate rules and send alerts to the router, built once from their pinned Go modules."""

from __future__ import annotations

from pathlib import Path

from tests.controlplane.go import GoProgram

BUILD = Path(__file__).parent / "build"
VMALERT = GoProgram("vmalert", BUILD / "vmalert", "github.com/VictoriaMetrics/VictoriaMetrics/app/vmalert", "", usual_seconds=40)
THANOS = GoProgram("thanos", BUILD / "thanos", "github.com/thanos-io/thanos/cmd/thanos", "", usual_seconds=300)
