"""From the bytes of a notification to a committed batch: parse, tenant, match, what is new, commit. Each step is one named function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any

import msgspec

from eventsink.alerts.alert import IncomingNotification, Rejection, Round
from eventsink.alerts.formats.format import Format
from eventsink.alerts.limits import LARGE_BODY_BYTES
from eventsink.alerts.peer_json import same_to_every_reader
from eventsink.router.directory import SinkDirectory
from eventsink.router.planning.alert_states import AlertStates
from eventsink.router.planning.assign import Assignment
from eventsink.router.planning.match import SinkIndex
from eventsink.router.planning.notify import Suppression
from eventsink.router.planning.parts import MOST_ALERTS, PART_SINKS, PartSize
from eventsink.router.planning.plan import Plan
from eventsink.router.planning.quotas import Quotas, submit
from eventsink.router.planning.rounds import Rounds
from eventsink.router.queue.protocol import DeliveryQueue
from eventsink.router.sources import Source
from eventsink.router.tenants import NoTenantReason
from eventsink.runtime.pending import Pending
from eventsink.runtime.turns import LongWork, Steps, begun

FEW_ALERTS = 16
"""As many are accepted in one turn of the event loop."""
SOME_ALERTS = 16
"""As many are given their tenants and identities at once, in a fifth of a millisecond; of more, ..."""
ASSIGNED_AT_ONCE = 4
"""... so many are one step."""
PART_ALERTS = 4
"""As many of a larger notification are planned and committed at once where it is the only one: others wait for that commit ..."""
PARTS = 250
"""... unless that would make more parts, or ..."""
SMALL_PARTS_UP_TO = 0.6
"""... so much of the queue is full: the rest may find no room, and what was stored be notified again whenever all is sent again."""
BRACES_AT_ONCE = 60
"""In about 15 alerts, which are parsed at once; looked for in bodies of more than ..."""
SMALL_BODY_BYTES = 4 * 1024
BRACES_OF_LARGE = 1000
"""In about 250 alerts. Of notifications with more, or of `LARGE_BODY_BYTES`, one at a time is parsed and accepted."""

_Order = tuple[str, str, str]
"""What notifications have in common that are planned in the order in which they came: source, group, and without a group the sender."""

Gather = Callable[[Collection[str]], Callable[[], None]]
"""As `Dispatcher.gather`."""
Suppressed = Callable[[Suppression, int], None]
"""Counts alerts of which a sink was not notified."""


class _Gathering:
    """Keeps the sinks of a notification from being sent a few alerts of it, as long as more of the next `MOST_ALERTS` is being stored."""

    def __init__(self, gather: Gather) -> None:
        self._gather = gather
        self._releases: list[Callable[[], None]] = []
        self._alerts = 0

    def planned(self, alerts: int, sinks: Collection[str]) -> None:
        """So many alerts will be stored next, with deliveries to these sinks; there are more."""
        self._alerts += alerts
        if sinks and self._alerts < MOST_ALERTS:
            self._releases.append(self._gather(sinks))

    def stored(self) -> None:
        """What was planned is stored."""
        if self._alerts >= MOST_ALERTS:
            self.end()

    def end(self) -> None:
        """Nothing more is awaited."""
        releases, self._releases, self._alerts = self._releases, [], 0
        for release in releases:
            release()


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
    """Takes what sources send into the queue.

    Parameters
    ----------
    rounds
        None: nobody begins any.
    gather
        Keeps sinks from being sent what is stored for them before the rest of the same notification is.
    long_work
        Of the router: one slice at a time of whatever takes long.
    """

    def __init__(
        self,
        directory: SinkDirectory,
        index: SinkIndex,
        states: AlertStates,
        queue: DeliveryQueue,
        suppressed: Suppressed = lambda _reason, _count: None,
        quotas: Quotas | None = None,
        rounds: Rounds | None = None,
        gather: Gather = lambda _sinks: lambda: None,
        long_work: LongWork | None = None,
    ) -> None:
        self._gather = gather
        self._directory = directory
        self._index = index
        self._states = states
        self._queue = queue
        self._suppressed = suppressed
        self._quotas = quotas
        self._rounds = rounds
        self._one_large = asyncio.Lock()
        self._long_work = long_work or LongWork(queue.is_writing)
        self._in_parts = 0
        """Notifications that are being accepted in parts, or wait for it. The more there are, the larger are the parts: each costs a commit."""
        self._in_order: dict[_Order, asyncio.Task[Accepted]] = {}
        """The last notification of each order that takes several turns of the event loop: what comes after it waits for it."""

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
        if len(body) <= SMALL_BODY_BYTES:
            return self.accept(source, source.format.read(body), sender)
        braces = body.count(b"{")
        if len(body) > LARGE_BODY_BYTES or braces > BRACES_OF_LARGE:
            return self._accept_large(source, body, sender)
        if braces <= BRACES_AT_ONCE or source.format.steps is None:
            return self.accept(source, source.format.read(body), sender)
        return self._accept_read(source, body, sender)

    async def _accept_large(self, source: Source, body: bytes, sender: str) -> Accepted:
        self._in_parts += 1
        try:
            await self._one_large.acquire()  # many times its size is made of it
        finally:
            self._in_parts -= 1
        try:
            return await self._accept_read(source, body, sender)
        finally:
            self._one_large.release()

    async def _accept_read(self, source: Source, body: bytes, sender: str) -> Accepted:
        return await self.accept(source, await self._read(source.format, body), sender)

    async def _read(self, format: Format, body: bytes) -> IncomingNotification:
        large = len(body) > LARGE_BODY_BYTES
        if format.steps is None:
            notification = await asyncio.to_thread(format.read, body)
        else:
            steps = format.read_in_steps(body)
            if large:  # so may be what is looked at before the first alert
                steps = await asyncio.to_thread(begun, steps)
            notification = await self._long_work.run(steps)
        if large and notification.body:
            checked = await asyncio.to_thread(same_to_every_reader, notification.body)
            notification = msgspec.structs.replace(notification, body_checked=checked)
        return notification

    def accept(self, source: Source, notification: IncomingNotification, sender: str) -> Pending[Accepted]:
        """Accept one notification, however it came; what is awaited is known when everything is on disk, or raises `UnusablePayload` of a round.

        One with many alerts, or for many sinks, is planned in slices, between which others have their turn, and in parts, each of which is
        committed by itself.
        Those of one group are planned in the order in which they came.

        Raises
        ------
        NotLoaded
            Sinks or tenancy are not known yet.
        NothingAccepted
            No alert in it has a tenant that the source may name.
        QueueFull, QueueUnavailable
            It could not be stored; nothing was, or what was in the first parts: sent again, that is known.
        """
        self._check_loaded()
        if notification.round is not None:
            order = _order_of(source, notification, sender)
            return self._begin(order, self._accept_round(self._in_order.get(order), source, notification.round))
        large = len(notification.alerts) > FEW_ALERTS
        if large or self._in_order:
            order = _order_of(source, notification, sender)
            before = self._in_order.get(order)
            if large or before is not None:
                return self._begin(order, self._accept_in_slices(before, source, notification, sender))
        assignment = Assignment(source, notification, self._directory.tenancy.owners, sender)
        assignment.add(notification.numbered())
        plan, accepted = self._plan(source, notification, assignment, sender)
        gathering = _Gathering(self._gather)
        first = self._submit(plan, accepted, gathering)
        if plan.rest:
            return self._begin(_order_of(source, notification, sender), self._accept_rest(plan, first, gathering))
        return first

    def _begin(self, order: _Order, accepting: Coroutine[Any, Any, Accepted]) -> Pending[Accepted]:
        """Accept what takes several turns of the event loop, before what comes after it in the same order."""
        task = asyncio.get_running_loop().create_task(accepting, name="accept in parts")
        self._in_order[order] = task
        task.add_done_callback(partial(self._end, order))
        return Pending(task, task.result)

    def _end(self, order: _Order, task: asyncio.Task[Accepted]) -> None:
        if self._in_order.get(order) is task:
            del self._in_order[order]
        if not task.cancelled():
            task.exception()  # whoever waits for it gets it, if anybody does

    async def _accept_in_slices(
        self, before: asyncio.Task[Accepted] | None, source: Source, notification: IncomingNotification, sender: str
    ) -> Accepted:
        """Accept a large notification, or any one after `before`."""
        if before is not None:
            await asyncio.wait([before])
        assignment = Assignment(source, notification, self._directory.tenancy.owners, sender)
        if len(notification.alerts) > SOME_ALERTS:
            await self._long_work.run(_assigning(assignment, notification))
        else:
            await self._long_work.turn()
            assignment.add(notification.numbered())
        plan, accepted = self._plan(source, notification, assignment, sender)
        del notification, assignment
        if len(plan) > SOME_ALERTS:
            await self._long_work.run(plan.looking(self._queue.clock()))
        await self._long_work.turn()
        gathering = _Gathering(self._gather)
        rest = self._accept_rest(plan, self._submit(plan, accepted, gathering), gathering)
        del plan  # as there: it is many times the size of what waits for the disk
        return await rest

    async def _accept_round(self, before: asyncio.Task[Accepted] | None, source: Source, said: Round) -> Accepted:
        """Accept that a round begins or ends, after `before`."""
        if before is not None:
            await asyncio.wait([before])
        if self._rounds is not None:
            await self._rounds.accept(source.name, said)
        return Accepted(0, [], 0)

    def _plan(
        self, source: Source, notification: IncomingNotification, assignment: Assignment, sender: str
    ) -> tuple[Plan, Accepted]:
        """The plan, and the result without its deliveries."""
        unassigned, rejected = assignment.unassigned, notification.rejected
        reasons: list[NoTenantReason] = []
        if unassigned:
            rejected = sorted([*rejected, *[Rejection(index, one.sentence) for index, one in unassigned]], key=_index)
            reasons = [one.reason for _, one in unassigned]
        if unassigned and not assignment.owned:
            index, first = unassigned[0]
            raise NothingAccepted(f"no alert was accepted; alerts[{index}]: {first.sentence}", rejected, reasons)
        left_out = notification.group.truncated if notification.group is not None else 0
        plan = Plan(source, notification, assignment, sender, self._directory, self._index, self._states, self._quotas)
        return plan, Accepted(assignment.owned, rejected, 0, reasons, assignment.truncated, left_out)

    async def _accept_rest(self, plan: Plan, part: Pending[Accepted], gathering: _Gathering) -> Accepted:
        """Accept what is left after a first part, and keep the plan no longer than that is needed."""
        self._in_parts += 1
        try:
            while plan.rest:
                accepted = await part
                gathering.stored()
                await self._long_work.turn()
                part = self._submit(plan, accepted, gathering)
            del plan
            return await part
        finally:
            self._in_parts -= 1
            gathering.end()

    def _submit(self, plan: Plan, accepted: Accepted, gathering: _Gathering) -> Pending[Accepted]:
        """Plan a part, after what was accepted until then, and give it to the queue; what is awaited is known when it is on disk."""
        before, size = len(plan.rest), PartSize(MOST_ALERTS)
        if (len(plan) > 1 or len(self._index) > PART_SINKS) and self._queue.depth().fill < SMALL_PARTS_UP_TO:
            others = max(1, self._in_parts)
            size = PartSize(min(MOST_ALERTS, max(PART_ALERTS * others, len(plan) // PARTS)), PART_SINKS * others)
        batch, change, suppressed = plan.make(now=self._queue.clock(), size=size)
        # An empty batch waits too: what it repeats may be in a commit that is still under way.
        future = submit(self._queue, batch, change, self._states, self._quotas)
        if plan.rest and len(plan) > 1:
            gathering.planned(before - len(plan.rest), {one.sink for one in batch.deliveries})
        return Pending(future, partial(self._accepted, future, len(batch.deliveries), suppressed, accepted))

    def _accepted(
        self, future: asyncio.Future[None], deliveries: int, suppressed: dict[Suppression, int], before: Accepted
    ) -> Accepted:
        """The result with a part that was committed; raises if it was not."""
        future.result()
        for reason, count in suppressed.items():
            self._suppressed(reason, count)
        return msgspec.structs.replace(before, deliveries=before.deliveries + deliveries)

    def _check_loaded(self) -> None:
        if not self._directory.loaded:
            raise NotLoaded


def _assigning(assignment: Assignment, notification: IncomingNotification) -> Steps[None]:
    numbered = notification.numbered()
    for start in range(0, len(numbered), ASSIGNED_AT_ONCE):
        assignment.add(numbered[start : start + ASSIGNED_AT_ONCE])
        yield


def _order_of(source: Source, notification: IncomingNotification, sender: str) -> _Order:
    group = notification.group
    return (source.name, group.key, "") if group is not None else (source.name, "", sender)


def _index(rejection: Rejection) -> int:
    return rejection.index
