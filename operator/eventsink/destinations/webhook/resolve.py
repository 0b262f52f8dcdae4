"""Makes the target of a webhook: its URL and headers, checked against the platform's policy, its signing secrets and its CA."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from eventsink.destinations.credentials import ORIGIN_KEY, REST_SECRET_PREFIX, SecretValues, secret_text
from eventsink.destinations.problem import Effect, Problem
from eventsink.destinations.resolver import Before, Note, Resolved, ResolverContext
from eventsink.destinations.webhook.config import WebhookPolicy
from eventsink.destinations.webhook.spec import (
    DEFAULT_BATCH,
    DEFAULT_FORMAT,
    DEFAULT_METHOD,
    DEFAULT_TIMEOUT,
    WebhookSpec,
    WebhookStatus,
)
from eventsink.destinations.webhook.success import SuccessWhen
from eventsink.destinations.webhook.target import Header, WebhookTarget
from eventsink.destinations.webhook.templated import DEFAULT_CONTENT_TYPE
from eventsink.kube.api import Key
from eventsink.resources.eventsink import EventSink
from eventsink.resources.model import SecretKeyRef, StatusModel
from eventsink.runtime.durations import parse_duration
from eventsink.runtime.patterns import Wildcards
from eventsink.sinks.signatures import InvalidSigningSecret, signing_key
from eventsink.sinks.target import Target
from eventsink.sinks.transport import Endpoint

ReadText = Callable[[str, SecretKeyRef], str]
"""Path of the reference, reference -> the text that it means."""
URL_PATH = "spec.webhook.url"
_UNKNOWN = "placeholder-for-an-unknown-value"
"""As good as a header's value and as a signing secret."""


class WebhookResolver:
    """A `Resolver` of webhooks. Asks nobody."""

    def __init__(self, policy: WebhookPolicy) -> None:
        self._policy = policy
        self._policy_digest = hashlib.sha256(policy.model_dump_json().encode()).hexdigest()[:16]

    def policy_digest(self) -> str:
        return self._policy_digest

    def own_namespaces(self) -> Collection[str]:
        return ()

    def problems(self, sink: EventSink) -> Sequence[Problem]:
        url = _spec(sink).url
        try:
            if url is not None:
                _check_url(URL_PATH, url, self._policy)
        except Problem as problem:
            return (problem,)
        return ()

    def tokens(self, sink: EventSink, secrets: SecretValues) -> Collection[Key]:
        return ()

    async def resolve(self, sink: EventSink, secrets: SecretValues, *, namespace_uid: str, before: Before) -> Resolved:
        def read(path: str, ref: SecretKeyRef) -> str:
            return secret_text(path, ref, secrets, sink.namespace)

        webhook = _spec(sink)
        target = target_of(webhook, read, self._policy)
        _check_origins(webhook, target.url, secrets)
        return Resolved(target)

    def remark(self, sink: EventSink, status: StatusModel | None) -> str:
        return ""

    def status(self, target: Target) -> WebhookStatus | None:
        return WebhookStatus(origin=Endpoint.parse(target.url).origin) if isinstance(target, WebhookTarget) else None

    async def run(self) -> None:
        pass

    async def close(self, grace: float) -> None:
        pass


def open_resolver(context: ResolverContext) -> WebhookResolver:
    """The resolver of webhooks."""
    return WebhookResolver(context.settings_of(WebhookPolicy))


def check(sink: EventSink, secrets: SecretValues) -> Sequence[Note]:
    """Check everything whose Secret is given; whether the platform allows the URL is not known here."""
    webhook = _spec(sink)
    changed: dict[str, Any] = {}
    if webhook.url_secret_ref is not None and webhook.url_secret_ref.name not in secrets:
        changed = {"url": "https://example.com/", "url_secret_ref": None}
    if webhook.tls is not None and webhook.tls.ca_secret_ref.name not in secrets:
        changed["tls"] = None

    def read(path: str, ref: SecretKeyRef) -> str:
        return secret_text(path, ref, secrets, sink.namespace) if ref.name in secrets else _UNKNOWN

    target = target_of(webhook.model_copy(update=changed), read, WebhookPolicy())
    if "url" not in changed:
        _check_origins(webhook, target.url, secrets)
    return ()


def _spec(sink: EventSink) -> WebhookSpec:
    webhook = sink.spec.destination
    assert isinstance(webhook, WebhookSpec)
    return webhook


