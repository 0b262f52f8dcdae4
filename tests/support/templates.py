"""Alerts for templates, and what a template writes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from eventsink.alerts.alert import Alert, Links, Severity, Status
from eventsink.templates.context import context_of
from eventsink.templates.template import read_template
from eventsink.templates.values import Value

BEGAN = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


def alert(name: str = "KubePodCrashLooping", pod: str = "api-0", **members: Any) -> Alert:
    values: dict[str, Any] = {
        "id": f"{name}{pod}",
        "fingerprint": f"{name}{pod}",
        "source": "alertmanager",
        "tenant": "acme",
        "status": Status.FIRING,
        "severity": Severity.HIGH,
        "name": name,
        "summary": f"{pod} restarts again and again.",
        "description": f"Pod shop/{pod} was restarted 7 times.",
        "namespace": "shop",
        "labels": {"alertname": name, "namespace": "shop", "pod": pod, "team": "checkout", **members.pop("labels", {})},
        "annotations": {"value": "0.953", **members.pop("annotations", {})},
        "starts_at": BEGAN,
        "ends_at": None,
        "links": Links(runbook="https://runbooks.example.com/crash"),
        **members,
    }
    return Alert(**values)


def resolved(one: Alert, after: timedelta = timedelta(minutes=42)) -> Alert:
    values = {name: getattr(one, name) for name in one.__struct_fields__}
    return Alert(**{**values, "status": Status.RESOLVED, "ends_at": one.starts_at + after})


def variables(*alerts: Alert) -> dict[str, Value]:
    return context_of(alerts, sink="shop/pager", tenant="acme", where=lambda one: f"{one.namespace}/{one.labels['pod']}")


def rendered(source: str, alerts: Sequence[Alert] = (), *, limit: int = 3000, show: Callable[[str], str] = str) -> str:
    """What a template writes of some alerts, by default of one."""
    return read_template(source).render(variables(*(alerts or [alert()])), limit=limit, show=show).text
