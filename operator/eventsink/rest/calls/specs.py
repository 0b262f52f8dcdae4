"""Turns requests into EventSink specs, and the credentials in them into the values of one Secret. Pure.

A destination's own field is made by its type; messages about a spec are put in terms of the request.
"""

from __future__ import annotations

import base64
import copy
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from eventsink.destinations.arguments import Credentials, InvalidArguments, RestModel, arguments
from eventsink.resources.eventsink import InvalidSpec, read_spec
from eventsink.resources.mutes import MAX_MUTES
from eventsink.rest.calls.messages import rest_path, rest_sentence
from eventsink.rest.errors import Conflict, InvalidRequest, NotFound
from eventsink.rest.models import ByTypeArgs, CreateRequest, MuteRequest, UpdateRequest
from eventsink.runtime.durations import DURATION_FORM, InvalidDuration, parse_duration
from eventsink.runtime.times import format_time, parse_time

SIGNING_BYTES = 32
_ARGS = "event_sink_args"


@dataclass(frozen=True)
class SpecChange:
    """The spec to write, and the credentials that belong to it."""

    spec: dict[str, Any]
    secret: str
    """Name of the Secret that the spec refers to, if there are values."""
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Key -> credential; empty: there is no Secret to create."""
    generates: bool = False
    """Whether the signing secret that was offered is used."""


def new_signing_secret() -> str:
    """A key for Standard Webhooks: `whsec_` and base64 of 32 random bytes."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SIGNING_BYTES)).decode()


def new_spec(request: CreateRequest, secret: str, signing: str) -> SpecChange:
    """The spec of a new sink.

    Parameters
    ----------
    secret
        Name of the Secret for its credentials.
    signing
        The signing secret to use if one is to be generated.

    Raises
    ------
    InvalidRequest
        The spec would be rejected.
    """
    credentials = Credentials(secret, signing)
    spec: dict[str, Any] = {"tenant": request.tenant_id, "name": request.name}
    if request.description:
        spec["description"] = request.description
    _set_common(spec, request)
    _set_destination(spec, request.event_sink_args, credentials)
    return _checked(spec, secret, credentials)


def changed_spec(before: Mapping[str, Any], request: UpdateRequest, secret: str, signing: str) -> SpecChange:
    """The spec after an update. Parameters as of `new_spec`.

    Raises
    ------
    InvalidRequest
        The spec would be rejected, or would send credentials to another host than the one they were given for.
    Conflict
        The sink was written for a newer version of EventSink.
    """
    credentials = Credentials(secret, signing)
    spec = copy.deepcopy(dict(before))
    if request.name is not None:
        spec["name"] = request.name
    elif "name" in request.model_fields_set:
        raise InvalidRequest("name: required; write a text")
    if "description" in request.model_fields_set:
        _put(spec, "description", request.description or None)
    _set_common(spec, request)
    if request.event_sink_args is not None:
        if (old := type_of(before)) != request.event_sink_args.type:
            name = arguments()[old].display_name
            raise InvalidRequest(f"{_ARGS}: the type cannot change, and this sink is a {name}; create another one")
        _set_destination(spec, request.event_sink_args, credentials)
    return _checked(spec, secret, credentials)


def muted_spec(before: Mapping[str, Any], request: MuteRequest, now: datetime) -> SpecChange:
    """The spec after a mute was added: it replaces one with the same matchers and start, and those that have ended go.

    Raises
    ------
    InvalidRequest
        The spec would be rejected, or has too many mutes already.
    Conflict
        The sink was written for a newer version of EventSink.
    """
    mute: dict[str, Any] = {"matchers": list(request.matchers)}
    if request.from_ is not None:
        mute["from"] = request.from_
    mute["until"] = request.until if request.until is not None else _later(now, request.duration or "")
    if request.comment:
        mute["comment"] = request.comment
    mutes = [one for one in _mutes(before) if not _is_over(one, now) and not _is_same(one, mute)]
    if len(mutes) >= MAX_MUTES:
        raise InvalidRequest(f"mutes: a sink has at most {MAX_MUTES}; remove one first")
    if _is_over(mute, now):
        raise InvalidRequest("until: in the past; write a later time")
    spec = {**before, "mutes": [*mutes, mute]}
    return _checked(copy.deepcopy(spec), "", Credentials("", ""))


