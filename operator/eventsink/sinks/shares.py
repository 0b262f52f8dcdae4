"""Shares out what is bounded, such as connections, among tenants and sinks: nobody's demand uses up what others need."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum


class Bound(Enum):
    """What a share waits for; the values are labels of metrics."""

    FULL = "all"
    """Everything is in use, by several tenants."""
    TENANT = "tenant"
    """Its tenant uses as much as is left for all others."""
    SHARE = "sink"
    """It uses all that it may itself, or as much as is left for all others of its tenant."""


class Limit:
    """A number of units for all tenants together.

    A tenant gets another unit only while it uses fewer than are left, and a share only while it uses fewer than its tenant could still
    get. One tenant alone thus gets half of them, two get a third each; one share alone gets half of what its tenant does; and something
    is left for whoever comes next, without anything being set aside for anybody.
    """

    __slots__ = ("_needs", "_tenants", "_waiting", "most", "used")

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self._tenants: dict[str, int] = {}
        """Units in use, of tenants that use any."""
        self._waiting: dict[str, dict[int, OrderedDict[Share, None]]] = {}
        """Who waits for this limit: tenant -> units that a share uses -> those shares, which take turns. (A plain dict looks for its
        first key at each place that was left since it last grew.)"""
        self._needs: dict[int, dict[str, None]] = {}
        """How many units must be left before one of a tenant's shares gets another -> the tenants, which take turns."""

    def refuses(self, tenant: str, used: int) -> Bound | None:
        """Why a share that uses so many gets no unit now; None: it does."""
        left = self.most - self.used
        if left <= 0:
            return Bound.FULL
        more = left - self._tenants.get(tenant, 0)  # the tenant could get half of this: each unit is one less that is left, too
        if more <= 0:
            return Bound.TENANT
        return Bound.SHARE if used >= (more + 1) // 2 else None

    def take(self, tenant: str) -> None:
        """Count a unit that is in use from now on."""
        self._count(tenant, 1)

    def give(self, tenant: str) -> None:
        """Count it no longer; `serve` gives it to somebody else."""
        self._count(tenant, -1)

    def queue(self, share: Share) -> None:
        """Have a share wait here, behind the others of its tenant that use as much."""
        tenant = share.tenant
        self._leave_needs(tenant)
        shares = self._waiting.setdefault(tenant, {})
        if share.used not in shares:
            shares[share.used] = OrderedDict()
        shares[share.used][share] = None
        self._join_needs(tenant)

    def dequeue(self, share: Share) -> None:
        """It waits here no longer; called before what it uses changes."""
        tenant = share.tenant
        self._leave_needs(tenant)
        shares = self._waiting[tenant]
        del shares[share.used][share]
        if not shares[share.used]:
            del shares[share.used]
        if shares:
            self._join_needs(tenant)
        else:
            del self._waiting[tenant]

    def serve(self) -> None:
        """Give what is free to those who wait here; who turns out to wait for something else goes there."""
        while self._needs and (need := min(self._needs)) <= self.most - self.used:
            shares = self._waiting[next(iter(self._needs[need]))]
            next(iter(shares[min(shares)])).next_turn(self)

    def _count(self, tenant: str, units: int) -> None:
        self.used += units
        waits = tenant in self._waiting
        if waits:
            self._leave_needs(tenant)
        used = self._tenants.get(tenant, 0) + units
        if used:
            self._tenants[tenant] = used
        else:
            del self._tenants[tenant]
        if waits:
            self._join_needs(tenant)

    def _need(self, tenant: str) -> int:
        """How many units must be left so that `refuses` does not refuse the tenant's share that waits and uses least."""
        return self._tenants.get(tenant, 0) + 2 * min(self._waiting[tenant]) + 1

    def _join_needs(self, tenant: str) -> None:
        self._needs.setdefault(self._need(tenant), {})[tenant] = None

    def _leave_needs(self, tenant: str) -> None:
        if tenant in self._waiting:
            tenants = self._needs[need := self._need(tenant)]
            del tenants[tenant]
            if not tenants:
                del self._needs[need]


