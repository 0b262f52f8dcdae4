"""From the bytes of a notification to a committed batch: parse, tenant, match, what is new, commit. Each step is one named function."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from eventsink.alerts.alert import IncomingNotification, Rejection
from eventsink.alerts.limits import LARGE_BODY_BYTES
from eventsink.router.directory import SinkDirectory
from eventsink.router.planning.alert_states import AlertStates
from eventsink.router.planning.batch import Owned
from eventsink.router.planning.match import SinkIndex
from eventsink.router.planning.notify import Suppression
from eventsink.router.planning.plan import Merged, Plan
from eventsink.router.planning.tenants import NoTenant, NoTenantReason, tenant_of
from eventsink.router.queue.protocol import DeliveryQueue
from eventsink.router.sources import Source
from eventsink.runtime.pending import Pending

Suppressed = Callable[[Suppression, int], None]
"""Counts alerts of which a sink was not notified."""


class NotLoaded(Exception):
    """The router does not know all sinks yet: nothing may be accepted."""


class NothingAccepted(ValueError):
    """No alert of the request was accepted, since none that can be used has a tenant; the text is the first one's sentence."""

    def __init__(self, sentence: str, rejected: Sequence[Rejection] = (), reasons: Sequence[NoTenantReason] = ()) -> None:
        super().__init__(sentence)
        self.rejected = rejected
        self.reasons = reasons


class Accepted(msgspec.Struct, frozen=True):
    """The result of a request: how many alerts were accepted, which were not, how many deliveries were queued."""

    alerts: int
    rejected: Sequence[Rejection]
    deliveries: int
    reasons: Sequence[NoTenantReason] = ()
    truncated: int = 0
    """How many of the alerts were truncated (`Alert.truncated`)."""
    left_out: int = 0
    """How many alerts the source says that it left out of the notification (`Group.truncated`)."""


class Acceptor:
    """Takes what sources send into the queue."""

    def __init__(
        self,
        directory: SinkDirectory,
        index: SinkIndex,
        states: AlertStates,
        queue: DeliveryQueue,
        suppressed: Suppressed = lambda _reason, _count: None,
    ) -> None:
        self._directory = directory
        self._index = index
        self._states = states
        self._queue = queue
        self._suppressed = suppressed
        self._one_large = asyncio.Lock()

    def accept_bytes(self, source: Source, body: bytes, sender: str) -> Pending[Accepted] | Coroutine[Any, Any, Accepted]:
        """Parse one notification by the source's format and accept it; what is awaited is known when everything is on disk.

        A usual one is planned at once, and only its commit is waited for; what takes longer is a coroutine.

        Parameters
        ----------
        sender
            Which program sent it: notifications of one sender are never duplicates of each other.

        Raises
        ------
        UnusablePayload
            Nothing in the body can be used.
        NotLoaded, NothingAccepted, QueueFull, QueueUnavailable
            As `accept`.
        """
        self._check_loaded()
        if len(body) <= LARGE_BODY_BYTES:
            return self.accept(source, source.format.parse(body), sender)
        return self._accept_large(source, body, sender)

    async def _accept_large(self, source: Source, body: bytes, sender: str) -> Accepted:
        # What is made of it takes a while and many times its size: aside of the event loop, and one at a time.
        async with self._one_large:
            return await self.accept(source, await asyncio.to_thread(source.format.parse, body), sender)

    def accept(
        self, source: Source, notification: IncomingNotification, sender: str
    ) -> Pending[Accepted] | Coroutine[Any, Any, Accepted]:
        """Accept one notification, however it came; what is awaited is known when everything is on disk.

        Raises
        ------
        NotLoaded
            Sinks or tenancy are not known yet.
        NothingAccepted
            No alert in it has a tenant that the source may name.
        QueueFull, QueueUnavailable
            It could not be stored; nothing was, or of a notification with very many alerts the first ones.
        """
        self._check_loaded()
        owned, unassigned = assign(source, notification, self._directory.tenancy.owners)
        rejected = [*notification.rejected, *(Rejection(index, one.sentence) for index, one in unassigned)]
        rejected.sort(key=_index)
        reasons = [one.reason for _, one in unassigned]
        if not owned:
            index, first = unassigned[0]
            raise NothingAccepted(f"no alert was accepted; alerts[{index}]: {first.sentence}", rejected, reasons)
        truncated = sum(1 for one in owned if one.alert.truncated)
        left_out = notification.group.truncated if notification.group is not None else 0
        plan = Plan(source, notification, owned, unassigned, sender, self._directory, self._index, self._states)
        accepted = Accepted(len(owned), rejected, 0, reasons, truncated, left_out)
        parts = plan.parts()
        if len(parts) > 1:
            return self._accept_parts(plan, parts, accepted)
        future, deliveries, suppressed = self._submit(plan, parts[0])
        return Pending(future, partial(self._accepted, future, deliveries, suppressed, accepted))

    async def _accept_parts(self, plan: Plan, parts: list[Sequence[Merged]], accepted: Accepted) -> Accepted:
        while parts:
            future, deliveries, suppressed = self._submit(plan, parts.pop(0))
            if not parts:
                del plan  # many times the size of what waits for the disk
            accepted = await Pending(future, partial(self._accepted, future, deliveries, suppressed, accepted))
        return accepted

    def _submit(self, plan: Plan, part: Sequence[Merged]) -> tuple[asyncio.Future[None], int, Counter[Suppression]]:
        """Plan a part and give it to the queue: what is done when it is on disk, how many deliveries it has, what was suppressed."""
        batch, change, suppressed = plan.make(part, now=self._queue.clock())
        # An empty batch waits too: what it repeats may be in a commit that is still under way.
        return self._queue.submit(batch, partial(self._states.undo, change)), len(batch.deliveries), suppressed

    def _accepted(
        self, future: asyncio.Future[None], deliveries: int, suppressed: Counter[Suppression], before: Accepted
    ) -> Accepted:
        """The result with a part that was committed; raises if it was not."""
        future.result()
        for reason, count in suppressed.items():
            self._suppressed(reason, count)
        return msgspec.structs.replace(before, deliveries=before.deliveries + deliveries)

    def _check_loaded(self) -> None:
        if not self._directory.loaded:
            raise NotLoaded


def assign(
    source: Source, notification: IncomingNotification, owners: Mapping[str, str]
) -> tuple[list[Owned], list[tuple[int, NoTenant]]]:
    """Give each alert its tenant, or say why it has none."""
    owned, unassigned = [], []
    for index, incoming in zip(notification.positions(), notification.alerts, strict=True):
        tenant = tenant_of(source.settings, incoming.labels, owners)
        if isinstance(tenant, NoTenant):
            unassigned.append((index, tenant))
        else:
            alert = incoming.identify(source=source.name, tenant=tenant, dropped_labels=source.dropped_labels)
            owned.append(Owned(index, alert))
    return owned, unassigned


def _index(rejection: Rejection) -> int:
    return rejection.index
