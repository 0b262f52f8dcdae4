"""Reads an EventSink as the API server or a file gives it, and says in sentences what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from eventsink.destinations import registry

from .rule import BROKEN, Rule
from .spec import EventSinkSpec
from .status import EventSinkStatus


@dataclass(frozen=True, order=True)
class FieldError:
    """One thing that is wrong with a spec."""

    path: str
    """As the API server writes it: `spec.webhook.headers[0].name`."""
    message: str
    """A sentence that says what to do; repeats no value of the spec."""
    unknown_field: bool = False
    """This version does not know the field: the CRD is newer than the program."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class InvalidSpec(Exception):
    """The spec is not one that this version can act on. The text names every error and repeats no value."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(str(error) for error in self.errors))


UNKNOWN_FIELD = "this version of the operator does not know this field; upgrade the operator or remove the field"


@dataclass(frozen=True)
class EventSinkObject:
    """What can be read of every EventSink, whatever its spec looks like."""

    uid: str
    namespace: str
    name: str
    generation: int
    resource_version: str
    deleting: bool
    """Deletion was asked for; something holds it up."""
    raw: Mapping[str, Any] = field(repr=False)
    """The whole object as it came."""
    status: EventSinkStatus


@dataclass(frozen=True)
class EventSink(EventSinkObject):
    """An EventSink whose spec is valid, as far as the spec alone shows."""

    spec: EventSinkSpec


def read_eventsink(obj: Mapping[str, Any]) -> EventSink:
    """Read an EventSink.

    Parameters
    ----------
    obj
        The object as JSON or YAML gives it. It is not changed.

    Raises
    ------
    InvalidSpec
        The spec breaks a shape, a bound or a rule, or has a field that this version does not know. `read_object` still
        gives the rest.
    """
    return EventSink(**vars(read_object(obj)), spec=read_spec(obj.get("spec")))


def read_object(obj: Mapping[str, Any]) -> EventSinkObject:
    """Read everything but the spec. A status that cannot be read counts as empty: it is written again from the state of the cluster."""
    metadata = obj.get("metadata") or {}
    try:
        status = EventSinkStatus.model_validate(obj.get("status") or {})
    except ValidationError:
        status = EventSinkStatus()
    return EventSinkObject(
        uid=metadata.get("uid", ""),
        namespace=metadata.get("namespace", ""),
        name=metadata.get("name", ""),
        generation=metadata.get("generation", 0),
        resource_version=metadata.get("resourceVersion", ""),
        deleting=metadata.get("deletionTimestamp") is not None,
        raw=obj,
        status=status,
    )


def read_spec(spec: Any) -> EventSinkSpec:
    """Read the spec alone.

    Raises
    ------
    InvalidSpec
        See `read_eventsink`. It has no cause and no context, since those would show values.
    """
    try:
        return EventSinkSpec.model_validate(spec, by_alias=True, by_name=False)
    except ValidationError as invalid:
        errors = _field_errors(invalid.errors(include_url=False, include_input=False), absent=spec is None)
    raise InvalidSpec(errors)


def destination_type(spec: Any) -> str | None:
    """The destination type that a spec names, valid or not; None: it names none, or several."""
    given = [name for name in registry.names() if isinstance(spec, dict) and spec.get(name) is not None]
    return given[0] if len(given) == 1 else None


def _field_errors(found: Iterable[ErrorDetails], *, absent: bool) -> list[FieldError]:
    if absent:
        return [FieldError("spec", "this field is required; add it")]
    errors: set[FieldError] = set()
    for error in found:
        path = _path(error["loc"])
        if error["type"] == BROKEN:
            broken: list[Rule] = error["ctx"]["rules"]
            errors.update(FieldError(f"{path}.{rule.field}" if rule.field else path, rule.message) for rule in broken)
        else:
            errors.add(FieldError(path, _sentence(error), unknown_field=error["type"] == "extra_forbidden"))
    return sorted(errors)


def _path(location: tuple[int | str, ...]) -> str:
    return "spec" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)


SENTENCES = {
    "extra_forbidden": UNKNOWN_FIELD,
    "missing": "this field is required; add it",
    "string_type": "write a text; put quotes around one that YAML takes for something else",
    "bool_type": "write true or false, without quotes",
    "int_type": "write a whole number, without quotes",
    "list_type": "write a list",
    "model_type": "write an object with fields of its own",
    "literal_error": "write one of {expected}",
    "string_too_short": "write {min_length} or more characters",
    "string_too_long": "write {max_length} characters or fewer",
    "too_short": "add an entry, or remove the field",
    "too_long": "write {max_length} entries or fewer",
    "greater_than_equal": "write {ge} or more",
    "less_than_equal": "write {le} or less",
}
"""Type of pydantic's error -> what to do."""


def _sentence(error: ErrorDetails) -> str:
    template = SENTENCES.get(error["type"])
    return template.format(**error.get("ctx", {})) if template else error["msg"]
