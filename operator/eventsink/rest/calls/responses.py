"""Turns an EventSink into a response. Pure; shows no code, token, header value or signing secret.

Sinks created with YAML are shown, too, even those that break every rule: nothing here relies on the form of a spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from eventsink.destinations.arguments import RestModel, arguments
from eventsink.kube.api import Object
from eventsink.resources.eventsink import EventSinkObject, read_object
from eventsink.resources.status import DELIVERING, READY, STALLED, EventSinkStatus
from eventsink.rest.calls.messages import rest_sentence, snake
from eventsink.rest.calls.specs import type_of
from eventsink.rest.models import Configuration, Delivering, DeliveryArgs, EventSinkResponse, MatchArgs, MuteArgs

UNOBSERVED = "Pending: the operator has not processed it yet; is it running?"
UNREPORTED = "the router has not reported on this sink yet"


def response_of(obj: Object) -> EventSinkResponse:
    """The response that describes an EventSink."""
    sink = read_object(obj)
    spec = _mapping(obj.get("spec"))
    name = type_of(spec)
    destination = arguments()[name]
    shown = destination.shown(_mapping(spec.get(name)), sink.status.destinations.get(name))
    ready, reason = readiness(sink)
    return EventSinkResponse(
        id=sink.uid,
        tenant_id=_text(spec, "tenant"),
        name=_text(spec, "name"),
        description=_text(spec, "description"),
        event_sink_type=destination.display_name,
        configuration=Configuration.of(name, shown),
        created_at=created_at(obj),
        updated_at=updated_at(obj),
        ready=ready,
        reason=reason,
        suspend=True if spec.get("suspend") is True else None,
        match=_args(MatchArgs, spec.get("match")),
        mutes=_mutes(spec.get("mutes")),
        delivery=_args(DeliveryArgs, spec.get("delivery")),
        delivering=_delivering(sink.status),
    )


def readiness(sink: EventSinkObject) -> tuple[bool, str]:
    """Whether its current spec is accepted and active, and why not."""
    condition = sink.status.condition(READY)
    if condition is None or (sink.status.observed_generation or 0) < sink.generation:
        return False, UNOBSERVED
    if condition.status == "True":
        return True, ""
    return False, f"{condition.reason}: {rest_sentence(condition.message)}"


def is_decided(obj: Object) -> bool:
    """Whether the operator has accepted or rejected the current spec: nothing changes before a person acts."""
    sink = read_object(obj)
    if (sink.status.observed_generation or 0) < sink.generation:
        return False
    return readiness(sink)[0] or is_rejected(obj)


def is_rejected(obj: Object) -> bool:
    """Whether the operator has rejected the current spec."""
    sink = read_object(obj)
    stalled = sink.status.condition(STALLED)
    observed = (sink.status.observed_generation or 0) >= sink.generation
    return observed and stalled is not None and stalled.status == "True"


def created_at(obj: Object) -> str:
    """RFC 3339 UTC with seconds."""
    return str(obj["metadata"].get("creationTimestamp") or "1970-01-01T00:00:00Z")


def updated_at(obj: Object) -> str:
    """When the sink, not its status, was changed last: the API server records it for each field manager."""
    times = [
        str(entry.get("time"))
        for entry in obj["metadata"].get("managedFields") or ()
        if not entry.get("subresource") and entry.get("time")
    ]
    return max([created_at(obj), *times])


def etag(obj: Object) -> str:
    """Of the sink, not of its status: it changes when the spec does."""
    metadata = obj["metadata"]
    return f'"{metadata["uid"]}.{metadata.get("generation", 0)}"'


def _delivering(status: EventSinkStatus) -> Delivering:
    condition = status.condition(DELIVERING)
    if condition is None:
        return Delivering(status="Unknown", reason="NotReported", message=UNREPORTED)
    return Delivering(
        status=condition.status,
        reason=condition.reason,
        message=rest_sentence(condition.message),
        last_delivered_at=status.delivery.last_delivered_time if status.delivery else None,
        last_error=rest_sentence(status.delivery.last_error) if status.delivery and status.delivery.last_error else None,
    )


def _args(model: type[Any], value: Any) -> Any:
    try:
        found: RestModel = model.model_validate(_snake(_mapping(value)))
    except ValidationError:
        return None
    return found if found.model_fields_set else None


def _mutes(value: Any) -> list[MuteArgs] | None:
    found = [one for one in (_args(MuteArgs, mute) for mute in (value if isinstance(value, list) else ())) if one is not None]
    return found or None


def _snake(value: Any) -> Any:
    """A value of a spec with the names of a response; no name in it is a person's own."""
    if isinstance(value, Mapping):
        return {snake(name): _snake(inner) for name, inner in value.items()}
    return [_snake(one) for one in value] if isinstance(value, list) else value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""
