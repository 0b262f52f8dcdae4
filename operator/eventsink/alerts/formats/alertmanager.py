"""Alertmanager's webhook, version 4: a group of alerts in one notification.

Source of the format: Alertmanager's documentation, webhook_config. Members that this version does not know are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from eventsink.alerts.alert import Group, IncomingAlert, IncomingNotification, Links, Rejection, Status, UnusablePayload
from eventsink.alerts.alertmanager_group import VERSION
from eventsink.alerts.formats.format import Format, Repeats
from eventsink.alerts.severity import RULE_SEVERITIES, severity_of

MAX_ALERTS = 10_000
"""In one notification."""
MAX_LABELS = 128
"""Labels, and equally annotations, of one alert."""
MAX_NAME_CHARACTERS = 256
MAX_VALUE_CHARACTERS = 16_384
"""Of one label's value."""
MAX_ANNOTATION_CHARACTERS = 65_536
_STATUSES = {"firing": Status.FIRING, "resolved": Status.RESOLVED}
_NEVER = 1
"""The year of the times that mean 'not yet': Go's zero time."""
_SUMMARIES = ("summary", "title", "message", "description")
_DESCRIPTIONS = ("description", "message")
_RUNBOOKS = ("runbook_url", "runbook")
_DASHBOARDS = ("dashboard_url", "dashboardURL", "dashboard", "__dashboard_url__")


class _Notification(msgspec.Struct, rename="camel"):
    alerts: list[msgspec.Raw]
    version: str = ""
    group_key: str = ""
    receiver: str = ""
    group_labels: dict[str, str] = {}
    common_labels: dict[str, str] = {}
    external_url: str = msgspec.field(default="", name="externalURL")
    truncated_alerts: int = 0


class _Alert(msgspec.Struct, rename="camel"):
    status: str
    labels: dict[str, str]
    starts_at: datetime
    annotations: dict[str, str] = {}
    ends_at: datetime | None = None
    generator_url: str = msgspec.field(default="", name="generatorURL")


class _Version(msgspec.Struct):
    version: object = ""


_notification = msgspec.json.Decoder(_Notification)
_alert = msgspec.json.Decoder(_Alert)
_envelope = msgspec.json.Decoder(dict[str, msgspec.Raw])


def parse(body: bytes) -> IncomingNotification:
    """Read a notification.

    Raises
    ------
    UnusablePayload
        Not JSON, another version, no alerts in it, or none that can be used.
    """
    try:
        notification = _notification.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unusable(body, error) from None
    if notification.version != VERSION:
        raise UnusablePayload(f'this source takes Alertmanager\'s webhook version "{VERSION}": the member "version" says another')
    if not notification.alerts:
        raise UnusablePayload('the notification holds no alert: "alerts" is empty')
    if len(notification.alerts) > MAX_ALERTS:
        raise UnusablePayload(f"a notification may hold {MAX_ALERTS} alerts: set max_alerts in Alertmanager's webhook_config")
    group = Group(
        key=notification.group_key,
        receiver=notification.receiver,
        labels=notification.group_labels,
        common_labels=notification.common_labels,
        external_url=_web(notification.external_url),
        truncated=max(0, notification.truncated_alerts),
    )
    alerts: list[IncomingAlert] = []
    rejected: list[Rejection] = []
    for index, raw in enumerate(notification.alerts):
        try:
            alerts.append(_incoming(bytes(raw), group))
        except (ValueError, OverflowError) as error:
            rejected.append(Rejection(index, _reason(error)))
    if not alerts:
        raise UnusablePayload(f"none of the {len(rejected)} alerts can be used; alerts[0]: {rejected[0].reason}")
    envelope = _envelope.decode(body)
    envelope.pop("alerts", None)
    return IncomingNotification(alerts=alerts, rejected=rejected, group=group, envelope=envelope, body=body)


