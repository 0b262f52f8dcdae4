"""What receivers and authorization servers respond, the Secrets that people write for them, and the addresses they name."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import cast

from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from eventsink.destinations.credentials import secret_text
from eventsink.destinations.problem import Problem
from eventsink.destinations.slack.api import check_hook_url, error_name, failed, retry_after, timestamp
from eventsink.destinations.slack.channels import problem_of, read_identity
from eventsink.destinations.slack.config import SlackSettings
from eventsink.destinations.slack.lookup import bot_token_of
from eventsink.destinations.webhook.config import WebhookPolicy
from eventsink.destinations.webhook.oauth2 import TokenFailed, read_token
from eventsink.destinations.webhook.resolve import target_of
from eventsink.destinations.webhook.sender import WebhookSender
from eventsink.destinations.webhook.spec import WebhookSpec
from eventsink.destinations.webhook.target import WebhookTarget
from eventsink.kube.api import ApiError
from eventsink.kube.secrets import secret_data
from eventsink.resources.model import SecretKeyRef
from eventsink.runtime.retry_after import MAX_RETRY_AFTER_SECONDS
from eventsink.sinks.egress import EgressGuard, EgressSettings, judge, literal_address
from eventsink.sinks.transport import Response, Transport
from tests.fuzz.target import Target, as_text, on_text

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_GUARD = EgressGuard(EgressSettings(allow=("10.96.0.0/12", "64:ff9b:1::/48"), deny=("10.96.0.1/32",)))
_REF = {"name": "s", "key": "k"}
_TLS = {"caSecretRef": _REF, "serverName": "a.example"}
_WEBHOOKS = [
    WebhookSpec.model_validate(one)
    for one in (
        {
            "urlSecretRef": _REF,
            "headers": [{"name": "X-A", "valueFrom": {"secretKeyRef": _REF}}],
            "signingSecretRefs": [_REF],
        },
        {"url": "https://a.example", "auth": {"basic": {"usernameSecretRef": _REF, "passwordSecretRef": _REF}}},
        {"url": "https://a.example", "auth": {"bearer": {"tokenSecretRef": _REF}}},
        {
            "url": "https://a.example",
            "auth": {"oauth2": {"tokenUrl": "https://b.example/t", "clientIdSecretRef": _REF, "clientSecretRef": _REF}},
        },
        {"url": "https://a.example", "headers": [{"name": "X-A", "valueFrom": {"secretKeyRef": _REF}}], "tls": _TLS},
    )
]
"""Each way in which a webhook takes something from a Secret, but for client certificates, which have a target of their own."""


def _token(data: bytes) -> None:
    token = read_token(Response(200, None, data), "https://a.example", 5.0)
    assert 5.0 <= token.renew_at <= token.expires_at <= 5.0 + 86_400.0
    assert f"Authorization: Bearer {token.value}".isprintable()


def _ask_slack(data: bytes) -> None:
    """A response to any call, with its status and a header in front, as the client gives it to those who call."""
    line, _, body = data.partition(b"\n")
    status, _, header = line.decode("latin-1").partition(" ")
    headers = {"X-OAuth-Scopes": header, "Retry-After": header}
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = body
    code = int(status) if status.isdecimal() and len(status) == 3 else 200
    response = AsyncSlackResponse(
        client=cast(AsyncWebClient, None),
        http_verb="POST",
        api_url="https://slack.com/api/auth.test",
        req_args={},
        data=content,
        headers=headers,
        status_code=code,
    )
    wait = retry_after(headers)
    assert wait is None or 0.0 <= wait <= MAX_RETRY_AFTER_SECONDS
    error: Exception | None = None
    try:
        response.validate()  # type: ignore[no-untyped-call]
        found = read_identity(response)
        for text in (found.team_id, found.team_name, found.bot_name, timestamp(response.get("ts"))):
            text.encode()
    except Exception as raised:  # as whoever calls does
        error = raised
    if error is not None:
        error_name(error)
        assert failed(error, "Slack").reason != "InternalError"
        problem_of(error, "spec.slack.channel").message.encode()


def _stored_secret(data: bytes) -> None:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return
    secret_data({"data": values})


class _Nowhere:
    """In place of outgoing HTTP."""

    def client(self, *_: object, **__: object) -> None: ...


def _open_webhooks(data: bytes) -> None:
    """What a Secret holds becomes a target that the router can read and send with, or a problem that repeats nothing of it."""

    def read(path: str, ref: SecretKeyRef) -> str:
        return secret_text(path, ref, {"s": {"k": data}}, "n")

    for spec in _WEBHOOKS:
        try:
            target = target_of(spec, read, WebhookPolicy(), _NOW)
        except Problem as problem:
            if "canary" in problem.message:
                raise AssertionError("the message repeats the secret") from None
            continue
        assert WebhookTarget.model_validate_json(target.model_dump_json()) == target
        WebhookSender(target, cast(Transport, _Nowhere()), "t")


def _open_slack(data: bytes) -> None:
    token = bot_token_of("spec.slack.botTokenSecretRef", as_text(data))
    assert token.encode("ascii").split() == [token.encode("ascii")]


def _judge(text: str) -> None:
    address = literal_address(text)
    if address is not None:
        assert _GUARD.judge(address) == judge(address, _GUARD._allow, _GUARD._deny)  # noqa: SLF001  # without what is remembered
        assert literal_address(address) == address
        assert _GUARD.judge(address).allowed or not _GUARD.judge_unresolved(address).allowed
        if judge(address).allowed:
            assert _GUARD.judge(address).allowed
    for verdict in (judge(text), _GUARD.judge(text), _GUARD.judge_proxy(text), _GUARD.judge_unresolved(text)):
        assert verdict.allowed is (not verdict.reason)


TARGETS: dict[str, Target] = {
    "oauth2_token": Target(
        _token,
        (TokenFailed,),
        (
            b'{"access_token":"abc","token_type":"Bearer","expires_in":3600}',
            b'{"access_token":"abc","token_type":"bearer","expires_in":"60"}',
            b'{"access_token":"a b","expires_in":1e-300}',
            b'{"access_token":"abc","expires_in":0.5}',
        ),
    ),
    "slack_call": Target(
        _ask_slack,
        (),
        (
            b'200 chat:write,channels:read\n{"ok":true,"team_id":"T1","team":"A","user":"b","is_enterprise_install":false,"ts":"1.2"}',
            b'200 120\n{"ok":false,"error":"missing_scope","needed":"channels:read,groups:read","provided":"chat:write"}',
            b'429 30\n{"ok":false,"error":"ratelimited"}',
            b"503 Wed, 21 Oct 2026 07:28:00 GMT\n<html>",
        ),
    ),
    "secret": Target(_stored_secret, (ApiError,), (b'{"a":"' + base64.b64encode(b"canary") + b'","b":""}',)),
    "webhook_secret": Target(
        _open_webhooks,
        (),
        (
            b"https://hooks.example.com/canary?b=c\n",
            b"whsec_ZXhhbXBsZS1zZWNyZXQtZG8tbm90",
            b"canary",
            "p\u00e4ss w\u00f6rd".encode(),
            b"canary.b-c_d~e+f/g==",
            b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        ),
    ),
    "slack_bot_token": Target(_open_slack, (Problem,), (b"xoxb-1-2-abc\n", b"xoxe.xoxb-1-abc")),
    "slack_hook_url": Target(
        on_text(lambda text: check_hook_url(text, SlackSettings())),
        (ValueError,),
        (b"https://hooks.slack.com/services/T1/B1/abc",),
    ),
    "egress": Target(
        on_text(_judge),
        (),
        (
            b"10.96.0.1",
            b"127.1",
            b"0x7f.1",
            b"::ffff:10.0.0.1",
            b"64:ff9b:1::a00:1",
            b"fe80::1%eth0",
            b"8.8.8.8.",
            b"a.localhost",
        ),
    ),
}
