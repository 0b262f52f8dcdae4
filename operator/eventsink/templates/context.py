"""What a template is given of the alerts of a message. Documented in docs/templates.md: what is in it stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from eventsink.alerts.alert import Alert, Group, Status
from eventsink.resources.names import ALL_TENANTS
from eventsink.runtime.durations import format_duration
from eventsink.templates.values import Value

VARIABLES = (
    "alert",
    "alerts",
    "cluster",
    "commonAnnotations",
    "commonLabels",
    "count",
    "firing",
    "name",
    "resolved",
    "severity",
    "sink",
    "status",
    "tenant",
)
MAX_ALERTS = 100
"""In the lists, the worst first; `count` is of all."""


def context_of(alerts: Sequence[Alert], *, sink: str, tenant: str, where: Callable[[Alert], str]) -> dict[str, Value]:
    """The variables for some alerts. Pure.

    Parameters
    ----------
    alerts
        One or more, each once.
    sink, tenant
        `namespace/name` of the sink, and whose alerts it receives.
    where
        What an alert is about, in a few words.
    """
    ordered = sorted(alerts, key=lambda alert: (alert.status is Status.RESOLVED, -alert.severity.rank))
    first = ordered[0]
    shown: list[Value] = [_alert(alert, where(alert)) for alert in ordered[:MAX_ALERTS]]
    over = sum(alert.status is Status.RESOLVED for alert in ordered)
    still = max(0, min(len(ordered) - over, MAX_ALERTS))
    return {
        "alert": shown[0],
        "alerts": shown,
        "firing": shown[:still],
        "resolved": shown[still:],
        "count": len(ordered),
        "status": first.status.value,
        "severity": first.severity.value,
        "name": first.name if all(alert.name == first.name for alert in ordered) else "",
        "commonLabels": _common([alert.labels for alert in ordered]),
        "commonAnnotations": _common([alert.annotations for alert in ordered]),
        "sink": sink,
        "cluster": first.cluster if all(one.cluster == first.cluster for one in ordered) else "",
        "tenant": tenant if tenant != ALL_TENANTS else first.tenant if all(one.tenant == first.tenant for one in ordered) else "",
    }


def _alert(alert: Alert, where: str) -> Value:
    links, group = alert.links, alert.group
    ended = alert.ends_at if alert.status is Status.RESOLVED else None
    lasted = (ended - alert.starts_at).total_seconds() if ended is not None else -1.0
    return {
        "id": alert.id,
        "fingerprint": alert.fingerprint,
        "status": alert.status.value,
        "severity": alert.severity.value,
        "name": alert.name,
        "where": where,
        "namespace": alert.namespace,
        "source": alert.source,
        "tenant": alert.tenant,
        "cluster": alert.cluster,
        "summary": alert.summary,
        "description": alert.description,
        "labels": {**alert.labels},
        "annotations": {**alert.annotations},
        "startsAt": _time(alert.starts_at),
        "endsAt": _time(ended) if ended is not None else None,
        "duration": format_duration(round(lasted)) if lasted >= 0 else None,
        "links": {"source": links.source, "runbook": links.runbook, "dashboard": links.dashboard, "silence": links.silence},
        "group": _group(group) if group is not None else None,
    }


def _group(group: Group) -> Value:
    return {
        "key": group.key,
        "receiver": group.receiver,
        "labels": {**group.labels},
        "commonLabels": {**group.common_labels},
        "externalURL": group.external_url,
        "truncated": group.truncated,
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _common(each: Sequence[dict[str, str]]) -> dict[str, Value]:
    first, *others = each
    return {name: value for name, value in first.items() if all(one.get(name) == value for one in others)}
