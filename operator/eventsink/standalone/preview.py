"""`eventsink preview`: the messages that sinks would be sent about some alerts. Asks nobody and sends nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from eventsink.alerts.alert import Alert, IncomingNotification, Status, UnusablePayload
from eventsink.alerts.alertmanager_group import VERSION
from eventsink.alerts.formats.registry import FORMATS
from eventsink.controller.compile import compile_match
from eventsink.destinations.preview import DEFAULT_SPEC, MessagePreview, PreviewedAlerts, preview
from eventsink.resources.eventsink import EventSink, read_eventsink
from eventsink.resources.names import API_VERSION, KIND
from eventsink.router.planning.match import unfulfilled
from eventsink.runtime.times import format_time
from eventsink.standalone.documents import Fault
from eventsink.standalone.validate import STANDARD_INPUT, check, read

MAX_PAYLOAD_BYTES = 16 * 1024**2
"""Of the file with alerts; the intake's own default."""
DEFAULT_FORMAT = "alertmanager"
MAX_WIDTH = 110
"""Columns of a terminal that are used; longer lines are hard to read."""
FIRING_FOR = timedelta(minutes=5)
"""How long an alert has been firing that does not say since when."""


class NoPreview(ValueError):
    """There is nothing to show; the text says what to do."""


@dataclass(frozen=True)
class SinkPreview:
    """What one sink would be sent."""

    sink: EventSink
    messages: Sequence[MessagePreview]
    notes: Sequence[str]
    """Sentences about alerts that it would not be sent, and about what is not as its owner meant it."""

    @property
    def title(self) -> str:
        """`namespace/name` of the sink."""
        return f"{self.sink.namespace}/{self.sink.name}"


def read_payload(arguments: Sequence[str], annotations: Sequence[str], standard_input: BinaryIO) -> bytes:
    """What a source would post: a file's content (`-`: standard input), or one alert of Alertmanager made of labels.

    Parameters
    ----------
    arguments
        One file, or labels as `NAME=VALUE`; a first one without `=` is the alert's name.
    annotations
        As `NAME=VALUE`, of the alert that is made of labels.

    Raises
    ------
    NoPreview
        They are neither, or the file cannot be read.
    """
    first, *others = arguments
    if not others and (first == STANDARD_INPUT or "=" not in first or Path(first).is_file()):
        if annotations:
            raise NoPreview("--annotation: only of an alert that is made of labels; write those of a file into the file")
        return _file(first, standard_input)
    labels = arguments if "=" in first else [f"alertname={first}", *others]
    alert = {"labels": _pairs(labels, "the label"), "annotations": _pairs(annotations, "--annotation")}
    return json.dumps([{"generatorURL": "https://prometheus.example.com/graph", **alert}]).encode()


def _file(name: str, standard_input: BinaryIO) -> bytes:
    try:
        if name == STANDARD_INPUT:
            body = standard_input.read(MAX_PAYLOAD_BYTES + 1)
        else:
            with Path(name).open("rb") as stream:
                body = stream.read(MAX_PAYLOAD_BYTES + 1)
    except FileNotFoundError:
        raise NoPreview(f"{name}: there is no such file; an alert is written as alertname={name} severity=critical ...") from None
    except OSError as error:
        raise NoPreview(f"{name}: cannot be read: {error.strerror}") from None
    if len(body) > MAX_PAYLOAD_BYTES:
        raise NoPreview(f"{name}: has more than {MAX_PAYLOAD_BYTES // 1024**2} MiB, which no source may send at once")
    return body


