"""The intake's HTTP/1.1 server: an asyncio.Protocol over httptools, a quarter of the cost of a framework for a one-kilobyte event."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from pathlib import Path

import httptools
from pydantic import Field, model_validator

from eventsink.router.intake import Answer, Head, Intake, error, rendered
from eventsink.router.sources import Source
from eventsink.runtime.address import Address, split_address
from eventsink.runtime.logs import get_logger
from eventsink.runtime.settings import ConfigurationError, Seconds, Settings

MAX_HEAD_BYTES = 32 * 1024
"""Request line and headers."""
BACKLOG = 1024
MAX_PIPELINED = 16
"""Requests of one connection that wait for the one before them; then it is not read for a while."""
LINGER_SECONDS = 2.0
_HEADERS = frozenset({b"authorization", b"content-encoding", b"content-length", b"expect"})


class IntakeSettings(Settings):
    """Where alerts are taken, and the bounds of what is taken at once."""

    address: Address = "127.0.0.1:8080"
    """`host:port`. In manifests/router: 0.0.0.0:8080."""
    max_body_bytes: int = Field(default=16 * 1024**2, ge=1024)
    """Of one request; larger ones are answered 413. Alertmanager's max_alerts keeps notifications small."""
    max_connections: int = Field(default=2000, ge=1)
    """Open at once; more are closed."""
    max_requests_under_way: int = Field(default=512, ge=1)
    """Accepted at once; more are answered 503."""
    read_timeout: Seconds = 15.0
    """From the first byte of a request to its last."""
    idle_timeout: Seconds = 120.0
    """How long a connection without a request is kept."""
    tls_certificate_file: Path | None = None
    """PEM; with tlsKeyFile, HTTPS is spoken."""
    tls_key_file: Path | None = None
    """PEM, of tlsCertificateFile."""

    @model_validator(mode="after")
    def _both_or_none(self) -> IntakeSettings:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("set both tlsCertificateFile and tlsKeyFile, or none")
        return self


