"""Shares out what is bounded, such as connections, among tenants and sinks: nobody's demand uses up what others need."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum

TURN_SECONDS = 1.0
"""For so long a tenant that gave a unit back may be given it again before others that use as few: what it is good for, such as an open
connection, would be of no use to them."""
LAST_TURN_SECONDS = 0.1
"""The same for the only unit of a tenant: others have none."""


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

    Parameters
    ----------
    clock
        The monotonic clock.
    """

    __slots__ = ("_clock", "_needs", "_tenants", "_turns", "_waiting", "most", "used")

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.used = 0
        self._clock = clock
        self._tenants: dict[str, int] = {}
        """Units in use, of tenants that use any."""
        self._turns: dict[str, float] = {}
        """When the turn of each tenant began that has had one and uses units, or waits for one."""
        self._waiting: dict[str, dict[int, OrderedDict[Share, None]]] = {}
        """Who waits for this limit: tenant -> units that a share uses -> those shares, which take turns. (A plain dict looks for its
        first key at each place that was left since it last grew.)"""
        self._needs: dict[int, OrderedDict[str, None]] = {}
        """How many units must be left before one of a tenant's shares gets another -> the tenants, which take turns."""

    @property
    def awaited(self) -> bool:
        """Whether anybody waits here."""
        return bool(self._waiting)

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
        tenant, used = share.tenant, share.used
        shares = self._waiting.get(tenant)
        if shares is None:
            shares = self._waiting[tenant] = {}
        line = shares.get(used)
        if line is not None:
            line[share] = None
            return
        least = min(shares, default=used)
        if used < least:
            self._leave_needs(tenant)
        shares[used] = OrderedDict.fromkeys((share,))
        if used <= least:
            self._join_needs(tenant)

    def dequeue(self, share: Share) -> None:
        """It waits here no longer; called before what it uses changes."""
        tenant, used = share.tenant, share.used
        shares = self._waiting[tenant]
        if len(shares[used]) > 1:
            del shares[used][share]
            return
        least = min(shares) == used
        if least:
            self._leave_needs(tenant)
        del shares[used]
        if not shares:
            del self._waiting[tenant]
            if tenant not in self._tenants:
                self._turns.pop(tenant, None)
        elif least:
            self._join_needs(tenant)

    def serve(self, giver: str = "") -> None:
        """Give what is free to those who wait here; who turns out to wait for something else goes there.

        Parameters
        ----------
        giver
            The tenant that has just given a unit back.
        """
        while self._needs and (need := min(self._needs)) <= self.most - self.used:
            tenants = self._needs[need]
            if giver in tenants and self._has_turn(giver, self._tenants.get(giver, 0)):
                self._first(giver).next_turn(self)
                continue
            tenant = next(iter(tenants))
            self._first(tenant).next_turn(self)
            if tenant in self._tenants:
                self._turns[tenant] = self._clock()

    def heir(self, tenant: str) -> Share | None:
        """The share of the tenant that waits here and would be given the unit that the tenant is about to give back, if one would."""
        if tenant not in self._waiting or not self._has_turn(tenant, self._tenants[tenant] - 1):
            return None
        need = self._need(tenant) - 1
        if need > self.most - self.used + 1 or min(self._needs) < need:
            return None
        return self._first(tenant)

    def _has_turn(self, tenant: str, others: int) -> bool:
        """Whether the tenant, which gives a unit back or gave it, may have it again."""
        began = self._turns.get(tenant)
        if began is None:
            return False
        return self._clock() - began < (TURN_SECONDS if others else LAST_TURN_SECONDS)

    def _first(self, tenant: str) -> Share:
        shares = self._waiting[tenant]
        return next(iter(shares[min(shares)]))

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
            if not waits:
                self._turns.pop(tenant, None)
        if waits:
            self._join_needs(tenant)

    def _need(self, tenant: str) -> int:
        """How many units must be left so that `refuses` does not refuse the tenant's share that waits and uses least."""
        return self._tenants.get(tenant, 0) + 2 * min(self._waiting[tenant]) + 1

    def _join_needs(self, tenant: str) -> None:
        need = self._need(tenant)
        tenants = self._needs.get(need)
        if tenants is None:
            tenants = self._needs[need] = OrderedDict()
        tenants[tenant] = None

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
        waiter = self.line_up()
        on_wait(self.bound or Bound.SHARE)
        try:
            return await waiter
        except BaseException:
            self.leave(waiter)
            raise

    def line_up(self) -> asyncio.Future[Lease]:
        """Wait for a unit, since `take` gave none; whoever does not want it any more calls `leave`."""
        waiter: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        if len(self._waiters) == 1:
            self._queue()
        return waiter

    def leave(self, waiter: asyncio.Future[Lease]) -> None:
        """Wait no longer, and give back what was given meanwhile."""
        if waiter in self._waiters:
            del self._waiters[waiter]
            if not self._waiters:
                self._leave_queue()
        elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self.release(waiter.result())

    def release(self, lease: Lease) -> None:
        """Give a unit back; whoever waits for it gets it, others before this share."""
        if not self._waiters and self._pass_on(lease):
            return
        queued_at = self._queued_at
        self._leave_queue()
        self.used -= 1
        if queued_at is not None:
            self._queued_at = queued_at
            queued_at.queue(self)
        for limit in lease:
            limit.give(self.tenant)
        for limit in lease:
            limit.serve(self.tenant)
        if self._waiters:
            self._leave_queue()
            while self._waiters and self._refused() is None:
                self._hand_over()
            if self._waiters:
                self._queue()

    def _pass_on(self, lease: Lease) -> bool:
        """Give a unit to another share of the tenant, for which nothing has to be counted; whether that was its turn."""
        for limit in lease:
            if limit.awaited:
                break
        else:
            return False
        heir = limit.heir(self.tenant)
        if heir is None or heir.limits != lease or heir.used >= heir.most:
            return False
        for other in lease:
            if other is not limit and (other.awaited or other.refuses(self.tenant, heir.used) is not None):
                return False
        if not heir.inherit(lease):
            return False
        self.used -= 1
        return True

    def inherit(self, lease: Lease) -> bool:
        """Get the unit of another share of the tenant, for which this one waits; whether anybody still wants it."""
        self._leave_queue()
        waiter = self._next_waiter()
        if waiter is not None:
            self.used += 1
            waiter.set_result(lease)
        if self._waiters:
            self._queue()
        return waiter is not None

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
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(self._taken())

    def _next_waiter(self) -> asyncio.Future[Lease] | None:
        while self._waiters:
            waiter = next(iter(self._waiters))
            del self._waiters[waiter]
            if not waiter.done():
                return waiter
        return None

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