def target_of(webhook: WebhookSpec, read: ReadText, policy: WebhookPolicy) -> WebhookTarget:
    """The target of a webhook.

    Raises
    ------
    Problem
        A reference or a value cannot be used, or the policy forbids the URL.
    """
    if webhook.url is not None:
        path, url = URL_PATH, webhook.url
    else:
        assert webhook.url_secret_ref is not None
        path = "spec.webhook.urlSecretRef"
        url = read(path, webhook.url_secret_ref).strip()
    _check_url(path, url, policy)
    return WebhookTarget(
        url=url,
        headers=tuple(_headers(webhook, read)),
        signing_secrets=tuple(_signing_secrets(webhook, read)),
        format=webhook.format or DEFAULT_FORMAT,
        batch=webhook.batch or DEFAULT_BATCH,
        timeout=parse_duration(webhook.timeout or DEFAULT_TIMEOUT),
        ca=_authority(webhook, read),
        template=webhook.template,
        content_type=webhook.content_type or DEFAULT_CONTENT_TYPE,
        method=webhook.method or DEFAULT_METHOD,
        success_when=(
            SuccessWhen.model_validate(webhook.success_when.model_dump(exclude_none=True))
            if webhook.success_when is not None
            else None
        ),
    )


def _headers(webhook: WebhookSpec, read: ReadText) -> Iterator[Header]:
    for index, header in enumerate(webhook.headers or ()):
        path = f"spec.webhook.headers[{index}]"
        if header.value_from is not None:
            path += ".valueFrom.secretKeyRef"
            value = read(path, header.value_from.secret_key_ref)
        else:
            value = header.value or ""
        if not all(character == "\t" or character.isprintable() for character in value) or value != value.strip():
            raise Problem(
                "InvalidSecretValue", path, "the header's value holds a line break, a control character or spaces at an end"
            )
        yield Header(name=header.name, value=value)


def _check_origins(webhook: WebhookSpec, url: str, secrets: SecretValues) -> None:
    """Whether the value of each header may be sent to that URL.

    Whoever takes over the REST API can write the URL of a sink, or replace the Secret that holds it. So a value that the REST API keeps
    goes only where it was given for, and a value from another Secret never to a URL that the REST API keeps.

    Raises
    ------
    Problem
        One may not.
    """
    for index, header in enumerate(webhook.headers or ()):
        if header.value_from is None or header.value_from.secret_key_ref.name not in secrets:
            continue
        name = header.value_from.secret_key_ref.name
        path = f"spec.webhook.headers[{index}].valueFrom.secretKeyRef"
        if name.startswith(REST_SECRET_PREFIX):
            if secrets[name].get(ORIGIN_KEY) != Endpoint.parse(url).origin.encode():
                raise Problem(
                    "HostMismatch",
                    path,
                    "the REST API was given the value for another host; give it the URL and all headers again, in one request",
                )
        elif webhook.url_secret_ref is not None and webhook.url_secret_ref.name.startswith(REST_SECRET_PREFIX):
            raise Problem(
                "HostMismatch",
                path,
                "the value is not sent to a URL that the REST API keeps, since the REST API could change that; put the URL into a "
                "Secret of your own too, or give the REST API the URL and all headers, in one request",
            )


def _signing_secrets(webhook: WebhookSpec, read: ReadText) -> Iterator[str]:
    for index, ref in enumerate(webhook.signing_secret_refs or ()):
        path = f"spec.webhook.signingSecretRefs[{index}]"
        secret = read(path, ref)
        try:
            signing_key(secret)
        except InvalidSigningSecret as error:
            raise Problem("InvalidSecretValue", path, str(error)) from None
        yield secret


def _authority(webhook: WebhookSpec, read: ReadText) -> str | None:
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
        raise Problem("InvalidSecretValue", path, "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    return pem


def _check_url(path: str, url: str, policy: WebhookPolicy) -> None:
    """Whether a URL can be used and the platform's policy allows it."""
    try:
        endpoint = Endpoint.parse(url)
    except ValueError as error:
        raise Problem("InvalidURL", path, str(error)) from None
    host = endpoint.server_name  # patterns have no dot at their end
    if endpoint.scheme == "http" and not policy.allow_http:
        raise Problem(
            "URLNotAllowed",
            path,
            "the platform allows https:// only (operator setting webhooks.allowHttp)",
            effect=Effect.WITHDRAW,
        )
    if _listed(host, policy.denied_hosts) or (policy.allowed_hosts and not _listed(host, policy.allowed_hosts)):
        sentence = f"the platform does not allow the host {host} (operator settings webhooks.allowedHosts and deniedHosts)"
        raise Problem("URLNotAllowed", path, sentence, effect=Effect.WITHDRAW)


def _listed(host: str, patterns: tuple[str, ...]) -> bool:
    return Wildcards(pattern.lower() for pattern in patterns).match(host)
