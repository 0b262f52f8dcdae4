"""How many sinks a tenant may have: its oldest ones are accepted, and a place is free as soon as one is deleted."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice

from eventsink.destinations.problem import Problem
from eventsink.kube.api import Key

QUOTA_EXCEEDED = "QuotaExceeded"

_Age = tuple[str, str, Key]
"""When an EventSink was created (RFC 3339), its uid, and its key: whoever sorts first is older."""


def quota_exceeded(tenant: str, limit: int) -> Problem:
    """Why a sink beyond its tenant's quota is not accepted. One that was accepted before stays active as it was then."""
    return Problem(
        "QuotaExceeded",
        "spec.tenant",
        f"the tenant {tenant} has more sinks than the {limit} that it may have, and the older ones come first; delete one that is not needed, "
        f"or ask the platform team to raise tenancy.maxSinks, or tenancy.maxSinksOf.{tenant}, of the operator",
    )


class SinkQuota:
    """The sinks of each tenant by age, as far as they are known.

    Parameters
    ----------
    limit
        Tenant -> how many sinks it may have; 0: any number.
    is_of_tenant
        Whether what claims a tenant in a namespace is of it: who only claims it takes nobody's place.
    enqueue
        Called with the key of each sink that a change concerns.
    """

    def __init__(
        self, limit: Callable[[str], int], is_of_tenant: Callable[[str, str], bool], enqueue: Callable[[Key], None]
    ) -> None:
        self._limit = limit
        self._is_of_tenant = is_of_tenant
        self._enqueue = enqueue
        self._by_age: dict[str, dict[str, list[_Age]]] = {}
        """Tenant -> namespace -> its sinks, the oldest first."""
        self._ages: dict[Key, tuple[str, _Age]] = {}
        """Key -> the tenant that it claims, and its place there."""

    def put(self, key: Key, tenant: str, created: str, uid: str) -> None:
        """A sink is there, which claims a tenant (empty: none that can be read)."""
        place = (tenant, (created, uid, key))
        if self._ages.get(key) == place:
            return
        self.remove(key)
        if tenant:
            self._ages[key] = place
            insort(self._by_age.setdefault(tenant, {}).setdefault(key[0], []), place[1])
            self._enqueue_at(tenant, self._limit(tenant))  # the one whose place it may have taken

    def remove(self, key: Key) -> None:
        """A sink is gone, or claims another tenant."""
        if (known := self._ages.pop(key, None)) is None:
            return
        tenant, age = known
        namespaces = self._by_age[tenant]
        ages = namespaces[key[0]]
        del ages[bisect_left(ages, age)]
        if not ages:
            del namespaces[key[0]]
            if not namespaces:
                del self._by_age[tenant]
        self._enqueue_at(tenant, self._limit(tenant) - 1)  # the one for which there is a place now

    def exceeded(self, key: Key, tenant: str) -> int:
        """The limit that keeps a sink from being accepted, known or new; 0: none does. Also for another thread, roughly."""
        limit = self._limit(tenant)
        if not limit or not self._is_of_tenant(tenant, key[0]):
            return 0
        known = self._ages.get(key)
        older = sum(
            len(ages) if known is None or known[0] != tenant else bisect_left(ages, known[1]) for ages in self._counted(tenant)
        )
        return limit if older >= limit else 0

    def beyond(self) -> int:
        """How many sinks are more than their tenants may have."""
        return sum(
            max(0, sum(map(len, self._counted(tenant))) - limit) for tenant in self._by_age if (limit := self._limit(tenant))
        )

    def _counted(self, tenant: str) -> Iterator[list[_Age]]:
        for namespace, ages in list(self._by_age.get(tenant, {}).items()):
            if self._is_of_tenant(tenant, namespace):
                yield ages

    def _enqueue_at(self, tenant: str, position: int) -> None:
        if position >= 0 and sum(map(len, self._by_age.get(tenant, {}).values())) > position:
            for _, _, key in islice(merge(*self._counted(tenant)), position, position + 1):
                self._enqueue(key)
