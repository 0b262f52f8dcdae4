"""Keeps a tenant within its quota: what is over it is not queued, but stays in the alert state, from which the sink is caught up.

A sink for which something was not queued is behind: what its alerts become meanwhile is not queued either, so that its newest state is what is
sent when there is room, and nothing overtakes it. That it is behind is stored in the transaction that accepts the alerts. One dead sink of a
tenant leaves room in the quota for the others: what waits for a sink is at most twice what is free.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import msgspec

from eventsink.alerts.alert import Status
from eventsink.resources.names import ALL_TENANTS
from eventsink.router.planning.alert_states import AlertStates, StateChange
from eventsink.router.planning.batch import Owned
from eventsink.router.planning.behind import SinksBehind
from eventsink.router.planning.quota_settings import QuotaSettings, TenantQuota
from eventsink.router.queue.protocol import Batch, DeliveryQueue, Waiting
from eventsink.sinks.sink import Sink

QUOTA_EXCEEDED = "QuotaExceeded"
"""In the status of a sink that is behind."""
BEHIND = "behind"
"""As the digest of a sink's match rules in `SinkState`: whatever they are, it is caught up; so an older version does it, too."""
BURST_SECONDS = 10.0
"""Of a rate without a burst of its own."""
LOOK_SECONDS = 1.0
"""Between two looks for tenants that have room again."""
ROOM_FROM = 0.5
"""Part of what is free in a quota, and of a burst, that a sink may take when it is caught up: that costs a look at all alerts of the tenant."""
SINK_FACTOR = 2
"""How much may wait for one sink for each delivery, or byte, that is free in its tenant's quota."""
ALERTS_PER_SECOND = 10_000
"""Alerts of a tenant that are looked at for its sinks that are behind, in each second of the time between two catch-ups."""
USUAL_BYTES = 2000
"""Of a delivery, where none waits from which that could be seen: a sink is caught up with as many as there is room for then."""
MAX_BUCKETS = 10_000
"""Tenants whose rates are kept; of more, those that have not used theirs for the longest time are full again."""


class QuotaLimit(StrEnum):
    """Which part of a quota is used up; the values are settings and metric labels."""

    DELIVERIES = "waitingDeliveries"
    BYTES = "waitingBytes"
    RATE = "rate"


class NotQueued(StrEnum):
    """What becomes of what is over a quota; the values are metric labels."""

    DEFERRED = "deferred"
    """The newest state of the alert is sent when there is room."""
    DROPPED = "dropped"
    """An event, which has no state."""


class _Usage(msgspec.Struct):
    """What a tenant uses beside what the queue counts."""

    tokens: float
    """Deliveries that its rate allows now."""
    at: float
    """Queue clock: when that was counted."""
    pending: Waiting
    """Given to the queue and not committed yet."""
    caught_up_at: float = -math.inf
    """Queue clock: when its sinks that were behind were last looked at."""


@dataclass(frozen=True, slots=True)
class Room:
    """How much more may be queued for a sink."""

    deliveries: int
    limit: QuotaLimit
    """What allows no more."""
    ample: bool = True
    """Whether it is worth while to catch up with the sink."""


UNBOUNDED = Room(2**62, QuotaLimit.DELIVERIES)
_NO_QUOTA = TenantQuota()


@dataclass(frozen=True, slots=True)
class QuotaProblem:
    """What the status of a sink says of its tenant's quota."""

    message: str
    dropped: int
    """Events that were dropped since it is behind."""


@dataclass(slots=True)
class _Behind:
    sink: Sink
    limit: QuotaLimit
    dropped: int = 0
    until: float = 0.0
    """Queue clock: until when it is reported though it owes nothing."""


REPORTED_SECONDS = 600.0
"""So long at least a status says that events were dropped."""


