"""Opens connections: resolves a name, has each address judged, and connects to an address that passed, with TLS where it is asked for."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar

from eventsink.sinks import tls
from eventsink.sinks.egress import EgressGuard
from eventsink.sinks.resolver import NameNotResolved, Resolver
from eventsink.sinks.transport import Endpoint, TransportError, TransportErrorKind


class Dialled(asyncio.Protocol):
    """What a connection is handed to."""

    def abort(self) -> None:
        """End the connection, if there is one, at once."""


P = TypeVar("P", bound=Dialled)


class Dialler:
    """Connects to endpoints.

    Parameters
    ----------
    guard
        Judges every address before it is dialled.
    resolver
        Looks up names.
    connect_timeout
        Seconds for each address.
    """

    def __init__(self, guard: EgressGuard, resolver: Resolver, *, connect_timeout: float) -> None:
        self._guard = guard
        self._resolver = resolver
        self._connect_timeout = connect_timeout
        self._contexts = tls.Contexts()

    async def dial(self, endpoint: Endpoint, ca: str | None, tenant: str, factory: Callable[[], P]) -> P:
        """A connected protocol, on behalf of a tenant.

        Raises
        ------
        TransportError
            DNS, EGRESS, REFUSED, CONNECT_TIMEOUT, RESET, or one of TLS.
        """
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
                return await self._connect(endpoint, address, ca, factory)
            except TransportError as error:
                failure = error
        assert failure is not None
        raise failure

    async def _connect(self, endpoint: Endpoint, address: str, ca: str | None, factory: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        origin = endpoint.origin
        made: list[P] = []

        def make() -> P:
            made.append(factory())
            return made[-1]

        try:
            context = self._contexts.of(ca) if endpoint.scheme == "https" else None
        except (ssl.SSLError, ValueError, TypeError):
            raise TransportError(TransportErrorKind.TLS, origin, "the given certificates cannot be read") from None
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, protocol = await loop.create_connection(
                    make, address, endpoint.port, ssl=context, server_hostname=endpoint.host if context else None
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
