"""One connection of a sender: HTTP/1.1 as an asyncio.Protocol over httptools, a quarter of a framework's cost for a one-kilobyte event."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import cast

import httptools

from eventsink.router.intake.requests import Intake, IntakeResponse, RequestHead, rendered
from eventsink.router.intake.settings import IntakeSettings
from eventsink.router.sources import PostingSource

MAX_HEAD_BYTES = 32 * 1024
"""Request line and headers."""
MAX_PIPELINED = 16
"""Requests of one connection that wait for the one before them; beyond it the connection is not read for a while."""
MAX_SENDER_CHARACTERS = 128
LINGER_SECONDS = 2.0
"""How long a connection that is being ended may take to read its responses and to close."""
_HEADERS = frozenset({b"authorization", b"content-encoding", b"content-length", b"expect"})


class _Request:
    """A request while it is read, and until its response is written."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[bytes, bytes] = {}
        self.head_bytes = 0
        self.head_done = False
        self.head_only = False
        """Whether the response must have no body (HEAD)."""
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.held_bytes = 0
        """How much of `Connections.held_bytes` is its own."""
        self.keep_alive = True
        self.source: PostingSource | None = None
        self.early: IntakeResponse | None = None
        """Set: the response is known before the body, which is discarded."""


@dataclass(slots=True)
class Connections:
    """What the connections of a server share."""

    settings: IntakeSettings
    intake: Intake
    open: set[IntakeConnection] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """Requests that are being accepted."""
    held_bytes: int = 0
    """Of all bodies that are in memory."""