class IntakeServer:
    """Listens, and hands requests to an `Intake`."""

    def __init__(self, settings: IntakeSettings, intake: Intake) -> None:
        self.settings = settings
        self.intake = intake
        self.connections: set[IntakeConnection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; returns the port.

        Raises
        ------
        OSError
            The address cannot be bound.
        ConfigurationError
            The certificate cannot be used.
        """
        host, port = split_address(self.settings.address)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: IntakeConnection(self), host, port, ssl=_tls(self.settings), backlog=BACKLOG, reuse_address=True
        )
        bound = int(self._server.sockets[0].getsockname()[1])
        get_logger().info("listening", part="intake", process="router", port=bound)
        return bound

    def stop_accepting(self) -> None:
        """Take no new connections; answer 503 on those that are open, and end each after its answer."""
        self.intake.stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.end_when_idle()

    async def close(self) -> None:
        """End what is still open."""
        for connection in list(self.connections):
            connection.abort()
        if self._server is not None:
            await self._server.wait_closed()


class _Request:
    """A request while it is read."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[bytes, bytes] = {}
        self.head_bytes = 0
        self.head_done = False
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.keep_alive = True
        self.source: Source | None = None
        self.early: Answer | None = None
        """Set: the answer is known before the body, which is thrown away."""


class IntakeConnection(asyncio.Protocol):
    """One client connection: requests are answered one at a time, in their order."""

    def __init__(self, server: IntakeServer) -> None:
        self._server = server
        self._settings = server.settings
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._reading: _Request | None = None
        self._waiting: deque[_Request] = deque()
        self._busy = False
        self._ending = False

    def end_when_idle(self) -> None:
        """End the connection now, or after the answers that are owed."""
        if not self._busy and self._reading is None and not self._waiting:
            self._close()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        if len(self._server.connections) >= self._settings.max_connections:
            transport.close()
            return
        self._server.connections.add(self)
        self._limit(self._settings.idle_timeout)

    def connection_lost(self, _: Exception | None) -> None:
        self._server.connections.discard(self)
        self._transport = None
        self._waiting.clear()
        self._limit(None)

    def eof_received(self) -> bool:
        return self._busy  # a client may end its half and still read the answer

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        if self._reading is not None and not self._reading.head_done:
            self._reading.head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(error(400, "this server speaks HTTP/1.1 only"))
        except httptools.HttpParserError:
            self._refuse(error(400, "the request is not HTTP/1.1"))
        request = self._reading
        if request is not None and not request.head_done and max(request.head_bytes, len(request.url)) > MAX_HEAD_BYTES:
            self._refuse(error(431, f"a request has at most {MAX_HEAD_BYTES} bytes of headers"))
        if len(self._waiting) >= MAX_PIPELINED and self._transport is not None:
            self._transport.pause_reading()

    # ---- httptools

    def on_message_begin(self) -> None:
        self._reading = _Request()
        self._limit(self._settings.read_timeout)

    def on_url(self, url: bytes) -> None:
        assert self._reading is not None
        self._reading.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._reading is not None
        name = name.lower()
        if name in _HEADERS:
            self._reading.headers[name] = value

    def on_headers_complete(self) -> None:
        request = self._reading
        assert request is not None
        request.head_done = True
        request.keep_alive = bool(self._parser.should_keep_alive())
        head = Head(
            method=self._parser.get_method().decode("latin-1"),
            path=request.url.partition(b"?")[0].decode("latin-1"),
            authorization=request.headers.get(b"authorization", b"").decode("latin-1"),
            content_encoding=request.headers.get(b"content-encoding", b"").decode("latin-1").lower(),
        )
        admitted = self._server.intake.admit(head)
        if isinstance(admitted, Answer):
            request.early = admitted
        else:
            request.source = admitted
            length = request.headers.get(b"content-length", b"")
            if length.isdigit() and int(length) > self._settings.max_body_bytes:
                request.early = self._too_large()
        expect = request.headers.get(b"expect", b"").lower()
        if expect and request.early is not None:
            self._refuse(request.early)  # the client waits for leave to send: it gets the answer instead
        elif expect == b"100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        request = self._reading
        assert request is not None
        request.body_bytes += len(body)
        if request.body_bytes > self._settings.max_body_bytes:
            self._refuse(request.early or self._too_large())
        elif request.early is None:
            request.body.append(body)

    def on_message_complete(self) -> None:
        if self._ending or self._reading is None:
            return
        self._waiting.append(self._reading)
        self._reading = None
        self._next()

    # ---- answers

    def _next(self) -> None:
        """Go on with the requests that are whole."""
        while self._waiting and not self._busy:
            request = self._waiting.popleft()
            if request.early is not None:
                self._answer(request.early, request)
                continue
            self._busy = True
            self._limit(None)
            # A task of its own: a client that hangs up does not cancel what was begun.
            task = asyncio.get_running_loop().create_task(self._accept(request))
            self._server.tasks.add(task)
            task.add_done_callback(self._server.tasks.discard)

    async def _accept(self, request: _Request) -> None:
        assert request.source is not None
        answer = await self._server.intake.handle(request.source, b"".join(request.body))
        self._busy = False
        self._answer(answer, request)
        self._next()
        if self._transport is not None and not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    def _answer(self, answer: Answer, request: _Request) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        keep_alive = request.keep_alive and not self._server.intake.stopping
        self._transport.write(rendered(answer, keep_alive=keep_alive))
        if keep_alive:
            self._limit(self._settings.idle_timeout)
        else:
            self._close()

    def _refuse(self, answer: Answer) -> None:
        """Answer before the request is whole, and end the connection; nothing more of it is read."""
        if self._ending:
            return
        self._ending = True
        if self._transport is not None and not self._busy:
            self._transport.write(rendered(answer, keep_alive=False))
        self._limit(None)
        # What the client is still sending is taken off the wire for a moment: a reset would lose the answer.
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._close)
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def _too_large(self) -> Answer:
        return error(
            413,
            f"a request has at most {self._settings.max_body_bytes} bytes (intake.maxBodyBytes): set max_alerts at the source",
        )

    def _limit(self, seconds: float | None) -> None:
        """End the connection when nothing more has come in so many seconds."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._timed_out)

    def _timed_out(self) -> None:
        if self._busy:
            return
        if self._reading is not None:
            self._refuse(error(408, "the request did not come in time (intake.readTimeout)"))
        else:
            self._close()

    def _close(self) -> None:
        self._limit(None)
        if self._transport is not None:
            self._transport.close()


def _tls(settings: IntakeSettings) -> ssl.SSLContext | None:
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_certificate_file, settings.tls_key_file)
    except (OSError, ssl.SSLError):
        raise ConfigurationError(
            "intake.tlsCertificateFile and intake.tlsKeyFile cannot be used together: check both files"
        ) from None
    return context
