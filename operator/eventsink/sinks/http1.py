"""Outgoing HTTP/1.1 of the process: an asyncio.Protocol over httptools, a bounded pool, and the egress guard at the dial.

A client of our own because it is a third of the cost of the libraries for small messages, and because it connects to the very address
that the guard has judged.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import httptools
from pydantic import Field

from eventsink.runtime.settings import Seconds, Settings
from eventsink.sinks.dial import Dialled, Dialler
from eventsink.sinks.egress import EgressGuard
from eventsink.sinks.transport import (
    MAX_RESPONSE_BODY_BYTES,
    Endpoint,
    Response,
    TransportError,
    TransportErrorKind,
)

MAX_RESPONSE_HEADER_BYTES = 64 * 1024
_SWITCHING_PROTOCOLS = 101


class TransportSettings(Settings):
    """Outgoing connections."""

    max_connections: int = Field(default=1024, ge=1)
    """Connections of the process, open or being opened."""
    max_connections_per_host: int = Field(default=32, ge=1)
    """Connections to one host and port; more messages wait, within their sink's timeout."""
    idle_timeout: Seconds = 30.0
    """How long an unused connection is kept."""
    connect_timeout: Seconds = 5.0
    """For one address: connecting and TLS. A host with several addresses has so much for each, within the sink's timeout."""
    dns_ttl: Seconds = 5.0
    """How long the addresses of a name are remembered."""


@dataclass(frozen=True, slots=True)
class PoolKey:
    """Connections are shared by what is equal in all of this."""

    scheme: str
    host: str
    port: int
    ca: str | None = field(repr=False)


@dataclass(slots=True)
class _Pool:
    idle: deque[Connection] = field(default_factory=deque)
    open: int = 0
    waiters: deque[asyncio.Future[None]] = field(default_factory=deque)


