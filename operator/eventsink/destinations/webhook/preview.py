"""What a webhook would be sent: the bodies that the router makes, and the headers, without values that may be credentials."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import click
import msgspec

from eventsink.alerts.alert import Alert, Status
from eventsink.alerts.alertmanager_group import encoded_group, encoded_part
from eventsink.destinations.preview import MessagePreview, PreviewedAlerts
from eventsink.destinations.webhook.auth_spec import Auth
from eventsink.destinations.webhook.sender import USER_AGENT, render
from eventsink.destinations.webhook.spec import DEFAULT_BATCH, DEFAULT_METHOD, WebhookSpec
from eventsink.destinations.webhook.templated import DEFAULT_CONTENT_TYPE, is_json, written
from eventsink.resources.eventsink import EventSink
from eventsink.sinks.sender import Message
from eventsink.sinks.transport import Endpoint
from eventsink.templates.errors import TemplateFailed

_encoder = msgspec.json.Encoder()


def preview(sink: EventSink, sent: PreviewedAlerts, *, width: int) -> Sequence[MessagePreview]:
    """A message for each alert, or as many as the sink takes at once; of the format alertmanager one with the group."""
    webhook = sink.spec.destination
    assert isinstance(webhook, WebhookSpec)
    to = Endpoint.parse(webhook.url).origin if webhook.url is not None else "the URL in the Secret"
    previews = []
    if webhook.template is not None:
        return [_by_template(sink, webhook, alerts, f"webhook {to}") for alerts in _batches(webhook, sent.alerts)]
    for message in _messages(webhook, sent):
        content_type, body = render(message)
        previews.append(_preview(webhook, f"webhook {to}", content_type.decode(), body))
    return previews


def _by_template(sink: EventSink, webhook: WebhookSpec, alerts: Sequence[Alert], to: str) -> MessagePreview:
    content_type = webhook.content_type or DEFAULT_CONTENT_TYPE
    name = f"{sink.namespace}/{sink.name}"
    try:
        body = written(webhook.template or "", content_type, alerts, sink=name, tenant=sink.spec.tenant)
    except TemplateFailed as failed:
        return MessagePreview(
            to, None, [], [f"nothing is sent, the message becomes a dead letter: spec.webhook.template: {failed}"]
        )
    return _preview(webhook, to, content_type, body)


def _preview(webhook: WebhookSpec, to: str, content_type: str, body: bytes) -> MessagePreview:
    shown: Any = json.loads(body) if is_json(content_type) else body.decode()
    text = json.dumps(shown, indent=2) if is_json(content_type) else shown
    lines = [click.style(line, dim=True) for line in _head(webhook, content_type)]
    return MessagePreview(to, shown, [*lines, "", *("".join(map(_visible, line)) for line in text.split("\n"))])


def _visible(character: str) -> str:
    return character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"


def _messages(webhook: WebhookSpec, sent: PreviewedAlerts) -> Iterator[Message]:
    if webhook.format == "alertmanager":
        yield from (Message(id="", group=group) for group in _groups(sent))
        return
    for alerts in _batches(webhook, sent.alerts):
        yield Message(id="", alerts=[_encoder.encode(alert) for alert in alerts], batched=(webhook.batch or DEFAULT_BATCH) > 1)


def _batches(webhook: WebhookSpec, alerts: Sequence[Alert]) -> Iterator[Sequence[Alert]]:
    batch = webhook.batch or DEFAULT_BATCH
    for first in range(0, len(alerts), batch):
        yield alerts[first : first + batch]


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
    yield webhook.method or DEFAULT_METHOD
    if "user-agent" not in given:
        yield f"User-Agent: {USER_AGENT}"
    for header in webhook.headers or ():
        if header.value_from is not None:
            ref = header.value_from.secret_key_ref
            yield f"{header.name}: (from the Secret {ref.name}, key {ref.key})"
        else:
            yield f"{header.name}: (the value in the spec)"
    if webhook.auth is not None:
        yield f"Authorization: ({_authorization(webhook.auth)})"
    yield f"Content-Type: {content_type}"
    yield "webhook-id: (the same in each attempt)"
    yield "webhook-timestamp: (seconds since 1970, of the attempt)"
    if webhook.signing_secret_refs:
        yield "webhook-signature: (of id, timestamp and body: " + (
            "one for each signing secret)" if len(webhook.signing_secret_refs) > 1 else "v1,...)"
        )


def _authorization(auth: Auth) -> str:
    if auth.bearer is not None:
        return f"Bearer and the token from the Secret {auth.bearer.token_secret_ref.name}"
    if auth.basic is not None:
        return f"Basic, with the password from the Secret {auth.basic.password_secret_ref.name}"
    return "Bearer and a token of the authorization server"
