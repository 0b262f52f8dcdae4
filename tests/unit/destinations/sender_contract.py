"""What the sender of every destination type must pass, against a real server on loopback and through the process's own HTTP.

Subclass `SenderContract` and say how to reach a URL, what the destination's success looks like, and the class of each status.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import structlog.testing
import trustme

from eventsink.alerts.alert import Alert, Links, Severity, Status
from eventsink.destinations.senders import open_sender
from eventsink.runtime.settings import Settings
from eventsink.sinks.egress import EgressGuard, EgressSettings
from eventsink.sinks.guarded import guarded_session
from eventsink.sinks.http1 import Http1Transport, TransportSettings
from eventsink.sinks.resolver import Resolver
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, Outcome, Sender, SenderContext
from eventsink.sinks.sink import CompiledFrom, Sink
from eventsink.sinks.target import Target
from eventsink.sinks.transport import DEFAULT_TLS, Endpoint, Response, TlsOptions, TransportError
from tests.support.loops import LOOPS
from tests.support.ports import free_port
from tests.unit.sinks.transport_contract import Handler, Reader, ScriptedServer, Writer, serving

CANARY = "canary"
"""Part of every credential and of everything that the destination writes in these tests; must appear in no outcome and no log."""
ALERT = msgspec.json.encode(
    Alert(
        id="a1",
        fingerprint="f1",
        source="alertmanager",
        tenant="acme",
        status=Status.FIRING,
        severity=Severity.HIGH,
        name="Disk",
        summary="The disk is full",
        description="",
        namespace="shop",
        labels={"alertname": "Disk"},
        annotations={},
        starts_at=datetime(2026, 1, 1, tzinfo=UTC),
        ends_at=None,
        links=Links(),
    )
)
MESSAGE = Message(id="m1", alerts=[ALERT])
TRANSIENT, OF_MESSAGE, SINK = FailureClass.TRANSIENT, FailureClass.MESSAGE, FailureClass.SINK
SHORT_SECONDS = 0.3
"""The sender's own timeout where it is to run out."""
LONG_SECONDS = 20.0
STATUSES = (100, *range(102, 600), 600, 799, 999)
"""All but 101, which is no response to a POST that asks for no other protocol: see the test of invalid responses."""


@dataclass
class ScriptedTransport:
    """Responds as a test says and keeps what was posted: for what a type does beside the contract."""

    response: Response | TransportError | None = None
    posted: list[tuple[Endpoint, bytes, bytes]] = field(default_factory=list)

    endpoint: Endpoint | None = None
    """Of the client that was made last."""
    method: str = ""
    reads: bool = False

    def client(
        self, endpoint: Endpoint, *, tenant: str, tls: TlsOptions = DEFAULT_TLS, method: str = "POST", reads: bool = False
    ) -> ScriptedTransport:
        self.endpoint, self.method, self.reads = endpoint, method, reads
        return self

    async def post(self, headers: bytes, body: bytes, *, timeout: float) -> Response:
        assert self.endpoint is not None
        self.posted.append((self.endpoint, headers, body))
        if self.response is None:
            await asyncio.Event().wait()
        if isinstance(self.response, TransportError):
            raise self.response
        assert self.response is not None
        return self.response

    async def close(self) -> None:
        pass


def responded(status: int, retry_after: str | None = None) -> Response:
    return Response(status, retry_after, f"{CANARY}-body".encode())


def sink_of(target: Target) -> Sink:
    """The compiled sink of a target."""
    return Sink(
        uid="u",
        namespace="acme",
        name="alerts",
        display_name="Alerts",
        tenant="acme",
        compiled_from=CompiledFrom(generation=1),
        destination=target.destination(),
        dispatch=target.dispatch_parameters(),
        target=target,
    )


