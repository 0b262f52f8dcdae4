"""What is read of an Event of events.k8s.io/v1, and what of it is sent to the router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from eventsink.alerts.limits import MAX_ANNOTATION_CHARACTERS, MAX_VALUE_CHARACTERS
from eventsink.kube.api import Object, Resource
from eventsink.runtime.times import parse_time

EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
MAX_NOTE_CHARACTERS = MAX_ANNOTATION_CHARACTERS + 1
"""One more than the router keeps: it cuts the note, and says so."""
MAX_TEXT_CHARACTERS = MAX_VALUE_CHARACTERS + 1
"""The same of every other text: of core/v1 the API server takes Events with texts of more than a megabyte."""
MAX_SUBJECT_CHARACTERS = 256
"""Of each part of what an Event is about, which is remembered."""
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
        regarding.get("kind", "")[:MAX_SUBJECT_CHARACTERS],
        regarding.get("name", "")[:MAX_SUBJECT_CHARACTERS],
        event.get("reason", "")[:MAX_SUBJECT_CHARACTERS],
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


def created(event: Object) -> datetime | None:
    """When the API server created it; None: it does not say."""
    try:
        return parse_time(event["metadata"].get("creationTimestamp") or "")
    except ValueError:
        return None


def sent_of(event: Object) -> dict[str, Any]:
    """The members of an Event that the router reads: not who manages which field, nor labels and annotations."""
    found = picked(event, _OF_EVENT)
    found["metadata"] = picked(event["metadata"], _OF_METADATA)
    for name in ("regarding", "related"):
        if given := event.get(name):
            found[name] = picked(given, _OF_OBJECT)
    if note := event.get("note"):
        found["note"] = note[:MAX_NOTE_CHARACTERS]
    return found


def characters_of(sent: Mapping[str, Any]) -> int:
    """How many characters the texts of `sent_of` have together."""
    return sum(len(one) if isinstance(one, str) else characters_of(one) for one in sent.values() if isinstance(one, str | dict))


def picked(given: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The members of these names that are not empty, their texts cut."""
    return {name: _cut(given[name]) for name in names if given.get(name)}


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _cut(one) for name, one in value.items()}
    return value[:MAX_TEXT_CHARACTERS] if isinstance(value, str) else value
