"""Makes the target of a webhook: its URL and headers, checked against the platform's policy, its credentials, and its TLS."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from eventsink.destinations.credentials import ORIGIN_KEY, REST_SECRET_PREFIX, TOKEN_ORIGIN_KEY, SecretValues, secret_text
from eventsink.destinations.problem import Effect, Problem
from eventsink.destinations.resolver import Before, Note, Resolved, ResolverContext
from eventsink.destinations.webhook.auth_resolve import TOKEN_URL_PATH, ReadText, authorization, credentials, oauth2_client
from eventsink.destinations.webhook.client_certificate import (
    CertificateNotYetValid,
    ExpiredCertificate,
    InvalidCertificate,
    client_certificate,
    expires,
    expiry_remark,
)
from eventsink.destinations.webhook.config import WebhookPolicy
from eventsink.destinations.webhook.spec import (
    DEFAULT_BATCH,
    DEFAULT_FORMAT,
    DEFAULT_METHOD,
    DEFAULT_TIMEOUT,
    TLS_NEEDS_HTTPS,
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
from eventsink.sinks.authorities import read_authorities
from eventsink.sinks.signatures import InvalidSigningSecret, signing_key
from eventsink.sinks.target import Target
from eventsink.sinks.transport import Endpoint

URL_PATH = "spec.webhook.url"
MAX_WAIT_SECONDS = 3600.0
"""So often at least a certificate is looked at that is not valid yet."""
_UNKNOWN = "placeholder-for-an-unknown-value"
"""As good as a header's value and as a signing secret."""


