"""Compiles an EventSink: from its spec and the values of its Secrets to all that delivery needs. Pure; knows no cluster."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from eventsink.alerts.matchers import InvalidMatcher, parse_matcher
from eventsink.controller.config import WebhookPolicy
from eventsink.destinations.credentials import SecretValues, secret_text
from eventsink.destinations.problem import Effect, Problem
from eventsink.destinations.slack.target import SlackTarget
from eventsink.destinations.webhook.target import Header, WebhookTarget
from eventsink.resources.eventsink import EventSink
from eventsink.resources.spec import EventSinkSpec, SecretKeyRef, Webhook
from eventsink.runtime.durations import parse_duration
from eventsink.sinks.signatures import InvalidSigningSecret, signing_key
from eventsink.sinks.sink import (
    CompiledFrom,
    Sink,
    SinkDelivery,
    SinkMatch,
)
from eventsink.sinks.target import Target
from eventsink.sinks.transport import Endpoint

DEFAULT_MAX_AGE_SECONDS = 72 * 3600.0
DEFAULT_TIMEOUT_SECONDS = 10.0
ReadText = Callable[[str, SecretKeyRef], str]
"""Path of the reference, reference -> the text that it means."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A place in a spec that refers to a key of a Secret."""

    path: str
    ref: SecretKeyRef


def references(spec: EventSinkSpec) -> list[Reference]:
    """All references to Secrets, in the order of the spec."""
    return list(_references(spec))


def _references(spec: EventSinkSpec) -> Iterator[Reference]:
    slack, webhook = spec.slack, spec.webhook
    if slack is not None:
        if slack.oauth_code_secret_ref is not None:
            yield Reference("spec.slack.oauthCodeSecretRef", slack.oauth_code_secret_ref)
        if slack.bot_token_secret_ref is not None:
            yield Reference("spec.slack.botTokenSecretRef", slack.bot_token_secret_ref)
        if slack.incoming_webhook_secret_ref is not None:
            yield Reference("spec.slack.incomingWebhookSecretRef", slack.incoming_webhook_secret_ref)
    if webhook is None:
        return
    if webhook.url_secret_ref is not None:
        yield Reference("spec.webhook.urlSecretRef", webhook.url_secret_ref)
    for index, header in enumerate(webhook.headers or ()):
        if header.value_from is not None:
            yield Reference(f"spec.webhook.headers[{index}].valueFrom.secretKeyRef", header.value_from.secret_key_ref)
    for index, ref in enumerate(webhook.signing_secret_refs or ()):
        yield Reference(f"spec.webhook.signingSecretRefs[{index}]", ref)
    if webhook.tls is not None:
        yield Reference("spec.webhook.tls.caSecretRef", webhook.tls.ca_secret_ref)


def policy_digest(policy: WebhookPolicy) -> str:
    """Changes when a setting changes that decides on what is compiled."""
    return hashlib.sha256(policy.model_dump_json().encode()).hexdigest()[:16]


def compile_sink(
    sink: EventSink,
    secrets: SecretValues,
    compiled_from: CompiledFrom,
    policy: WebhookPolicy,
    slack: SlackTarget | None = None,
) -> Sink:
    """Compile an EventSink whose claim was accepted.

    Parameters
    ----------
    sink, secrets
        The spec, and the Secrets that it refers to.
    compiled_from
        What it is made from, noted in the result.
    policy
        The platform's.
    slack
        The resolved target of a Slack sink.

    Raises
    ------
    Problem
        A reference, a value or a rule that cannot be used. The message names the field and shows no value of a Secret.
    """
    spec = sink.spec
    target: Target
    if slack is not None:
        target = slack
    else:
        assert spec.webhook is not None
        target = _webhook(spec.webhook, secrets, sink.namespace, policy)
    return Sink(
        uid=sink.uid,
        namespace=sink.namespace,
        name=sink.name,
        display_name=spec.name,
        tenant=spec.tenant,
        compiled_from=compiled_from,
        suspend=bool(spec.suspend),
        destination=target.destination(),
        match=_match(spec),
        delivery=_delivery(spec),
        dispatch=target.dispatch_parameters(),
        target=target,
    )


