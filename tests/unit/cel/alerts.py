"""An alert for conditions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from eventsink.alerts.alert import Alert, Links, Severity, Status


def alert(severity: str = "high", annotations: dict[str, str] | None = None, **labels: str) -> Alert:
    given: dict[str, Any] = {
        "name": "KubePodCrashLooping",
        "summary": "A pod restarts",
        "description": "The TLS Certificate expires",
    }
    return Alert(
        id="i",
        fingerprint="f",
        source="am",
        tenant="acme",
        status=Status.FIRING,
        severity=Severity(severity),
        namespace="shop",
        labels=labels,
        annotations=annotations or {},
        starts_at=datetime(2026, 1, 1, 3, tzinfo=UTC),
        ends_at=None,
        links=Links(),
        **given,
    )
