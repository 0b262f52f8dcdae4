"""What every outgoing transport must pass, against real sockets: subclass `TransportContract` and give it a way to open one."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import pytest
import trustme

from eventsink.sinks.transport import (
    MAX_RESPONSE_BODY_BYTES,
    Client,
    Endpoint,
    Response,
    TlsOptions,
    Transport,
    TransportError,
    TransportErrorKind,
)

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Handler = Callable[[Reader, Writer], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEADERS = b"X-Test: canary-header\r\n"
TIMEOUT_SECONDS = 30.0


class ScriptedServer:
    """A server that does exactly what a test says, and counts connections and requests."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connections = 0
        self.requests: list[bytes] = []
        self.port = 0
        self._handling: dict[asyncio.Task[None], Writer] = {}

    async def read_request(self, reader: Reader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0)
        request = head + await reader.readexactly(length)
        self.requests.append(request)
        return request

    async def connected(self, reader: Reader, writer: Writer) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._handling[task] = writer
        try:
            await self._handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            del self._handling[task]

    async def end(self) -> None:
        """Close what is open: a socket that the loop of a test leaves behind becomes the failure of a later test."""
        for task, writer in (handling := dict(self._handling)).items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*handling, return_exceptions=True)
        await asyncio.gather(*(writer.wait_closed() for writer in handling.values()), return_exceptions=True)


