"""Opens connections: resolves a name, has each address judged, and connects to an address that passed, with TLS where it is asked for."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from eventsink.sinks.egress import EgressGuard
from eventsink.sinks.transport import Endpoint, TransportError, TransportErrorKind

MAX_CACHED_NAMES = 4096
MAX_CACHED_CONTEXTS = 256
RESOLVER_THREADS = 16
"""Look-ups at once: one zone whose servers hang must not stop the others."""
MAX_ADDRESSES = 8
"""Of one name, tried in turn."""


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
    connect_timeout, dns_ttl
        Seconds.
    clock
        The monotonic clock.
    """

    def __init__(self, guard: EgressGuard, *, connect_timeout: float, dns_ttl: float, clock: Callable[[], float]) -> None:
        self._guard = guard
        self._connect_timeout = connect_timeout
        self._dns_ttl = dns_ttl
        self._clock = clock
        self._names: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()
        self._resolving: dict[str, asyncio.Future[list[str]]] = {}
        self._resolver = ThreadPoolExecutor(RESOLVER_THREADS, "resolver")
        self._contexts: OrderedDict[str | None, ssl.SSLContext] = OrderedDict()

    async def dial(self, endpoint: Endpoint, ca: str | None, factory: Callable[[], P]) -> P:
        """A connected protocol.

        Raises
        ------
        TransportError
            DNS, EGRESS, REFUSED, CONNECT_TIMEOUT, RESET or TLS.
        """
        addresses = await self._addresses(endpoint)
        allowed = []
        refused = ""
        for address in addresses[:MAX_ADDRESSES]:
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

    @property
    def looking_up(self) -> int:
        """How many names are being looked up."""
        return len(self._resolving)

    def close(self) -> None:
        """Give back threads; look-ups under way are not waited for."""
        self._resolver.shutdown(wait=False, cancel_futures=True)

    async def _connect(self, endpoint: Endpoint, address: str, ca: str | None, factory: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        origin = endpoint.origin
        made: list[P] = []

        def make() -> P:
            made.append(factory())
            return made[-1]

        try:
            context = self._context(ca) if endpoint.scheme == "https" else None
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
        except ssl.SSLCertVerificationError as error:
            raise TransportError(TransportErrorKind.TLS, origin, error.verify_message or "the certificate is not valid") from None
        except ConnectionRefusedError:
            raise TransportError(TransportErrorKind.REFUSED, origin) from None
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # Also in the middle of a TLS handshake this is a server that restarts, not one whose certificate is wrong.
            raise TransportError(TransportErrorKind.RESET, origin, "while connecting") from None
        except ssl.SSLError as error:
            raise TransportError(TransportErrorKind.TLS, origin, (error.reason or "handshake failed").lower()) from None
        except OSError as error:
            raise TransportError(TransportErrorKind.REFUSED, origin, (error.strerror or "cannot be reached").lower()) from None
        finally:
            for unwanted in made:
                unwanted.abort()  # it may have been connected at the very moment of a timeout

    async def _addresses(self, endpoint: Endpoint) -> list[str]:
        host = endpoint.host
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        known = self._names.get(host)
        if known is not None and known[0] > self._clock():
            return known[1]
        under_way = self._resolving.get(host)
        if under_way is None:
            under_way = asyncio.ensure_future(self._resolve(host))
            self._resolving[host] = under_way
            under_way.add_done_callback(lambda done: self._resolved(host, done))
        try:
            return await asyncio.shield(under_way)
        except OSError:
            raise TransportError(TransportErrorKind.DNS, endpoint.origin, "the name of the host has no address") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if under_way.cancelled() and task is not None and not task.cancelling():
                raise TransportError(TransportErrorKind.RESET, endpoint.origin, "the router is stopping") from None
            raise

    def _resolved(self, host: str, done: asyncio.Future[list[str]]) -> None:
        self._resolving.pop(host, None)
        if not done.cancelled():
            done.exception()  # known to be looked at, also when everybody who waited has given up

    async def _resolve(self, host: str) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._resolver, _look_up, host)
        self._names[host] = (self._clock() + self._dns_ttl, found)
        self._names.move_to_end(host)
        if len(self._names) > MAX_CACHED_NAMES:
            self._names.popitem(last=False)
        return found

    def _context(self, ca: str | None) -> ssl.SSLContext:
        context = self._contexts.get(ca)
        if context is None:
            context = ssl.create_default_context(cadata=ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            self._contexts[ca] = context
            if len(self._contexts) > MAX_CACHED_CONTEXTS:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(ca)
        return context


def _look_up(host: str) -> list[str]:
    """The addresses of a name in the resolver's order, without doubles."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("not a valid name") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
