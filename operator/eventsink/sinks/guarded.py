"""An aiohttp session behind the egress guard, for libraries that bring their own HTTP calls."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import ClientHandlerType, ClientMiddlewareType
from aiohttp.abc import AbstractResolver, ResolveResult

from eventsink.sinks import tls
from eventsink.sinks.egress import EgressGuard
from eventsink.sinks.hosts import canonical_host
from eventsink.sinks.proxied import judge_proxied
from eventsink.sinks.proxy import Proxy
from eventsink.sinks.resolver import NameNotResolved, Resolver
from eventsink.sinks.transport import TransportErrorKind
from eventsink.sinks.tunnel import judge_status

CONNECTIONS = 50
"""Open at once, where nobody says how many."""
CONNECT_TIMEOUT_SECONDS = 5.0
MAX_RESPONSE_BYTES = 16 * 1024 * 1024
"""Of one response, where nobody says how many: a page of a list is read whole."""
_REFUSED = "egress refused: "


class EgressRefused(OSError):
    """The address that a name leads to may not be dialled."""


class HostRefused(aiohttp.ClientError):
    """The host of the URL may not be reached through the proxy."""


class ProxyNotResolved(OSError):
    """The name of the proxy has no address."""


class RedirectRefused(aiohttp.ClientError):
    """The server sends the request elsewhere; it may hold credentials, so that it is not followed."""

    def __init__(self, status: int) -> None:
        super().__init__(f"redirects are not followed ({status})")
        self.status = status


class ResponseTooLarge(aiohttp.ClientError):
    """The response has more bytes than are read."""


class _BoundedResponse(aiohttp.ClientResponse):
    """A response that is read whole only if it is not too large; libraries have no argument for it."""

    most_bytes = MAX_RESPONSE_BYTES

    async def read(self) -> bytes:
        if self._body is None:
            body = bytearray()
            try:
                async for piece in self.content.iter_any():
                    body += piece
                    if len(body) > self.most_bytes:
                        raise ResponseTooLarge
            except BaseException:
                self.close()
                raise
            self._body = bytes(body)
        return await super().read()


class _Lookups(AbstractResolver):
    """The process's resolver, as aiohttp asks for it. On behalf of no tenant: tenants do not choose these names."""

    def __init__(self, resolver: Resolver, proxy: Proxy | None) -> None:
        self._resolver = resolver
        self._proxy = proxy
        self._of_proxy: frozenset[str] = frozenset()
        """The addresses that the proxy's name had last."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        is_proxy = self._proxy is not None and host == self._proxy.address().host
        try:
            addresses = await self._resolver.addresses(host, "")
        except NameNotResolved as error:
            if is_proxy:
                raise ProxyNotResolved(str(error)) from None
            raise
        if is_proxy:
            self._of_proxy = frozenset(addresses)
        found = [(address, socket.AF_INET6 if ":" in address else socket.AF_INET) for address in addresses]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=its, proto=0, flags=socket.AI_NUMERICHOST)
            for address, its in found
            if family in (its, socket.AF_UNSPEC)
        ]

    def is_proxy(self, address: str, port: int) -> bool:
        """Whether that is where the proxy is, which the platform chose."""
        if self._proxy is None:
            return False
        proxy = self._proxy.address()
        return port == proxy.port and (address in self._of_proxy or address == proxy.host)

    async def close(self) -> None:
        """The resolver belongs to whoever made the session."""


async def _refuse_redirect(_: aiohttp.ClientSession, __: object, redirect: aiohttp.TraceRequestRedirectParams) -> None:
    raise RedirectRefused(redirect.response.status)


def _through_proxy(guard: EgressGuard, proxy: Proxy, resolver: Resolver) -> ClientMiddlewareType:
    """Decides for each request whether it goes through the proxy."""

    async def decide(request: aiohttp.ClientRequest, send: ClientHandlerType) -> aiohttp.ClientResponse:
        host = request.url.raw_host or ""
        if proxy.covers(host):
            await _judge_proxied(guard, proxy, resolver, host)
            at = proxy.address()
            headers = request.headers.copy()
            headers.clear()
            if at.authorization:
                (headers if request.is_ssl() else request.headers)["Proxy-Authorization"] = at.authorization
            request.update_proxy(request.url.origin().with_scheme("http").with_host(at.host).with_port(at.port), None, headers)
        return await send(request)

    return decide


async def _judge_proxied(guard: EgressGuard, proxy: Proxy, resolver: Resolver, host: str) -> None:
    """Refuse a host that the proxy may not be asked for; also one that is not sent in the form in which it is judged."""
    try:
        canonical_host(host)
    except ValueError as error:
        raise HostRefused(str(error)) from None
    verdict = await judge_proxied(guard, proxy, resolver, host, "")
    if not verdict.allowed:
        raise HostRefused(f"the host of the URL {verdict.reason}")


class _Trust(ssl.SSLContext):
    """Stands for the context of what is trusted at the time of a handshake: the session's, so that it follows the file of authorities."""

    _contexts: tls.Contexts

    @classmethod
    def of(cls, contexts: tls.Contexts) -> _Trust:
        trust = cls(ssl.PROTOCOL_TLS_CLIENT)
        trust._contexts = contexts
        return trust

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self._contexts.of(None).wrap_bio(*arguments, **options)

    def allows(self, connection: aiohttp.connector.Connection) -> bool:
        """Whether a connection was made with what is trusted now, or without TLS."""
        transport = connection.transport
        encrypted = transport.get_extra_info("ssl_object") if transport is not None else None
        return encrypted is None or encrypted.context is self._contexts.of(None)


