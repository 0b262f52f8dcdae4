"""Which sinks have to be caught up since their tenants' quotas were used up, and which tenants may have room again."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable


class SinksBehind:
    """Sinks by tenant. What it costs to find those that have room is proportional to what has changed, not to how many are behind."""

    def __init__(self) -> None:
        self._sinks: dict[str, dict[str, None]] = {}
        """Tenant -> uids, in the order in which they came."""
        self._worth_a_look: set[str] = set()
        self._looks: list[tuple[float, str]] = []
        """When tenants are to be looked at, the next first; each is in it once."""
        self._scheduled: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._sinks.values()))

    def has(self, tenant: str, uid: str) -> bool:
        """Whether a sink of a tenant is behind."""
        return uid in self._sinks.get(tenant, ())

    def of(self, tenant: str) -> Collection[str]:
        """uids of a tenant's sinks that are behind."""
        return self._sinks.get(tenant, {}).keys()

    def add(self, tenant: str, uid: str) -> None:
        """A sink is behind."""
        sinks = self._sinks.setdefault(tenant, {})
        if uid not in sinks:
            sinks[uid] = None
            self._worth_a_look.add(tenant)

    def remove(self, tenant: str, uid: str) -> None:
        """A sink is behind no more."""
        sinks = self._sinks.get(tenant, {})
        sinks.pop(uid, None)
        if not sinks:
            self._sinks.pop(tenant, None)

    def may_have_room(self, tenants: Iterable[str]) -> None:
        """Something of these tenants arrived or was given up."""
        self._worth_a_look |= self._sinks.keys() & tenants

    def look_later(self, tenant: str, at: float) -> None:
        """Look at a tenant when the time comes, whatever happens until then."""
        if tenant not in self._scheduled:
            self._scheduled.add(tenant)
            heapq.heappush(self._looks, (at, tenant))

    def tenants_to_look_at(self, now: float) -> set[str]:
        """Those with sinks that are behind which may have room since the last call."""
        tenants, self._worth_a_look = self._worth_a_look, set()
        while self._looks and self._looks[0][0] <= now:
            _, tenant = heapq.heappop(self._looks)
            self._scheduled.discard(tenant)
            tenants.add(tenant)
        return tenants & self._sinks.keys()