class IntakeConnection(asyncio.Protocol):
    """One client connection: requests are handled one at a time, in their order."""

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self._settings = connections.settings
        self._intake = connections.intake
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._sender_header = connections.settings.sender_header.lower().encode()
        self._parser = httptools.HttpRequestParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._reading: _Request | None = None
        self._waiting: deque[_Request] = deque()
        self._busy = False
        self._ending = False
        """Nothing more that comes in is read."""
        self._half_closed = False
        self._unread_responses = False
        """The client does not read its responses."""

    def end_when_idle(self) -> None:
        """End the connection now, or after the pending responses."""
        if not self._busy and self._reading is None and not self._waiting:
            self._close()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def reading(self) -> bool:
        """Whether more is read from the client at present."""
        return self._transport is not None and self._transport.is_reading()

    @property
    def unsent_bytes(self) -> int:
        """How much of the responses the client has not read yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._peer = str((transport.get_extra_info("peername") or ("",))[0])
        if len(self._all.open) >= self._settings.max_connections:
            response = self._intake.later("too many connections are open (intake.maxConnections)")
            self._transport.write(rendered(response, keep_alive=False))
            self._close()
            return
        self._all.open.add(self)
        self._limit(self._settings.idle_timeout)

    def connection_lost(self, _: Exception | None) -> None:
        self._all.open.discard(self)
        self._transport = None
        for request in (self._reading, *self._waiting):
            self._release(request)
        self._waiting.clear()
        self._reading = None
        self._limit(None)

    def eof_received(self) -> bool:
        self._half_closed = True
        # A client may end its half and still read the response; TLS has no halves.
        return self._busy and self._transport is not None and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        self._unread_responses = True
        self._regulate()

    def resume_writing(self) -> None:
        self._unread_responses = False
        self._regulate()

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        if self._reading is not None and not self._reading.head_done:
            self._reading.head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken; the request itself was read as any other, and is the connection's last.
            self._ending = True
        except httptools.HttpParserCallbackError:
            raise  # a defect: the event loop logs it and ends the connection
        except httptools.HttpParserError:
            self._reject(self._intake.reject(400, "the request is not HTTP/1.1"))
        request = self._reading
        if request is not None and not request.head_done and max(request.head_bytes, len(request.url)) > MAX_HEAD_BYTES:
            self._reject(self._intake.reject(431, f"a request has at most {MAX_HEAD_BYTES} bytes of headers"))
        self._regulate()

    # ---- httptools; after a rejection it goes on to the end of what it was fed

    def on_message_begin(self) -> None:
        if self._ending:
            return
        self._reading = _Request()
        if not self._busy:
            self._limit(self._settings.read_timeout)

    def on_url(self, url: bytes) -> None:
        if self._reading is not None:
            self._reading.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if self._reading is not None and (name in _HEADERS or name == self._sender_header):
            self._reading.headers[name] = value

    def on_headers_complete(self) -> None:
        request = self._reading
        if request is None:
            return
        request.head_done = True
        method, version = self._parser.get_method(), self._parser.get_http_version()
        request.head_only = method == b"HEAD"
        # HTTP/1.0 clients that keep a connection expect a header that says so; theirs are closed, which all understand.
        request.keep_alive = version == "1.1" and self._parser.should_keep_alive() and not self._parser.should_upgrade()
        head = RequestHead(
            method=method.decode("latin-1"),
            path=request.url.partition(b"?")[0].decode("latin-1"),
            authorization=request.headers.get(b"authorization", b"").decode("latin-1"),
            content_encoding=request.headers.get(b"content-encoding", b"").decode("latin-1").lower(),
        )
        admitted = self._intake.admit(head)
        length = request.headers.get(b"content-length", b"")
        expects = request.headers.get(b"expect", b"").lower() == b"100-continue" and version == "1.1"
        if isinstance(admitted, IntakeResponse):
            request.early = admitted
            if expects:
                self._reject(admitted)  # the client waits for permission to send: it gets the response instead
            return
        request.source = admitted
        if length.isdigit() and int(length) > self._settings.max_body_bytes:
            self._reject(self._too_large(admitted))
        elif expects and not self._busy and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        request = self._reading
        if request is None:
            return
        request.body_bytes += len(body)
        if request.body_bytes > self._settings.max_body_bytes:
            self._reject(request.early or self._too_large(request.source))
        elif request.early is None:
            self._all.held_bytes += len(body)
            request.held_bytes += len(body)
            request.body.append(body)
            if self._all.held_bytes > self._settings.max_held_bytes:
                request.early = self._intake.later("too much is being accepted at once (intake.maxHeldBytes)", request.source)
                self._release(request)

    def on_message_complete(self) -> None:
        if self._reading is None:
            return
        self._waiting.append(self._reading)
        self._reading = None
        self._next()

    # ---- responses

    def _next(self) -> None:
        """Go on with the requests that are complete."""
        while self._waiting and not self._busy:
            request = self._waiting.popleft()
            if request.early is not None:
                self._respond(request.early, request)
                continue
            self._busy = True
            self._limit(None)
            # A task of its own: a client that hangs up does not cancel what was started.
            task = asyncio.get_running_loop().create_task(self._accept(request))
            self._all.tasks.add(task)
            task.add_done_callback(self._all.tasks.discard)

    async def _accept(self, request: _Request) -> None:
        assert request.source is not None
        body = b"".join(request.body)
        request.body.clear()
        try:
            response = await self._intake.handle(request.source, body, self._sender(request))
        finally:
            self._release(request)
            self._busy = False
        self._respond(response, request)
        self._next()
        self._regulate()

    def _sender(self, request: _Request) -> str:
        """Which program sent a request."""
        named = request.headers.get(self._sender_header, b"") if self._sender_header else b""
        return named.decode("latin-1")[:MAX_SENDER_CHARACTERS] or self._peer

    def _respond(self, response: IntakeResponse, request: _Request) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        keep_alive = request.keep_alive and not self._intake.stopping and not (self._half_closed and not self._waiting)
        self._transport.write(rendered(response, keep_alive=keep_alive, head_only=request.head_only))
        if keep_alive:
            self._limit(self._settings.idle_timeout if self._reading is None else self._settings.read_timeout)
        elif self._ending and self._transport.can_write_eof():
            # What the client is still sending is taken off the wire for a moment: a reset would overtake the response.
            self._drop_waiting()
            self._transport.write_eof()
            self._limit(LINGER_SECONDS)
        else:
            self._close()

    def _reject(self, response: IntakeResponse) -> None:
        """Respond before the request is complete, after the pending responses; nothing more is read."""
        if self._ending:
            return
        self._ending = True
        request = self._reading or _Request()
        self._release(request)
        request.early, request.keep_alive, self._reading = response, False, None
        self._waiting.append(request)
        self._next()

    def _too_large(self, source: PostingSource | None) -> IntakeResponse:
        most = self._settings.max_body_bytes
        return self._intake.reject(
            413, f"a request has at most {most} bytes (intake.maxBodyBytes): let the source send smaller groups", source
        )

    def _release(self, request: _Request | None) -> None:
        """Let go of a request's body."""
        if request is not None:
            self._all.held_bytes -= request.held_bytes
            request.held_bytes = 0
            request.body.clear()

    def _drop_waiting(self) -> None:
        while self._waiting:
            self._release(self._waiting.popleft())

    # ---- bounds

    def _regulate(self) -> None:
        """Read on only while the client reads its responses and not too many of its requests wait."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        wanted = not self._unread_responses and len(self._waiting) < MAX_PIPELINED
        if wanted and not transport.is_reading():
            transport.resume_reading()
        elif not wanted and transport.is_reading():
            transport.pause_reading()

    def _limit(self, seconds: float | None) -> None:
        """Have the connection ended when nothing more has come of it in so many seconds."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._timed_out)

    def _timed_out(self) -> None:
        if self._ending:
            self.abort()
        elif self._reading is not None:
            self._reject(
                self._intake.reject(408, "the request did not arrive in time (intake.readTimeout)", self._reading.source)
            )
        else:
            self._close()

    def _close(self) -> None:
        """End the connection once its responses are out, or after a moment without them."""
        self._ending = True
        self._drop_waiting()
        if self._transport is not None:
            self._transport.close()
            self._limit(LINGER_SECONDS)
