"""Alertmanager's webhook, version 4: a group of alerts in one notification.

Source of the format: Alertmanager's documentation, webhook_config. Members that this version does not know are ignored, those of another
type are read as what they mean (`alerts.peer_json`), and what exceeds a limit (`alerts.limits`) is truncated and marked.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from eventsink.alerts.alert import (
    Group,
    IncomingAlert,
    IncomingNotification,
    Links,
    Rejection,
    Status,
    UnusablePayload,
)
from eventsink.alerts.alertmanager_group import VERSION
from eventsink.alerts.formats.format import Format, Repeats
from eventsink.alerts.limits import (
    MAX_GROUP_LABELS_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_SHARED_URL_CHARACTERS,
    MAX_URL_CHARACTERS,
    MAX_VALUE_CHARACTERS,
    bounded,
    cut,
    is_small,
    shortened_key,
)
from eventsink.alerts.links import DASHBOARDS, RUNBOOKS, first_of, silence_url, web_url
from eventsink.alerts.peer_json import members_of, number_of, text_of, texts_of
from eventsink.alerts.rule_alerts import (
    DESCRIPTIONS,
    LINKED,
    NO_START,
    SUMMARIES,
    check_size,
    check_usable,
    not_json,
    rejection_reason,
    time_if_any,
    utc,
)
from eventsink.alerts.severity import RULE_SEVERITIES, severity_of
from eventsink.runtime.turns import Steps, at_once

MAX_TRUNCATED_ALERTS = 2**31 - 1
MAX_SHOWN_VERSION_CHARACTERS = 16
"""Of a version that is not read here: an error names it."""
_SEND_LESS = "let the source send smaller groups (group_by), or fewer alerts in each (max_alerts)"
_STATUSES = {"firing": Status.FIRING, "resolved": Status.RESOLVED}


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


_notification = msgspec.json.Decoder(_Notification)
_alert = msgspec.json.Decoder(_Alert)
_alerts = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder()


def parse(body: bytes) -> IncomingNotification:
    """Read a notification.

    Raises
    ------
    OversizedPayload
        More would be made of it than `alerts.limits` allows.
    UnusablePayload
        Not JSON, another version, no alerts in it, or none that can be used.
    """
    return at_once(steps(body))


def steps(body: bytes) -> Steps[IncomingNotification]:
    """As `parse`."""
    check_size(body, "it holds too many members", _SEND_LESS)
    notification = _read(body)
    if notification.version != VERSION:
        check_version(notification.version)
    group, marks = _group(notification)
    count = len(notification.alerts)
    if not is_small(body, count):
        check_size(body, f"each of its {count} alerts repeats what they share", _SEND_LESS, count, _repeated(group))
    alerts: list[IncomingAlert] = []
    rejected: list[Rejection] = []
    absent: set[int] = set()
    for index, raw in enumerate(notification.alerts):
        try:
            alerts.append(_incoming(raw, group, marks))
        except (ValueError, OverflowError, RecursionError) as error:
            if bytes(raw) == b"null":
                absent.add(index)
            else:
                rejected.append(Rejection(index, rejection_reason(error)))
        yield
    check_usable(alerts, rejected, 'the notification holds no alert: "alerts" is empty')
    return IncomingNotification(
        alerts=alerts,
        rejected=rejected,
        group=group,
        body=body,
        absent=frozenset(absent),
    )


def _read(body: bytes) -> _Notification:
    try:
        try:
            return _notification.decode(body)
        except msgspec.ValidationError:
            return _read_leniently(body)
    except msgspec.ValidationError:
        raise UnusablePayload(_what_else(body)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise not_json(body) from None


def _what_else(body: bytes) -> str:
    """What is said of a body that is no object."""
    sentence = "the body must be a JSON object as Alertmanager's webhook sends it"
    posted = body.lstrip()[:1] == b"[" and b'"labels"' in body
    return f"{sentence}; this is what Prometheus posts: give the source the format prometheus" if posted else sentence


def check_version(version: str) -> None:
    """Raise UnusablePayload unless a version, as text, means Alertmanager's."""
    if version == f"{VERSION}.0":  # as some write the number
        return
    wanted = f'this source takes version "{VERSION}" of Alertmanager\'s webhook'
    if not version:
        raise UnusablePayload(f'{wanted}: the member "version" is absent')
    if version == "1":
        raise UnusablePayload(f'{wanted}: "{version}" is Grafana\'s; give the source the format grafana')
    raise UnusablePayload(f'{wanted}: the member "version" says "{shown_version(version)}"')


