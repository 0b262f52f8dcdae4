"""CloudEvents 1.0 over HTTP: one event (structured or binary), or a batch of them.

Source of the format: the CloudEvents specification, its JSON format and its HTTP binding. Each event is an alert of the status event: what it is
about is read from its attributes, and from members of its data that have the names of an alert's. What a router of this program sends as
CloudEvents is read as the alert that it is, which fires and ends.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import unquote

import msgspec

from eventsink.alerts.alert import IncomingAlert, IncomingNotification, Links, Severity, Status, UnusablePayload
from eventsink.alerts.formats.falco import PRIORITIES
from eventsink.alerts.formats.format import Format, Repeats
from eventsink.alerts.limits import MAX_ANNOTATION_CHARACTERS, MAX_URL_CHARACTERS
from eventsink.alerts.links import DASHBOARDS, RUNBOOKS, first_of, web_url
from eventsink.alerts.peer_json import list_of, members_of, number_of, object_of, text_of, texts_of, without_lone_surrogates
from eventsink.alerts.rule_alerts import (
    DESCRIPTIONS,
    NO_START,
    SUMMARIES,
    check_size,
    check_usable,
    not_json,
    read_each,
    time_if_any,
    time_of_event,
)
from eventsink.alerts.severity import RULE_SEVERITIES, severity_of
from eventsink.runtime.turns import Steps, at_once

VERSION = "1.0"
REQUIRED = ("id", "source", "type")
FROM_DATA = ("namespace", "severity", "tenant", "cluster", "pod")
"""Members of an event's data that become labels, unless an extension attribute has the name."""
_IN_HEADERS = b"ce-"
"""What the headers begin with in which attributes are where the event's data is the body."""
_NAMES = {"type": "alertname", "source": "event_source", "id": "event_id"}
"""Attributes that become labels of other names."""
_NO_LABELS = frozenset({"specversion", "time", "datacontenttype", "dataschema", "data", "data_base64"})
_STRUCTURED = "application/cloudevents"
OWN_TYPES = {f"dev.eventsink.alert.{status}.v1": status for status in Status}
"""Types of the events in which a router of this program sends alerts -> the status of the alert that is their data."""

_ESCAPED = re.compile(r"\\(.)")
_batch = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder()


def enveloped(headers: Mapping[bytes, bytes], body: bytes) -> bytes:
    """An event whose attributes are in headers as one that is all in the body; any other body as it is.

    Raises
    ------
    UnusablePayload
        It is in a format other than JSON.
    """
    content_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if content_type.startswith(_STRUCTURED):
        if not content_type.endswith("json"):
            raise UnusablePayload("this source takes events in JSON: application/cloudevents+json, or -batch+json")
        return body
    if b"ce-specversion" not in headers:
        return body
    event: dict[str, object] = {
        header.removeprefix(_IN_HEADERS).decode("latin-1"): _attribute(value)
        for header, value in headers.items()
        if header.startswith(_IN_HEADERS)
    }
    for name in ("data", "data_base64"):  # no attributes have these names
        event.pop(name, None)
    if body:
        event |= _data(content_type, body)
    return _encoder.encode(event)


def _attribute(value: bytes) -> str:
    """An attribute as a header has it: percent-encoded, by older senders in double quotes instead."""
    text = value.decode("latin-1")
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        text = _ESCAPED.sub(r"\1", text[1:-1])
    return unquote(text)


def _data(content_type: str, body: bytes) -> dict[str, object]:
    if not content_type or content_type.endswith(("/json", "+json")):
        try:
            # Checked, but not made: what it would take is looked at by `parse`.
            return {"data": msgspec.json.decode(body, type=msgspec.Raw)}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if (repaired := without_lone_surrogates(body)) is not body:
                return _data(content_type, repaired)
            raise not_json(body) from None
    try:
        return {"data": body.decode()[: MAX_ANNOTATION_CHARACTERS + 1]}  # as JSON it may be six times as long
    except UnicodeDecodeError as error:
        # Nothing is read of bytes; that there are some is, for which those that are no text are enough.
        return {"data_base64": base64.b64encode(body[error.start : error.end]).decode()}


def parse(body: bytes) -> IncomingNotification:
    """Read one event or a batch of them.

    Raises
    ------
    OversizedPayload
        More would be made of it than `alerts.limits` allows.
    UnusablePayload
        Not JSON, no event in it, or none that can be used.
    """
    return at_once(steps(body))


