"""Outgoing HTTP/1.1 of the process: bounded connections, shared out among tenants and sinks, and the egress guard at the dial.

A client of our own because it is a third of the cost of the libraries for small messages, and because it connects to the very address
that the guard has judged.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from pydantic import Field

from eventsink.runtime.settings import Seconds, Settings
from eventsink.sinks.connection import Connection
from eventsink.sinks.dial import Dialler
from eventsink.sinks.egress import EgressGuard
from eventsink.sinks.pools import Bounds, Host, Pool
from eventsink.sinks.resolver import MAX_TTL_SECONDS, TIMEOUT_SECONDS, Resolver
from eventsink.sinks.shares import Bound, Lease, Share
from eventsink.sinks.transport import DEFAULT_TLS, WAITED_FOR, Endpoint, Response, TlsOptions, TransportError, TransportErrorKind
from eventsink.sinks.unread import Unread

PROMPT_SECONDS = 1.0
"""A sink whose receiver takes longer is a slow one."""
DISTRUST_SECONDS = 600.0
"""After bytes that belong to no request, each message to that destination has a connection of its own for so long."""
TIMER_SECONDS = 0.001
"""How exact the event loop's timers are."""
_UNREAD_SECONDS = 1.0

_LIMITS = frozenset(kind for kind, _ in WAITED_FOR.values())
"""The router's own: they say nothing about a receiver."""


class TransportSettings(Settings):
    """Outgoing connections."""

    max_connections: int = Field(default=1024, ge=1)
    """Connections of the process, open or being opened. One tenant alone gets half of them; see [shares](#limits-of-a-sinks-share)."""
    max_connections_per_host: int = Field(default=256, ge=1)
    """Connections to one host and port, shared out in the same way; more messages wait, within their sink's timeout."""
    idle_timeout: Seconds = 30.0
    """How long an unused connection is kept."""
    connect_timeout: Seconds = 5.0
    """For one address: connecting and TLS. A host with several addresses has so much for each, within the sink's timeout."""
    dns_timeout: Seconds = Field(default=TIMEOUT_SECONDS, gt=0)
    """For the addresses of a name, with all name servers and search domains that are tried."""
    dns_ttl: Seconds = MAX_TTL_SECONDS
    """The longest time that the addresses of a name are remembered; shorter where the name server says so."""