def unmuted_spec(before: Mapping[str, Any], index: int | None) -> SpecChange:
    """The spec without the mute of this index, or without any.

    Raises
    ------
    NotFound
        There is none of that index.
    InvalidRequest, Conflict
        As of `muted_spec`.
    """
    mutes = _mutes(before)
    if index is not None and index >= len(mutes):
        raise NotFound("index: the sink has no such mute; the first one is 0")
    spec = copy.deepcopy(dict(before))
    _put(spec, "mutes", ([] if index is None else mutes[:index] + mutes[index + 1 :]) or None)
    return _checked(spec, "", Credentials("", ""))


def _mutes(spec: Mapping[str, Any]) -> list[Any]:
    return list(found) if isinstance(found := spec.get("mutes"), list) else []


def _is_over(mute: Any, now: datetime) -> bool:
    try:
        return parse_time(mute["until"]) <= now
    except (KeyError, TypeError, ValueError):
        return False  # the check of the whole spec says what is wrong with it


def _is_same(one: Any, other: Mapping[str, Any]) -> bool:
    return (
        isinstance(one, Mapping)
        and isinstance(one.get("matchers"), list)
        and sorted(map(str, one["matchers"])) == sorted(other["matchers"])
        and one.get("from") == other.get("from")
    )


def _later(now: datetime, duration: str) -> str:
    try:
        return format_time(now + timedelta(seconds=parse_duration(duration)))
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"duration: {DURATION_FORM if isinstance(error, InvalidDuration) else 'too long'}") from None


def type_of(spec: Mapping[str, Any]) -> str:
    """The destination type of a spec, valid or not: the name of the field that says where to deliver."""
    names = tuple(arguments())
    return next((name for name in names if isinstance(spec.get(name), Mapping)), names[-1])


def camel(name: str) -> str:
    """`min_severity` -> `minSeverity`."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _set_destination(spec: dict[str, Any], args: ByTypeArgs, credentials: Credentials) -> None:
    destination = arguments()[args.type]
    try:
        if isinstance(before := spec.get(args.type), Mapping):
            spec[args.type] = destination.changed_spec(before, args.value, credentials)
        else:
            spec[args.type] = destination.new_spec(args.value, credentials)
    except InvalidArguments as error:
        path = ".".join(filter(None, (_ARGS, destination.display_name, error.field)))
        raise InvalidRequest(f"{path}: {error.sentence}") from None


def _set_common(spec: dict[str, Any], request: CreateRequest | UpdateRequest) -> None:
    given = request.model_fields_set
    if "suspend" in given:
        _put(spec, "suspend", request.suspend)
    for name in ("match", "delivery"):
        if name in given:
            _put(spec, name, _merged(spec.get(name), getattr(request, name)))
    if "mutes" in given:
        _put(spec, "mutes", _document(request.mutes) or None)


def _merged(before: Any, args: RestModel | None) -> dict[str, Any] | None:
    """The fields from before, with those given over them; null clears."""
    if args is None:
        return None
    after = dict(before) if isinstance(before, dict) else {}
    for name in args.model_fields_set:
        _put(after, camel(name), _document(getattr(args, name)))
    return after or None


def _document(value: Any) -> Any:
    """What a value of a request is in a spec."""
    if isinstance(value, RestModel):
        given = {camel(name): _document(getattr(value, name)) for name in value.model_fields_set}
        return {name: inner for name, inner in given.items() if inner is not None}
    return [_document(one) for one in value] if isinstance(value, list) else value


def _put(target: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        target.pop(name, None)
    else:
        target[name] = value


def _checked(spec: dict[str, Any], secret: str, credentials: Credentials) -> SpecChange:
    """Check the spec; a credential with a plain counterpart must keep the rules for that one."""
    checked, name, references = spec, type_of(spec), {}
    for reference, (plain, value) in credentials.plain.items():
        destination = {key: inner for key, inner in checked[name].items() if key != reference}
        checked = {**checked, name: {**destination, plain: value}}
        references[f"spec.{name}.{plain}"] = f"spec.{name}.{reference}"
    try:
        read_spec(checked)
        return SpecChange(spec, secret, credentials.values, credentials.generates)
    except InvalidSpec as invalid:
        errors = invalid.errors
    if any(error.unknown_field for error in errors):
        raise Conflict("the sink has fields that this version of EventSink does not know; change it with a newer version")
    raise InvalidRequest(
        "; ".join(f"{rest_path(references.get(error.path, error.path))}: {rest_sentence(error.message)}" for error in errors)
    )