class Quotas:
    """What is left of each tenant's quota, and which sinks are behind.

    Parameters
    ----------
    queue
        Opened to count by tenant.
    not_queued
        Counts what was not queued: tenant, limit, what becomes of it, how many.
    """

    def __init__(
        self,
        settings: QuotaSettings,
        queue: DeliveryQueue,
        not_queued: Callable[[str, QuotaLimit, NotQueued, int], None] = lambda _tenant, _limit, _outcome, _count: None,
    ) -> None:
        self._settings = settings
        self._clock = queue.clock
        self._waiting = queue.waiting_of
        self._changed = queue.tenants_changed
        self._waiting_for = queue.waiting_for
        self._not_queued = not_queued
        self._of: dict[str, TenantQuota] = {tenant: settings.of(tenant) for tenant in settings.tenants}
        self._usage: dict[str, _Usage] = {}
        self._behind: dict[str, _Behind] = {}
        self._owed = SinksBehind()
        """Those of which anything but events was not queued."""

    @staticmethod
    def any_in(settings: QuotaSettings) -> bool:
        """Whether any tenant has a quota."""
        return any(_is_bounded(settings.of(tenant)) for tenant in ("", *settings.tenants))

    def quota(self, tenant: str) -> TenantQuota:
        """What a tenant may take; the platform's own sinks, as much as they want unless there is a quota of their name."""
        return self._of.get(tenant) or (self._settings.default if tenant != ALL_TENANTS else _NO_QUOTA)

    def room(self, sink: Sink, taken: int = 0) -> Room:
        """How much more may be queued for a sink, if so many deliveries are about to be queued for its tenant."""
        quota = self.quota(sink.tenant)
        if not _is_bounded(quota):
            return UNBOUNDED
        return self._room(sink.tenant, quota, self._waiting_for(sink.uid), taken)

    def _room(self, tenant: str, quota: TenantQuota, of_sink: int, taken: int = 0) -> Room:
        """`room` for a sink for which so many deliveries wait."""
        usage = self._used(tenant, quota)
        waiting, pending = self._waiting(tenant), usage.pending
        rooms = [UNBOUNDED]
        if quota.waiting_bytes:
            size = waiting.bytes * of_sink // waiting.deliveries if waiting.deliveries else 0
            free = quota.waiting_bytes - waiting.bytes - pending.bytes
            rooms.append(
                Room(UNBOUNDED.deliveries if sink_room(free, size) else 0, QuotaLimit.BYTES, ample=size <= ROOM_FROM * free)
            )
        if quota.waiting_deliveries:
            free = quota.waiting_deliveries - waiting.deliveries - pending.deliveries - taken
            room = sink_room(free, of_sink)
            rooms.append(Room(room, QuotaLimit.DELIVERIES, ample=room >= max(1.0, ROOM_FROM * free)))
        if quota.rate:
            tokens = max(0, int(usage.tokens) - taken)
            rooms.append(Room(tokens, QuotaLimit.RATE, ample=tokens >= _tokens_from(quota)))
        least = min(rooms, key=lambda one: one.deliveries)
        return Room(least.deliveries, least.limit, ample=least.deliveries > 0 and all(one.ample for one in rooms))

    def take(self, batch: Batch, stored: asyncio.Future[None]) -> None:
        """A batch was given to the queue, and is on disk or given up when the future is done."""
        taken: dict[str, Waiting] = {}
        for delivery in batch.deliveries:
            of_tenant = taken.get(delivery.tenant)
            if of_tenant is None:
                of_tenant = taken[delivery.tenant] = Waiting()
            of_tenant.deliveries += 1
            of_tenant.bytes += len(batch.payloads[delivery.payload].body)
        held: list[tuple[_Usage, Waiting]] = []
        for tenant, what in taken.items():
            quota = self.quota(tenant)
            if _is_bounded(quota):
                usage = self._used(tenant, quota)
                usage.tokens -= what.deliveries
                usage.pending.deliveries += what.deliveries
                usage.pending.bytes += what.bytes
                held.append((usage, what))

        def give_back(_stored: object) -> None:
            for usage, what in held:
                usage.pending.deliveries -= what.deliveries
                usage.pending.bytes -= what.bytes
            self._owed.may_have_room(taken.keys())  # if it was not stored

        if held:
            stored.add_done_callback(give_back)

    # ---- sinks that are behind

    def is_behind(self, uid: str) -> bool:
        """Whether something but events was not queued for a sink, so that it has to be caught up."""
        behind = self._behind.get(uid)
        return behind is not None and self._owes(behind)

    def divide(self, sink: Sink, due: list[Owned], *, whole: bool, taken: int) -> tuple[list[Owned], list[Owned]]:
        """Of what is due to a sink, what is queued for it, and what it is caught up with later; events that are neither are dropped.

        Parameters
        ----------
        whole
            Whether it gets all in one delivery.
        taken
            Deliveries that are about to be queued for its tenant.
        """
        behind = self._behind.get(sink.uid)
        room = self.room(sink, taken)
        if behind is None and room.deliveries >= len(due):
            return due, []
        deferred: list[Owned] = []
        limit = room.limit
        if behind is not None and self._owes(behind):
            deferred, due, limit = (
                [one for one in due if not _is_event(one)],
                [one for one in due if _is_event(one)],
                behind.limit,
            )
        kept = due[: room.deliveries] if not whole else due if room.deliveries else []
        over = due[len(kept) :]
        deferred += [one for one in over if not _is_event(one)]
        if deferred:
            self.defer(sink, limit, len(deferred))
        if dropped := sum(map(_is_event, over)):
            self._drop(sink, room.limit, dropped)
        return kept, deferred

    def defer(self, sink: Sink, limit: QuotaLimit, count: int) -> None:
        """So many alerts were not queued for a sink, which is behind from now on."""
        self._behind_of(sink, limit)
        self._owed.add(sink.tenant, sink.uid)
        self._not_queued(sink.tenant, limit, NotQueued.DEFERRED, count)

    def _drop(self, sink: Sink, limit: QuotaLimit, count: int) -> None:
        behind = self._behind_of(sink, limit)
        behind.dropped += count
        behind.until = self._clock() + REPORTED_SECONDS
        self._not_queued(sink.tenant, limit, NotQueued.DROPPED, count)

    def admits(self, sink: Sink, states: AlertStates, change: StateChange) -> bool:
        """Whether one delivery may be queued for a sink; if not, it is behind from now on."""
        behind, room = self._behind.get(sink.uid), self.room(sink)
        if room.deliveries and not (behind is not None and self._owes(behind)):
            return True
        self.defer(sink, room.limit, 1)
        record_behind(sink.uid, states, change)
        return False

    def part(self, sink: Sink, sinks: int) -> int | None:
        """How many deliveries a sink may be caught up with, among so many of its tenant; None: no quota bounds it."""
        room, quota = self.room(sink).deliveries, self.quota(sink.tenant)
        if room and quota.waiting_bytes:
            waiting, pending = self._waiting(sink.tenant), self._used(sink.tenant, quota).pending
            size = waiting.bytes // waiting.deliveries if waiting.deliveries else USUAL_BYTES
            room = min(room, max(1, (quota.waiting_bytes - waiting.bytes - pending.bytes) // max(1, size)))
        return None if room == UNBOUNDED.deliveries else min(room, max(1, room // sinks))

    def catches_up(self, uid: str) -> None:
        """A sink is being caught up: what is not queued for it from now on makes it behind again."""
        behind = self._behind.get(uid)
        if behind is not None:
            self._owed.remove(behind.sink.tenant, uid)

    def forget(self, uid: str) -> None:
        """A sink is gone."""
        self.catches_up(uid)
        self._behind.pop(uid, None)

    def problem(self, uid: str) -> QuotaProblem | None:
        """What the status of a sink says; None: nothing."""
        behind = self._behind.get(uid)
        if behind is None:
            return None
        if not self._owes(behind) and behind.until <= self._clock():
            del self._behind[uid]
            return None
        tenant, limit = behind.sink.tenant, behind.limit
        value = getattr(self.quota(tenant), _FIELDS[limit])
        owed = "of alerts that fire, the newest state is sent when there is room; events are dropped"
        return QuotaProblem(
            f"more is sent to the sinks of tenant {tenant} than its quota allows ({limit}: {value}): {owed}; fix slow or dead receivers, have "
            f"spec.match select less, or have the platform team raise quotas.tenants.{tenant}.{limit} of the router",
            behind.dropped,
        )

    @property
    def sinks_behind(self) -> int:
        """How many sinks have to be caught up."""
        return len(self._owed)

    def to_catch_up(self, alerts: Callable[[str], int]) -> list[str]:
        """uids of the sinks that are behind and whose tenants have room again since the last call; it costs what has changed since.

        Parameters
        ----------
        alerts
            How many alerts of a tenant have to be looked at for that.
        """
        now = self._clock()
        self._owed.may_have_room(self._changed())
        found: list[str] = []
        for tenant in self._owed.tenants_to_look_at(now):
            quota = self.quota(tenant)
            usage = self._used(tenant, quota)
            next_look = usage.caught_up_at + max(LOOK_SECONDS, alerts(tenant) / ALERTS_PER_SECOND)
            if now < next_look:
                self._owed.look_later(tenant, next_look)
            elif quota.rate and usage.tokens < (needed := _tokens_from(quota)):
                self._owed.look_later(tenant, now + (needed - usage.tokens) / quota.rate)
            elif some := self._with_room(tenant, quota):
                usage.caught_up_at = now
                found += some
        return found

    def _with_room(self, tenant: str, quota: TenantQuota) -> list[str]:
        """uids of those of its sinks that are behind with which to catch up is worth while; they differ in how much waits for them."""
        if not _is_bounded(quota):
            return list(self._owed.of(tenant))
        ample = {0: self._room(tenant, quota, 0).ample}
        if not ample[0]:
            return []
        found = []
        for uid in self._owed.of(tenant):
            of_sink = self._waiting_for(uid)
            if of_sink not in ample:
                ample[of_sink] = self._room(tenant, quota, of_sink).ample
            if ample[of_sink]:
                found.append(uid)
        return found

    def _owes(self, behind: _Behind) -> bool:
        return self._owed.has(behind.sink.tenant, behind.sink.uid)

    def _behind_of(self, sink: Sink, limit: QuotaLimit) -> _Behind:
        behind = self._behind.get(sink.uid)
        if behind is None:
            behind = self._behind[sink.uid] = _Behind(sink, limit)
        elif behind.sink.tenant != sink.tenant:
            self.catches_up(sink.uid)
        behind.sink, behind.limit = sink, limit
        return behind

    def _used(self, tenant: str, quota: TenantQuota) -> _Usage:
        """What a tenant uses, with what its rate has allowed since it was last counted."""
        now = self._clock()
        usage = self._usage.pop(tenant, None)
        if usage is None:
            usage = _Usage(_burst(quota), now, Waiting())
            while len(self._usage) >= MAX_BUCKETS:
                del self._usage[next(iter(self._usage))]
        elif quota.rate:
            usage.tokens = min(_burst(quota), usage.tokens + quota.rate * max(0.0, now - usage.at))
        usage.at = now
        self._usage[tenant] = usage
        return usage


def sink_room(free: int, of_sink: int) -> int:
    """How much more may wait for a sink, if so much is free in its tenant's quota and so much waits for it.

    Whoever comes next finds something free, but one sink alone gets two thirds.
    """
    if free <= 0:
        return 0
    return max(0 if of_sink else 1, (SINK_FACTOR * free - of_sink) // (SINK_FACTOR + 1))


def submit(
    queue: DeliveryQueue, batch: Batch, change: StateChange, states: AlertStates, quotas: Quotas | None
) -> asyncio.Future[None]:
    """Give a batch to the queue, as `DeliveryQueue.submit`, and count it as what its tenants take; the change is undone if it fails."""
    stored = queue.submit(batch, partial(states.undo, change))
    if quotas is not None:
        quotas.take(batch, stored)
    return stored


def record_behind(uid: str, states: AlertStates, change: StateChange) -> None:
    """Have it on disk that a sink is behind; one of which nothing is recorded is caught up anyway."""
    last = states.sink(uid)
    if last is not None and last.match != BEHIND:
        states.put_sink(change, msgspec.structs.replace(last, match=BEHIND))


def _is_event(one: Owned) -> bool:
    return one.alert.status is Status.EVENT


def _burst(quota: TenantQuota) -> float:
    return max(1.0, float(quota.burst or quota.rate * BURST_SECONDS))


def _tokens_from(quota: TenantQuota) -> int:
    """Deliveries that a rate has to allow before a sink is caught up."""
    return max(1, int(ROOM_FROM * _burst(quota)))


def _is_bounded(quota: TenantQuota) -> bool:
    return bool(quota.waiting_deliveries or quota.waiting_bytes or quota.rate)


_FIELDS = {QuotaLimit.DELIVERIES: "waiting_deliveries", QuotaLimit.BYTES: "waiting_bytes", QuotaLimit.RATE: "rate"}