def response(status: int | str, body: bytes = b"", *headers: str) -> bytes:
    """The bytes of a response."""
    lines = [f"HTTP/1.1 {status} {CANARY}", f"X-Canary: {CANARY}", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class SenderContract:
    """Subclasses give `target` and what follows it; every credential in the target holds `CANARY`."""

    loops = LOOPS
    """The event loops that it runs on."""
    statuses: tuple[int, ...] = STATUSES
    message = MESSAGE
    success = response(200)
    """The destination's response to an accepted message."""
    delivered_by_head = True
    """Whether the head of a 2xx response is enough; not where the destination reports failures in the body of one."""
    delivered_by_malformed_head = True
    """Whether the status is, if what follows it is not valid; not where a library reads the response."""
    secrets: tuple[str, ...] = (CANARY,)
    """What must appear in no outcome and no log; more than one where a credential is encoded."""
    head: tuple[bytes, ...] = (b"POST ",)
    """What is in the head of each request."""
    tls: ssl.SSLContext | None = None
    """What receivers present and demand; None: they speak plain HTTP."""
    refused, unresolved, closed = "ConnectionRefused", "NameNotResolved", "ConnectionLost"
    """The reasons where nobody listens, where a name has no address, and after the end of the shared transport."""
    timed_out: tuple[str, ...] = ("Timeout", "InvalidResponse")

    def target(self, url: str, timeout: float) -> Target:
        """The compiled target at a URL; a URL ends with a slash."""
        raise NotImplementedError

    def settings(self, url: str, timeout: float) -> tuple[Settings, ...]:
        """The type's own settings."""
        return ()

    def expected(self, status: int) -> FailureClass | None:
        """The class of a status without a body; None: delivered."""
        raise NotImplementedError

    def egress(self) -> dict[str, Any]:
        """Settings of the way out, beside what is allowed."""
        return {}

    def serving(self, handler: Handler | bytes) -> AbstractAsyncContextManager[ScriptedServer]:
        """A receiver."""
        return serving(handler, self.tls)

    def url_of(self, server: ScriptedServer) -> str:
        """Where a receiver is."""
        return url_of(server, "http" if self.tls is None else "https")

    def open(self, target: Target, context: SenderContext) -> Sender:
        return open_sender(sink_of(target), context)

    @asynccontextmanager
    async def context(
        self, url: str, *, timeout: float = LONG_SECONDS, allow: tuple[str, ...] = ("127.0.0.0/8",)
    ) -> AsyncIterator[SenderContext]:
        """The process's own HTTP, behind an egress guard that allows loopback."""
        guard = EgressGuard(EgressSettings.model_validate({"allow": allow, **self.egress()}))
        resolver = Resolver()
        transport = Http1Transport(TransportSettings(), guard, resolver)
        async with guarded_session(guard, resolver, timeout=LONG_SECONDS) as session:
            yield SenderContext(transport, session, settings=self.settings(url, timeout))
            await transport.close()
        await resolver.close()

    async def sent(
        self,
        url: str,
        *,
        timeout: float = LONG_SECONDS,
        allow: tuple[str, ...] = ("127.0.0.0/8",),
        message: Message | None = None,
    ) -> Outcome:
        """The outcome of one message."""
        async with self.context(url, timeout=timeout, allow=allow) as context:
            return await self.send(self.open(self.target(url, timeout), context), message)

    async def send(self, sender: Sender, message: Message | None = None) -> Outcome:
        """Send with a sender; nothing that it returns or logs holds a credential, or what the destination wrote."""
        with structlog.testing.capture_logs() as lines:
            outcome = await sender.send(message or self.message)
        shown = f"{outcome!r}{outcome}{lines}{sender!r}{sender}"
        assert not [secret for secret in self.secrets if secret in shown]
        if isinstance(outcome, Failed):
            assert outcome.reason.isascii()
            assert outcome.reason.isalnum()
            assert outcome.reason[0].isupper()
            assert len(outcome.reason) <= 80
            assert 0 < len(outcome.message) <= 400
            assert outcome.reason not in outcome.message, "the reason is shown beside it"
        return outcome

    async def failed(self, url: str, *, timeout: float = LONG_SECONDS, allow: tuple[str, ...] = ("127.0.0.0/8",)) -> Failed:
        outcome = await self.sent(url, timeout=timeout, allow=allow)
        assert isinstance(outcome, Failed)
        return outcome

    @pytest.fixture(autouse=True)
    def _no_canary_in_logs(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        yield
        assert not [secret for secret in self.secrets if secret in caplog.text]

    async def test_an_accepted_message_is_delivered(self) -> None:
        async with self.serving(self.success) as server:
            assert isinstance(await self.sent(self.url_of(server)), Delivered)
            assert len(server.requests) == 1
        head, _, _ = server.requests[0].partition(b"\r\n\r\n")
        assert not [part for part in self.head if part not in head + b"\r\n"]

    async def test_each_status_has_its_class(self) -> None:
        """The body is not the destination's own; a status below 200 is followed by the end of the connection."""
        status = 0

        async def respond(reader: Reader, writer: Writer) -> None:
            while True:
                await server.read_request(reader)
                body = b"" if status < 200 or status in (204, 304) else f"{CANARY}-body".encode()
                writer.write(response(status, body))
                await writer.drain()
                if status < 200:
                    return

        unlike: dict[int, object] = {}
        async with self.serving(respond) as server, self.context(self.url_of(server)) as context:
            sender = self.open(self.target(self.url_of(server), LONG_SECONDS), context)
            for status in self.statuses:
                outcome = await self.send(sender)
                found = outcome.failure if isinstance(outcome, Failed) else None
                if found is not self.expected(status) or (status >= 200 and outcome.status_code != status):
                    unlike[status] = outcome
        assert not unlike

    @pytest.mark.parametrize(
        ("header", "wait"), [("7", 7.0), ("999999", 3600.0), ("soon", None), ("-1", None), (f"{CANARY}{'9' * 5000}", None)]
    )
    @pytest.mark.parametrize("status", [429, 503])
    async def test_retry_after_is_respected_up_to_an_hour(self, status: int, header: str, wait: float | None) -> None:
        async with self.serving(response(status, b"", f"Retry-After: {header}")) as server:
            outcome = await self.failed(self.url_of(server))
        assert (outcome.failure, outcome.retry_after) == (TRANSIENT, wait)

    async def test_no_proxy_of_the_environment_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with self.serving(self.success) as server, self.serving(self.success) as proxy:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            for name in ("NO_PROXY", "no_proxy"):
                monkeypatch.delenv(name, raising=False)
            assert isinstance(await self.sent(self.url_of(server)), Delivered)
            assert (len(server.requests), proxy.connections) == (1, 0)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_are_not_followed(self, status: int) -> None:
        async with self.serving(self.success) as other:
            async with self.serving(response(status, b"", f"Location: {self.url_of(other)}")) as server:
                outcome = await self.failed(self.url_of(server))
                assert len(server.requests) == 1
            assert other.connections == 0
        assert (outcome.failure, outcome.reason, outcome.status_code) == (SINK, f"HTTP{status}", status)

    async def test_a_refused_connection_is_transient(self) -> None:
        outcome = await self.failed(f"http://127.0.0.1:{free_port()}/{CANARY}/")
        assert (outcome.failure, outcome.reason) == (TRANSIENT, self.refused)

    async def test_an_unresolved_name_is_transient(self) -> None:
        outcome = await self.failed(f"http://nowhere.invalid/{CANARY}/")
        assert (outcome.failure, outcome.reason) == (TRANSIENT, self.unresolved)

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1"])
    async def test_an_address_denied_by_egress_is_never_dialled(self, host: str) -> None:
        async with serving(self.success) as server:
            outcome = await self.failed(f"http://{host}:{server.port}/{CANARY}/", allow=())
            assert server.connections == 0
        assert (outcome.failure, outcome.reason) == (SINK, "EgressRefused")
        assert "is not public" in outcome.message

    async def test_a_failed_tls_handshake_is_a_failure_of_the_sink(self) -> None:
        async def respond(reader: Reader, writer: Writer) -> None:
            await reader.read(1)
            writer.write(b"this is not TLS\r\n")
            await writer.drain()

        async with serving(respond) as server:
            outcome = await self.failed(url_of(server, "https"))
        assert (outcome.failure, outcome.reason) == (SINK, "WrongProtocol")

    async def test_a_certificate_of_an_unknown_authority_is_a_failure_of_the_sink(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        async with serving(self.success, context) as server:
            outcome = await self.failed(url_of(server, "https"))
        assert (outcome.failure, outcome.reason) == (SINK, "TLSFailed")

    @pytest.mark.parametrize("reset", [True, False])
    async def test_a_connection_closed_without_a_response_is_transient(self, reset: bool) -> None:
        async def end(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            if reset:
                writer.transport.abort()

        async with self.serving(end) as server:
            outcome = await self.failed(self.url_of(server))
        assert (outcome.failure, outcome.reason) == (TRANSIENT, "ConnectionLost")

    @pytest.mark.parametrize("trickle", [b"", b"X"])
    async def test_a_hanging_destination_takes_no_longer_than_the_timeout(self, trickle: bytes) -> None:
        async def hang(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            while not reader.at_eof():
                writer.write(trickle)
                await asyncio.sleep(0.01)

        async with self.serving(hang) as server:
            began = time.monotonic()
            outcome = await self.failed(self.url_of(server), timeout=SHORT_SECONDS)
            assert time.monotonic() - began < LONG_SECONDS / 2
        assert outcome.failure is TRANSIENT
        assert outcome.reason in self.timed_out

    @pytest.mark.parametrize(
        "garbage",
        [
            f"{CANARY}\r\n\r\n".encode(),
            f"HTTP/1.1 42 {CANARY}\r\n\r\n".encode(),
            f"HTTP/1.1 2000 {CANARY}\r\n\r\n".encode(),
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: {CANARY}\r\nConnection: Upgrade\r\n\r\n".encode(),
        ],
        ids=["no HTTP", "two digits", "four digits", "another protocol"],
    )
    async def test_an_invalid_response_is_transient(self, garbage: bytes) -> None:
        async def respond(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            writer.write(garbage)
            await writer.drain()

        async with self.serving(respond) as server:
            outcome = await self.failed(self.url_of(server))
        assert outcome.failure is TRANSIENT

    @pytest.mark.parametrize(
        "malformed",
        [
            f"HTTP/1.1 200 OK\r\nX: {CANARY * 100_000}\r\n\r\n".encode(),
            f"HTTP/1.1 200 OK\r\nContent-Length: {CANARY}\r\n\r\n".encode(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        ],
        ids=["large head", "no length", "two lengths"],
    )
    async def test_a_success_counts_however_malformed_its_head_is(self, malformed: bytes) -> None:
        async def respond(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            writer.write(malformed)
            await writer.drain()

        async with self.serving(respond) as server:
            outcome = await self.sent(self.url_of(server))
        if self.delivered_by_malformed_head:
            assert outcome == Delivered(200), outcome
        else:
            assert isinstance(outcome, Failed)
            assert outcome.failure is TRANSIENT

    @pytest.mark.parametrize("ending", ["reset", "end", "endless", "stall"])
    async def test_a_success_counts_by_its_head_however_the_body_ends(self, ending: str) -> None:
        async def respond(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n" + CANARY.encode())
            await writer.drain()
            if ending == "reset":
                writer.transport.abort()
            if ending == "stall":
                await reader.read()
            while ending == "endless" and not writer.transport.is_closing():
                writer.write(CANARY.encode() * 1000)
                await writer.drain()
                await asyncio.sleep(0.001)

        async with self.serving(respond) as server:
            outcome = await self.sent(self.url_of(server), timeout=SHORT_SECONDS * 5)
        if self.delivered_by_head:
            assert outcome == Delivered(200), outcome
        else:
            assert isinstance(outcome, Failed)
            assert outcome.failure is TRANSIENT

    async def test_cancelling_aborts_the_request_and_its_connection_is_not_reused(self) -> None:
        async def hang_first(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            if server.connections == 1:
                await reader.read()
                ended.set()
                return
            writer.write(self.success)
            await writer.drain()

        ended = asyncio.Event()
        async with self.serving(hang_first) as server, self.context(self.url_of(server)) as context:
            sender = self.open(self.target(self.url_of(server), LONG_SECONDS), context)
            task = asyncio.ensure_future(sender.send(self.message))
            await until(lambda: len(server.requests) == 1)
            others = asyncio.all_tasks() - {task}
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(LONG_SECONDS):
                await ended.wait()
            assert asyncio.all_tasks() <= others
            assert isinstance(await self.send(sender), Delivered)
            assert server.connections == 2

    async def test_closing_a_sender_leaves_what_is_shared_open(self) -> None:
        async with self.serving(self.success) as server, self.context(self.url_of(server)) as context:
            closed, other = (self.open(self.target(self.url_of(server), LONG_SECONDS), context) for _ in range(2))
            assert isinstance(await self.send(closed), Delivered)
            before = asyncio.all_tasks()
            await closed.close()
            await closed.close()
            assert asyncio.all_tasks() <= before
            assert not context.session.closed
            assert isinstance(await self.send(other), Delivered)
            async with serving(response(200)) as another:
                client = context.transport.client(Endpoint.parse(url_of(another)), tenant="acme")
                assert (await client.post(b"", b"", timeout=LONG_SECONDS)).status == 200

    async def test_nothing_is_sent_after_the_shared_transport_is_closed(self) -> None:
        async with self.serving(self.success) as server:
            async with self.context(self.url_of(server)) as context:
                sender = self.open(self.target(self.url_of(server), LONG_SECONDS), context)
            outcome = await self.send(sender)
            assert server.connections == 0
        assert isinstance(outcome, Failed)
        assert (outcome.failure, outcome.reason) == (TRANSIENT, self.closed)

    async def test_a_message_in_flight_when_the_sender_is_closed_has_an_outcome(self) -> None:
        async def respond(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            await release.wait()
            writer.write(self.success)
            await writer.drain()

        release = asyncio.Event()
        async with self.serving(respond) as server, self.context(self.url_of(server)) as context:
            sender = self.open(self.target(self.url_of(server), LONG_SECONDS), context)
            task = asyncio.ensure_future(self.send(sender))
            await until(lambda: len(server.requests) == 1)
            await sender.close()
            release.set()
            outcome = await task
            assert isinstance(outcome, Delivered) or outcome.failure is TRANSIENT

    @pytest.mark.parametrize("damaged", [b'{"id": "canary"}', b"canary", b""])
    async def test_an_unreadable_alert_is_a_failure_of_the_message(self, damaged: bytes) -> None:
        async with self.serving(self.success) as server:
            outcome = await self.sent(self.url_of(server), message=Message(id="m1", alerts=[damaged]))
            assert server.connections == 0
        assert isinstance(outcome, Failed)
        assert (outcome.failure, outcome.reason) == (OF_MESSAGE, "InvalidMessage")

    async def test_a_retry_is_the_same_message(self) -> None:
        many = Message(id="m1.3", alerts=[ALERT] * 3, batched=True)
        async with self.serving(self.success) as server:
            for _ in range(2):
                await self.sent(self.url_of(server), message=many)
            first, second = (request.partition(b"\r\n\r\n")[2] for request in server.requests)
        assert first == second


def url_of(server: ScriptedServer, scheme: str = "http") -> str:
    """Where a server is; the path is a credential."""
    return f"{scheme}://127.0.0.1:{server.port}/{CANARY}/"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LONG_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)
