"""Who may have one more message in flight: the capacity is shared out by tenant, and a tenant's part of it by sink.

Nobody can be made to give back what is in flight, so nobody may take everything: a tenant may have twice as much in flight as is free, and
a sink twice as much as is free of that. One tenant alone gets two thirds of the capacity, two get two fifths each, and whoever comes next
finds something free. Within a tenant, a sink that has something in flight leaves room for one that has nothing there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

FACTOR = 2
"""How much one may hold for each unit that is free."""
AMPLE = 4
"""While less than this part of the capacity is in flight, whoever wants may send."""
MAX_TRIES = 8
"""Of those that wait, how many are asked after each message that landed, before the next one is awaited."""

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


class InFlight:
    """The messages in flight, counted in all, by tenant and by sink.

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

    def limit_reached(self, tenant: str, sink: Usage, size: int) -> ShareLimit | None:
        """Which bound keeps a sink of a tenant from sending one more message of so many bytes; None: it may."""
        total, of_tenant = self.total, self._tenants.get(tenant, NOTHING)
        return limit_reached(self._max_messages, total.messages, of_tenant.messages, sink.messages, 1) or limit_reached(
            self._max_bytes, total.bytes, of_tenant.bytes, sink.bytes, size
        )

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

    def give_back(self, tenant: str, sink: Usage, size: int) -> None:
        """It landed."""
        of_tenant, total = self._tenants[tenant], self.total
        total.messages -= 1
        total.bytes -= size
        of_tenant.messages -= 1
        of_tenant.bytes -= size
        sink.messages -= 1
        sink.bytes -= size
        if not of_tenant.messages:
            del self._tenants[tenant]


NOTHING = Usage()


@dataclass(eq=False, slots=True)
class WaitingLine(Generic[Key]):
    """Those that wait for a share: tenants take turns, and within a tenant whoever waits longest comes first."""

    _tenants: dict[str, OrderedDict[Key, None]] = field(default_factory=dict)
    """A plain dict has no quick way to its first key: it looks at each place that was left since it last grew."""

    def __len__(self) -> int:
        return sum(len(line) for line in self._tenants.values())

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def join(self, tenant: str, who: Key) -> None:
        """Wait, at the end of the tenant's line; whoever waits already keeps the place."""
        line = self._tenants.get(tenant)
        if line is None:
            line = self._tenants[tenant] = OrderedDict()
        line.setdefault(who)

    def leave(self, tenant: str, who: Key) -> None:
        """Wait no more."""
        line = self._tenants.get(tenant)
        if line is not None:
            line.pop(who, None)
            if not line:
                del self._tenants[tenant]

    def next(self) -> Key | None:
        """Whose turn it is, taken out of the line; the next turn is another tenant's."""
        if not self._tenants:
            return None
        tenant = next(iter(self._tenants))
        line = self._tenants.pop(tenant)
        who, _ = line.popitem(last=False)
        if line:
            self._tenants[tenant] = line
        return who

    def everyone(self) -> list[Key]:
        """All that wait."""
        return [who for line in self._tenants.values() for who in line]
