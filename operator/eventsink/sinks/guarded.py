"""An aiohttp session behind the egress guard, for libraries that bring their own HTTP calls."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from eventsink.sinks import tls
from eventsink.sinks.egress import EgressGuard
from eventsink.sinks.resolver import Resolver
from eventsink.sinks.transport import TransportErrorKind

CONNECTIONS = 50
"""Open at once, where nobody says how many."""
CONNECT_TIMEOUT_SECONDS = 5.0
_REFUSED = "egress refused: "


class EgressRefused(OSError):
    """The address that a name leads to may not be dialled."""


class RedirectRefused(aiohttp.ClientError):
    """The server sends the request elsewhere; it may hold credentials, so that it is not followed."""

    def __init__(self, status: int) -> None:
        super().__init__(f"redirects are not followed ({status})")
        self.status = status


class _Lookups(AbstractResolver):
    """The process's resolver, as aiohttp asks for it. On behalf of no tenant: tenants do not choose these names."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        found = [
            (address, socket.AF_INET6 if ":" in address else socket.AF_INET)
            for address in await self._resolver.addresses(host, "")
        ]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=its, proto=0, flags=socket.AI_NUMERICHOST)
            for address, its in found
            if family in (its, socket.AF_UNSPEC)
        ]

    async def close(self) -> None:
        """The resolver belongs to whoever made the session."""


async def _refuse_redirect(_: aiohttp.ClientSession, __: object, redirect: aiohttp.TraceRequestRedirectParams) -> None:
    raise RedirectRefused(redirect.response.status)


def guarded_session(
    guard: EgressGuard, resolver: Resolver, *, timeout: float, connections: int = CONNECTIONS
) -> aiohttp.ClientSession:
    """A session that judges each address at the moment of dialling and follows no redirect. Call it in the event loop.

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
    """

    def open_socket(info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        verdict = guard.judge(address[0])
        if not verdict.allowed:
            raise EgressRefused(f"{_REFUSED}the address {address[0]} {verdict.reason}")
        return socket.socket(family, kind, protocol)

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse_redirect)  # libraries have no argument for it
    return aiohttp.ClientSession(
        trace_configs=[trace],
        connector=aiohttp.TCPConnector(
            resolver=_Lookups(resolver), use_dns_cache=False, socket_factory=open_socket, limit=connections
        ),
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT_SECONDS),
        trust_env=False,
    )


def failure_kind(error: Exception) -> tuple[TransportErrorKind, str]:
    """Why a request of such a session got no response, and a detail that may be shown."""
    if isinstance(error, aiohttp.ClientConnectorSSLError) and isinstance(error.os_error, ssl.SSLError):
        kind, detail = tls.failure(error.os_error)
        return kind, detail or "while connecting"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return TransportErrorKind.TLS, "the certificate or the protocol is not valid"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return TransportErrorKind.DNS, "the name of the host has no address"
    if isinstance(error, aiohttp.ClientConnectorError):
        # With several addresses the connector makes one error of all of theirs.
        text = str(error.os_error)
        if _REFUSED in text:
            return TransportErrorKind.EGRESS, text.rpartition(_REFUSED)[2].rstrip("]})'\"")
        return TransportErrorKind.REFUSED, (error.os_error.strerror or "cannot be reached").lower()
    if isinstance(error, TimeoutError):
        return TransportErrorKind.TIMEOUT, "no response in time"
    if isinstance(error, RedirectRefused):
        return TransportErrorKind.PROTOCOL, "redirects are not followed"
    if isinstance(error, aiohttp.ClientResponseError):
        return TransportErrorKind.PROTOCOL, "the response is not valid HTTP/1.1"
    return TransportErrorKind.RESET, "the connection ended before the response was complete"