Lease = tuple[Limit, ...]
"""The limits that a unit in use counts for."""


class Share:
    """What one sink, or whoever else competes with others, may use of some limits, and who waits for that.

    Parameters
    ----------
    tenant
        Whose it is.
    limits
        Each unit counts for all of them. May be replaced: `release` looks at it again.
    most
        Units that it may use at once, whatever is free. May be changed, too.
    """

    __slots__ = ("_queued_at", "_waiters", "bound", "limits", "most", "tenant", "used")

    def __init__(self, tenant: str, limits: Lease, most: int) -> None:
        self.tenant = tenant
        self.limits = limits
        self.most = most
        self.used = 0
        self.bound: Bound | None = None
        """For what it waited last."""
        self._waiters: dict[asyncio.Future[Lease], None] = {}
        """The longest waiting first. (An empty deque takes ten times the memory, and there is one for each sink.)"""
        self._queued_at: Limit | None = None

    @property
    def waiting(self) -> bool:
        """Whether anybody waits for a unit of it."""
        return bool(self._waiters)

    def take(self) -> Lease | None:
        """A unit, if there is one and nobody waits for it; give it back with `release`."""
        if self._waiters or self._refused() is not None:
            return None
        return self._taken()

    async def wait(self, on_wait: Callable[[Bound], None] = lambda _bound: None) -> Lease:
        """A unit, once it is this share's turn; `on_wait` is called with what it has to wait for. The caller bounds the wait."""
        lease = self.take()
        if lease is not None:
            return lease
        waiter: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        if len(self._waiters) == 1:
            self._queue()
        on_wait(self.bound or Bound.SHARE)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release(waiter.result())
            elif waiter in self._waiters:
                del self._waiters[waiter]
                if not self._waiters:
                    self._leave_queue()
            raise

    def release(self, lease: Lease) -> None:
        """Give a unit back; whoever waits for it gets it, others before this share."""
        queued_at = self._queued_at
        self._leave_queue()
        self.used -= 1
        if queued_at is not None:
            self._queued_at = queued_at
            queued_at.queue(self)
        for limit in lease:
            limit.give(self.tenant)
        for limit in lease:
            limit.serve()
        if self._waiters:
            self._leave_queue()
            while self._waiters and self._refused() is None:
                self._hand_over()
            if self._waiters:
                self._queue()

    def fail(self, error: Exception) -> None:
        """Have all who wait raise `error`."""
        self._leave_queue()
        while self._waiters:
            waiter, _ = self._waiters.popitem()
            if not waiter.done():
                waiter.set_exception(error)

    def next_turn(self, limit: Limit) -> None:
        """It is this share's turn at the limit where it waits: take a unit, unless something else is in the way."""
        self._leave_queue()
        if self._refused() is None:
            self._hand_over()
        if self._waiters:
            self._queue(limit)

    def _refused(self) -> Bound | None:
        if self.used >= self.most:
            return Bound.SHARE
        for limit in self.limits:
            bound = limit.refuses(self.tenant, self.used)
            if bound is not None:
                return bound
        return None

    def _taken(self) -> Lease:
        self.used += 1
        for limit in self.limits:
            limit.take(self.tenant)
        return self.limits

    def _hand_over(self) -> None:
        while self._waiters:
            waiter = next(iter(self._waiters))
            del self._waiters[waiter]
            if not waiter.done():
                waiter.set_result(self._taken())
                return

    def _queue(self, otherwise: Limit | None = None) -> None:
        """Wait where the way is blocked: at a limit, or for a unit of its own; if it is not, `otherwise`."""
        if self.used >= self.most:
            self.bound = Bound.SHARE
            return
        for limit in self.limits:
            bound = limit.refuses(self.tenant, self.used)
            if bound is not None:
                self.bound, self._queued_at = bound, limit
                break
        else:
            self._queued_at = otherwise
        if self._queued_at is not None:
            self._queued_at.queue(self)

    def _leave_queue(self) -> None:
        if self._queued_at is not None:
            self._queued_at.dequeue(self)
            self._queued_at = None
