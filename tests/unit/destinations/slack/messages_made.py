"""Alerts, and the messages about them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from eventsink.alerts.alert import Alert, Group, Links, Severity, Status
from eventsink.destinations.slack.form import SlackForm
from eventsink.destinations.slack.message import SlackMessage, render

BEGAN = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
FINGERPRINTS = itertools.count()
LOOKUP = "eventsink deliveries --message 3f9c01aa2b4d-1f.40"
LINKS = Links(
    source="https://prometheus.example.com/graph?g0.expr=up",
    runbook="https://runbooks.example.com/KubePodCrashLooping",
    dashboard="https://grafana.example.com/d/pods",
    silence="https://alertmanager.example.com/#/silences/new?filter=%7B%7D",
)
HOSTILE = (
    "<!channel> @here @everyone <@U123> <!subteam^S1> *bold* _it_ ~no~ `code` > quote &amp; <https://evil.example.com|click> "
    "https://evil.example.com www.evil.example.com :fire: \u202egnp.exe\u202c \x00\x07\x1b[31m"
)


def alert(name: str = "KubePodCrashLooping", **members: Any) -> Alert:
    labels = {"alertname": name, "severity": "critical", **members.pop("labels", {"pod": "api-0", "cluster": "production"})}
    values: dict[str, Any] = {
        "id": "a",
        "fingerprint": f"f{next(FINGERPRINTS)}",
        "source": "alertmanager",
        "tenant": "acme",
        "status": Status.FIRING,
        "severity": Severity.CRITICAL,
        "name": name,
        "summary": "The pod is crash looping.",
        "description": "Pod payments/api-0 was restarted 7 times in ten minutes.",
        "namespace": "payments",
        "labels": labels,
        "annotations": {},
        "starts_at": BEGAN,
        "ends_at": None,
        "links": LINKS,
        "group": Group(key="{}:{}"),
    }
    return Alert(**(values | members))


def resolved(**members: Any) -> Alert:
    return alert(status=Status.RESOLVED, ends_at=BEGAN + timedelta(minutes=42), **members)


def pods(count: int, **members: Any) -> list[Alert]:
    return [alert(labels={"pod": f"api-{n}", "cluster": "production"}, **members) for n in range(count)]


def made(alerts: Sequence[Alert], **form: Any) -> SlackMessage:
    """The message of a sink whose form has these members."""
    return render(alerts, SlackForm.model_validate(form), sink="acme/security-alerts", tenant="acme", lookup=LOOKUP)


def lines_of(message: SlackMessage, block: int = 0) -> list[str]:
    """The lines of a block."""
    [section] = message.attachments[0]["blocks"][block]["elements"]
    return "".join(part.get("text") or part["url"] for part in section["elements"]).split("\n")


def text_of(message: SlackMessage) -> str:
    return json.dumps(message.body(), ensure_ascii=False)


def elements_of(value: Any, kind: str) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return [value] * (value.get("type") == kind) + [one for inner in value.values() for one in elements_of(inner, kind)]
    return [one for inner in value for one in elements_of(inner, kind)] if isinstance(value, list) else []
