"""Looks up the addresses of names, asynchronously: a name whose servers hang delays only whoever asks for it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import aiodns
from aiodns.error import ARES_ECONNREFUSED, ARES_EREFUSED, ARES_ESERVFAIL, ARES_ETIMEOUT, DNSError

from eventsink.sinks.egress import literal_address
from eventsink.sinks.shares import Limit, Share

MAX_CACHED_NAMES = 4096
MAX_LOOKUPS = 256
"""Under way at once, shared out among tenants: one of them alone gets half."""
MAX_ADDRESSES = 8
"""Of one name; further ones are not used."""
TIMEOUT_SECONDS = 5.0
MIN_TTL_SECONDS = 1.0
MAX_TTL_SECONDS = 60.0
_NAME_SERVER_ERRORS = {
    ARES_ETIMEOUT: "the name server did not respond",
    ARES_ECONNREFUSED: "the name server cannot be reached",
    ARES_ESERVFAIL: "the name server reported a failure",
    ARES_EREFUSED: "the name server refused the question",
}
NO_ADDRESS = "the name of the host has no address"


class NameNotResolved(OSError):
    """No address was found. The text says why and does not repeat the name."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """What a lookup found: addresses in the order in which to try them, and for how many seconds they are valid."""

    addresses: Sequence[str]
    ttl: float


class LookUp(Protocol):
    """Asks for the addresses of a name, each time again."""

    async def __call__(self, host: str) -> Addresses:
        """The addresses of a name; NameNotResolved if there are none."""
        ...

    async def close(self) -> None:
        """Give back what it holds; lookups under way end with an error."""
        ...


class CAres:
    """`LookUp` by c-ares: reads /etc/hosts, and of /etc/resolv.conf the name servers, search domains and options such as ndots.

    Parameters
    ----------
    name_servers
        `address:port` of those to ask; empty: those of /etc/resolv.conf.
    """

    def __init__(self, name_servers: Sequence[str] = ()) -> None:
        self._name_servers = name_servers
        self._resolver: aiodns.DNSResolver | None = None

    async def __call__(self, host: str) -> Addresses:
        if self._resolver is None:
            self._resolver = aiodns.DNSResolver(self._name_servers, loop=asyncio.get_running_loop())
        try:
            found = await self._resolver.getaddrinfo(host, socket.AF_UNSPEC, None, type=socket.SOCK_STREAM)
        except DNSError as error:
            raise NameNotResolved(_NAME_SERVER_ERRORS.get(error.args[0], NO_ADDRESS)) from None
        except UnicodeError:
            raise NameNotResolved("it is not a valid name") from None
        nodes = found.nodes
        addresses = [node.addr[0] for node in nodes]
        texts = [text.decode("ascii") if isinstance(text, bytes) else str(text) for text in addresses]
        return Addresses(list(dict.fromkeys(texts)), min((node.ttl for node in nodes), default=0))

    async def close(self) -> None:
        if self._resolver is not None:
            await self._resolver.close()


class Resolver:
    """Names and their addresses, remembered for as long as they are valid.

    Parameters
    ----------
    timeout
        Seconds that one lookup may take.
    max_ttl
        Seconds after which a name is looked up again, however long its addresses are valid.
    clock
        The monotonic clock.
    look_up
        Asks for a name's addresses.
    """

    def __init__(
        self,
        *,
        timeout: float = TIMEOUT_SECONDS,
        max_ttl: float = MAX_TTL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        look_up: LookUp | None = None,
    ) -> None:
        self._timeout = timeout
        self._max_ttl = max_ttl
        self._clock = clock
        self._look_up = look_up or CAres()
        self._names: OrderedDict[str, tuple[float, Sequence[str]]] = OrderedDict()
        """Name -> until when, and its addresses."""
        self._under_way: dict[tuple[str, str], asyncio.Task[Sequence[str]]] = {}
        """By name and tenant: nobody waits for a lookup that waits for another tenant's share."""
        self._limit = Limit(MAX_LOOKUPS)
        self._closed = False

    async def addresses(self, host: str, tenant: str) -> Sequence[str]:
        """The addresses of a name, or of an address itself in any notation; at most MAX_ADDRESSES.

        Parameters
        ----------
        tenant
            On whose behalf; lookups are shared out among tenants.

        Raises
        ------
        NameNotResolved
            There are none, or they were not found in time.
        """
        literal = literal_address(host)
        if literal is not None:
            return (literal,)
        known = self._names.get(host)
        if known is not None and known[0] > self._clock():
            return known[1]
        if self._closed:
            raise NameNotResolved("the router is stopping")
        key = (host, tenant)
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.get_running_loop().create_task(self._found(host, tenant))
            task.add_done_callback(lambda done: self._ended(key, done))
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(task)
        except TimeoutError:
            raise NameNotResolved(f"it was not looked up within {self._timeout:g} s") from None
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if task.cancelled() and current is not None and not current.cancelling():
                raise NameNotResolved("the router is stopping") from None
            raise

    @property
    def under_way(self) -> int:
        """How many lookups are under way, or wait for others."""
        return len(self._under_way)

    async def close(self) -> None:
        """End lookups under way; whoever waits for one gets an error."""
        self._closed = True
        for task in self._under_way.values():
            task.cancel()
        await self._look_up.close()

    async def _found(self, host: str, tenant: str) -> Sequence[str]:
        # It runs to its end even when everybody who waited has given up: only then is nothing under way for it any more.
        share = Share(tenant, (self._limit,), 1)
        lease = await share.wait()
        try:
            found = await self._look_up(host)
        finally:
            share.release(lease)
        addresses = tuple(found.addresses[:MAX_ADDRESSES])
        if not addresses:
            raise NameNotResolved(NO_ADDRESS)
        self._names[host] = (self._clock() + max(MIN_TTL_SECONDS, min(found.ttl, self._max_ttl)), addresses)
        self._names.move_to_end(host)
        if len(self._names) > MAX_CACHED_NAMES:
            self._names.popitem(last=False)
        return addresses

    def _ended(self, key: tuple[str, str], done: asyncio.Task[Sequence[str]]) -> None:
        self._under_way.pop(key, None)
        if not done.cancelled():
            done.exception()  # known to be looked at, also when everybody who waited has given up
