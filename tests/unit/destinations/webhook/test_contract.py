"""The sender contract for each setting that says how a webhook's receiver is reached, what it is sent, and what its responses mean."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import trustme
import yaml

from eventsink.destinations.webhook.config import WebhookPolicy
from eventsink.destinations.webhook.resolve import target_of
from eventsink.destinations.webhook.spec import WebhookSpec
from eventsink.destinations.webhook.success import SuccessWhen
from eventsink.destinations.webhook.target import OAuth2Client, WebhookTarget
from eventsink.resources.eventsink import InvalidSpec, read_spec
from eventsink.sinks.sender import Delivered, FailureClass, Message, SenderContext
from eventsink.sinks.target import Target
from tests.support.authorization_server import AuthorizationServer
from tests.support.loops import UVLOOP
from tests.support.proxy import ConnectProxy
from tests.unit.destinations.sender_contract import ALERT, CANARY, LONG_SECONDS, response, url_of
from tests.unit.destinations.webhook.contract import WebhookContract
from tests.unit.sinks.transport_contract import demanding, identity, serving

AUTHORIZATION_HOST = "127.0.0.2"
"""Not where the receivers are, which the egress guard denies in one test."""
NAME = "hooks.example.com"
AUTHORITY = trustme.CA()


class SettingContract(WebhookContract):
    """What the transport does on each loop, and what each status means, is tested with none of these settings."""

    loops = UVLOOP
    statuses: tuple[int, ...] = (100, 199, 200, 204, 299, 302, 400, 401, 403, 404, 422, 429, 500, 503, 599, 999)

    async def received(self) -> tuple[bytes, bytes]:
        """Head and body of the message that a receiver got."""
        async with self.serving(self.success) as server:
            assert isinstance(await self.sent(self.url_of(server)), Delivered)
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        return head, body


class SpecContract(SettingContract):
    """From what a person writes to what the receiver gets."""

    webhook: str
    """Members of the spec, in YAML."""

    def target(self, url: str, timeout: float) -> Target:
        webhook = {"url": "https://hooks.example.com/", **yaml.safe_load(self.webhook)}
        spec = read_spec({"tenant": "acme", "name": "Alerts", "webhook": webhook}).destination
        assert isinstance(spec, WebhookSpec)
        made = target_of(spec, lambda _, ref: f"{CANARY}-{ref.key}", WebhookPolicy(), datetime.now(UTC))
        return made.model_copy(update={"url": url, "timeout": timeout})


class TestSenderWithAPassword(SpecContract):
    webhook = "auth: {basic: {username: acme, passwordSecretRef: {name: hook, key: password}}}"
    encoded = base64.b64encode(f"acme:{CANARY}-password".encode())
    secrets = (CANARY, encoded.decode())
    head = (b"\r\nAuthorization: Basic %s\r\n" % encoded,)


class TestSenderWithAToken(SpecContract):
    webhook = "auth: {bearer: {tokenSecretRef: {name: hook, key: token}}}"
    head = (f"\r\nAuthorization: Bearer {CANARY}-token\r\n".encode(),)


class TestSenderOfAnotherContentType(SpecContract):
    webhook = "{template: '{{ alert.name }}: {{ alert.summary }}', contentType: text/plain; charset=utf-8}"
    head = (b"\r\nContent-Type: text/plain; charset=utf-8\r\n",)

    async def test_the_receiver_gets_what_the_template_writes(self) -> None:
        _, body = await self.received()
        assert body == b"Disk: The disk is full"


class TestSenderOfSeveralAlertsAtOnce(SpecContract):
    webhook = "batch: 3"
    message = Message(id="m1.3", alerts=[ALERT] * 3, batched=True)
    head = (b"\r\nContent-Type: application/cloudevents-batch+json\r\n", b"\r\nwebhook-id: m1.3\r\n")

    async def test_the_receiver_gets_all_of_them_in_one_message(self) -> None:
        assert self.target("https://example.com/", LONG_SECONDS).dispatch_parameters().batch == 3
        _, body = await self.received()
        assert [one["data"] for one in json.loads(body)] == [json.loads(ALERT)] * 3


class TestSenderThatKnowsTheStatusesOfSuccess(SpecContract):
    webhook = "successWhen: {statuses: [200, 202, 409]}"
    statuses = (*SettingContract.statuses, 201, 202, 409)
    success = response(202)

    def expected(self, status: int) -> FailureClass | None:
        if status in (200, 202, 409):
            return None
        return FailureClass.TRANSIENT if 200 <= status < 300 else super().expected(status)

    async def test_a_2xx_that_is_not_listed_is_tried_again(self) -> None:
        async with self.serving(response(204)) as server:
            outcome = await self.failed(self.url_of(server))
        assert (outcome.failure, outcome.reason) == (FailureClass.TRANSIENT, "UnexpectedResponse")

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_a_redirect_cannot_be_listed_and_would_not_be_followed_if_it_were(self, status: int) -> None:
        webhook = {"url": "https://hooks.example.com/", "successWhen": {"statuses": [200, status]}}
        with pytest.raises(InvalidSpec, match="redirects are not followed"):
            read_spec({"tenant": "acme", "name": "Alerts", "webhook": webhook})
        async with self.serving(self.success) as other:
            async with self.serving(response(status, b"", f"Location: {url_of(other)}")) as server:
                url = self.url_of(server)
                target = WebhookTarget(url=url, success_when=SuccessWhen(statuses=(200, status)))
                async with self.context(url) as context:
                    await self.send(self.open(target, context))
                assert len(server.requests) == 1
            assert other.connections == 0


class TestSenderWithTokensOfAnAuthorizationServer(SettingContract):
    head = (b"\r\nAuthorization: Bearer canary-token-0\r\n",)
    closed = "TokenUnavailable"
    timed_out = (*SettingContract.timed_out, "TokenUnavailable")

    @asynccontextmanager
    async def context(
        self, url: str, *, timeout: float = LONG_SECONDS, allow: tuple[str, ...] = ("127.0.0.0/8",)
    ) -> AsyncIterator[SenderContext]:
        server = AuthorizationServer(CANARY, CANARY)
        async with serving(server.token, host=AUTHORIZATION_HOST) as tokens:
            self.token_url = f"http://{AUTHORIZATION_HOST}:{tokens.port}/{CANARY}"
            async with super().context(url, timeout=timeout, allow=(*allow, f"{AUTHORIZATION_HOST}/32")) as context:
                yield context

    def target(self, url: str, timeout: float) -> Target:
        client = OAuth2Client(token_url=self.token_url, client_id=CANARY, client_secret=CANARY)
        return WebhookTarget(url=url, timeout=timeout, oauth2=client)


class TestPatchWithAClientCertificate(SettingContract):
    """The receivers demand a certificate, and have one for another name than the host of the URL."""

    head = (b"PATCH ",)
    tls = demanding(AUTHORITY, NAME)

    def target(self, url: str, timeout: float) -> Target:
        return WebhookTarget(
            url=url,
            timeout=timeout,
            method="PATCH",
            ca=AUTHORITY.cert_pem.bytes().decode(),
            client_certificate=identity(AUTHORITY, f"{CANARY}.example.com"),
            server_name=NAME,
        )


class TestPutThroughAProxy(SettingContract):
    head = (b"PUT ",)
    refused = unresolved = "ProxyFailed"

    @pytest.fixture(autouse=True)
    def _proxy(self) -> Iterator[None]:
        with ConnectProxy() as self.proxy:
            yield

    def egress(self) -> dict[str, Any]:
        return {"proxy": {"url": self.proxy.url}}

    def target(self, url: str, timeout: float) -> Target:
        return WebhookTarget(url=url, timeout=timeout, method="PUT")

    async def test_the_proxy_is_asked_for_the_receiver(self) -> None:
        async with serving(self.success) as server:
            assert isinstance(await self.sent(self.url_of(server)), Delivered)
        assert self.proxy.targets == [f"127.0.0.1:{server.port}"]