def shown_version(version: str) -> str:
    """A version that is not read here, for an error."""
    return "".join(one for one in cut(version, MAX_SHOWN_VERSION_CHARACTERS) if one.isprintable())


def _read_leniently(body: bytes) -> _Notification:
    members = members_of(body)
    alerts = members.get("alerts")
    try:
        listed = [] if alerts is None else _alerts.decode(alerts)
    except msgspec.ValidationError:
        raise UnusablePayload('the notification cannot be read: "alerts" must be a list') from None
    return _Notification(
        alerts=listed,
        version=text_of(members.get("version")),
        group_key=text_of(members.get("groupKey")),
        receiver=text_of(members.get("receiver")),
        group_labels=texts_of(members.get("groupLabels")),
        common_labels=texts_of(members.get("commonLabels")),
        external_url=text_of(members.get("externalURL")),
        truncated_alerts=number_of(members.get("truncatedAlerts")),
    )


def _group(notification: _Notification) -> tuple[Group, tuple[str, ...]]:
    """The group within the limits, and marks of what in it exceeds them: each alert carries it."""
    most = MAX_GROUP_LABELS_CHARACTERS
    labels, cut_labels = bounded(notification.group_labels, "group.labels", longest=MAX_VALUE_CHARACTERS, total=most)
    common, cut_common = bounded(notification.common_labels, "group.commonLabels", longest=MAX_VALUE_CHARACTERS, total=most)
    marks = cut_labels + cut_common
    if len(notification.external_url) > MAX_SHARED_URL_CHARACTERS:
        marks += ("group.externalUrl",)
    key, receiver = shortened_key(notification.group_key), cut(notification.receiver, MAX_NAME_CHARACTERS)
    if key is not notification.group_key:
        marks += ("group.key",)
    if receiver is not notification.receiver:
        marks += ("group.receiver",)
    group = Group(
        key=key,
        receiver=receiver,
        labels=labels,
        common_labels=common,
        external_url=web_url(notification.external_url, MAX_SHARED_URL_CHARACTERS),
        truncated=min(max(0, notification.truncated_alerts), MAX_TRUNCATED_ALERTS),
    )
    return group, marks


def _repeated(group: Group) -> int:
    """Bytes of a group in each of its alerts; its URL is also in a link."""
    return len(_encoder.encode(group)) + len(group.external_url)


def _incoming(raw: msgspec.Raw, group: Group, marks: tuple[str, ...]) -> IncomingAlert:
    try:
        alert = _alert.decode(raw)
    except msgspec.ValidationError:
        alert = _incoming_leniently(raw)
    status = _STATUSES.get(alert.status)
    if status is None:
        raise ValueError('status must be "firing" or "resolved"')
    if not alert.labels:
        raise ValueError("an alert needs labels")
    starts_at = utc(alert.starts_at)
    if starts_at is None:
        raise ValueError(NO_START)
    labels, annotations = alert.labels, alert.annotations
    name = labels.get("alertname", "")
    linked = not LINKED.isdisjoint(annotations)
    return IncomingAlert(
        status=status,
        severity=severity_of(labels.get("severity", ""), RULE_SEVERITIES),
        name=name,
        summary=first_of(annotations, SUMMARIES) or name,
        description=first_of(annotations, DESCRIPTIONS),
        namespace=labels.get("namespace", ""),
        labels=labels,
        annotations=annotations,
        starts_at=starts_at,
        ends_at=utc(alert.ends_at) if status is Status.RESOLVED and alert.ends_at is not None else None,
        links=Links(
            source=web_url(alert.generator_url),
            runbook=web_url(first_of(annotations, RUNBOOKS)) if linked else "",
            dashboard=web_url(first_of(annotations, DASHBOARDS)) if linked else "",
            silence=silence_url(group.external_url, labels),
        ),
        group=group,
        truncated=marks if len(alert.generator_url) <= MAX_URL_CHARACTERS else ("links.source", *marks),
        raw=raw,
    )


def _incoming_leniently(raw: msgspec.Raw) -> _Alert:
    members = members_of(raw)
    starts_at = time_if_any(members.get("startsAt"))
    if starts_at is None:
        raise ValueError(NO_START)
    return _Alert(
        status=text_of(members.get("status")),
        labels=texts_of(members.get("labels")),
        starts_at=starts_at,
        annotations=texts_of(members.get("annotations")),
        ends_at=time_if_any(members.get("endsAt")),
        generator_url=text_of(members.get("generatorURL")),
    )


FORMAT = Format(
    name="alertmanager", parse=parse, steps=steps, repeats=Repeats.BY_SOURCE, severities=RULE_SEVERITIES, grouped=True
)
