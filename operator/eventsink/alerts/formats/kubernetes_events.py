"""Kubernetes Events, as `eventsink events` posts them and as `kubectl get events -o json` prints them: an EventList, or one Event.

Source of the format: the API reference of events.k8s.io/v1; members that only core/v1 has, or names otherwise, are read as well. An Event is an
alert of the status event. The API server counts what happens again (`series.count`, or `count`): an Event that has grown is the same alert.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from eventsink.alerts.alert import IncomingAlert, IncomingNotification, Links, Severity, Status, UnusablePayload
from eventsink.alerts.formats.format import Format, Repeats
from eventsink.alerts.limits import MAX_ANNOTATION_CHARACTERS, cut
from eventsink.alerts.objects import NAMED_BY_KIND
from eventsink.alerts.peer_json import members_of, number_of, text_of, texts_of
from eventsink.alerts.rule_alerts import check_size, check_usable, not_json, read_each, time_if_any
from eventsink.alerts.severity import severity_of
from eventsink.runtime.times import format_time
from eventsink.runtime.turns import Steps, at_once

SUPPRESSED = "eventsink.dev/suppressed"
"""Annotation of an Event: how many others of the same object and reason were not sent since the last one that was."""
TYPES: Mapping[str, Severity] = {"normal": Severity.INFORMATIONAL, "warning": Severity.MEDIUM}
"""Types of Events, in lower case."""
REASONS: Mapping[str, Severity] = {
    "evictionthresholdmet": Severity.CRITICAL,
    "kerneldeadlock": Severity.CRITICAL,
    "kubeletsetupfailed": Severity.CRITICAL,
    "nodenotready": Severity.CRITICAL,
    "readonlyfilesystem": Severity.CRITICAL,
    "systemoom": Severity.CRITICAL,
    "backofflimitexceeded": Severity.HIGH,
    "containergcfailed": Severity.HIGH,
    "deadlineexceeded": Severity.HIGH,
    "evicted": Severity.HIGH,
    "failed": Severity.HIGH,
    "failedattachvolume": Severity.HIGH,
    "failedcreate": Severity.HIGH,
    "failedcreatepodsandbox": Severity.HIGH,
    "failedmount": Severity.HIGH,
    "freediskspacefailed": Severity.HIGH,
    "imagegcfailed": Severity.HIGH,
    "networknotready": Severity.HIGH,
    "oomkilling": Severity.HIGH,
    "provisioningfailed": Severity.HIGH,
    "rebooted": Severity.HIGH,
    "taskhung": Severity.HIGH,
    "dnsconfigforming": Severity.LOW,
    "invaliddiskcapacity": Severity.LOW,
    "unhealthy": Severity.LOW,
}
"""Reasons of Kubernetes' own components, in lower case, of Events whose type alone would say too little or too much."""
_NORMAL_REASONS = frozenset({"nodenotready"})
"""Those that count although the type is Normal."""
_CLUSTER_NAMESPACES = ("", "default", "kube-system")
"""Where the API server allows Events about objects that are in no namespace."""
UNNAMED = "Event"
"""The name of one without a reason, which the older API allows."""
_NO_LIST = "this source takes Events: an EventList, or one Event"

_many = msgspec.json.Decoder(list[msgspec.Raw])


def parse(body: bytes) -> IncomingNotification:
    """Read a list of Events, or one.

    Raises
    ------
    OversizedPayload
        More would be made of it than `alerts.limits` allows.
    UnusablePayload
        Not JSON, no Event in it, or none that can be used.
    """
    return at_once(steps(body))


def steps(body: bytes) -> Steps[IncomingNotification]:
    """As `parse`."""
    check_size(body, "it holds too many members", "let the source send fewer Events at once")
    other = "is not an object with the members of an Event"
    alerts, rejected, absent = yield from read_each(_read(body), lambda raw: _incoming(members_of(raw)), other)
    check_usable(alerts, rejected, "there is no Event in the list")
    return IncomingNotification(alerts=alerts, rejected=rejected, absent=absent)


def _read(body: bytes) -> list[msgspec.Raw]:
    try:
        members = members_of(body)
        if "items" not in members:
            return [msgspec.Raw(body)]
        return _many.decode(members["items"])
    except msgspec.ValidationError:
        raise UnusablePayload(_NO_LIST) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise not_json(body) from None