def _pairs(texts: Sequence[str], what: str) -> dict[str, str]:
    for text in texts:
        if text.find("=") < 1:
            raise NoPreview(f"{what} {text!r}: write NAME=VALUE, such as severity=critical")
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def read_notification(body: bytes, *, format: str, resolved: bool, now: datetime) -> IncomingNotification:
    """Read what a source would post, as the router does; of Alertmanager also a bare list of alerts.

    Parameters
    ----------
    format
        Name of the source's format.
    resolved
        Show each alert as it ends now, whatever it says.

    Raises
    ------
    NoPreview
        Nothing in it can be used.
    """
    if format not in FORMATS:
        raise NoPreview(f"--format {format}: is not one of {', '.join(FORMATS)}")
    if format == DEFAULT_FORMAT:
        body = _completed(body, resolved=resolved, now=now)
    elif resolved:
        raise NoPreview(f"--resolved: only with --format {DEFAULT_FORMAT}")
    try:
        return FORMATS[format].read(body)
    except UnusablePayload as error:
        raise NoPreview(str(error)) from None


def _completed(body: bytes, *, resolved: bool, now: datetime) -> bytes:
    """A bare list made a group, and ends put in; everything else is left as it is, for the format to judge."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if isinstance(payload, list):
        since = format_time(now - FIRING_FOR)
        alerts = [{"status": "firing", "startsAt": since, **one} if isinstance(one, dict) else one for one in payload]
        payload = {"version": VERSION, "groupKey": "preview", "externalURL": "https://alertmanager.example.com", "alerts": alerts}
    elif not resolved:
        return body
    if resolved and isinstance(payload, dict) and isinstance(payload.get("alerts"), list):
        ended = {"status": "resolved", "endsAt": format_time(now)}
        payload["status"] = "resolved"
        payload["alerts"] = [{**one, **ended} if isinstance(one, dict) else one for one in payload["alerts"]]
    try:
        return json.dumps(payload).encode()
    except RecursionError:
        return body


def read_sinks(file: str | None, standard_input: BinaryIO) -> Sequence[EventSink]:
    """The EventSinks of a file of documents; without a file one with nothing but defaults.

    Raises
    ------
    NoPreview
        It has none, or one is not valid; the text has a line for each fault.
    """
    if file is None:
        metadata = {"namespace": "default", "name": "preview"}
        return [read_eventsink({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": DEFAULT_SPEC})]
    contents = read([file], standard_input)
    errors: Sequence[Fault] = check(contents).errors
    if errors:
        raise NoPreview("\n".join(map(str, errors)))
    sinks = [read_eventsink(one.object) for content in contents for one in content.documents if one.kind == KIND]
    if not sinks:
        raise NoPreview(f"--sink {file}: has no EventSink")
    return sinks


def preview_sink(sink: EventSink, notification: IncomingNotification, *, source: str, width: int) -> SinkPreview:
    """What one sink would be sent of a notification of its tenant."""
    match = compile_match(sink.spec)
    delivery = sink.spec.delivery
    silent_about_ends = delivery is not None and delivery.send_resolved is False
    wanted, notes = [], []
    if sink.spec.suspend:
        notes.append("spec.suspend: is true: nothing is sent until it is false")
    for incoming in notification.alerts:
        alert = incoming.identify(source=source, tenant=sink.spec.tenant)
        if unmatched := list(unfulfilled(match, alert)):
            notes.append(f"{_title(alert)}: does not match: {'; '.join(unmatched)}")
        elif silent_about_ends and alert.status is Status.RESOLVED:
            notes.append(f"{_title(alert)}: is not sent: spec.delivery.sendResolved is false")
        else:
            wanted.append((incoming, alert))
    notes += [f"alerts[{one.index}]: cannot be used: {one.reason}" for one in notification.rejected]
    messages = preview(sink, PreviewedAlerts(notification, wanted), width=width) if wanted else ()
    return SinkPreview(sink, messages, [*notes, *(note for one in messages for note in one.notes)])


def _title(alert: Alert) -> str:
    """The alert and what conditions are about, in ASCII: a terminal shows it."""
    facts = {"severity": alert.severity.value, "namespace": alert.namespace, "source": alert.source}
    shown = ", ".join(f"{name} {value}" for name, value in facts.items() if value)
    return ascii(f"{alert.name or 'an alert without a name'} ({shown})")[1:-1]
