"""Falco's events, as its HTTP output posts them and as falcosidekick forwards them: one JSON object in each request.

Source of the format: Falco's documentation (`json_output`, `http_output`); falcosidekick adds `uuid`. The fields of an event are its labels, so
that sinks can match them and two events stay two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from eventsink.alerts.alert import IncomingAlert, IncomingNotification, Links, Severity, Status, UnusablePayload
from eventsink.alerts.formats.format import Format, Repeats
from eventsink.alerts.peer_json import text_of, texts_of
from eventsink.alerts.rule_alerts import check_size, one_object, time_of_event
from eventsink.alerts.severity import severity_of

PRIORITIES: Mapping[str, Severity] = {
    "emergency": Severity.FATAL,
    "alert": Severity.CRITICAL,
    "critical": Severity.CRITICAL,
    "error": Severity.HIGH,
    "warning": Severity.MEDIUM,
    "notice": Severity.LOW,
    "informational": Severity.INFORMATIONAL,
    "info": Severity.INFORMATIONAL,
    "debug": Severity.INFORMATIONAL,
}
"""Falco's priorities, in lower case."""
NAMES = {
    "k8s.ns.name": "namespace",
    "ka.target.namespace": "namespace",
    "k8s.pod.name": "pod",
    "container.name": "container",
}
"""Fields that become labels of the names that Kubernetes' own alerts have; every other one is a label of its own name, `proc_name`."""
_TIMES = frozenset({"evt.time", "evt.rawtime", "evt.datetime", "evt.time.iso8601", "jevt.time", "jevt.rawtime"})
"""Fields that say when: the event's `time` does."""
_ABSENT = ("", "<NA>")
_OTHER_CHARACTERS = re.compile(r"[^a-zA-Z0-9_]+")
_PREFIX_END = ": "


def parse(body: bytes) -> IncomingNotification:
    """Read an event.

    Raises
    ------
    OversizedPayload
        More would be made of it than `alerts.limits` allows.
    UnusablePayload
        Not the JSON of an event.
    """
    check_size(body, "it holds too many fields", "let the rule's output name fewer")
    if body[:1].isdigit():  # the time in front of a text
        raise UnusablePayload("the body is not JSON: set json_output: true in Falco's configuration")
    members = one_object(body, "the body must be one JSON object, as Falco's HTTP output sends it")
    try:
        alert = _incoming(members)
    except ValueError as error:
        sentence = str(error) if type(error) is ValueError else "holds a value that cannot be read"
        raise UnusablePayload(f"the event cannot be used: {sentence}") from None
    except (OverflowError, RecursionError):
        raise UnusablePayload("the event cannot be used: it holds a value that is out of range") from None
    return IncomingNotification(alerts=[alert], rejected=[])


def _incoming(members: Mapping[str, msgspec.Raw]) -> IncomingAlert:
    rule = text_of(members.get("rule"))
    if not rule:
        raise ValueError('"rule" is absent')
    priority = text_of(members.get("priority"))
    output = _without_prefix(text_of(members.get("output")), priority)
    labels = {"alertname": rule, "priority": priority, **_labels(members)}
    uuid = text_of(members.get("uuid"))
    return IncomingAlert(
        status=Status.EVENT,
        severity=severity_of(priority, PRIORITIES),
        name=rule,
        summary=output.partition(" | ")[0].partition(" (")[0] or rule,
        description=output,
        namespace=labels.get("namespace", ""),
        labels={name: value for name, value in labels.items() if value not in _ABSENT},
        annotations={"uuid": uuid} if uuid else {},
        starts_at=time_of_event(members.get("time")) or datetime.now(UTC),
        ends_at=None,
        links=Links(),
        group=None,
    )


def _labels(members: Mapping[str, msgspec.Raw]) -> dict[str, str]:
    found = {name: text_of(members.get(name)) for name in ("hostname", "source")}
    found["tags"] = _tags(members.get("tags"))
    fields = texts_of(members.get("output_fields"))
    # First those that name the object: no field of another name takes the place of the namespace.
    for field in sorted(fields, key=lambda one: one not in NAMES):
        value = fields[field]
        if field in _TIMES or value in _ABSENT:
            continue
        name = NAMES.get(field) or _OTHER_CHARACTERS.sub("_", field).strip("_")
        if name and found.get(name, "") in _ABSENT:
            found[name] = value
    return {name: value for name, value in found.items() if name not in ("alertname", "priority")}


def _tags(raw: msgspec.Raw | None) -> str:
    if raw is None:
        return ""
    try:
        return ",".join(text_of(one) for one in msgspec.json.decode(raw, type=list[msgspec.Raw]))
    except msgspec.ValidationError:
        return text_of(raw)


def _without_prefix(output: str, priority: str) -> str:
    """What the rule says, without the time and the priority that Falco puts in front of it."""
    _, separator, rest = output.partition(f"{_PREFIX_END}{priority} ")
    return rest if separator and priority and output[:1].isdigit() else output


FORMAT = Format(name="falco", parse=parse, repeats=Repeats.NEVER, severities=PRIORITIES)
