"""Runs what reads HTTP without sockets: in one piece and in several, and beside a second parser where both must see the same."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import httptools

from eventsink.runtime.listener.connection import Connection as IncomingConnection
from eventsink.runtime.listener.connection import Connections
from eventsink.runtime.listener.framing import FRAMING
from eventsink.runtime.listener.messages import RequestHead, Response, error
from eventsink.runtime.listener.settings import ListenerLimits
from eventsink.runtime.listener.shares import Shares
from eventsink.sinks.connection import Connection
from eventsink.sinks.transport import TransportError
from eventsink.sinks.tunnel import Handshake
from eventsink.sinks.unread import Unread

MAX_BODY_BYTES = 512
"""What the listener takes, so that a small input reaches it."""
MOST_SINGLE_BYTES = 256
"""An input up to this size is also read byte by byte."""
EARLY = "/early"
"""The path of requests that have their response before their body."""
MAX_TURNS = 10_000
"""Of the loop, until all requests in one piece are handled."""


class Silent:
    """In place of `Unread`: there is no socket."""

    def add(self, _: int) -> None: ...

    def changed(self) -> None: ...

    def on(self, _: int) -> bool:
        return False


class Wire(asyncio.Transport):
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.ended = False
        """Nothing more is written."""
        self.paused = False
        self.written = b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    def fileno(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = self.ended = True

    abort = close


@cache
def loop() -> asyncio.AbstractEventLoop:
    """The one loop of all targets."""
    return asyncio.new_event_loop()


def ways_to_cut(data: bytes) -> Iterator[list[bytes]]:
    """The data in one piece, in pieces that depend on nothing but the data, and a small input byte by byte."""
    yield [data]
    chance, pieces, at = random.Random(zlib.crc32(data)), [], 0
    while at < len(data):
        length = chance.choice((1, 2, 3, 7, 20, 100, 400))
        pieces.append(data[at : at + length])
        at += length
    yield pieces
    if len(data) <= MOST_SINGLE_BYTES:
        yield [data[at : at + 1] for at in range(len(data))]


# ---- responses of receivers


def read_response(data: bytes) -> None:
    """A response in two pieces to each of two requests, and the end of the connection."""

    async def exchange() -> None:
        connection, wire = Connection(cast(Unread, Silent())), Wire()
        connection.connection_made(wire)
        half = len(data) // 2
        for _ in range(2):
            waiter = connection.exchange(b"POST / HTTP/1.1\r\n\r\n", b"", 1.0)
            for piece in (data[:half], data[half:]):
                if not wire.closed:
                    connection.data_received(piece)
            if not waiter.done():
                connection.connection_lost(None)
            try:
                response = await asyncio.wait_for(waiter, 5)
                assert 100 <= response.status <= 999
            except TransportError:
                return
            if not connection.usable:
                return

    loop().run_until_complete(exchange())


# ---- requests


@dataclass(frozen=True)
class Request:
    """What an application gets to handle, or the second parser sees."""

    method: str
    target: str
    body: bytes


class _Recorder:
    """An application that keeps what it gets."""

    reads = frozenset({b"authorization", b"content-type"})

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def admit(self, head: RequestHead) -> RequestHead | Response:
        return error(404, "not found") if head.path == EARLY else head

    def handle(self, admitted: RequestHead, body: bytes) -> Response:
        assert len(body) <= MAX_BODY_BYTES
        self.requests.append(Request(admitted.method, f"{admitted.path}?{admitted.query}", body))
        return error(200, "done")

    def reject(self, status: int, sentence: str, _: RequestHead | None = None) -> Response:
        return error(status, sentence)

    def later(self, sentence: str, _: RequestHead | None = None) -> Response:
        return error(503, sentence)


@dataclass(frozen=True)
class _Reading:
    requests: list[Request]
    responses: int
    ended: bool


async def _listen(pieces: list[bytes]) -> _Reading:
    application, shares = _Recorder(), Shares(64, 16 * 1024**2)
    limits = ListenerLimits("", max_body_bytes=MAX_BODY_BYTES)
    connections = Connections("fuzz", limits, application, shares, application.reads | FRAMING, lambda _: None)
    connection, wire = IncomingConnection(connections), Wire()
    connection.connection_made(wire)
    for piece in pieces:
        await _until_handled(wire)
        if not wire.ended:
            connection.data_received(piece)
    await _until_handled(wire)
    connection.connection_lost(None)
    assert (shares.held_bytes, shares.connections, shares.peers) == (0, 0, {})
    return _Reading(application.requests, wire.written.count(b"\r\nContent-Length: "), wire.ended)


async def _until_handled(wire: Wire) -> None:
    """A request is handled in one turn of the loop; while others are behind it, the connection is paused."""
    for _ in range(MAX_TURNS):
        await asyncio.sleep(0)
        if not wire.paused or wire.ended:
            await asyncio.sleep(0)  # the last one of them
            return
    raise AssertionError("the connection is read no more")


class _Second:
    """What another parser sees in a stream of requests."""

    def __init__(self, data: bytes) -> None:
        self.requests: list[Request] = []
        self.gives_up = False
        """Whether it reads only those: it takes no chunk size with a space behind it, for example."""
        self._target = self._body = b""
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            self.gives_up = True

    def on_message_begin(self) -> None:
        self._target = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        path, _, query = self._target.decode("latin-1").partition("?")
        if "://" in path:
            path = "/" + path.partition("://")[2].partition("/")[2]
        if path != EARLY:
            self.requests.append(Request(self._parser.get_method().decode(), f"{path}?{query}", self._body))


def read_requests(data: bytes) -> None:
    """The requests of a connection are the same however they arrive, and another parser sees the same ones."""
    first, *others = [loop().run_until_complete(_listen(pieces)) for pieces in ways_to_cut(data)]
    for other in others:
        assert other == first
    second = _Second(data)
    both = min(len(first.requests), len(second.requests)) if second.gives_up else len(first.requests)
    assert first.requests[:both] == second.requests[:both]


# ---- responses of a proxy


def read_proxy_response(data: bytes) -> None:
    """A tunnel is open or not, whatever the pieces are in which the proxy's response arrives; and only after a 2xx, for another parser, too."""

    async def handshake(pieces: list[bytes]) -> tuple[bool, str]:
        tunnel, wire = Handshake("https://a.example"), Wire()
        tunnel.connection_made(wire)
        for piece in pieces:
            if not wire.paused and not wire.closed:
                tunnel.data_received(piece)
        tunnel.connection_lost(None)
        try:
            await asyncio.wait_for(tunnel.responded, 5)
        except TransportError as problem:
            return False, f"{problem.kind} {problem.detail}"
        return True, ""

    head, end, _ = data.partition(b"\r\n\r\n")
    first, *others = [loop().run_until_complete(handshake(pieces)) for pieces in ways_to_cut(head + end)]
    for other in others:
        assert other == first
    loop().run_until_complete(handshake([data]))
    if first[0]:
        parser = httptools.HttpResponseParser(object())
        try:
            parser.feed_data(head + end)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            pass
        assert 200 <= parser.get_status_code() < 300