class _Connector(aiohttp.TCPConnector):
    """Uses no connection again that was made when other authorities were trusted, and has each request permitted when it can be sent."""

    trust: _Trust | None = None
    permit: Callable[[], object] = staticmethod(lambda: None)

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        connection = await super().connect(req, traces, timeout)
        while self.trust is not None and not self.trust.allows(connection):
            connection.close()
            connection = await super().connect(req, traces, timeout)
        try:
            self.permit()
        except BaseException:
            connection.close()
            raise
        return connection


def guarded_session(
    guard: EgressGuard,
    resolver: Resolver,
    *,
    timeout: float,
    connections: int = CONNECTIONS,
    max_response_bytes: int = MAX_RESPONSE_BYTES,
    permit: Callable[[], object] = lambda: None,
) -> aiohttp.ClientSession:
    """A session that judges each address at the moment of dialling and follows no redirect. Call it in the event loop.

    Each request follows what the guard's file of authorities says by then.

    Parameters
    ----------
    guard
        Judges.
    resolver
        Looks up names; the caller closes it after the session.
    timeout
        Seconds for a whole request.
    connections
        Open at once; further requests wait within their timeout.
    max_response_bytes
        What has more is not read to its end: `ResponseTooLarge`.
    permit
        Called when a request is about to be sent; what it raises comes instead of a response, and nothing was sent.
    """

    lookups = _Lookups(resolver, guard.proxy)

    def open_socket(info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        is_proxy = lookups.is_proxy(address[0], address[1])
        verdict = guard.judge_proxy(address[0]) if is_proxy else guard.judge(address[0])
        if not verdict.allowed:
            raise EgressRefused(f"{_REFUSED}the address {address[0]} {verdict.reason}")
        return socket.socket(family, kind, protocol)

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse_redirect)  # libraries have no argument for it
    trust = _Trust.of(tls.Contexts(guard.authorities.current)) if guard.authorities is not None else None
    connector = _Connector(
        resolver=lookups, use_dns_cache=False, socket_factory=open_socket, limit=connections, ssl=trust or True
    )
    connector.trust = trust
    connector.permit = permit
    return aiohttp.ClientSession(
        response_class=type("BoundedResponse", (_BoundedResponse,), {"most_bytes": max_response_bytes}),
        trace_configs=[trace],
        middlewares=(_through_proxy(guard, guard.proxy, resolver),) if guard.proxy is not None else (),
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT_SECONDS),
        trust_env=False,
    )


def failure_kind(error: Exception) -> tuple[TransportErrorKind, str]:
    """Why a request of such a session got no response, and a detail that may be shown."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return judge_status(error.status)
    if isinstance(error, HostRefused):
        return TransportErrorKind.EGRESS, str(error)
    if isinstance(error, aiohttp.ClientConnectorDNSError) and isinstance(error.os_error, ProxyNotResolved):
        return TransportErrorKind.PROXY_UNREACHABLE, str(error.os_error)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return TransportErrorKind.PROXY_UNREACHABLE, _refusal(error) or (error.os_error.strerror or "cannot be reached").lower()
    if isinstance(error, aiohttp.ClientConnectorSSLError) and isinstance(error.os_error, ssl.SSLError):
        kind, detail = tls.failure(error.os_error)
        return kind, detail or "while connecting"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return TransportErrorKind.TLS, "the certificate or the protocol is not valid"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return TransportErrorKind.DNS, "the name of the host has no address"
    if isinstance(error, aiohttp.ClientConnectorError):
        if refusal := _refusal(error):
            return TransportErrorKind.EGRESS, refusal
        return TransportErrorKind.REFUSED, (error.os_error.strerror or "cannot be reached").lower()
    if isinstance(error, TimeoutError):
        return TransportErrorKind.TIMEOUT, "no response in time"
    if isinstance(error, RedirectRefused):
        return TransportErrorKind.PROTOCOL, "redirects are not followed"
    if isinstance(error, ResponseTooLarge):
        return TransportErrorKind.PROTOCOL, "the response is too large"
    if isinstance(error, aiohttp.ClientResponseError):
        return TransportErrorKind.PROTOCOL, "the response is not valid HTTP/1.1"
    return TransportErrorKind.RESET, "the connection ended before the response was complete"


def _refusal(error: aiohttp.ClientConnectorError) -> str:
    """What the guard said; empty: it refused nothing. With several addresses the connector makes one error of all of theirs."""
    text = str(error.os_error)
    return text.rpartition(_REFUSED)[2].rstrip("]})'\"") if _REFUSED in text else ""
