"""The sender contract for each setting that says how a webhook's receiver is reached."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from eventsink.destinations.webhook.target import OAuth2Client, WebhookTarget
from eventsink.sinks.sender import Delivered, SenderContext
from eventsink.sinks.target import Target
from tests.support.authorization_server import AuthorizationServer
from tests.support.loops import UVLOOP
from tests.support.proxy import ConnectProxy
from tests.unit.destinations.sender_contract import CANARY, LONG_SECONDS
from tests.unit.destinations.webhook.contract import WebhookContract
from tests.unit.sinks.transport_contract import demanding, identity, serving

AUTHORIZATION_HOST = "127.0.0.2"
"""Not where the receivers are, which the egress guard denies in one test."""
NAME = "hooks.example.com"
AUTHORITY = trustme.CA()


class RouteContract(WebhookContract):
    """What the transport does on each loop, and what each status means, is tested where no route is in between."""

    loops = UVLOOP
    statuses = (100, 199, 200, 204, 299, 302, 400, 401, 403, 404, 422, 429, 500, 503, 599, 999)


class TestSenderWithTokens(RouteContract):
    head = (b"\r\nAuthorization: Bearer canary-token-0\r\n",)
    closed = "TokenUnavailable"
    timed_out = (*RouteContract.timed_out, "TokenUnavailable")

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


class TestPatchWithAClientCertificate(RouteContract):
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


class TestPutThroughAProxy(RouteContract):
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