def _incoming(raw: bytes, group: Group) -> IncomingAlert:
    alert = _alert.decode(raw)
    status = _STATUSES.get(alert.status)
    if status is None:
        raise ValueError('status must be "firing" or "resolved"')
    if not alert.labels:
        raise ValueError("an alert needs labels")
    _check_sizes("labels", alert.labels, MAX_VALUE_CHARACTERS)
    _check_sizes("annotations", alert.annotations, MAX_ANNOTATION_CHARACTERS)
    starts_at = _utc(alert.starts_at)
    if starts_at is None:
        raise ValueError("startsAt must be a time with a zone, such as 2026-01-01T12:00:00Z")
    labels, annotations = alert.labels, alert.annotations
    name = labels.get("alertname", "")
    return IncomingAlert(
        status=status,
        severity=severity_of(labels.get("severity", ""), RULE_SEVERITIES),
        name=name,
        summary=_first(annotations, _SUMMARIES) or name,
        description=_first(annotations, _DESCRIPTIONS),
        namespace=labels.get("namespace", ""),
        labels=labels,
        annotations=annotations,
        starts_at=starts_at,
        ends_at=_utc(alert.ends_at) if status is Status.RESOLVED and alert.ends_at is not None else None,
        links=Links(
            source=_web(alert.generator_url),
            runbook=_web(_first(annotations, _RUNBOOKS)),
            dashboard=_web(_first(annotations, _DASHBOARDS)),
            silence=_silence(group.external_url, labels),
        ),
        group=group,
        raw=raw,
    )


def _check_sizes(what: str, pairs: Mapping[str, str], longest: int) -> None:
    if len(pairs) > MAX_LABELS:
        raise ValueError(f"{what}: an alert may have {MAX_LABELS}")
    for name, value in pairs.items():
        if not name or len(name) > MAX_NAME_CHARACTERS:
            raise ValueError(f"{what}: a name has 1 to {MAX_NAME_CHARACTERS} characters")
        if len(value) > longest:
            raise ValueError(f"{what}: a value has at most {longest} characters")


def _utc(time: datetime) -> datetime | None:
    if time.tzinfo is None or time.year <= _NEVER:
        return None
    return time.astimezone(UTC)


def _first(texts: Mapping[str, str], names: tuple[str, ...]) -> str:
    for name in names:
        if text := texts.get(name):
            return text
    return ""


def _web(url: str) -> str:
    """The URL where it is one that a browser opens; nothing else becomes a link in a message."""
    return url if url.startswith(("http://", "https://")) and url.isprintable() and " " not in url else ""


def _silence(external_url: str, labels: Mapping[str, str]) -> str:
    """Alertmanager's page for a new silence with exactly these labels filled in."""
    if not external_url:
        return ""
    parts = (f'{name}="{value}"' for name, value in sorted(labels.items()))
    return f"{external_url.rstrip('/')}/#/silences/new?filter={quote('{' + ','.join(parts) + '}', safe='')}"


def _reason(error: Exception) -> str:
    """What is wrong with one alert, without its values."""
    if isinstance(error, msgspec.ValidationError):
        return str(error).replace(" - at `$.", ", at ").rstrip("`")
    if isinstance(error, msgspec.DecodeError):
        return "is not valid JSON"
    return str(error) if type(error) is ValueError else "holds a value that is out of range"


def _unusable(body: bytes, error: Exception) -> UnusablePayload:
    if isinstance(error, msgspec.ValidationError):
        try:
            version = msgspec.json.decode(body, type=_Version).version
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return UnusablePayload("the body must be a JSON object as Alertmanager's webhook sends it")
        if version != VERSION:
            return UnusablePayload(
                f'this source takes Alertmanager\'s webhook version "{VERSION}": the member "version" says another'
            )
        return UnusablePayload(f"the notification cannot be read: {_reason(error)}")
    return UnusablePayload("the body is not JSON")


FORMAT = Format(name="alertmanager", parse=parse, repeats=Repeats.BY_SOURCE, severities=RULE_SEVERITIES, grouped=True)