class Http1Transport:
    """The `Transport` of the process. `clock` is the monotonic clock."""

    def __init__(self, settings: TransportSettings, guard: EgressGuard, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._dialler = Dialler(guard, connect_timeout=settings.connect_timeout, dns_ttl=settings.dns_ttl, clock=clock)
        self._clock = clock
        self._pools: OrderedDict[PoolKey, _Pool] = OrderedDict()
        self._busy: set[Connection] = set()
        self._open = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def post(self, endpoint: Endpoint, headers: bytes, body: bytes, *, timeout: float, ca: str | None = None) -> Response:
        request = b"POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n%s" % (
            endpoint.target.encode(),
            endpoint.authority.encode(),
            headers,
            len(body),
            body,
        )
        key = PoolKey(endpoint.scheme, endpoint.host, endpoint.port, ca if endpoint.scheme == "https" else None)
        progress = _Progress()
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(key, endpoint, request, progress)
        except TimeoutError:
            status = progress.connection.head_status if progress.connection is not None else None
            detail = f"after {timeout:g} s"
            raise TransportError(progress.timeout_kind, endpoint.origin, detail, sent=progress.sent, status=status) from None
        except TransportError as error:
            error.sent = progress.sent
            raise

    async def close(self) -> None:
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for pool in self._pools.values():
            for connection in pool.idle:
                connection.abort()
            for waiter in pool.waiters:
                if not waiter.done():
                    waiter.set_result(None)  # it finds the transport closed
        self._pools.clear()
        for connection in self._busy:
            connection.abort()
        self._dialler.close()

    @property
    def connections(self) -> int:
        """How many are open or being opened."""
        return self._open

    @property
    def destinations(self) -> int:
        """Of how many destinations anything is kept: connections, or who waits for one."""
        return len(self._pools)

    async def _exchange(self, key: PoolKey, endpoint: Endpoint, request: bytes, progress: _Progress) -> Response:
        fresh = False
        while True:
            connection, reused = await self._acquire(key, endpoint, progress, fresh=fresh)
            progress.timeout_kind, progress.sent, progress.connection = TransportErrorKind.TIMEOUT, True, connection
            self._busy.add(connection)
            try:
                return await connection.exchange(request)
            except TransportError as error:
                # A server may end a kept connection just as we write to it. No byte of a response came: once more, on a new one,
                # and only once, for it may be this very message that makes the server hang up.
                if not (reused and error.kind is TransportErrorKind.RESET and not connection.responded):
                    raise TransportError(error.kind, endpoint.origin, error.detail, status=error.status) from None
                fresh = True
            finally:
                self._busy.discard(connection)
                self._release(key, connection)

    async def _acquire(self, key: PoolKey, endpoint: Endpoint, progress: _Progress, *, fresh: bool) -> tuple[Connection, bool]:
        """A connection of one's own: (connection, whether it was used before, which it never was if it shall be `fresh`)."""
        while True:
            self._refuse_if_closed(endpoint)
            pool = self._pools.setdefault(key, _Pool())
            while pool.idle and not fresh:
                connection = pool.idle.pop()
                if connection.usable:
                    return connection, True
            if pool.open < self._settings.max_connections_per_host and self._has_room():
                break
            if pool.idle:
                pool.idle.popleft().abort()  # a fresh one replaces it
            progress.timeout_kind = TransportErrorKind.OVERLOADED
            await self._wait(key, pool)
        progress.timeout_kind = TransportErrorKind.CONNECT_TIMEOUT
        pool.open += 1
        self._open += 1
        try:
            connection = await self._dialler.dial(endpoint, key.ca, Connection)
        except BaseException:
            self._lost(key)
            raise
        connection.when_lost(lambda: self._lost(key))
        if self._closed:
            connection.abort()
        self._refuse_if_closed(endpoint)
        return connection, False

    def _refuse_if_closed(self, endpoint: Endpoint) -> None:
        if self._closed:
            raise TransportError(TransportErrorKind.RESET, endpoint.origin, "the router is stopping")

    async def _wait(self, key: PoolKey, pool: _Pool) -> None:
        waiter = asyncio.get_running_loop().create_future()
        pool.waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if not waiter.cancelled() and waiter.done():
                self._wake_next(pool)  # it was this one's turn: hand it on
            raise
        finally:
            if waiter in pool.waiters:
                pool.waiters.remove(waiter)
            self._forget_unused(key, pool)

    def _release(self, key: PoolKey, connection: Connection) -> None:
        """Give a connection back after an exchange, however it ended."""
        pool = self._pools.get(key)
        if not connection.usable or pool is None or self._closed:
            connection.abort()
            return
        connection.idle_since = self._clock()
        pool.idle.append(connection)
        self._wake_next(pool)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._settings.idle_timeout, self._sweep)

    def _lost(self, key: PoolKey) -> None:
        """A connection ended, or was never made: another may be opened."""
        self._open -= 1
        pool = self._pools.get(key)
        if pool is None:
            return
        pool.open -= 1
        self._wake_next(pool)
        self._forget_unused(key, pool)

    def _forget_unused(self, key: PoolKey, pool: _Pool) -> None:
        if not pool.open and not pool.waiters and self._pools.get(key) is pool:
            del self._pools[key]

    def _wake_next(self, pool: _Pool) -> None:
        """One more connection may be opened for `pool`: wake whoever waits for that, else whoever waits because the process is full."""
        if not pool.waiters and self._open >= self._settings.max_connections - 1:
            # Not one of a host that has all of its connections already: it could not open this one, and nobody else would be woken.
            most = self._settings.max_connections_per_host
            pool = next((other for other in self._pools.values() if other.waiters and other.open < most), pool)
        while pool.waiters:
            waiter = pool.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _has_room(self) -> bool:
        """Whether one more connection may be opened; ends an unused one of another host if that makes room."""
        if self._open < self._settings.max_connections:
            return True
        for pool in self._pools.values():
            while pool.idle:
                unused = pool.idle.popleft()
                if unused.usable:
                    unused.abort()
                    return True
        return False

    def _sweep(self) -> None:
        """End connections that were not used for a while."""
        self._sweeper = None
        oldest = self._clock() - self._settings.idle_timeout
        remaining = False
        for pool in list(self._pools.values()):
            while pool.idle and pool.idle[0].idle_since <= oldest:
                pool.idle.popleft().abort()
            remaining = remaining or bool(pool.idle)
        if remaining:
            self._sweeper = asyncio.get_running_loop().call_later(self._settings.idle_timeout / 2, self._sweep)


