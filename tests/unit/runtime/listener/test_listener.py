"""A listener over real sockets: no client keeps its connections, descriptors or memory from others."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from prometheus_client import CollectorRegistry

from eventsink.runtime.listener.connection import Connection
from eventsink.runtime.listener.listener import Listener
from eventsink.runtime.listener.messages import RequestHead, Response, error
from eventsink.runtime.listener.metrics import ListenerMetrics
from eventsink.runtime.listener.settings import MAX_DISCARDED_BYTES, MAX_SURPLUS, ListenerLimits
from eventsink.runtime.pending import Pending

DEADLINE_SECONDS = 10.0


@dataclass
class Echo:
    """An application that returns what it gets, after `release`; /early is rejected before the body."""

    reads: frozenset[bytes] = frozenset({b"authorization"})
    release: asyncio.Event = field(default_factory=asyncio.Event)
    handled: list[bytes] = field(default_factory=list)
    turn: int = 0
    """Counted by a test."""
    turns: list[int] = field(default_factory=list)
    """In which it responded at once."""

    def admit(self, head: RequestHead) -> str | Response:
        return error(404, "nothing here") if head.path == "/early" else head.path

    def handle(self, admitted: str, body: bytes) -> Response | Pending[Response] | Coroutine[Any, Any, Response]:
        """/now is responded to at once, /pending by a future."""
        response = Response(200, admitted.encode() + b" " + body)
        if admitted == "/now":
            self.turns.append(self.turn)
            return response
        if admitted == "/pending":
            future = asyncio.ensure_future(self.release.wait())
            return Pending(future, lambda: response)
        return self._handle(admitted, body)

    async def _handle(self, admitted: str, body: bytes) -> Response:
        self.handled.append(body)
        if admitted == "/defect":
            raise KeyError(admitted)
        await self.release.wait()
        return Response(200, admitted.encode() + b" " + body[:1000] if admitted != "/large" else b"x" * 20_000_000)

    def reject(self, status: int, sentence: str, admitted: str | None = None) -> Response:
        return error(status, sentence)

    def later(self, sentence: str, admitted: str | None = None) -> Response:
        return error(503, sentence)


@dataclass
class Running:
    application: Echo
    listener: Listener[str]
    registry: CollectorRegistry
    port: int

    def ended(self, reason: str) -> float:
        name = "eventsink_example_listener_ended_total"
        return self.registry.get_sample_value(name, {"listener": "echo", "reason": reason}) or 0.0

    async def connect(self, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, **options)

    async def raw(self, *data: bytes) -> bytes:
        """Everything that is returned until the end of the connection."""
        reader, writer = await self.connect()
        try:
            for one in data:
                writer.write(one)
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await reader.read(-1)
        finally:
            writer.close()


def request(path: str = "/x", body: bytes = b"", *, extra: str = "", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n{extra}\r\n".encode() + body


CLOSE = "Connection: close\r\n"


@contextlib.asynccontextmanager
async def running(
    *, certificate: tuple[Path, Path] | None = None, released: bool = True, **limits: Any
) -> AsyncIterator[Running]:
    application, registry = Echo(), CollectorRegistry()
    if released:
        application.release.set()
    listener = Listener(
        "echo",
        "127.0.0.1:0",
        ListenerLimits("echo.", **limits),
        application,
        ListenerMetrics(registry, "example"),
        process="example",
        certificate=certificate,
    )
    yield Running(application, listener, registry, await listener.start())
    application.release.set()
    await listener.close()
    await eventually(lambda: not listener.connections.tasks and not listener.connections.shares.peers)
    assert listener.connections.shares.held_bytes == 0


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


async def read_response(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(DEADLINE_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        return head + await reader.readexactly(length)


async def test_requests_are_read_however_their_bytes_arrive() -> None:
    data = request("/a", b"one") + b"\r\n" + request("/b", b"two", extra=CLOSE)
    async with running() as server:
        for size in (len(data), 1, 7):
            reader, writer = await server.connect()
            for at in range(0, len(data), size):
                writer.write(data[at : at + size])
                await asyncio.sleep(0)
            async with asyncio.timeout(DEADLINE_SECONDS):
                responses = await reader.read(-1)
            writer.close()
            assert [part.partition(b"\r\n\r\n")[2] for part in responses.split(b"HTTP/1.1 200")[1:]] == [b"/a one", b"/b two"]


async def test_responses_that_are_known_at_once_and_those_that_wait_keep_their_order() -> None:
    paths = ["/now", "/pending", "/now", "/task", "/now", "/pending"]
    async with running(released=False) as server:
        reader, writer = await server.connect()
        writer.write(b"".join(request(path, b"x") for path in paths))
        assert (await read_response(reader)).endswith(b"/now x")
        await eventually(lambda: server.listener.connections.tasks)
        server.application.release.set()
        for path in paths[1:]:
            assert (await read_response(reader)).endswith(path.encode() + b" x")
        writer.close()


async def test_half_a_head_half_a_body_and_unread_responses_end_in_time() -> None:
    async with running(read_timeout=0.05, write_timeout=0.05, idle_timeout=30) as server:
        assert b" 408 " in await server.raw(b"POST /x HTTP/1.1\r\nHo")
        assert b" 408 " in await server.raw(request(body=b"x", length=2))
        assert b" 408 " in await server.raw(request("/early", b"x", length=2))
        assert server.ended("ReadTimeout") == 3
        _, writer = await server.connect(limit=1024)
        writer.write(request("/large"))
        await eventually(lambda: server.ended("WriteTimeout") == 1 and not server.listener.connections.open)
        writer.close()


async def test_silent_connections_are_closed_and_used_ones_kept_for_the_idle_timeout() -> None:
    async with running(idle_timeout=0.6, write_timeout=0.02) as server:
        assert await server.raw() == b""
        reader, writer = await server.connect()
        for _ in range(3):
            writer.write(request())
            await read_response(reader)
            await asyncio.sleep(0.06)  # longer than responses may stay unread, shorter than the connection is kept
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await reader.read() == b""
        writer.close()


async def test_one_client_that_holds_connections_leaves_room_and_gets_a_503() -> None:
    async with running(max_connections=8) as server:
        held = [await server.connect() for _ in range(4)]
        await eventually(lambda: len(server.listener.connections.open) == 4)
        assert b" 503 " in await server.raw()
        assert server.ended("TooManyConnections") == 1
        held[0][1].close()
        await eventually(lambda: len(server.listener.connections.open) == 3)
        assert b" 200 " in await server.raw(request(extra=CLOSE))
        for _, writer in held:
            writer.close()


async def test_surplus_connections_that_do_not_read_take_a_bounded_number_of_descriptors() -> None:
    async with running(max_connections=2) as server:
        clients = [await server.connect() for _ in range(MAX_SURPLUS * 2)]
        await eventually(lambda: server.ended("TooManyConnections") == MAX_SURPLUS * 2 - 1)
        assert len(server.listener.connections.surplus) <= MAX_SURPLUS
        for _, writer in clients:
            writer.close()


async def test_half_sent_bodies_of_one_client_hold_at_most_half_of_the_memory() -> None:
    async with running(max_body_bytes=1000, max_held_bytes=4000) as server:
        clients = []
        for _ in range(2):
            clients.append(await server.connect())
            clients[-1][1].write(request(body=b"x" * 999, length=1000))
        await eventually(lambda: server.listener.connections.shares.held_bytes == 1998)
        surplus = await server.raw(request(body=b"x" * 999, extra=CLOSE))
        assert b" 503 " in surplus
        assert b"(echo.maxHeldBytes)" in surplus
        for reader, writer in clients:
            writer.write(b"x")
            assert b" 200 " in await read_response(reader)
            writer.close()


async def test_others_have_their_turn_between_requests_that_are_pipelined_and_responded_to_at_once() -> None:
    async with running() as server:

        async def count() -> None:
            while True:
                server.application.turn += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        try:
            received = await server.raw(request("/now") * 20 + request("/now", extra=CLOSE))
        finally:
            counting.cancel()
        assert received.count(b"HTTP/1.1 200") == 21
        assert len(set(server.application.turns)) == 21


async def test_requests_that_are_pipelined_wait_in_the_socket_and_not_in_memory() -> None:
    async with running(released=False, max_held_bytes=2_000_000) as server:
        reader, writer = await server.connect()
        writer.write(request("/first"))
        await eventually(lambda: server.application.handled)
        writer.write(request("/next") * 100_000)
        await eventually(lambda: not next(iter(server.listener.connections.open)).reading)
        assert server.listener.connections.shares.held_bytes < 1_000_000
        server.application.release.set()
        assert b"/first" in await read_response(reader)
        assert b"/next" in await read_response(reader)
        writer.transport.abort()


async def test_a_body_that_is_not_wanted_is_not_read_to_its_end() -> None:
    async with running(max_body_bytes=10 * MAX_DISCARDED_BYTES, max_held_bytes=100 * MAX_DISCARDED_BYTES) as server:
        small = await server.raw(request("/early", b"x" * 1000) + request("/x", extra=CLOSE))
        assert [part[:3] for part in small.split(b"HTTP/1.1 ")[1:]] == [b"404", b"200"]
        large = await server.raw(request("/early", b"x" * (MAX_DISCARDED_BYTES + 1)) + request("/x"))
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        endless = await server.raw(b"POST /early HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", *[chunk] * 20)
        for response in (large, endless):
            assert [part[:3] for part in response.split(b"HTTP/1.1 ")[1:]] == [b"404"]
        assert server.application.handled == [b""]


async def test_a_flood_of_expectations_gets_one_interim_response_each_and_only_when_its_turn_comes() -> None:
    async with running(released=False) as server:
        reader, writer = await server.connect()
        expecting = request(length=1, extra="Expect: 100-continue\r\n")
        writer.write(expecting)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"x" + expecting * 1000)
        await eventually(lambda: server.application.handled)
        server.application.release.set()
        assert b" 200 " in await read_response(reader)
        # The next head was followed by more bytes, which are its body: a client that sends them does not wait.
        assert b" 200 " in await read_response(reader)
        writer.transport.abort()


async def test_a_defect_of_the_application_is_a_500_and_the_connection_goes_on() -> None:
    async with running() as server:
        responses = await server.raw(request("/defect") + request("/x", extra=CLOSE))
        assert [part[:3] for part in responses.split(b"HTTP/1.1 ")[1:]] == [b"500", b"200"]


async def test_no_response_repeats_what_was_sent() -> None:
    canary = "canary-7c1d"
    async with running() as server:
        for data in (
            f"GET /{canary} HTTP/1.1\r\n\r\n",
            f"{canary} / HTTP/1.1\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: {canary}/\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: {canary}\r\nAuthorization: {canary}\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: h\r\n{canary}\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: {canary}\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: h\r\nExpect: {canary}\r\n\r\n",
            f"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{canary}\r\n",
        ):
            response = await server.raw(data.encode())
            assert response[9:10] in (b"4", b"5"), data
            assert canary.encode() not in response


async def test_stopping_lets_what_is_handled_finish() -> None:
    async with running(released=False) as server:
        idle, idle_writer = await server.connect()
        reader, writer = await server.connect()
        writer.write(request())
        await eventually(lambda: server.application.handled)
        stopping = asyncio.ensure_future(server.listener.close(DEADLINE_SECONDS))
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await idle.read() == b""
        with pytest.raises(OSError, match=r".*"):
            await server.connect()
        server.application.release.set()
        assert b"Connection: close" in await read_response(reader)
        await stopping
        idle_writer.close()
        writer.close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return tmp_path / "cert.pem", tmp_path / "key.pem"


async def test_a_handshake_that_failed_leaves_nothing_to_the_garbage_collector(certificate: tuple[Path, Path]) -> None:
    async with running(certificate=certificate) as server:
        gc.collect()
        gc.disable()
        others = {id(one) for one in gc.get_objects() if isinstance(one, Connection)}
        try:
            for number in range(3):
                _, writer = await server.connect()
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                await eventually(lambda count=number + 1: server.ended("TlsFailed") == count)
                writer.close()
            await eventually(
                lambda: not [one for one in gc.get_objects() if isinstance(one, Connection) and id(one) not in others]
            )
        finally:
            gc.enable()


async def test_the_port_of_an_https_listener_is_free_once_it_is_closed(certificate: tuple[Path, Path]) -> None:
    async with running(certificate=certificate) as server:
        port = server.port
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_a_tls_handshake_counts_as_a_connection_and_ends(certificate: tuple[Path, Path]) -> None:
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    async with running(certificate=certificate, max_connections=6) as server:
        silent = [await server.connect() for _ in range(3)]
        await eventually(lambda: len(server.listener.connections.open) == 3)
        with pytest.raises(OSError, match=r".*"):
            await server.connect(ssl=client)
        assert server.ended("TooManyConnections") == 1
        silent[0][1].write(b"GET / HTTP/1.1\r\n\r\n")  # plain HTTP is not a handshake
        await eventually(lambda: server.ended("TlsFailed") == 1)
        silent[1][1].close()
        await eventually(lambda: server.ended("TlsFailed") == 2 and len(server.listener.connections.open) == 1)
        reader, writer = await server.connect(ssl=client)
        writer.write(request(body=b"over tls", extra=CLOSE))
        assert b"over tls" in await read_response(reader)
        for _, one in [*silent, (reader, writer)]:
            one.transport.abort()
