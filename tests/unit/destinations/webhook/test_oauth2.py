"""A webhook gets a token of the authorization server, one request for it at a time, and no token or secret is shown anywhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog.testing

from eventsink.destinations.webhook.oauth2 import (
    MAX_TOKEN_LENGTH,
    RETRY_SECONDS,
    TRANSPORT_HINTS,
    UNSAID_SECONDS,
    Tokens,
    lifetime_of,
)
from eventsink.destinations.webhook.sender import WebhookSender
from eventsink.destinations.webhook.success import SuccessWhen
from eventsink.destinations.webhook.target import OAuth2Client, WebhookTarget
from eventsink.sinks.egress import EgressGuard, EgressSettings
from eventsink.sinks.http1 import Http1Transport, TransportSettings
from eventsink.sinks.resolver import Resolver
from eventsink.sinks.sender import FAILURES_OF_SINK, Delivered, Failed, FailureClass, Outcome
from eventsink.sinks.transport import TransportError, TransportErrorKind
from tests.support.authorization_server import AuthorizationServer, answer
from tests.unit.destinations.sender_contract import MESSAGE, until
from tests.unit.sinks.transport_contract import serving

CLIENT, SECRET = "shop alerts", "canary:s3cret/+ &%"
SECONDS = 20.0
TRANSIENT, SINK = FailureClass.TRANSIENT, FailureClass.SINK


@dataclass
class Place:
    """A receiver, its authorization server, and what a router sends with."""

    server: AuthorizationServer
    token_url: str
    url: str
    transport: Http1Transport
    time: float = 1000.0
    senders: list[WebhookSender] = field(default_factory=list)

    def target(self, timeout: float = SECONDS, success_when: SuccessWhen | None = None, **client: Any) -> WebhookTarget:
        known = {"token_url": self.token_url, "client_id": CLIENT, "client_secret": SECRET, **client}
        return WebhookTarget(url=self.url, timeout=timeout, success_when=success_when, oauth2=OAuth2Client(**known))

    def sender(self, timeout: float = SECONDS, success_when: SuccessWhen | None = None, **client: Any) -> WebhookSender:
        self.senders.append(WebhookSender(self.target(timeout, success_when, **client), self.transport, "acme"))
        return self.senders[-1]

    def tokens(self, timeout: float = SECONDS) -> Tokens:
        oauth2 = self.target().oauth2
        assert oauth2 is not None
        return Tokens(oauth2, self.transport, "acme", timeout=timeout, user_agent="test", clock=lambda: self.time)


@asynccontextmanager
async def place(*, takes: str = "header", allow: tuple[str, ...] = ("127.0.0.0/8",)) -> AsyncIterator[Place]:
    server, resolver = AuthorizationServer(CLIENT, SECRET, takes=takes), Resolver()
    transport = Http1Transport(TransportSettings(), EgressGuard(EgressSettings(allow=allow)), resolver)
    with structlog.testing.capture_logs() as logs:
        async with serving(server.token) as tokens, serving(server.receive) as receiver:
            made = Place(server, f"http://127.0.0.1:{tokens.port}/token?canary", f"http://127.0.0.1:{receiver.port}/", transport)
            yield made
            for sender in made.senders:
                await sender.close()
            await transport.close()
            await resolver.close()
    assert "canary" not in str(logs)


def failed(outcome: Outcome) -> Failed:
    assert isinstance(outcome, Failed)
    assert "canary" not in str(outcome)
    assert CLIENT not in str(outcome)
    return outcome


@pytest.mark.parametrize("takes", ["header", "body"])
async def test_messages_carry_a_token_that_is_asked_for_once(takes: str) -> None:
    async with place(takes=takes) as here:
        sender = here.sender(scopes=("alerts:write", "b"), endpoint_params=(("audience", "https://a.example/?x=1&y"),))
        for outcome in await asyncio.gather(*(sender.send(MESSAGE) for _ in range(20))):
            assert isinstance(outcome, Delivered)
        assert here.server.issued == ["canary-token-0"]
        assert set(here.server.received) == {"Bearer canary-token-0"}
        asked = here.server.requests[-1]
        assert (asked["grant_type"], asked["scope"], asked["audience"]) == (
            "client_credentials",
            "alerts:write b",
            "https://a.example/?x=1&y",
        )
        assert ("client_secret" in asked) == (takes == "body")


async def test_a_token_that_the_receiver_rejects_is_replaced_once() -> None:
    async with place() as here:
        sender = here.sender()
        assert isinstance(await sender.send(MESSAGE), Delivered)
        here.server.valid.clear()
        for outcome in await asyncio.gather(*(sender.send(MESSAGE) for _ in range(10))):
            assert isinstance(outcome, Delivered)
        assert here.server.issued == ["canary-token-0", "canary-token-1"], "one request, however many messages were rejected"


async def test_a_receiver_that_takes_no_token_is_asked_twice_and_not_more() -> None:
    async with place() as here:
        sender = here.sender()
        here.server.answers = [answer(200, {"access_token": f"canary-{n}"}) for n in range(2)]
        outcome = failed(await sender.send(MESSAGE))
        assert (outcome.failure, outcome.reason) == (SINK, "HTTP401")
        assert here.server.received == ["Bearer canary-0", "Bearer canary-1"]


async def test_a_401_that_its_owner_calls_a_success_is_one_at_once() -> None:
    async with place() as here:
        here.server.answers = [answer(200, {"access_token": "canary-0"})]
        sender = here.sender(success_when=SuccessWhen(statuses=(200, 401)))
        assert await sender.send(MESSAGE) == Delivered(401)
        assert here.server.received == ["Bearer canary-0"], "nothing is sent twice, and the token stays"


async def test_a_401_without_what_its_owner_calls_a_success_is_a_token_that_was_not_accepted() -> None:
    async with place() as here:
        sender = here.sender(success_when=SuccessWhen(statuses=(200, 401), pointer="/taken", equals="true"))
        here.server.answers = [answer(200, {"access_token": f"canary-{n}"}) for n in range(2)]
        assert failed(await sender.send(MESSAGE)).reason == "UnexpectedResponse"
        assert here.server.received == ["Bearer canary-0", "Bearer canary-1"]


async def renewed(here: Place, tokens: Tokens, before: str) -> str:
    """The token after this one: it is used until the next is there."""
    assert await tokens.current(SECONDS) == before
    async with asyncio.timeout(SECONDS):
        while (token := await tokens.current(SECONDS)) == before:
            await asyncio.sleep(0.001)
    return token


async def test_a_token_is_renewed_before_it_expires() -> None:
    async with place() as here:
        tokens = here.tokens()
        here.server.extra["expires_in"] = 100
        assert await tokens.current(SECONDS) == "canary-token-0"
        here.time += 74
        assert await tokens.current(SECONDS) == "canary-token-0"
        here.time += 2
        assert await renewed(here, tokens, "canary-token-0") == "canary-token-1", "in the last quarter of a short life"
        here.server.extra["expires_in"] = 3600
        here.time += 100
        assert await tokens.current(SECONDS) == "canary-token-2"
        here.time += 3539
        assert await tokens.current(SECONDS) == "canary-token-2"
        assert len(here.server.issued) == 3
        here.time += 2
        assert await renewed(here, tokens, "canary-token-2") == "canary-token-3", "a minute before the end of a long one"


async def test_a_valid_token_is_used_while_it_cannot_be_renewed() -> None:
    async with place() as here:
        tokens = here.tokens()
        here.server.extra["expires_in"] = 100
        await tokens.current(SECONDS)
        here.time += 80
        here.server.answers = [answer(503)]
        assert await tokens.current(SECONDS) == "canary-token-0"
        await until(lambda: not tokens.renewing)
        assert len(here.server.requests) == 2
        assert await tokens.current(SECONDS) == "canary-token-0"
        assert not tokens.renewing, "not with each message"
        here.time += RETRY_SECONDS
        assert await renewed(here, tokens, "canary-token-0") == "canary-token-1"


async def test_nobody_waits_for_the_next_token_while_the_one_before_is_valid() -> None:
    async with place() as here:
        tokens = here.tokens()
        here.server.extra["expires_in"] = 100
        await tokens.current(SECONDS)
        here.server.hangs.clear()
        here.time += 80
        async with asyncio.timeout(SECONDS / 2):
            assert await tokens.current(SECONDS) == "canary-token-0"
            await until(lambda: len(here.server.requests) == 2)
            assert await tokens.current(SECONDS) == "canary-token-0"
        here.time += 20
        waiting = asyncio.ensure_future(tokens.current(SECONDS))
        here.server.hangs.set()
        assert await waiting == "canary-token-1"
        assert len(here.server.requests) == 2


async def test_a_client_is_accepted_again_when_its_server_looks_for_it_elsewhere() -> None:
    async with place(takes="body") as here:
        tokens = here.tokens()
        await tokens.current(SECONDS)
        here.server.takes = "header"
        assert await tokens.current(SECONDS, instead_of="canary-token-0") == "canary-token-1"
        asked = len(here.server.requests)
        assert await tokens.current(SECONDS, instead_of="canary-token-1") == "canary-token-2"
        assert len(here.server.requests) == asked + 1, "what works is remembered"


async def test_whoever_waits_too_long_leaves_the_request_to_the_others() -> None:
    async with place() as here:
        tokens = here.tokens()
        here.server.hangs.clear()
        patient = asyncio.ensure_future(tokens.current(SECONDS))
        await until(lambda: here.server.requests)
        cancelled = asyncio.ensure_future(tokens.current(SECONDS))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(Exception, match="no response in time"):
            await tokens.current(0.05)
        here.server.hangs.set()
        assert await patient == "canary-token-0"
        assert len(here.server.requests) == 1


async def test_an_authorization_server_that_hangs_delays_its_own_sinks_alone() -> None:
    async with place() as here, serving(answer(204)) as other:
        here.server.hangs.clear()
        hanging = [asyncio.ensure_future(here.sender(timeout=1.0).send(MESSAGE)) for _ in range(8)]
        await until(lambda: here.server.requests)
        free = WebhookSender(WebhookTarget(url=f"http://127.0.0.1:{other.port}/", timeout=SECONDS), here.transport, "acme")
        for _ in range(20):
            assert isinstance(await free.send(MESSAGE), Delivered)
        assert not any(task.done() for task in hanging)
        for outcome in await asyncio.gather(*hanging):
            assert (failed(outcome).failure, failed(outcome).reason) == (TRANSIENT, "TokenUnavailable")
        assert here.server.received == []
        here.server.hangs.set()


async def test_a_message_has_an_outcome_when_its_sender_is_closed_while_it_waits_for_a_token() -> None:
    async with place() as here:
        here.server.hangs.clear()
        sender = here.sender()
        task = asyncio.ensure_future(sender.send(MESSAGE))
        await until(lambda: here.server.requests)
        await sender.close()
        assert failed(await task).failure is TRANSIENT
        here.server.hangs.set()


@pytest.mark.parametrize(
    ("response", "failure", "reason", "says"),
    [
        (answer(401, {"error": "invalid_client"}), SINK, "TokenRejected", "check clientId and the Secret of clientSecretRef"),
        (answer(400, {"error": "invalid_client"}), SINK, "TokenRejected", "check clientId and the Secret of clientSecretRef"),
        (answer(400, {"error": "invalid_scope"}), SINK, "TokenRejected", "check scopes"),
        (answer(400, {"error": "canary"}), SINK, "TokenRejected", "check scopes, endpointParams and tokenUrl"),
        (answer(400, {"error": ["canary"]}), SINK, "TokenRejected", "check scopes, endpointParams and tokenUrl"),
        (answer(400, b"\xff canary"), SINK, "TokenRejected", "check scopes, endpointParams and tokenUrl"),
        (answer(403), SINK, "TokenRejected", "check clientId and the Secret of clientSecretRef"),
        (answer(404), SINK, "TokenRejected", "check the path in tokenUrl"),
        (answer(405, {"error": "canary"}), SINK, "TokenRejected", "check the path in tokenUrl"),
        (answer(302), SINK, "TokenRejected", "redirects are not followed"),
        (answer(429), TRANSIENT, "TokenUnavailable", "responded with 429"),
        (answer(500), TRANSIENT, "TokenUnavailable", "responded with 500"),
        (answer(503, {"error": "invalid_client"}), TRANSIENT, "TokenUnavailable", "responded with 503"),
        (answer(200, b"<html>canary"), SINK, "TokenRejected", "holds no token"),
        (answer(200, {}), SINK, "TokenRejected", "holds no token"),
        (answer(200, {"access_token": ""}), SINK, "TokenRejected", "holds no token"),
        (answer(200, {"access_token": 7}), SINK, "TokenRejected", "holds no token"),
        (answer(200, {"access_token": "canary\r\nX-Admin: 1"}), SINK, "TokenRejected", "holds no token"),
        (answer(200, {"access_token": "canary\n"}), SINK, "TokenRejected", "holds no token"),
        (answer(200, {"access_token": "canary canary"}), SINK, "TokenRejected", "holds no token"),
        (answer(200, {"access_token": "canary\u00e4"}), SINK, "TokenRejected", "holds no token"),
        (answer(200, {"access_token": "c" * (MAX_TOKEN_LENGTH + 1)}), SINK, "TokenRejected", "holds no token"),
        (answer(200, {"access_token": "c" * 200_000}), SINK, "TokenRejected", "holds no token"),
        (answer(200, {"access_token": "canary", "token_type": "mac"}), SINK, "TokenRejected", "another type than Bearer"),
        (b"canary, not HTTP\r\n\r\n", TRANSIENT, "TokenUnavailable", "the response cannot be read"),
    ],
)
async def test_an_authorization_server_that_gives_no_token(
    response: bytes, failure: FailureClass, reason: str, says: str
) -> None:
    async with place() as here:
        here.server.answers = [response] * 2
        outcome = failed(await here.sender().send(MESSAGE))
        assert (outcome.failure, outcome.reason) == (failure, reason)
        assert says in outcome.message
        assert here.server.received == []


async def test_an_authorization_server_may_not_be_where_the_egress_guard_forbids() -> None:
    async with place() as here:
        outcome = failed(await here.sender(token_url="http://10.1.2.3/token").send(MESSAGE))
        assert (outcome.failure, outcome.reason) == (SINK, "TokenRejected")
        assert "the router may not connect there" in outcome.message
        assert "egress.allow" in outcome.message
        assert "check tokenUrl" not in outcome.message


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (TransportErrorKind.TLS, "egress.caFile"),
        (TransportErrorKind.TLS_VERSION, "upgrade the server"),
        (TransportErrorKind.WRONG_PROTOCOL, "http or https"),
        (TransportErrorKind.CLIENT_CERTIFICATE, "for the receiver only"),
        (TransportErrorKind.PROXY_REFUSED, "at the proxy"),
        (TransportErrorKind.PROXY_AUTHENTICATION, "egress.proxy.urlFile"),
        (TransportErrorKind.DNS, "check the host in tokenUrl"),
    ],
)
async def test_what_keeps_the_authorization_server_from_responding_is_said_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, kind: TransportErrorKind, says: str
) -> None:
    async def fails(*_: object) -> None:
        raise TransportError(kind, "https://login.example.com")

    monkeypatch.setattr(Tokens, "_ask", fails)
    async with place() as here:
        outcome = failed(await here.sender().send(MESSAGE))
        assert says in outcome.message
        assert outcome.failure is (SINK if kind in FAILURES_OF_SINK else TRANSIENT)


def test_every_failure_of_the_sink_is_said_with_what_to_do() -> None:
    assert TRANSPORT_HINTS.keys() >= FAILURES_OF_SINK


async def test_an_authorization_server_that_is_away_is_waited_for() -> None:
    async with place() as here:
        away = here.sender(token_url="http://127.0.0.1:9/token")
        outcome = failed(await away.send(MESSAGE))
        assert (outcome.failure, outcome.reason) == (TRANSIENT, "TokenUnavailable")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3600", 3600.0),
        ('"3600"', 3600.0),
        ("0.5", 0.5),
        ("1e300", 86_400.0),
        ("9" * 400, 86_400.0),
        ('"99999999999999999999"', 86_400.0),
        ("0", UNSAID_SECONDS),
        ("-1", UNSAID_SECONDS),
        ("true", UNSAID_SECONDS),
        ("null", UNSAID_SECONDS),
        ('"soon"', UNSAID_SECONDS),
        ("NaN", UNSAID_SECONDS),
    ],
)
def test_the_lifetime_of_a_token(text: str, seconds: float) -> None:
    assert lifetime_of(json.loads(text)) == seconds


def test_nothing_shows_a_secret() -> None:
    shown: Callable[[object], str] = repr
    client = OAuth2Client(token_url="https://canary/", client_id="canary", client_secret="canary")
    assert "canary" not in shown(client) + shown(WebhookTarget(url="https://canary/", oauth2=client))