def _incoming(members: Mapping[str, msgspec.Raw]) -> IncomingAlert:
    metadata = _object(members, "metadata")
    regarding = texts_of(members.get("regarding") or members.get("involvedObject"))
    reason = text_of(members.get("reason"))
    kind_of_event = text_of(members.get("type"))
    note = text_of(members.get("note") or members.get("message"))
    if not (reason or note or regarding):
        raise ValueError("it has none of reason, note and regarding, and is no Event")
    series = _object(members, "series")
    count = max(1, number_of(series.get("count")), number_of(members.get("deprecatedCount") or members.get("count")))
    suppressed = number_of(_object(metadata, "annotations").get(SUPPRESSED))
    namespace = _namespace(text_of(metadata.get("namespace")), regarding)
    return IncomingAlert(
        status=Status.EVENT,
        severity=severity(kind_of_event, reason),
        name=reason or UNNAMED,
        summary=note or reason or UNNAMED,
        description=_description(note, suppressed),
        namespace=namespace,
        labels=_labels(members, metadata, regarding, namespace),
        annotations=_annotations(members, series, count, suppressed),
        starts_at=_start(members, metadata),
        ends_at=None,
        links=Links(),
        group=None,
        count=count,
    )


def severity(type_: str, reason: str) -> Severity:
    """What the type of an Event means; of a Warning what its reason does, where that is known."""
    by_type, known = severity_of(type_, TYPES), reason.strip().lower()
    counts = by_type is TYPES["warning"] or (by_type is TYPES["normal"] and known in _NORMAL_REASONS)
    return REASONS.get(known, by_type) if counts else by_type


def _namespace(of_event: str, regarding: Mapping[str, str]) -> str:
    """The namespace that it is about; none, if the object is in none.

    The Event's own, in which its writer may write: what `regarding` says is the writer's word.
    """
    return "" if not regarding.get("namespace") and of_event in _CLUSTER_NAMESPACES else of_event


def _labels(
    members: Mapping[str, msgspec.Raw], metadata: Mapping[str, msgspec.Raw], regarding: Mapping[str, str], namespace: str
) -> dict[str, str]:
    source = texts_of(members.get("deprecatedSource") or members.get("source"))
    kind, name = regarding.get("kind", ""), regarding.get("name", "")
    container = regarding.get("fieldPath", "").partition("ontainers{")[2].removesuffix("}")
    labels = {
        "alertname": text_of(members.get("reason")) or UNNAMED,
        "reason": text_of(members.get("reason")),
        "type": text_of(members.get("type")),
        "namespace": namespace,
        "kind": kind,
        "name": name,
        "container": container,
        "node": source.get("host", ""),
        "reporting_controller": text_of(members.get("reportingController") or members.get("reportingComponent"))
        or source.get("component", ""),
        "event_uid": text_of(metadata.get("uid")) or text_of(metadata.get("name")),
    }
    if kind in NAMED_BY_KIND:
        labels[NAMED_BY_KIND[kind]] = name
    return {label: value for label, value in labels.items() if value}


def _annotations(
    members: Mapping[str, msgspec.Raw], series: Mapping[str, msgspec.Raw], count: int, suppressed: int
) -> dict[str, str]:
    related = texts_of(members.get("related"))
    last = (
        time_if_any(series.get("lastObservedTime"))
        or time_if_any(members.get("deprecatedLastTimestamp"))
        or time_if_any(members.get("lastTimestamp"))
    )
    found = {
        "action": text_of(members.get("action")),
        "related": " ".join(part for part in (related.get("kind", ""), related.get("name", "")) if part),
        "count": str(count),
        "last_seen": format_time(last) if last is not None else "",
        "suppressed": str(suppressed) if suppressed > 0 else "",
    }
    return {name: value for name, value in found.items() if value}


def _description(note: str, suppressed: int) -> str:
    if suppressed <= 0:
        return note
    more = f"{suppressed:,} more of this object and reason {'was' if suppressed == 1 else 'were'} not sent."
    # What is too long is cut and marked later: not without this.
    return f"{cut(note, MAX_ANNOTATION_CHARACTERS - len(more) - 2)}\n\n{more}"


def _start(members: Mapping[str, msgspec.Raw], metadata: Mapping[str, msgspec.Raw]) -> datetime:
    """When it happened first."""
    return (
        time_if_any(members.get("deprecatedFirstTimestamp"))
        or time_if_any(members.get("firstTimestamp"))
        or time_if_any(members.get("eventTime"))
        or time_if_any(metadata.get("creationTimestamp"))
        or datetime.now(UTC)
    )


def _object(members: Mapping[str, msgspec.Raw], name: str) -> dict[str, msgspec.Raw]:
    raw = members.get(name)
    return members_of(raw) if raw is not None else {}


FORMAT = Format(name="kubernetes-events", parse=parse, steps=steps, repeats=Repeats.WHEN_GROWN, severities={**TYPES, **REASONS})
