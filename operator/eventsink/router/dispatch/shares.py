"""Who may have one more message in flight: the capacity is shared out by tenant, and a tenant's part of it by sink.

Nobody can be made to give back what is in flight, so nobody may take everything: a tenant may have twice as much in flight as is free, and
a sink twice as much as is free of that. One tenant alone gets two thirds of the capacity, two get two fifths each, and whoever comes next
finds something free. Within a tenant, a sink that has something in flight leaves room for one that has nothing there.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

FACTOR = 2
"""How much one may hold for each unit that is free."""
AMPLE = 4
"""While less than this part of the capacity is in flight, whoever wants may send."""
MAX_TRIES = 8
"""Of those that wait, how many are asked for nothing after each message that landed, before the next one is awaited."""

Key = TypeVar("Key", bound=Hashable)


class ShareLimit(StrEnum):
    """Which bound makes a sink wait."""

    ALL = "all"
    """Everything together takes up the capacity."""
    TENANT = "tenant"
    """The sinks of its tenant, or itself, have their part in flight."""


@dataclass(eq=False, slots=True)
class Usage:
    """What is in flight."""

    messages: int = 0
    bytes: int = 0


def limit_reached(capacity: int, total: int, of_tenant: int, of_sink: int, more: int) -> ShareLimit | None:
    """Which bound keeps a sink from taking more of a capacity; None: it may.

    Parameters
    ----------
    total, of_tenant, of_sink
        What is taken by all, by the sink's tenant, and by the sink.
    more
        What the sink is to take.
    """
    free = capacity - total
    if free <= 0:
        return ShareLimit.ALL
    if not of_tenant:
        return None
    share = FACTOR * (free - more)
    if of_tenant + more > share:
        return ShareLimit.TENANT
    if of_sink and (of_sink + more > FACTOR * (share - of_tenant - more) or of_tenant + 2 * more > FACTOR * (free - 2 * more)):
        return ShareLimit.TENANT  # the rest is for another sink of the tenant
    return None


class WaitingLine(Generic[Key]):
    """Those that wait for a share: the tenant that uses least comes first, and those that use as much take turns; within a tenant, whoever
    waits longest comes first. (Ordered dicts: a plain one looks for its first key at each place that was left since it last grew.)"""

    __slots__ = ("_by_use", "_tenants", "_use")

    def __init__(self) -> None:
        self._tenants: dict[str, OrderedDict[Key, None]] = {}
        self._use: dict[str, float] = {}
        """Where each tenant that waits is in `_by_use`."""
        self._by_use: dict[float, OrderedDict[str, None]] = {}

    def __len__(self) -> int:
        return sum(len(line) for line in self._tenants.values())

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def __contains__(self, tenant: str) -> bool:
        return tenant in self._tenants

    def join(self, tenant: str, who: Key, use: float) -> None:
        """Wait, at the end of the tenant's line, which uses so much; whoever waits already keeps the place."""
        line = self._tenants.get(tenant)
        if line is None:
            line = self._tenants[tenant] = OrderedDict()
            self._put(tenant, use)
        line[who] = None

    def leave(self, tenant: str, who: Key) -> None:
        """Wait no more."""
        line = self._tenants.get(tenant)
        if line is not None:
            line.pop(who, None)
            if not line:
                del self._tenants[tenant]
                self._take_out(tenant)

    def first(self) -> Key | None:
        """Whose turn it is."""
        if not self._tenants:
            return None
        return next(iter(self._tenants[next(iter(self._by_use[min(self._by_use)]))]))

    def defer(self, tenant: str, who: Key) -> None:
        """Have others go first: those of the tenant, and all other tenants until what this one uses changes. It must use something, or
        that would be never."""
        self._tenants[tenant].move_to_end(who)
        self.used(tenant, math.inf)

    def used(self, tenant: str, use: float) -> None:
        """A tenant that waits uses so much now."""
        self._take_out(tenant)
        self._put(tenant, use)

    def everyone(self) -> list[Key]:
        """All that wait."""
        return [who for line in self._tenants.values() for who in line]

    def _put(self, tenant: str, use: float) -> None:
        self._use[tenant] = use
        tenants = self._by_use.get(use)
        if tenants is None:
            tenants = self._by_use[use] = OrderedDict()
        tenants[tenant] = None

    def _take_out(self, tenant: str) -> None:
        tenants = self._by_use[use := self._use.pop(tenant)]
        del tenants[tenant]
        if not tenants:
            del self._by_use[use]


class InFlight(Generic[Key]):
    """The messages in flight, counted in all, by tenant and by sink, and who waits for others to land.

    Parameters
    ----------
    max_messages, max_bytes
        The capacity. One message may exceed the bytes.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._tenants: dict[str, Usage] = {}
        self.total = Usage()
        self.line: WaitingLine[Key] = WaitingLine()

    def limit_reached(self, tenant: str, sink: Usage, size: int) -> ShareLimit | None:
        """Which bound keeps a sink of a tenant from sending one more message of so many bytes; None: it may."""
        return self.number_reached(tenant, sink) or limit_reached(
            self._max_bytes, self.total.bytes, self._tenants.get(tenant, NOTHING).bytes, sink.bytes, size
        )

    def number_reached(self, tenant: str, sink: Usage) -> ShareLimit | None:
        """Which bound keeps a sink of a tenant from sending one more message, however small; None: it may.

        A sink that has nothing in flight is refused only if all are of which the tenant has as many messages in flight.
        """
        of_tenant = self._tenants.get(tenant, NOTHING).messages
        return limit_reached(self._max_messages, self.total.messages, of_tenant, sink.messages, 1)

    @property
    def full(self) -> bool:
        """Whether nobody may send, whatever it is. Else, a tenant that has nothing in flight may."""
        total = self.total
        return total.messages >= self._max_messages or total.bytes >= self._max_bytes

    @property
    def ample(self) -> bool:
        """Whether so little is in flight that no share has to be looked at."""
        total = self.total
        return total.messages * AMPLE <= self._max_messages and total.bytes * AMPLE <= self._max_bytes

    def take(self, tenant: str, sink: Usage, size: int) -> None:
        """A message of this many bytes leaves."""
        of_tenant = self._tenants.get(tenant)
        if of_tenant is None:
            of_tenant = self._tenants[tenant] = Usage()
        total = self.total
        total.messages += 1
        total.bytes += size
        of_tenant.messages += 1
        of_tenant.bytes += size
        sink.messages += 1
        sink.bytes += size
        if tenant in self.line:
            self.line.used(tenant, self._use(of_tenant))

    def give_back(self, tenant: str, sink: Usage, size: int) -> None:
        """It landed."""
        of_tenant, total = self._tenants[tenant], self.total
        total.messages -= 1
        total.bytes -= size
        of_tenant.messages -= 1
        of_tenant.bytes -= size
        sink.messages -= 1
        sink.bytes -= size
        if tenant in self.line:
            self.line.used(tenant, self._use(of_tenant))
        if not of_tenant.messages:
            del self._tenants[tenant]

    def wait(self, tenant: str, who: Key) -> None:
        """Have a sink wait until others have landed."""
        self.line.join(tenant, who, self._use(self._tenants.get(tenant, NOTHING)))

    def _use(self, of_tenant: Usage) -> int:
        """What a tenant has in flight: messages, or the bytes of as many as would take the same part of the capacity."""
        return max(of_tenant.messages, of_tenant.bytes * self._max_messages // self._max_bytes)


NOTHING = Usage()
