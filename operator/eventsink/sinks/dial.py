"""Opens connections: resolves a name, has each address judged, and connects to an address that passed, with TLS where it is asked for.

Through a proxy: connects to that, and has it connect to the host of the URL.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar

from eventsink.sinks import tls
from eventsink.sinks.egress import EgressGuard
from eventsink.sinks.proxied import judge_proxied
from eventsink.sinks.proxy import ProxyAddress
from eventsink.sinks.resolver import NameNotResolved, Resolver
from eventsink.sinks.transport import Endpoint, TlsOptions, TransportError, TransportErrorKind
from eventsink.sinks.tunnel import open_tunnel


class Dialled(asyncio.Protocol):
    """What a connection is handed to."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a connection; called before anything else is."""

    def abort(self) -> None:
        """End the connection, if there is one, at once."""


P = TypeVar("P", bound=Dialled)


class Dialler:
    """Connects to endpoints.

    Parameters
    ----------
    guard
        Judges every address before it is dialled; names the proxy, and whom to trust.
    resolver
        Looks up names.
    connect_timeout
        Seconds for each address; through a proxy, for each step.
    """

    def __init__(self, guard: EgressGuard, resolver: Resolver, *, connect_timeout: float) -> None:
        self._guard = guard
        self._resolver = resolver
        self._connect_timeout = connect_timeout
        self._contexts = tls.Contexts(self.authorities)

    def authorities(self) -> str:
        """PEM certificates that are trusted beside the system's by now; empty: none are. A look at the file's metadata."""
        file = self._guard.authorities
        return file.current() if file is not None else ""

    async def dial(self, endpoint: Endpoint, options: TlsOptions, tenant: str, factory: Callable[[], P]) -> P:
        """A connected protocol, on behalf of a tenant.

        Raises
        ------
        TransportError
            DNS, EGRESS, REFUSED, CONNECT_TIMEOUT, RESET, or one of TLS or of the proxy.
        """
        proxy = self._guard.proxy
        if proxy is not None and proxy.covers(endpoint.host):
            verdict = await judge_proxied(self._guard, proxy, self._resolver, endpoint.host, tenant)
            if not verdict.allowed:
                raise TransportError(TransportErrorKind.EGRESS, endpoint.origin, f"the host of the URL {verdict.reason}")
            return await self._dial_through(proxy.address(), endpoint, options, factory)
        try:
            addresses = await self._resolver.addresses(endpoint.host, tenant)
        except NameNotResolved as error:
            raise TransportError(TransportErrorKind.DNS, endpoint.origin, str(error)) from None
        allowed = []
        refused = ""
        for address in addresses:
            verdict = self._guard.judge(address)
            if verdict.allowed:
                allowed.append(address)
            else:
                refused = f"the address {address} {verdict.reason}"
        if not allowed:
            raise TransportError(TransportErrorKind.EGRESS, endpoint.origin, refused)
        failure: TransportError | None = None
        for address in allowed:
            try:
                return await self._connect(endpoint, address, options, factory)
            except TransportError as error:
                failure = error
        assert failure is not None
        raise failure

    async def _dial_through(self, proxy: ProxyAddress, endpoint: Endpoint, options: TlsOptions, factory: Callable[[], P]) -> P:
        origin = endpoint.origin
        context = self._context(endpoint, options)
        try:
            addresses = await self._resolver.addresses(proxy.host, "")  # on behalf of no tenant: none chose it
        except NameNotResolved as error:
            raise TransportError(TransportErrorKind.PROXY_UNREACHABLE, origin, str(error)) from None
        failure: TransportError | None = None
        for address in addresses:
            verdict = self._guard.judge_proxy(address)
            if not verdict.allowed:
                detail = f"its address {address} {verdict.reason}"
                failure = failure or TransportError(TransportErrorKind.PROXY_UNREACHABLE, origin, detail)
                continue
            try:
                transport = await open_tunnel(proxy, address, endpoint, timeout=self._connect_timeout)
                return await self._use(transport, endpoint, context, options, factory())
            except TransportError as error:
                failure = error
                if error.kind is not TransportErrorKind.PROXY_UNREACHABLE:
                    break
        assert failure is not None
        raise failure

    async def _use(
        self,
        transport: asyncio.Transport,
        endpoint: Endpoint,
        context: ssl.SSLContext | None,
        options: TlsOptions,
        protocol: P,
    ) -> P:
        """Hand a tunnel to a protocol, with TLS to the receiver in it where there is a context."""
        origin = endpoint.origin
        if context is None:
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            transport.resume_reading()
            return protocol
        handed = False
        try:
            async with asyncio.timeout(self._connect_timeout):
                loop = asyncio.get_running_loop()
                encrypted = await loop.start_tls(
                    transport, protocol, context, server_hostname=options.server_name or endpoint.server_name
                )
            if encrypted is None:
                raise ConnectionResetError
            protocol.connection_made(encrypted)
            handed = True
            return protocol
        except TimeoutError:
            raise TransportError(TransportErrorKind.CONNECT_TIMEOUT, origin, f"after {self._connect_timeout:g} s") from None
        except ssl.SSLError as error:
            kind, detail = tls.failure(error)
            raise TransportError(kind, origin, detail or "while connecting") from None
        except OSError:
            raise TransportError(TransportErrorKind.RESET, origin, "while connecting") from None
        finally:
            if not handed:
                transport.abort()

    def _context(self, endpoint: Endpoint, options: TlsOptions) -> ssl.SSLContext | None:
        """The context of TLS to a receiver; None: it is reached without."""
        try:
            return self._contexts.of(options.ca, options.client_certificate) if endpoint.scheme == "https" else None
        except (OSError, ValueError, TypeError):  # an SSLError is an OSError
            raise TransportError(TransportErrorKind.TLS, endpoint.origin, "the given certificates cannot be read") from None

    async def _connect(self, endpoint: Endpoint, address: str, options: TlsOptions, factory: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        origin = endpoint.origin
        made: list[P] = []

        def make() -> P:
            made.append(factory())
            return made[-1]

        context = self._context(endpoint, options)
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, protocol = await loop.create_connection(
                    make,
                    address,
                    endpoint.port,
                    ssl=context,
                    server_hostname=(options.server_name or endpoint.server_name) if context else None,
                )
            made.clear()
            return protocol
        except TimeoutError:
            raise TransportError(TransportErrorKind.CONNECT_TIMEOUT, origin, f"after {self._connect_timeout:g} s") from None
        except ConnectionRefusedError:
            raise TransportError(TransportErrorKind.REFUSED, origin) from None
        except ConnectionError:
            raise TransportError(TransportErrorKind.RESET, origin, "while connecting") from None
        except ssl.SSLError as error:
            kind, detail = tls.failure(error)
            raise TransportError(kind, origin, detail or "while connecting") from None
        except OSError as error:
            raise TransportError(TransportErrorKind.REFUSED, origin, (error.strerror or "cannot be reached").lower()) from None
        finally:
            for unwanted in made:
                unwanted.abort()  # it may have been connected at the very moment of a timeout