@dataclass(slots=True)
class _Progress:
    """How far a request has come, for what a timeout means."""

    timeout_kind: TransportErrorKind = TransportErrorKind.CONNECT_TIMEOUT
    sent: bool = False
    connection: Connection | None = None
    """On which the request was sent last."""


class Connection(Dialled):
    """One connection, one exchange at a time."""

    def __init__(self) -> None:
        self._lost: Callable[[], None] | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Response] | None = None
        self._ended = False
        self._reusable = True
        self._retry_after: str | None = None
        self._reset()
        self.idle_since = 0.0
        self.responded = False
        """Whether a byte of the response to the last request came."""

    def when_lost(self, lost: Callable[[], None]) -> None:
        """Have `lost` called once, when the connection has ended; at once, if it has."""
        if self._ended:
            lost()
        else:
            self._lost = lost

    @property
    def usable(self) -> bool:
        """Whether another request may be sent over it."""
        return self._reusable and not self._ended and self._transport is not None and not self._transport.is_closing()

    @property
    def head_status(self) -> int | None:
        """Status of the response that is being read, once its head is there."""
        return self._parser.get_status_code() if self._in_body else None

    async def exchange(self, request: bytes) -> Response:
        """Send a request and wait for its response; cancelled, the connection is of no more use.

        Raises
        ------
        TransportError
            RESET or PROTOCOL.
        """
        assert self._transport is not None
        self._reset()
        self.responded = False
        self._waiter = asyncio.get_running_loop().create_future()
        if self._ended:
            raise TransportError(TransportErrorKind.RESET, "")
        self._transport.write(request)
        try:
            return await self._waiter
        except BaseException:
            self._reusable = False
            raise
        finally:
            self._waiter = None

    def abort(self) -> None:
        """End it at once."""
        self._reusable = False
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            self.abort()  # bytes that nobody asked for
            return
        self.responded = True
        self._header_bytes += 0 if self._in_body else len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(TransportErrorKind.PROTOCOL, "the response is not HTTP/1.1")
            return
        if (
            self._header_bytes > MAX_RESPONSE_HEADER_BYTES
            and not self._in_body
            and self._waiter is not None
            and not self._waiter.done()
        ):
            self._fail(TransportErrorKind.PROTOCOL, "the headers of the response are too large")

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, _: Exception | None) -> None:
        self._ended = True
        if self._waiter is not None and not self._waiter.done():
            if self._in_body and not self._delimited:
                self._complete()  # the end of the connection is the end of such a body
            else:
                self._fail(TransportErrorKind.RESET, "before the response was complete" if self.responded else "")
        if self._lost is not None:
            self._lost()

    # ---- httptools

    def on_message_begin(self) -> None:
        if self._waiter is None or self._waiter.done():
            self._reusable = False  # a second response to one request: it must not be taken for that to the next

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"retry-after":
            self._retry_after = value.decode("latin-1")
        elif name in (b"content-length", b"transfer-encoding"):
            self._delimited = True

    def on_headers_complete(self) -> None:
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        room = MAX_RESPONSE_BODY_BYTES - len(self._body)
        self._body += body[:room]
        if len(body) > room:
            self._reusable = False
            self._complete()

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status == _SWITCHING_PROTOCOLS:
            self._fail(TransportErrorKind.PROTOCOL, "the response switches protocols")
        elif status < 200:
            self._reset()  # an interim response: the final one follows
        else:
            self._reusable = self._reusable and bool(self._parser.should_keep_alive())
            self._complete()

    def _reset(self) -> None:
        self._retry_after = None
        self._body = b""
        self._delimited = False
        self._in_body = False
        self._header_bytes = 0

    def _complete(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(Response(self._parser.get_status_code(), self._retry_after, self._body))

    def _fail(self, kind: TransportErrorKind, detail: str) -> None:
        self._reusable = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TransportError(kind, "", detail, status=self.head_status))