class Http1Transport:
    """The `Transport` of the process.

    Parameters
    ----------
    guard
        Judges every address before it is dialled.
    resolver
        Looks up names; the caller closes it.
    clock
        The monotonic clock.
    on_wait
        Called when a message has to wait for a connection, with what it waits for.
    """

    def __init__(
        self,
        settings: TransportSettings,
        guard: EgressGuard,
        resolver: Resolver,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_wait: Callable[[Bound], None] = lambda _bound: None,
    ) -> None:
        self._settings = settings
        self._on_wait = on_wait
        self._guard = guard
        self._dialler = Dialler(guard, resolver, connect_timeout=settings.connect_timeout)
        self._bounds = Bounds(settings.max_connections)
        self._hosts: WeakValueDictionary[tuple[str, int], Host] = WeakValueDictionary()
        self._pools: WeakValueDictionary[tuple[str, str, str, int, TlsOptions], Pool] = WeakValueDictionary()
        self._idle: dict[Connection, Pool] = {}
        """All unused connections, least recently used first."""
        self._unread = Unread(settings.max_connections)
        self._busy: dict[Connection, float] = {}
        """The connections with an exchange, and when its time is over, on the transport's clock."""
        self._next_deadline = math.inf
        """Not after the first of those, if there is one."""
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._waiting: set[Share] = set()
        self._sockets = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self.clock = clock
        self._closed = False

    def client(
        self, endpoint: Endpoint, *, tenant: str, tls: TlsOptions = DEFAULT_TLS, method: str = "POST", reads: bool = False
    ) -> Http1Client:
        """As `Transport.client`."""
        tls = tls if endpoint.scheme == "https" else DEFAULT_TLS
        host = self._hosts.get((endpoint.host, endpoint.port))
        if host is None:
            host = self._hosts[endpoint.host, endpoint.port] = Host(self._settings.max_connections_per_host)
        key = (tenant, endpoint.scheme, endpoint.host, endpoint.port, tls)
        pool = self._pools.get(key)
        if pool is None:
            by_authorities = self._guard.authorities is not None and endpoint.scheme == "https" and tls.ca is None
            pool = self._pools[key] = Pool(host, by_authorities=by_authorities)
        return Http1Client(self, endpoint, tenant, tls, pool, self._bounds, method, reads=reads)

    async def close(self) -> None:
        """As `Transport.close`."""
        self._closed = True
        for timer in (self._sweeper, self._deadline_timer):
            if timer is not None:
                timer.cancel()
        for connection in [*self._idle, *self._busy]:
            connection.abort()
        for share in list(self._waiting):
            share.fail(TransportError(TransportErrorKind.RESET, "", "the router is stopping"))

    @property
    def connections(self) -> int:
        """How many are open or being opened."""
        return self._sockets

    @property
    def hosts(self) -> int:
        """Of how many hosts anything is kept: a client, or a connection."""
        return len(self._hosts)

    # ---- what its clients ask

    def line_up(self, share: Share) -> asyncio.Future[Lease]:
        """Wait for the right to use one connection, which the share did not get; to be followed by `leave_line`."""
        waiter = share.line_up()
        self._waiting.add(share)
        self._on_wait(share.bound or Bound.SHARE)
        return waiter

    def leave_line(self, share: Share, waiter: asyncio.Future[Lease], *, given: bool) -> None:
        """Wait for it no longer; `given`: it is used."""
        if not given:
            share.leave(waiter)
        if not share.waiting:
            self._waiting.discard(share)

    def reuse(self, pool: Pool, deadline: float) -> Connection | None:
        """A connection of the pool that may be used again, for an exchange that ends by `deadline`."""
        while pool.idle:
            connection = next(reversed(pool.idle))
            self._forget_idle(connection, pool)
            if not connection.usable:
                continue
            if pool.by_authorities and connection.authorities != self._dialler.authorities():
                connection.abort()
                continue
            if not connection.silent:
                # Something arrived that nobody asked for, or its end: the event loop is about to read it.
                asyncio.get_running_loop().call_later(_UNREAD_SECONDS, connection.abort)
                continue
            self._use(connection, deadline)
            return connection
        return None

    async def dial(self, endpoint: Endpoint, tenant: str, tls: TlsOptions, pool: Pool, deadline: float) -> Connection:
        """A new connection, for an exchange that ends by `deadline`; ends an unused one where that is needed."""
        self._refuse_if_closed(endpoint)
        host = pool.host
        if host.sockets >= host.most:
            self._end_unused(host.idle)
        if self._sockets >= self._settings.max_connections:
            self._end_unused(self._idle)
        self._count(host, 1)
        authorities = self._dialler.authorities() if pool.by_authorities else ""
        try:
            connection = await self._dialler.dial(endpoint, tls, tenant, lambda: Connection(self._unread))
        except BaseException:
            self._count(host, -1)
            raise
        connection.authorities = authorities
        connection.when_lost(lambda lost: self._lost(lost, pool))
        if self._closed:
            connection.abort()
        self._refuse_if_closed(endpoint)
        self._use(connection, deadline)
        return connection

    def put_back(self, connection: Connection, pool: Pool) -> None:
        """Take a connection back after an exchange, however it ended."""
        self._busy.pop(connection, None)
        now = self.clock()
        if not connection.usable or self._closed or now < pool.keeps_from:
            connection.abort()
            return
        connection.idle_since = now
        self._idle[connection] = pool
        pool.idle[connection] = None
        pool.host.idle[connection] = pool
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._settings.idle_timeout, self._sweep)

    # ----

    def _refuse_if_closed(self, endpoint: Endpoint) -> None:
        if self._closed:
            raise TransportError(TransportErrorKind.RESET, endpoint.origin, "the router is stopping")

    def _count(self, host: Host, sockets: int) -> None:
        host.sockets += sockets
        self._sockets += sockets

    def _use(self, connection: Connection, deadline: float) -> None:
        self._busy[connection] = deadline
        if deadline < self._next_deadline:
            self._wake_at(deadline)

    def _wake_at(self, deadline: float) -> None:
        """One timer for all exchanges: nearly all end long before their time is over, and their timers would be made for nothing."""
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self._next_deadline = deadline
        self._deadline_timer = asyncio.get_running_loop().call_later(max(0.0, deadline - self.clock()), self._time_out)

    def _time_out(self) -> None:
        """End the exchanges whose time is over."""
        self._deadline_timer, self._next_deadline = None, math.inf
        now = self.clock() + TIMER_SECONDS
        for connection, deadline in self._busy.items():
            if deadline <= now:
                self._busy[connection] = math.inf
                connection.time_out()
        if (first := min(self._busy.values(), default=math.inf)) < math.inf:
            self._wake_at(first)

    def _lost(self, connection: Connection, pool: Pool) -> None:
        self._count(pool.host, -1)
        if connection in self._idle:
            self._forget_idle(connection, pool)
        if connection.surplus:
            pool.keeps_from = self.clock() + DISTRUST_SECONDS

    def _forget_idle(self, connection: Connection, pool: Pool) -> None:
        del self._idle[connection]
        del pool.idle[connection]
        del pool.host.idle[connection]

    def _end_unused(self, idle: dict[Connection, Pool]) -> None:
        """End the least recently used of some unused connections, if there is one."""
        for connection, pool in idle.items():
            self._forget_idle(connection, pool)
            connection.abort()
            return

    def _sweep(self) -> None:
        """End connections that were not used for a while."""
        self._sweeper = None
        oldest = self.clock() - self._settings.idle_timeout
        while self._idle and next(iter(self._idle)).idle_since <= oldest:
            self._end_unused(self._idle)
        if self._idle:
            self._sweeper = asyncio.get_running_loop().call_later(self._settings.idle_timeout / 2, self._sweep)