def steps(body: bytes) -> Steps[IncomingNotification]:
    """As `parse`."""
    check_size(body, "it holds too many members", "let the source send smaller events, or fewer at once")
    try:
        events = _batch.decode(body) if body.lstrip()[:1] == b"[" else [msgspec.json.decode(body, type=msgspec.Raw)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise not_json(body) from None
    other = "is not an object with the attributes of a CloudEvent"
    alerts, rejected, absent = yield from read_each(events, lambda raw: _incoming(members_of(raw)), other)
    if rejected:
        check_usable(alerts, rejected, "")
    return IncomingNotification(alerts=alerts, rejected=rejected, absent=absent)


def _incoming(members: Mapping[str, msgspec.Raw]) -> IncomingAlert:
    _check(members)
    status = OWN_TYPES.get(text_of(members.get("type")))
    raw = members.get("data") or _decoded(members)
    unreadable = raw is None and bool(text_of(members.get("data_base64")))
    if status is not None:
        return _own(status, members, object_of(raw))
    data = texts_of(raw)
    text = "" if data else text_of(raw)
    labels = {name: text_of(raw) for name, raw in members.items() if name not in _NO_LABELS and name not in _NAMES}
    labels |= {label: text_of(members[name]) for name, label in _NAMES.items()}
    for name in FROM_DATA:
        labels.setdefault(name, data.pop(name, ""))
    kind, time = labels["alertname"], time_of_event(members.get("time"))
    return IncomingAlert(
        status=Status.EVENT,
        severity=_severity(labels, data),
        name=kind,
        summary=first_of(data, SUMMARIES) or text or labels.get("subject") or kind,
        description=first_of(data, DESCRIPTIONS) or text,
        namespace=labels["namespace"],
        labels={name: value for name, value in labels.items() if value},
        annotations=data,
        starts_at=time or datetime.now(UTC),
        ends_at=None,
        links=Links(
            source=web_url(data.get("url", "")) or web_url(labels["event_source"]),
            runbook=web_url(first_of(data, RUNBOOKS)),
            dashboard=web_url(first_of(data, DASHBOARDS)),
        ),
        group=None,
        truncated=("data",) if unreadable else (),
        start_given=time is not None,
    )


def _severity(labels: Mapping[str, str], data: Mapping[str, str]) -> Severity:
    """Without a severity, that of the priority, which falcosidekick sends as an attribute and as a member of the data."""
    if labels["severity"]:
        return severity_of(labels["severity"], RULE_SEVERITIES)
    return severity_of(labels.get("priority") or data.get("priority", ""), PRIORITIES)


def _decoded(members: Mapping[str, msgspec.Raw]) -> msgspec.Raw | None:
    """Data that is in base64, as JSON: an object, or a text; None: there is none, or nothing can be read of it."""
    encoded = text_of(members.get("data_base64"))
    if not encoded:
        return None
    try:
        data = without_lone_surrogates(base64.b64decode(encoded, validate=True))
    except binascii.Error:
        raise ValueError("data_base64 is not in base64") from None
    try:
        members_of(data)
        return msgspec.Raw(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return msgspec.Raw(_encoder.encode(data.decode()))
    except UnicodeDecodeError:
        return None


def _own(status: Status, members: Mapping[str, msgspec.Raw], data: Mapping[str, msgspec.Raw]) -> IncomingAlert:
    """The alert of another router. Where it came from is part of what identifies it: alerts of two clusters may have the same labels."""
    starts_at = time_if_any(data.get("startsAt"))
    if starts_at is None:
        raise ValueError(NO_START)
    labels = texts_of(data.get("labels"))
    # Whose the alert is says the router that sends it, not a label that its tenant may have chosen.
    labels |= {"event_source": text_of(members["source"]), "tenant": text_of(members.get("tenant"))}
    if cluster := text_of(members.get("cluster")):
        labels["cluster"] = cluster
    if namespace := text_of(data.get("namespace")):
        labels.setdefault("namespace", namespace)
    links = {one: url for one, url in texts_of(data.get("links")).items() if one in Links.__struct_fields__}
    name = text_of(data.get("name"))
    return IncomingAlert(
        status=status,
        severity=severity_of(text_of(data.get("severity")), RULE_SEVERITIES),
        name=name,
        summary=text_of(data.get("summary")) or name,
        description=text_of(data.get("description")),
        namespace=labels.get("namespace", ""),
        labels={one: value for one, value in labels.items() if value},
        annotations=texts_of(data.get("annotations")),
        starts_at=starts_at,
        ends_at=time_if_any(data.get("endsAt")) if status is Status.RESOLVED else None,
        links=Links(**{one: web_url(links.get(one, "")) for one in Links.__struct_fields__}),
        group=None,
        truncated=(
            *(text_of(one) for one in list_of(data.get("truncated"))),
            *(f"links.{one}" for one, url in links.items() if len(url) > MAX_URL_CHARACTERS),
        ),
        count=max(0, number_of(data.get("count"))),
    )


def _check(members: Mapping[str, msgspec.Raw]) -> None:
    version = text_of(members.get("specversion"))
    if not version:
        raise ValueError("specversion is absent: the events of this source are CloudEvents 1.0")
    if version not in (VERSION, "1"):
        raise ValueError("specversion must be 1.0")
    for name in REQUIRED:
        if not text_of(members.get(name)):
            raise ValueError(f"{name} is absent or empty, which every CloudEvent has")


FORMAT = Format(
    name="cloudevents",
    parse=parse,
    steps=steps,
    repeats=Repeats.NEVER,
    severities=RULE_SEVERITIES,
    headers=frozenset({b"content-type", _IN_HEADERS + b"*"}),
    enveloped=enveloped,
)
