"""What is read of an Event of events.k8s.io/v1, and what of it is sent to the router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
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
    regarding = members_of(event.get("regarding"))
    return Subject(
        text_of(event["metadata"].get("namespace")) if regarding.get("namespace") else "",
        text_of(regarding.get("kind"))[:MAX_SUBJECT_CHARACTERS],
        text_of(regarding.get("name"))[:MAX_SUBJECT_CHARACTERS],
        text_of(event.get("reason"))[:MAX_SUBJECT_CHARACTERS],
    )


def last_seen(event: Object) -> datetime | None:
    """When it happened last; None: it does not say."""
    found = [
        _time_of(members_of(event.get("series")).get("lastObservedTime")),
        _time_of(event.get("deprecatedLastTimestamp")),
        _time_of(event.get("eventTime")),
        created(event),
    ]
    latest = max([one for one in found if one is not None], default=None)
    return None if latest is None or latest.year == 1 else latest


def created(event: Object) -> datetime | None:
    """When the API server created it; None: it does not say."""
    return _time_of(event["metadata"].get("creationTimestamp"))


def sent_of(event: Object) -> dict[str, Any]:
    """The members of an Event that the router reads: not who manages which field, nor labels and annotations."""
    found = picked(event, _OF_EVENT)
    found["metadata"] = picked(event["metadata"], _OF_METADATA)
    for name in ("regarding", "related"):
        if given := members_of(event.get(name)):
            found[name] = picked(given, _OF_OBJECT)
    if note := text_of(event.get("note")):
        found["note"] = note[:MAX_NOTE_CHARACTERS]
    return found


def characters_of(sent: Mapping[str, Any]) -> int:
    """How many characters the texts of `sent_of` have together."""
    return sum(len(one) if isinstance(one, str) else characters_of(one) for one in sent.values() if isinstance(one, str | dict))


def picked(given: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The members of these names that are not empty, their texts cut: simple values, and objects of such."""
    found = {name: given[name] for name in names if given.get(name)}
    return {
        name: {inner: _cut(one) for inner, one in value.items() if _is_simple(one)} if isinstance(value, dict) else _cut(value)
        for name, value in found.items()
        if isinstance(value, dict) or _is_simple(value)
    }


def members_of(value: object) -> dict[str, Any]:
    """The members of what is an object; none of anything else."""
    return value if isinstance(value, dict) else {}


def text_of(value: object) -> str:
    """What is a text; empty of anything else."""
    return value if isinstance(value, str) else ""


def _time_of(value: object) -> datetime | None:
    """A time as a text; None: it is none."""
    try:
        return parse_time(text_of(value))
    except ValueError:
        return None


def _is_simple(value: object) -> bool:
    return isinstance(value, str | int | float)


def _cut(value: Any) -> Any:
    return value[:MAX_TEXT_CHARACTERS] if isinstance(value, str) else value