class Http1Client:
    """The `Client` of one sink, and its share of connections.

    A sink that has had no response yet, or none to its last message, gets one connection; after a response, its whole share. While its
    receiver takes longer than PROMPT_SECONDS or does not respond, it competes with other slow sinks for a part of the connections, so that
    new ones find one; and those two for a part of them, so that sinks whose receivers respond promptly find one whatever the others do.
    """

    def __init__(
        self,
        transport: Http1Transport,
        endpoint: Endpoint,
        tenant: str,
        tls: TlsOptions,
        pool: Pool,
        bounds: Bounds,
        method: str,
        *,
        reads: bool,
    ) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._tenant = tenant
        self._tls = tls
        self._pool = pool
        self._reads = reads
        self._head = f"{method} {endpoint.target} HTTP/1.1\r\nHost: {endpoint.authority}\r\n".encode()
        host = pool.host
        self._most = host.most
        self._prompt: Lease = (host.bounds.all, bounds.all)
        self._new: Lease = (host.bounds.unproven, bounds.unproven, *self._prompt)
        self._slow: Lease = (host.bounds.slow, bounds.slow, *self._new)
        self._share = Share(tenant, self._new, 1)
        self._phase = TransportErrorKind.CONNECT_TIMEOUT
        """What it means if the exchange that began last takes too long now."""
        self._exchanges = 0
        self._under_way: dict[int, float] = {}
        """When each exchange under way got the right to use a connection, the oldest first."""

    async def post(self, headers: bytes, body: bytes, *, timeout: float) -> Response:
        """As `Client.post`."""
        head = b"%s%sContent-Length: %d\r\n\r\n" % (self._head, headers, len(body))
        share, clock = self._share, self._transport.clock
        began = clock()
        deadline = began + timeout
        if self._under_way and began - next(iter(self._under_way.values())) > PROMPT_SECONDS:
            share.limits = self._slow
        lease = share.take()
        waited = lease is None
        if lease is None:
            lease = await self._wait(timeout)
            began = clock()
        self._exchanges += 1
        exchange = self._exchanges
        self._under_way[exchange] = began
        responded, failed = False, False
        try:
            response = await self._exchange(head, body, deadline, waited=waited)
            responded = True
            return response
        except TransportError as error:
            failed = error.kind not in _LIMITS
            raise
        finally:
            del self._under_way[exchange]
            prompt = clock() - began <= PROMPT_SECONDS
            if responded:
                share.most, share.limits = self._most, self._prompt if prompt else self._slow
            elif failed or not prompt:  # what was cancelled early says nothing
                share.most, share.limits = 1, self._slow
            share.release(lease)

    async def _wait(self, timeout: float) -> Lease:
        """The right to use a connection, once it is this sink's turn."""
        transport, share = self._transport, self._share
        waiter = transport.line_up(share)
        timer = asyncio.get_running_loop().call_later(timeout, self._give_up, waiter)
        given = False
        try:
            lease = await waiter
            given = True
            return lease
        except TransportError as error:
            raise TransportError(error.kind, self._endpoint.origin, error.detail) from None
        finally:
            timer.cancel()
            transport.leave_line(share, waiter, given=given)

    def _give_up(self, waiter: asyncio.Future[Lease]) -> None:
        if not waiter.done():
            waiter.set_exception(self._waited_too_long())

    def _waited_too_long(self) -> TransportError:
        if self._share.bound is Bound.SHARE and self._share.most < self._most:
            # What it waited for is the message before, and that got nowhere.
            return TransportError(self._phase, self._endpoint.origin, "the receiver has not responded to the message before")
        kind, detail = WAITED_FOR[self._share.bound or Bound.FULL]
        return TransportError(kind, self._endpoint.origin, detail)

    async def _exchange(self, head: bytes, body: bytes, deadline: float, *, waited: bool) -> Response:
        transport, pool = self._transport, self._pool
        connection = transport.reuse(pool, deadline)
        reused = connection is not None
        while True:
            if connection is None:
                self._phase = TransportErrorKind.CONNECT_TIMEOUT
                connection = await self._dial(deadline, waited=waited)
            self._phase = TransportErrorKind.TIMEOUT
            try:
                return await connection.exchange(head, body, deadline - transport.clock(), reads=self._reads)
            except TransportError as error:
                # A server may end a kept connection just as we write to it. No byte of a response came: once more, on a new one,
                # and only once, for it may be this very message that makes the server hang up.
                if not reused or error.kind is not TransportErrorKind.RESET or connection.responded:
                    raise TransportError(error.kind, self._endpoint.origin, error.detail, sent=True) from None
            except BaseException:
                connection.abort()  # its response is still to come
                raise
            finally:
                transport.put_back(connection, pool)
            connection, reused = None, False

    async def _dial(self, deadline: float, *, waited: bool) -> Connection:
        timeout = max(0.0, deadline - self._transport.clock())
        try:
            async with asyncio.timeout(timeout):
                return await self._transport.dial(self._endpoint, self._tenant, self._tls, self._pool, deadline)
        except TimeoutError:
            if waited:
                raise self._waited_too_long() from None
            raise TransportError(TransportErrorKind.CONNECT_TIMEOUT, self._endpoint.origin, f"after {timeout:.3g} s") from None

    def __repr__(self) -> str:
        return f"Http1Client({self._endpoint.origin})"
