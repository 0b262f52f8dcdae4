"""What a webhook would be sent: the bodies that the router makes, and the headers, without values that may be credentials."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import click
import msgspec

from eventsink.alerts.alert import Alert, Status
from eventsink.alerts.alertmanager_group import encoded_group, encoded_part
from eventsink.destinations.preview import MessagePreview, PreviewedAlerts
from eventsink.destinations.webhook.sender import USER_AGENT, render
from eventsink.destinations.webhook.spec import DEFAULT_BATCH, WebhookSpec
from eventsink.resources.eventsink import EventSink
from eventsink.sinks.sender import Message
from eventsink.sinks.transport import Endpoint

_encoder = msgspec.json.Encoder()


def preview(sink: EventSink, sent: PreviewedAlerts, *, width: int) -> Sequence[MessagePreview]:
    """A message for each alert, or as many as the sink takes at once; of the format alertmanager one with the group."""
    webhook = sink.spec.destination
    assert isinstance(webhook, WebhookSpec)
    to = Endpoint.parse(webhook.url).origin if webhook.url is not None else "the URL in the Secret"
    previews = []
    for message in _messages(webhook, sent):
        content_type, body = render(message)
        shown = json.loads(body)
        lines = [click.style(line, dim=True) for line in _head(webhook, content_type.decode())]
        previews.append(MessagePreview(f"webhook {to}", shown, [*lines, "", *json.dumps(shown, indent=2).split("\n")]))
    return previews


def _messages(webhook: WebhookSpec, sent: PreviewedAlerts) -> Iterator[Message]:
    if webhook.format == "alertmanager":
        yield from (Message(id="", group=group) for group in _groups(sent))
        return
    batch = webhook.batch or DEFAULT_BATCH
    alerts = [_encoder.encode(alert) for alert in sent.alerts]
    for first in range(0, len(alerts), batch):
        yield Message(id="", alerts=alerts[first : first + batch], batched=batch > 1)


def _groups(sent: PreviewedAlerts) -> list[bytes]:
    notification = sent.notification
    if notification.group is None:
        return [_group_of(alert) for alert in sent.alerts]
    if sent.whole and notification.passes_on_body():
        return [notification.body]
    status = Status.RESOLVED if all(alert.status is Status.RESOLVED for alert in sent.alerts) else Status.FIRING
    return [encoded_part(notification.group, sent.wanted, status=status)]


def _group_of(alert: Alert) -> bytes:
    return encoded_group([alert], key=alert.fingerprint, receiver=alert.source)


def _head(webhook: WebhookSpec, content_type: str) -> Iterator[str]:
    """The headers, in the order in which they are sent."""
    given = {header.name.lower() for header in webhook.headers or ()}
    yield "POST"
    if "user-agent" not in given:
        yield f"User-Agent: {USER_AGENT}"
    for header in webhook.headers or ():
        if header.value_from is not None:
            ref = header.value_from.secret_key_ref
            yield f"{header.name}: (from the Secret {ref.name}, key {ref.key})"
        else:
            yield f"{header.name}: (the value in the spec)"
    yield f"Content-Type: {content_type}"
    yield "webhook-id: (the same in each attempt)"
    yield "webhook-timestamp: (seconds since 1970, of the attempt)"
    if webhook.signing_secret_refs:
        yield "webhook-signature: (of id, timestamp and body: " + (
            "one for each signing secret)" if len(webhook.signing_secret_refs) > 1 else "v1,...)"
        )