def _match(spec: EventSinkSpec) -> SinkMatch:
    match = spec.match
    if match is None:
        return SinkMatch()
    for index, text in enumerate(match.matchers or ()):
        try:
            parse_matcher(text)
        except InvalidMatcher as error:
            raise Problem("InvalidMatcher", f"spec.match.matchers[{index}]: {error}") from None
    return SinkMatch(
        min_severity=match.min_severity,
        sources=tuple(match.sources or ()),
        namespaces=tuple(match.namespaces or ()),
        matchers=tuple(match.matchers or ()),
    )


def _delivery(spec: EventSinkSpec) -> SinkDelivery:
    delivery = spec.delivery
    if delivery is None:
        return SinkDelivery(max_age=DEFAULT_MAX_AGE_SECONDS)
    return SinkDelivery(
        send_resolved=delivery.send_resolved is not False,
        repeat_interval=parse_duration(delivery.repeat_interval) if delivery.repeat_interval is not None else None,
        max_age=parse_duration(delivery.max_age) if delivery.max_age is not None else DEFAULT_MAX_AGE_SECONDS,
    )


def _webhook(webhook: Webhook, secrets: SecretValues, namespace: str, policy: WebhookPolicy) -> WebhookTarget:
    def read(path: str, ref: SecretKeyRef) -> str:
        return secret_text(path, ref, secrets, namespace)

    if webhook.url is not None:
        path, url = "spec.webhook.url", webhook.url
    else:
        assert webhook.url_secret_ref is not None
        path = "spec.webhook.urlSecretRef"
        url = read(path, webhook.url_secret_ref).strip()
    _check_url(path, url, policy)
    return WebhookTarget(
        url=url,
        headers=tuple(_headers(webhook, read)),
        signing_secrets=tuple(_signing_secrets(webhook, read)),
        format=webhook.format or "cloudevents",
        batch=webhook.batch or 1,
        timeout=parse_duration(webhook.timeout) if webhook.timeout is not None else DEFAULT_TIMEOUT_SECONDS,
        ca=_authority(webhook, read),
    )


def _headers(webhook: Webhook, read: ReadText) -> Iterator[Header]:
    for index, header in enumerate(webhook.headers or ()):
        path = f"spec.webhook.headers[{index}]"
        if header.value_from is not None:
            path += ".valueFrom.secretKeyRef"
            value = read(path, header.value_from.secret_key_ref)
        else:
            value = header.value or ""
        if not all(character == "\t" or character.isprintable() for character in value) or value != value.strip():
            raise Problem(
                "InvalidSecretValue", f"{path}: the header's value holds a line break, a control character or spaces at an end"
            )
        yield Header(name=header.name, value=value)


def _signing_secrets(webhook: Webhook, read: ReadText) -> Iterator[str]:
    for index, ref in enumerate(webhook.signing_secret_refs or ()):
        path = f"spec.webhook.signingSecretRefs[{index}]"
        secret = read(path, ref)
        try:
            signing_key(secret)
        except InvalidSigningSecret as error:
            raise Problem("InvalidSecretValue", f"{path}: {error}") from None
        yield secret


def _authority(webhook: Webhook, read: ReadText) -> str | None:
    if webhook.tls is None:
        return None
    path = "spec.webhook.tls.caSecretRef"
    pem = read(path, webhook.tls.ca_secret_ref)
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=pem)
        found = context.cert_store_stats()["x509"]
    except (ssl.SSLError, ValueError):
        found = 0
    if not found:
        raise Problem("InvalidSecretValue", f"{path}: holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    return pem


def _check_url(path: str, url: str, policy: WebhookPolicy) -> None:
    """Whether a URL can be used and the platform's policy allows it."""
    try:
        endpoint = Endpoint.parse(url)
    except ValueError as error:
        raise Problem("InvalidURL", f"{path}: {error}") from None
    host = endpoint.host.lower()
    if endpoint.scheme == "http" and not policy.allow_http:
        raise Problem(
            "URLNotAllowed",
            f"{path}: the platform allows https:// only (operator setting webhooks.allowHttp)",
            effect=Effect.WITHDRAW,
        )
    if _listed(host, policy.denied_hosts) or (policy.allowed_hosts and not _listed(host, policy.allowed_hosts)):
        message = f"{path}: the platform does not allow the host {host} (operator settings webhooks.allowedHosts and deniedHosts)"
        raise Problem("URLNotAllowed", message, effect=Effect.WITHDRAW)


def _listed(host: str, patterns: tuple[str, ...]) -> bool:
    return any(re.fullmatch(".*".join(map(re.escape, pattern.lower().split("*"))), host) for pattern in patterns)
