"""Turns an EventSink into a response. Pure; shows no code, token, header value or signing secret.

Sinks created with YAML are shown, too, even those that break every rule: nothing here relies on the form of a spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from eventsink.kube.api import Object
from eventsink.resources.eventsink import EventSinkObject, read_object
from eventsink.resources.status import DELIVERING, READY, STALLED, EventSinkStatus
from eventsink.rest.calls.specs import kind_of, rest_sentence, snake
from eventsink.rest.models import (
    Configuration,
    Delivering,
    DeliveryArgs,
    EventSinkResponse,
    MatchArgs,
    RestModel,
    ShownHeader,
    SlackConfiguration,
    WebhookConfiguration,
)

UNOBSERVED = "Pending: the operator has not processed it yet; is it running?"


def response_of(obj: Object) -> EventSinkResponse:
    """The response that describes an EventSink."""
    sink = read_object(obj)
    spec = _mapping(obj.get("spec"))
    kind = kind_of(spec)
    if kind == "Slack":
        configuration = Configuration(slack=_slack(_mapping(spec.get("slack")), sink.status))
    else:
        configuration = Configuration(webhook=_webhook(_mapping(spec.get("webhook")), sink.status))
    ready, reason = readiness(sink)
    return EventSinkResponse(
        id=sink.uid,
        tenant_id=_text(spec, "tenant"),
        name=_text(spec, "name"),
        description=_text(spec, "description"),
        event_sink_type="Slack" if kind == "Slack" else "Webhook",
        configuration=configuration,
        created_at=created_at(obj),
        updated_at=updated_at(obj),
        ready=ready,
        reason=reason,
        suspend=True if spec.get("suspend") is True else None,
        match=_args(MatchArgs, spec.get("match")),
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


def _slack(slack: Mapping[str, Any], status: EventSinkStatus) -> SlackConfiguration:
    found = status.slack
    return SlackConfiguration(
        channel=_text(slack, "channel"),
        channel_id=found.channel_id if found else None,
        channel_name=found.channel_name if found else None,
        team_id=found.team_id if found else None,
        team_name=found.team_name if found else None,
    )


def _webhook(webhook: Mapping[str, Any], status: EventSinkStatus) -> WebhookConfiguration:
    url = _text(webhook, "url")
    if "urlSecretRef" in webhook:
        url = status.webhook.origin or "" if status.webhook else ""
    headers = [ShownHeader(name=_text(one, "name")) for one in _list(webhook.get("headers")) if isinstance(one, Mapping)]
    batch = webhook.get("batch")
    return WebhookConfiguration(
        url=url,
        headers=headers or None,
        format=_text(webhook, "format") or None,
        batch=batch if isinstance(batch, int) and not isinstance(batch, bool) else None,
        timeout=_text(webhook, "timeout") or None,
        signed=True if webhook.get("signingSecretRefs") else None,
    )


def _delivering(status: EventSinkStatus) -> Delivering | None:
    condition = status.condition(DELIVERING)
    if condition is None:
        return None
    return Delivering(
        status=condition.status,
        reason=condition.reason,
        message=condition.message,
        last_delivered_at=status.delivery.last_delivered_time if status.delivery else None,
        last_error=status.delivery.last_error if status.delivery else None,
    )


def _args(model: type[Any], value: Any) -> Any:
    try:
        found: RestModel = model.model_validate({snake(name): inner for name, inner in _mapping(value).items()})
    except ValidationError:
        return None
    return found if found.model_fields_set else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""
