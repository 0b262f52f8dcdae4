"""What is read of an Event of events.k8s.io/v1, and what of it is sent to the router."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from eventsink.alerts.limits import MAX_ANNOTATION_CHARACTERS
from eventsink.kube.api import Object, Resource
from eventsink.runtime.times import parse_time

EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
MAX_NOTE_CHARACTERS = MAX_ANNOTATION_CHARACTERS + 1
"""One more than the router keeps: it cuts the note, and says so."""
_OF_EVENT = (
    "reason",
    "type",
    "action",
    "reportingController",
    "eventTime",
    "series",
    "deprecatedSource",
    "deprecatedCount",
    "deprecatedFirstTimestamp",
    "deprecatedLastTimestamp",
)
_OF_METADATA = ("name", "namespace", "uid", "creationTimestamp")
_OF_OBJECT = ("kind", "namespace", "name", "fieldPath")


class Subject(NamedTuple):
    """What an Event is about: one object, and why."""

    namespace: str
    kind: str
    name: str
    reason: str


def subject_of(event: Object) -> Subject:
    """What an Event is about; of an object in no namespace (a node), the namespace is empty."""
    regarding = event.get("regarding") or {}
    return Subject(
        event["metadata"].get("namespace", "") if regarding.get("namespace") else "",
        regarding.get("kind", ""),
        regarding.get("name", ""),
        event.get("reason", ""),
    )


def last_seen(event: Object) -> datetime | None:
    """When it happened last; None: it does not say."""
    series = event.get("series") or {}
    found = []
    for text in (
        series.get("lastObservedTime"),
        event.get("deprecatedLastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    ):
        try:
            found.append(parse_time(text) if text else datetime.min.replace(tzinfo=UTC))
        except ValueError:
            continue
    latest = max(found, default=None)
    return None if latest is None or latest.year == 1 else latest


def sent_of(event: Object) -> dict[str, Any]:
    """The members of an Event that the router reads: not who manages which field, nor labels and annotations."""
    metadata = event["metadata"]
    found = {name: event[name] for name in _OF_EVENT if event.get(name)}
    found["metadata"] = {name: metadata[name] for name in _OF_METADATA if metadata.get(name)}
    for name in ("regarding", "related"):
        if given := event.get(name):
            found[name] = {member: given[member] for member in _OF_OBJECT if given.get(member)}
    if note := event.get("note"):
        found["note"] = note[:MAX_NOTE_CHARACTERS]
    return found