class WebhookResolver:
    """A `Resolver` of webhooks. Asks nobody."""

    def __init__(self, policy: WebhookPolicy, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._policy = policy
        self._now = now
        self._policy_digest = hashlib.sha256(policy.model_dump_json().encode()).hexdigest()[:16]

    def policy_digest(self) -> str:
        return self._policy_digest

    def own_namespaces(self) -> Collection[str]:
        return ()

    def problems(self, sink: EventSink) -> Sequence[Problem]:
        webhook, found = _spec(sink), []
        token_url = webhook.auth.oauth2.token_url if webhook.auth is not None and webhook.auth.oauth2 is not None else None
        for path, url in ((URL_PATH, webhook.url), (TOKEN_URL_PATH, token_url)):
            try:
                if url is not None:
                    _check_url(path, url, self._policy)
            except Problem as problem:
                found.append(problem)
        return found

    def tokens(self, sink: EventSink, secrets: SecretValues) -> Collection[Key]:
        return ()

    async def resolve(self, sink: EventSink, secrets: SecretValues, *, namespace_uid: str, before: Before) -> Resolved:
        def read(path: str, ref: SecretKeyRef) -> str:
            return secret_text(path, ref, secrets, sink.namespace)

        webhook = _spec(sink)
        target = target_of(webhook, read, self._policy, self._now())
        _check_origins(webhook, target.url, secrets)
        return Resolved(target)

    def remark(self, sink: EventSink, status: StatusModel | None) -> str:
        if not isinstance(status, WebhookStatus) or status.client_cert_expires is None:
            return ""
        return expiry_remark(datetime.fromisoformat(status.client_cert_expires), self._now())

    def status(self, target: Target) -> WebhookStatus | None:
        if not isinstance(target, WebhookTarget):
            return None
        expiry = None
        if target.client_certificate is not None:
            expiry = expires(target.client_certificate).strftime("%Y-%m-%dT%H:%M:%SZ")
        return WebhookStatus(origin=Endpoint.parse(target.url).origin, client_cert_expires=expiry)

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
    if webhook.tls is not None:
        changed["tls"] = webhook.tls.model_copy(
            update={
                field: None
                for field in ("ca_secret_ref", "client_cert_secret_ref")
                if (ref := getattr(webhook.tls, field)) is not None and ref.name not in secrets
            }
        )

    def read(path: str, ref: SecretKeyRef) -> str:
        return secret_text(path, ref, secrets, sink.namespace) if ref.name in secrets else _UNKNOWN

    target = target_of(webhook.model_copy(update=changed), read, WebhookPolicy(), datetime.now(UTC))
    if "url" not in changed:
        _check_origins(webhook, target.url, secrets)
    return ()


def _spec(sink: EventSink) -> WebhookSpec:
    webhook = sink.spec.destination
    assert isinstance(webhook, WebhookSpec)
    return webhook


def target_of(webhook: WebhookSpec, read: ReadText, policy: WebhookPolicy, now: datetime) -> WebhookTarget:
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
    endpoint = _check_url(path, url, policy)
    headers, oauth2, auth, tls = [*_headers(webhook, read)], None, webhook.auth, webhook.tls
    if auth is not None:
        if endpoint.userinfo:
            raise Problem("InvalidURL", path, "remove user and password from the URL, or spec.webhook.auth")
        if auth.oauth2 is not None:
            _check_url(TOKEN_URL_PATH, auth.oauth2.token_url, policy)
            oauth2 = oauth2_client(auth.oauth2, read)
        headers += [header for header in (authorization(auth, read),) if header is not None]
    if endpoint.scheme != "https" and tls is not None and (tls.client_cert_secret_ref or tls.server_name):
        raise Problem("InvalidURL", path, TLS_NEEDS_HTTPS.message)
    return WebhookTarget(
        url=url,
        headers=tuple(headers),
        signing_secrets=tuple(_signing_secrets(webhook, read)),
        format=webhook.format or DEFAULT_FORMAT,
        batch=webhook.batch or DEFAULT_BATCH,
        timeout=parse_duration(webhook.timeout or DEFAULT_TIMEOUT),
        ca=_authority(webhook, read),
        client_certificate=_client_certificate(webhook, read, now),
        server_name=tls.server_name if tls is not None else None,
        oauth2=oauth2,
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
    wanted = {ORIGIN_KEY: Endpoint.parse(url).origin.encode()}
    if webhook.auth is not None and webhook.auth.oauth2 is not None:
        wanted[TOKEN_ORIGIN_KEY] = Endpoint.parse(webhook.auth.oauth2.token_url).origin.encode()
    for path, ref, origins in _sent(webhook):
        name = ref.name
        if name not in secrets:
            continue
        if name.startswith(REST_SECRET_PREFIX):
            if any(secrets[name].get(key) != wanted[key] for key in origins):
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


def _sent(webhook: WebhookSpec) -> Iterator[tuple[str, SecretKeyRef, Collection[str]]]:
    """The references whose values reach a receiver: path, reference, and which origins they were given for."""
    for index, header in enumerate(webhook.headers or ()):
        if header.value_from is not None:
            yield f"spec.webhook.headers[{index}].valueFrom.secretKeyRef", header.value_from.secret_key_ref, (ORIGIN_KEY,)
    origins = (ORIGIN_KEY,) if webhook.auth is None or webhook.auth.oauth2 is None else (ORIGIN_KEY, TOKEN_ORIGIN_KEY)
    for path, ref in credentials(webhook.auth):
        yield path, ref, origins


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
    if webhook.tls is None or webhook.tls.ca_secret_ref is None:
        return None
    path = "spec.webhook.tls.caSecretRef"
    try:
        return read_authorities(read(path, webhook.tls.ca_secret_ref))
    except ValueError as error:
        raise Problem("InvalidSecretValue", path, str(error)) from None


def _client_certificate(webhook: WebhookSpec, read: ReadText, now: datetime) -> str | None:
    if webhook.tls is None or webhook.tls.client_cert_secret_ref is None:
        return None
    path = "spec.webhook.tls.clientCertSecretRef"
    certificate, key = webhook.tls.client_cert_secret_ref.pair()
    try:
        return client_certificate(read(path, certificate), read(path, key), now)
    except ExpiredCertificate as error:
        raise Problem("ClientCertificateExpired", path, str(error)) from None
    except CertificateNotYetValid as error:
        again = min(error.seconds, MAX_WAIT_SECONDS) + 1.0
        raise Problem("InvalidSecretValue", path, str(error), may_pass=True, again_after=again) from None
    except InvalidCertificate as error:
        raise Problem("InvalidSecretValue", path, str(error)) from None


def _check_url(path: str, url: str, policy: WebhookPolicy) -> Endpoint:
    """A URL taken apart, if it can be used and the platform's policy allows it."""
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
    return endpoint


def _listed(host: str, patterns: tuple[str, ...]) -> bool:
    return Wildcards(pattern.lower() for pattern in patterns).match(host)