@asynccontextmanager
async def serving(
    handler: Handler | bytes, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[ScriptedServer]:
    """Serve on loopback; bytes are the response to each request of a kept connection."""

    async def respond(reader: Reader, writer: Writer) -> None:
        while True:
            await server.read_request(reader)
            writer.write(handler)  # type: ignore[arg-type]
            await writer.drain()

    server = ScriptedServer(respond if isinstance(handler, bytes) else handler)
    listening = await asyncio.start_server(server.connected, host, 0, ssl=context, limit=1 << 22)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.end()


@contextmanager
def shaking_hands(context: ssl.SSLContext) -> Iterator[int]:
    """A port of a server of TLS that says why it refuses a handshake, which the servers of asyncio do not."""

    def serve() -> None:
        try:
            connected, _ = listening.accept()
            connected.settimeout(TIMEOUT_SECONDS)
            with context.wrap_socket(connected, server_side=True, do_handshake_on_connect=False) as server:
                try:
                    server.do_handshake()
                except ssl.SSLError:
                    while os.read(server.fileno(), 1000):  # what is unread at the end would turn it into a reset
                        pass
        except OSError:
            pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(TIMEOUT_SECONDS)
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(TIMEOUT_SECONDS)


def demanding(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    """The context of a server that demands client certificates of an authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def identity(authority: trustme.CA, name: str) -> str:
    """A certificate and its private key, as a sink presents them."""
    return authority.issue_cert(name).private_key_and_cert_chain_pem.bytes().decode()


async def _who(reader: Reader, writer: Writer) -> None:
    """Responds with the name in the certificate that the client presented."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        name = writer.get_extra_info("peercert")["subjectAltName"][0][1].encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name))
        await writer.drain()


def at(server: ScriptedServer, host: str = "127.0.0.1", scheme: str = "http") -> Endpoint:
    return Endpoint.parse(f"{scheme}://{host}:{server.port}/canary-path?canary=query")


def client(transport: Transport, endpoint: Endpoint, *, tenant: str = "acme", ca: str | None = None) -> Client:
    return transport.client(endpoint, tenant=tenant, tls=TlsOptions(ca=ca))


async def send(client: Client, *, timeout: float = TIMEOUT_SECONDS) -> Response:
    return await client.post(HEADERS, b'{"a":1}', timeout=timeout)


async def post(
    transport: Transport,
    endpoint: Endpoint,
    *,
    timeout: float = TIMEOUT_SECONDS,
    tenant: str = "acme",
    ca: str | None = None,
) -> Response:
    """One message of a sink of its own."""
    return await send(client(transport, endpoint, tenant=tenant, ca=ca), timeout=timeout)


async def fails(
    transport: Transport, endpoint: Endpoint, *, timeout: float = TIMEOUT_SECONDS, ca: str | None = None
) -> TransportError:
    with pytest.raises(TransportError) as raised:
        await post(transport, endpoint, timeout=timeout, ca=ca)
    assert "canary" not in f"{raised.value!s}{raised.value!r}{raised.value.__dict__}"
    assert raised.value.origin == endpoint.origin
    return raised.value


class TransportContract:
    """Subclasses give `open_transport`; loopback is allowed, at most 8 connections to a host."""

    def open_transport(self) -> Transport:
        raise NotImplementedError

    @pytest.fixture
    async def transport(self) -> AsyncIterator[Transport]:
        opened = self.open_transport()
        yield opened
        await opened.close()

    async def test_a_request_arrives_unchanged(self, transport: Transport) -> None:
        async with serving(OK) as server:
            response = await post(transport, at(server))
            assert (response.status, response.body, response.retry_after) == (200, b"ok", None)
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /canary-path?canary=query HTTP/1.1"
        assert b"Host: 127.0.0.1:%d" % server.port in lines
        assert b"X-Test: canary-header" in lines
        assert b"Content-Length: 7" in lines
        assert body == b'{"a":1}'

    async def test_a_request_has_the_method_of_its_client(self, transport: Transport) -> None:
        async with serving(OK) as server:
            for method in ("PUT", "PATCH"):
                await send(transport.client(at(server), tenant="acme", method=method))
        assert [request.partition(b" ")[0] for request in server.requests] == [b"PUT", b"PATCH"]

    async def test_connections_are_kept_and_reused(self, transport: Transport) -> None:
        async with serving(OK) as server:
            for _ in range(5):
                await post(transport, at(server))
            assert (server.connections, len(server.requests)) == (1, 5)

    @pytest.mark.parametrize(
        "sent",
        [
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        ],
    )
    async def test_a_connection_that_the_server_closes_is_not_reused(self, transport: Transport, sent: bytes) -> None:
        async with serving(sent) as server:
            await post(transport, at(server))
            await post(transport, at(server))
            assert server.connections == 2

    async def test_connections_to_a_host_are_bounded_and_every_request_gets_one(self, transport: Transport) -> None:
        async with serving(OK) as server:
            responses = await asyncio.gather(*(post(transport, at(server), tenant=f"t{n % 9}") for n in range(60)))
            assert {response.status for response in responses} == {200}
            assert server.connections <= 9 * 8  # tenants share none, and unused ones make room

    async def test_tenants_share_no_connection(self, transport: Transport) -> None:
        async with serving(OK) as server:
            for tenant in ("acme", "globex", "acme"):
                await post(transport, at(server), tenant=tenant)
            assert server.connections == 2

    async def test_waiting_for_a_connection_is_bounded_by_the_timeout(self, transport: Transport) -> None:
        release = asyncio.Event()

        async def hang(reader: Reader, _: Writer) -> None:
            await server.read_request(reader)
            await release.wait()

        async with serving(hang) as server:
            ours = client(transport, at(server))
            hanging = [asyncio.ensure_future(send(ours)) for _ in range(2)]
            while not server.requests:
                await asyncio.sleep(0.01)
            with pytest.raises(TransportError, match="has not responded to the message before") as raised:
                await send(ours, timeout=0.2)
            assert (raised.value.kind, raised.value.sent) == (TransportErrorKind.TIMEOUT, False)
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
            release.set()

    async def test_a_cancelled_request_frees_its_connection(self, transport: Transport) -> None:
        async def hang_at_first(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            if server.connections == 1:
                await reader.read()
                return
            writer.write(OK)

        async with serving(hang_at_first) as server:
            ours = client(transport, at(server))
            hanging = asyncio.ensure_future(send(ours))
            while not server.requests:
                await asyncio.sleep(0.01)
            waiting = asyncio.ensure_future(send(ours))
            await asyncio.sleep(0)
            hanging.cancel()
            assert (await waiting).status == 200

    async def test_a_dead_kept_connection_is_replaced_without_an_error(self, transport: Transport) -> None:
        async def respond_once_then_close(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            writer.write(OK)
            await writer.drain()
            await server.read_request(reader)  # the next request is read, and the connection is closed without a response

        async with serving(respond_once_then_close) as server:
            await post(transport, at(server))
            assert (await post(transport, at(server))).status == 200
            assert server.connections == 2

    async def test_a_message_on_which_the_server_disconnects_is_sent_at_most_twice(self, transport: Transport) -> None:
        all_kept = asyncio.Event()

        async def respond_once_on_each_connection(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            if len(server.requests) == 2:
                all_kept.set()
            await all_kept.wait()
            if len(server.requests) == 2:
                writer.write(OK)
                await writer.drain()
                await server.read_request(reader)

        async with serving(respond_once_on_each_connection) as server:
            await asyncio.gather(*(post(transport, at(server)) for _ in range(2)))
            assert server.connections == 2
            error = await fails(transport, at(server))
            assert (error.kind, error.sent) == (TransportErrorKind.RESET, True)
            assert len(server.requests) == 2 + 2

    @pytest.mark.parametrize("surplus", [b"HTTP/1.1 500 Not Asked For\r\n", OK, b"HTTP/1.1 204 No Content\r\n\r\n"])
    @pytest.mark.parametrize("later", [False, True])
    async def test_bytes_that_no_request_asked_for_end_the_connection(
        self, transport: Transport, surplus: bytes, later: bool
    ) -> None:
        async def respond_too_much(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            if server.connections == 1:
                writer.write(OK if later else OK + surplus)
                await first_responded.wait()
                writer.write(surplus if later else b"\r\n")
                await writer.drain()
                sent.set()
                await reader.read()
            else:
                writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        first_responded, sent = asyncio.Event(), asyncio.Event()
        async with serving(respond_too_much) as server:
            ours = client(transport, at(server))
            assert (await send(ours)).status == 200
            first_responded.set()
            await sent.wait()
            assert (await send(ours)).status == 400

    async def test_no_rejected_message_counts_as_delivered_where_each_first_message_is_responded_to_twice(
        self, transport: Transport
    ) -> None:
        async def respond_twice_then_reject(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            writer.write(OK)
            await asyncio.sleep(0)
            writer.write(OK)
            while True:
                await server.read_request(reader)
                writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        async with serving(respond_twice_then_reject) as server:
            ours = client(transport, at(server))
            statuses = [(await send(ours)).status for _ in range(40)]
            statuses += [response.status for response in await asyncio.gather(*(send(ours) for _ in range(40)))]
            # Each message was the first of its connection, and every 200 belongs to one.
            assert statuses.count(200) == server.connections

    async def test_an_offer_to_switch_protocols_is_ignored(self, transport: Transport) -> None:
        offer = b"HTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade, Keep-Alive\r\nContent-Length: 2\r\n\r\nok"
        async with serving(offer) as server:
            for _ in range(2):
                assert (await post(transport, at(server))).body == b"ok"
            assert server.connections == 1

    @pytest.mark.parametrize(
        ("sent", "expected"),
        [
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", (201, b"")),
            (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", (200, b"abc")),
            (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", (302, b"")),
            (b"HTTP/1.1 500 \xff\r\nContent-Length: 1\r\n\r\nx", (500, b"x")),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n", (200, b"abc")),
        ],
    )
    async def test_every_form_of_response_is_read_and_no_redirect_followed(
        self, transport: Transport, sent: bytes, expected: tuple[int, bytes]
    ) -> None:
        async with serving(sent) as server:
            response = await post(transport, at(server))
            assert (response.status, response.body) == expected
            assert len(server.requests) == 1

    async def test_a_body_may_end_with_the_connection(self, transport: Transport) -> None:
        async def respond(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nRetry-After: 7\r\n\r\nall of it")

        async with serving(respond) as server:
            response = await post(transport, at(server))
            assert (response.body, response.retry_after) == (b"all of it", "7")

    async def test_a_huge_response_is_truncated_without_waiting_for_its_end(self, transport: Transport) -> None:
        async def endless(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()

        async with serving(endless) as server:
            response = await post(transport, at(server))
            assert (response.status, len(response.body)) == (200, MAX_RESPONSE_BODY_BYTES)

    async def test_a_body_is_awaited_by_a_client_that_reads_it(
        self, transport: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def slowly(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            for piece in (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"al", b"l."):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.1)

        monkeypatch.setattr("eventsink.sinks.connection.BODY_SECONDS", 0.01)
        async with serving(slowly) as server:
            assert (await send(transport.client(at(server), tenant="acme", reads=True))).body == b"all."

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 200),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200),
            (b"HTTP/1.1 200 OK\r\nContent-Length: canary\r\n\r\n", 200),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", 200),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", 200),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n", 200),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", 200),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 1\r\n\r\n", 202),
            (b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n1", 429),
            (b"HTTP/1.1 400 Bad\nContent-Length: 0\n\n", 400),
        ],
    )
    @pytest.mark.parametrize("ends", [True, False])
    async def test_a_malformed_or_incomplete_response_counts_by_its_status_and_its_connection_is_not_reused(
        self, transport: Transport, sent: bytes, status: int, ends: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def once(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            writer.write(sent)
            await writer.drain()
            if not ends:
                await reader.read()

        monkeypatch.setattr("eventsink.sinks.connection.BODY_SECONDS", 0.05)
        async with serving(once) as server:
            ours = client(transport, at(server))
            for _ in range(2):
                response = await send(ours)
                assert (response.status, response.retry_after) == (status, "7" if status == 429 else None)
            assert (server.connections, len(server.requests)) == (2, 2)

    @pytest.mark.parametrize(
        ("sent", "kind"),
        [
            (b"", TransportErrorKind.RESET),
            (b"HTTP/1.1 200 OK\r\nContent-Le", TransportErrorKind.RESET),
            (b"SSH-2.0-canary\r\n\r\n", TransportErrorKind.PROTOCOL),
            (b"HTTP/1.1 2000 OK\r\n\r\n", TransportErrorKind.PROTOCOL),
            (b"HTTP/1.1 20\r\n\r\n", TransportErrorKind.PROTOCOL),
            (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", TransportErrorKind.PROTOCOL),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 canary\r\n\r\n", TransportErrorKind.PROTOCOL),
            (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000, TransportErrorKind.PROTOCOL),
            (b"HTTP/1.1 103 Early Hints\r\nX: " + b"y" * 200_000, TransportErrorKind.PROTOCOL),
            (b"\x15\x03\x01\x00\x02\x02\x46", TransportErrorKind.WRONG_PROTOCOL),
        ],
    )
    async def test_without_a_status_there_is_no_response_and_nothing_is_logged(
        self, transport: Transport, sent: bytes, kind: TransportErrorKind, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def once(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            writer.write(sent)
            await writer.drain()

        async with serving(once) as server:
            error = await fails(transport, at(server))
            assert (error.kind, error.sent) == (kind, True)
        assert not caplog.records

    async def test_the_status_of_an_earlier_response_is_not_taken_for_that_of_a_malformed_one(self, transport: Transport) -> None:
        async def respond(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            writer.write(OK)
            await server.read_request(reader)
            writer.write(b"HTTP/canary 500 Internal Server Error\r\n\r\n")

        async with serving(respond) as server:
            ours = client(transport, at(server))
            assert (await send(ours)).status == 200
            with pytest.raises(TransportError, match="the response cannot be read"):
                await send(ours)

    @pytest.mark.parametrize(
        ("start", "more"),
        [
            (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 1000),
            (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=", b"y" * 1000),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;yyyyyyyyyyyyyyyyyy\r\nx\r\n" * 40),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"y" * 1000),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 100),
            (b"HTTP/1.1 100 Continue\r\nX: ", b"y" * 1000),
            (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 30),
            (b"", b"\r\n" * 500),
        ],
        ids=["header", "headers", "extension", "extensions", "trailer", "trailers", "interim head", "interim", "blank lines"],
    )
    async def test_an_endless_response_ends_after_few_bytes_of_anything_but_its_body(
        self, transport: Transport, start: bytes, more: bytes
    ) -> None:
        sent = 0

        async def endless(reader: Reader, writer: Writer) -> None:
            nonlocal sent
            await server.read_request(reader)
            writer.write(start)
            while not writer.transport.is_closing():
                writer.write(more)
                sent += len(more)
                await writer.drain()
                await asyncio.sleep(0)

        async with serving(endless) as server:
            if start.startswith(b"HTTP/1.1 200"):
                assert (await post(transport, at(server))).status == 200
            else:
                assert (await fails(transport, at(server))).kind is TransportErrorKind.PROTOCOL
        assert sent < 20_000_000  # what the operating system buffers is not the transport's

    @pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n"])
    async def test_a_missing_or_incomplete_head_is_a_timeout(self, transport: Transport, sent: bytes) -> None:
        async def stall(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            writer.write(sent)
            await reader.read()

        async with serving(stall) as server:
            error = await fails(transport, at(server), timeout=0.3)
            assert (error.kind, error.sent) == (TransportErrorKind.TIMEOUT, True)

    async def test_each_request_under_way_has_a_time_limit_of_its_own(self, transport: Transport) -> None:
        async def hang(reader: Reader, _: Writer) -> None:
            await server.read_request(reader)
            await reader.read()

        ended: list[float] = []

        async def time_out(seconds: float) -> None:
            began = asyncio.get_running_loop().time()
            with pytest.raises(TransportError) as raised:
                await post(transport, at(server), timeout=seconds, tenant=f"t{seconds}")
            assert raised.value.kind is TransportErrorKind.TIMEOUT
            assert asyncio.get_running_loop().time() - began > seconds - 0.01
            ended.append(seconds)

        async with serving(hang) as server:
            longest = asyncio.ensure_future(post(transport, at(server)))
            await asyncio.gather(*(time_out(seconds) for seconds in (0.2, 0.3, 0.1)))
            assert not longest.done()
            assert ended == [0.1, 0.2, 0.3]
            longest.cancel()

    async def test_a_port_without_a_listener_is_connection_refused(self, transport: Transport) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            error = await fails(transport, Endpoint.parse(f"http://127.0.0.1:{unused.getsockname()[1]}/"))
        assert (error.kind, error.sent) == (TransportErrorKind.REFUSED, False)

    async def test_a_name_without_an_address_is_not_resolved(self, transport: Transport) -> None:
        error = await fails(transport, Endpoint.parse("http://no-such-name.invalid/"))
        assert error.kind is TransportErrorKind.DNS

    @pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "http://[::1]:9/", "http://10.0.0.1/", "http://0.0.0.0/"])
    async def test_addresses_that_are_not_allowed_are_not_dialled(self, transport: Transport, url: str) -> None:
        error = await fails(transport, Endpoint.parse(url))
        assert (error.kind, error.sent) == (TransportErrorKind.EGRESS, False)

    async def test_a_private_authority_is_trusted_only_where_it_is_configured(self, transport: Transport) -> None:
        authority, other = trustme.CA(), trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        pem, other_pem = authority.cert_pem.bytes().decode(), other.cert_pem.bytes().decode()
        async with serving(OK, context) as server:
            endpoint = at(server, "localhost", "https")
            assert (await post(transport, endpoint, ca=pem)).status == 200
            assert (await post(transport, endpoint, ca=pem)).status == 200
            assert server.connections == 1
            for wrong in (None, other_pem, "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n"):
                assert (await fails(transport, endpoint, ca=wrong)).kind is TransportErrorKind.TLS
            assert (await fails(transport, at(server, "127.0.0.1", "https"), ca=pem)).kind is TransportErrorKind.TLS
            assert len(server.requests) == 2

    @pytest.mark.parametrize(
        "banner", [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"220 canary ESMTP\r\n", b"SSH-2.0-x\r\n"]
    )
    async def test_https_to_a_port_without_tls_is_the_wrong_protocol(self, transport: Transport, banner: bytes) -> None:
        async def plain(reader: Reader, writer: Writer) -> None:
            await reader.read(10)
            writer.write(banner)
            await writer.drain()

        async with serving(plain) as server:
            error = await fails(transport, at(server, "localhost", "https"))
            assert (error.kind, error.sent) == (TransportErrorKind.WRONG_PROTOCOL, False)

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_a_receiver_that_wants_a_client_certificate_is_named_as_such(
        self, transport: Transport, version: ssl.TLSVersion
    ) -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = context.maximum_version = version
        with shaking_hands(context) as port:
            endpoint = Endpoint.parse(f"https://localhost:{port}/canary")
            error = await fails(transport, endpoint, ca=authority.cert_pem.bytes().decode())
        assert error.kind is TransportErrorKind.CLIENT_CERTIFICATE

    async def test_a_receiver_with_old_versions_of_tls_only_is_named_as_such(self, transport: Transport) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority = trustme.CA()
        authority.issue_cert("localhost").configure_cert(context)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with shaking_hands(context) as port:
            endpoint = Endpoint.parse(f"https://localhost:{port}/canary")
            error = await fails(transport, endpoint, ca=authority.cert_pem.bytes().decode())
        assert (error.kind, error.sent) == (TransportErrorKind.TLS_VERSION, False)

    async def test_a_client_certificate_is_presented_to_a_receiver_that_demands_one(self, transport: Transport) -> None:
        authority = trustme.CA()
        async with serving(_who, demanding(authority)) as server:
            shown = identity(authority, "router.example.com")
            options = TlsOptions(authority.cert_pem.bytes().decode(), shown)
            response = await send(transport.client(at(server, scheme="https"), tenant="acme", tls=options))
            assert response.body == b"router.example.com"
            stranger = TlsOptions(options.ca, identity(trustme.CA(), "router.example.com"))
            with pytest.raises(TransportError) as raised:
                await send(transport.client(at(server, scheme="https"), tenant="acme", tls=stranger))
            assert "PRIVATE KEY" not in repr(options) + repr(raised.value.__dict__)

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_a_client_certificate_that_has_expired_is_named_as_such(
        self, transport: Transport, version: ssl.TLSVersion
    ) -> None:
        authority, now = trustme.CA(), datetime.now(UTC)
        expired = authority.issue_cert("a.example.com", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1))
        options = TlsOptions(authority.cert_pem.bytes().decode(), expired.private_key_and_cert_chain_pem.bytes().decode())
        context = demanding(authority)
        context.minimum_version = context.maximum_version = version
        with shaking_hands(context) as port:
            endpoint = Endpoint.parse(f"https://127.0.0.1:{port}/canary")
            with pytest.raises(TransportError, match="the client certificate has expired") as raised:
                await send(transport.client(endpoint, tenant="acme", tls=options))
        assert raised.value.kind is TransportErrorKind.CLIENT_CERTIFICATE

    async def test_connections_of_other_certificates_names_authorities_or_tenants_are_never_shared(
        self, transport: Transport
    ) -> None:
        authority = trustme.CA()
        ca = authority.cert_pem.bytes().decode()
        context = demanding(authority)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
        first, second = (identity(authority, f"{name}.example.com") for name in ("first", "second"))
        different = [
            ("acme", TlsOptions(ca, first)),
            ("acme", TlsOptions(ca, second)),
            ("globex", TlsOptions(ca, first)),
            ("acme", TlsOptions(ca, first, "localhost")),
            ("acme", TlsOptions(ca + trustme.CA().cert_pem.bytes().decode(), first)),
        ]
        async with serving(_who, context) as server:
            for _ in range(2):
                for tenant, options in different:
                    response = await send(transport.client(at(server, scheme="https"), tenant=tenant, tls=options))
                    assert response.body == (b"second" if options.client_certificate == second else b"first") + b".example.com"
            assert server.connections == len(different), "each keeps its own, and uses it again"

    async def test_a_name_for_tls_is_asked_for_and_checked_instead_of_the_host(self, transport: Transport) -> None:
        authority = trustme.CA()
        asked: list[str | None] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("hooks.example.com").configure_cert(context)
        context.sni_callback = lambda _connection, name, _context: asked.append(name)
        ca = authority.cert_pem.bytes().decode()
        async with serving(OK, context) as server:
            named = transport.client(at(server, scheme="https"), tenant="acme", tls=TlsOptions(ca, None, "hooks.example.com"))
            assert (await send(named)).status == 200
            assert asked == ["hooks.example.com"]
            assert (await fails(transport, at(server, scheme="https"), ca=ca)).kind is TransportErrorKind.TLS
            other = transport.client(at(server, scheme="https"), tenant="acme", tls=TlsOptions(ca, None, "other.example.com"))
            with pytest.raises(TransportError) as raised:
                await send(other)
            assert raised.value.kind is TransportErrorKind.TLS

    async def test_an_expired_certificate_is_rejected(self, transport: Transport) -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC)).configure_cert(context)
        async with serving(OK, context) as server:
            error = await fails(transport, at(server, "localhost", "https"), ca=authority.cert_pem.bytes().decode())
            assert (error.kind, error.sent) == (TransportErrorKind.TLS, False)
            assert "expired" in str(error)

    @pytest.mark.parametrize("bytes_read", [0, 10])
    async def test_a_disconnect_during_the_handshake_is_a_lost_connection_and_no_tls_failure(
        self, transport: Transport, bytes_read: int
    ) -> None:
        async def hang_up(reader: Reader, writer: Writer) -> None:
            await reader.read(bytes_read)
            writer.transport.abort()

        async with serving(hang_up) as server:
            error = await fails(transport, at(server, "127.0.0.1", "https"))
            assert (error.kind, error.sent) == (TransportErrorKind.RESET, False)

    async def test_a_handshake_that_does_not_end_is_a_timeout(self, transport: Transport) -> None:
        async def silent(reader: Reader, _: Writer) -> None:
            await reader.read()

        async with serving(silent) as server:
            error = await fails(transport, at(server, "127.0.0.1", "https"), timeout=0.3)
            assert (error.kind, error.sent) == (TransportErrorKind.CONNECT_TIMEOUT, False)

    async def test_a_reset_connection_is_reported_as_lost(self, transport: Transport) -> None:
        async def reset(reader: Reader, writer: Writer) -> None:
            await server.read_request(reader)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

        async with serving(reset) as server:
            error = await fails(transport, at(server))
            assert (error.kind, error.sent) == (TransportErrorKind.RESET, True)

    async def test_closing_fails_requests_under_way_and_those_waiting(self, transport: Transport) -> None:
        async def hang(reader: Reader, _: Writer) -> None:
            await server.read_request(reader)
            await reader.read()

        async with serving(hang) as server:
            ours = [client(transport, at(server)) for _ in range(2)]
            posts = [asyncio.ensure_future(send(ours[n % 2])) for n in range(6)]
            while len(server.requests) < 2:
                await asyncio.sleep(0.01)
            await transport.close()
            done, pending = await asyncio.wait(posts, timeout=TIMEOUT_SECONDS / 2)
            assert not pending
            errors = [one.exception() for one in done]
            assert all(isinstance(error, TransportError) and error.kind is TransportErrorKind.RESET for error in errors)

    async def test_a_closed_transport_sends_nothing(self, transport: Transport) -> None:
        async with serving(OK) as server:
            await transport.close()
            await fails(transport, at(server))
            assert server.requests == []
