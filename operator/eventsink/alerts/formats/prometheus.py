"""What Prometheus, and whatever else evaluates rules, posts to Alertmanager's API: everything that fires, again and again.

Source of the format: Alertmanager's API v2 (`postableAlerts`); v1 takes the same. There is no status: an alert whose `endsAt` has passed has
ended, any other fires until then. Members are read leniently (`alerts.peer_json`), and what exceeds a limit (`alerts.limits`) is truncated.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from eventsink.alerts.alert import IncomingAlert, IncomingNotification, Links, Status, UnusablePayload
from eventsink.alerts.formats.format import Format, Repeats
from eventsink.alerts.limits import MAX_URL_CHARACTERS
from eventsink.alerts.links import DASHBOARDS, RUNBOOKS, first_of, web_url
from eventsink.alerts.peer_json import members_of, text_of, texts_of, time_of
from eventsink.alerts.rule_alerts import (
    DESCRIPTIONS,
    LINKED,
    NO_START,
    SUMMARIES,
    check_size,
    check_usable,
    is_unset,
    not_json,
    read_each,
    utc,
)
from eventsink.alerts.severity import RULE_SEVERITIES, severity_of
from eventsink.runtime.turns import Steps, at_once

_NO_END = "endsAt must be a time with a zone, such as 2026-01-01T12:00:00Z, or absent"


class _Alert(msgspec.Struct, rename="camel"):
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    generator_url: str = msgspec.field(default="", name="generatorURL")


_alerts = msgspec.json.Decoder(list[msgspec.Raw])
_alert = msgspec.json.Decoder(_Alert)


def parse(body: bytes, now: datetime | None = None) -> IncomingNotification:
    """Read a list of alerts.

    Parameters
    ----------
    now
        Wall clock, by which an `endsAt` has passed or not; absent: read here.

    Raises
    ------
    OversizedPayload
        More would be made of it than `alerts.limits` allows.
    UnusablePayload
        Not a JSON list, no alerts in it, or none that can be used.
    """
    return at_once(steps(body, now))


def steps(body: bytes, now: datetime | None = None) -> Steps[IncomingNotification]:
    """As `parse`."""
    now = datetime.now(UTC) if now is None else now
    check_size(body, "it holds too many members", "let the source send fewer alerts at once")
    alerts, rejected, absent = yield from read_each(_read(body), lambda raw: _incoming(raw, now))
    check_usable(alerts, rejected, "there is no alert in the list")
    return IncomingNotification(alerts=alerts, rejected=rejected, absent=absent)


def _read(body: bytes) -> list[msgspec.Raw]:
    try:
        return _alerts.decode(body)
    except msgspec.ValidationError:
        raise UnusablePayload(_what_else(body)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise not_json(body) from None


def _what_else(body: bytes) -> str:
    """What is said of a body that is no list."""
    sentence = "the body must be a JSON list of alerts, as Prometheus sends it"
    try:
        is_notification = "alerts" in members_of(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        is_notification = False
    return (
        f"{sentence}; this is a webhook's notification: give the source the format alertmanager" if is_notification else sentence
    )


def _incoming(raw: msgspec.Raw, now: datetime) -> IncomingAlert:
    try:
        alert = _alert.decode(raw)
    except msgspec.ValidationError:
        alert = _incoming_leniently(raw)
    labels = _without_empty(alert.labels)
    if not labels:
        raise ValueError("an alert needs labels")
    ends_at = _given(alert.ends_at, _NO_END)
    starts_at = _given(alert.starts_at, NO_START)
    resolved = ends_at is not None and ends_at <= now
    annotations = alert.annotations
    name = labels.get("alertname", "")
    linked = not LINKED.isdisjoint(annotations)
    return IncomingAlert(
        status=Status.RESOLVED if resolved else Status.FIRING,
        severity=severity_of(labels.get("severity", ""), RULE_SEVERITIES),
        name=name,
        summary=first_of(annotations, SUMMARIES) or name,
        description=first_of(annotations, DESCRIPTIONS),
        namespace=labels.get("namespace", ""),
        labels=labels,
        annotations=annotations,
        starts_at=starts_at or (ends_at if resolved and ends_at is not None else now),
        ends_at=ends_at if resolved else None,
        links=Links(
            source=web_url(alert.generator_url),
            runbook=web_url(first_of(annotations, RUNBOOKS)) if linked else "",
            dashboard=web_url(first_of(annotations, DASHBOARDS)) if linked else "",
        ),
        group=None,
        truncated=("links.source",) if len(alert.generator_url) > MAX_URL_CHARACTERS else (),
        valid_for=(ends_at - now).total_seconds() if ends_at is not None and not resolved else None,
        start_given=starts_at is not None,
    )


def _incoming_leniently(raw: msgspec.Raw) -> _Alert:
    members = members_of(raw)
    return _Alert(
        labels=texts_of(members.get("labels")),
        annotations=texts_of(members.get("annotations")),
        starts_at=_time(members, "startsAt", NO_START),
        ends_at=_time(members, "endsAt", _NO_END),
        generator_url=text_of(members.get("generatorURL")),
    )


def _time(members: Mapping[str, msgspec.Raw], name: str, sentence: str) -> datetime | None:
    try:
        return time_of(members.get(name))
    except msgspec.ValidationError:
        raise ValueError(sentence) from None


def _given(time: datetime | None, sentence: str) -> datetime | None:
    """A time in UTC; None: it was left out, or set to Go's zero time."""
    if time is None or is_unset(time):
        return None
    given = utc(time)
    if given is None:
        raise ValueError(sentence)
    return given


def _without_empty(labels: dict[str, str]) -> dict[str, str]:
    """The labels as Prometheus means them: an empty value is no label."""
    return {name: value for name, value in labels.items() if value} if "" in labels.values() else labels


FORMAT = Format(
    name="prometheus",
    parse=parse,
    steps=steps,
    repeats=Repeats.HEARTBEAT,
    severities=RULE_SEVERITIES,
    url_suffixes=("/api/v2/alerts", "/api/v1/alerts"),
    api_errors=True,
)
