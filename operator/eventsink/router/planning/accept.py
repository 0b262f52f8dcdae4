"""From the bytes of a notification to a committed batch: parse, tenant, match, what is new, commit. Each step is one named function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eventsink.alerts.alert import Alert, IncomingNotification, Rejection, Status
from eventsink.alerts.formats.format import Repeats
from eventsink.alerts.limits import LARGE_BODY_BYTES
from eventsink.router.directory import SinkDirectory
from eventsink.router.planning.batch import BatchBuilder, Owned
from eventsink.router.planning.match import SinkIndex
from eventsink.router.planning.notification_log import NotificationLog, StateSettings
from eventsink.router.planning.notify import heartbeats_to_notify, new_alerts, to_notify
from eventsink.router.planning.tenants import NoTenant, NoTenantReason, tenant_of
from eventsink.router.queue.protocol import Batch, DeliveryQueue
from eventsink.router.sources import Source
from eventsink.sinks.sink import Sink


class NotLoaded(Exception):
    """The router does not know all sinks yet: nothing may be accepted."""


class NothingAccepted(ValueError):
    """No alert of the request was accepted, since none that can be used has a tenant; the text is the first one's sentence."""

    def __init__(self, sentence: str, rejected: Sequence[Rejection] = (), reasons: Sequence[NoTenantReason] = ()) -> None:
        super().__init__(sentence)
        self.rejected = rejected
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Accepted:
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
        self, directory: SinkDirectory, index: SinkIndex, log: NotificationLog, queue: DeliveryQueue, settings: StateSettings
    ) -> None:
        self._directory = directory
        self._index = index
        self._log = log
        self._queue = queue
        self._settings = settings
        self._one_large = asyncio.Lock()

    async def accept_bytes(self, source: Source, body: bytes) -> Accepted:
        """Parse one notification by the source's format and accept it; returns when everything is on disk.

        Raises
        ------
        UnusablePayload
            Nothing in the body can be used.
        NotLoaded, NothingAccepted, QueueFull, QueueUnavailable
            As `accept`.
        """
        self._check_loaded()
        if len(body) <= LARGE_BODY_BYTES:
            return await self.accept(source, source.format.parse(body))
        # What is made of a large one takes a while and many times its size: aside of the event loop, and one at a time.
        async with self._one_large:
            return await self.accept(source, await asyncio.to_thread(source.format.parse, body))

    async def accept(self, source: Source, notification: IncomingNotification) -> Accepted:
        """Accept one notification, however it came; returns when everything is on disk.

        Raises
        ------
        NotLoaded
            Sinks or tenancy are not known yet.
        NothingAccepted
            No alert in it has a tenant that the source may name.
        QueueFull, QueueUnavailable
            It could not be stored; nothing was.
        """
        self._check_loaded()
        owned, unassigned = assign(source, notification, self._directory.tenancy.owners)
        rejected = [*notification.rejected, *(Rejection(index, one.sentence) for index, one in unassigned)]
        rejected.sort(key=_index)
        reasons = [one.reason for _, one in unassigned]
        if not owned:
            index, first = unassigned[0]
            raise NothingAccepted(f"no alert was accepted; alerts[{index}]: {first.sentence}", rejected, reasons)
        batch, undo = self._plan(source, notification, owned, unassigned)
        accepted = Accepted(
            len(owned),
            rejected,
            len(batch.deliveries),
            reasons,
            truncated=sum(1 for one in owned if one.alert.truncated),
            left_out=notification.group.truncated if notification.group is not None else 0,
        )
        del notification, owned, unassigned  # many times the size of what waits for the disk
        # An empty batch waits too: what it repeats may be in a commit that is still under way.
        await self._queue.put(batch, undo)
        return accepted

    def _check_loaded(self) -> None:
        if not self._directory.loaded:
            raise NotLoaded

    def _plan(
        self,
        source: Source,
        notification: IncomingNotification,
        owned: Sequence[Owned],
        unassigned: Sequence[tuple[int, NoTenant]],
    ) -> tuple[Batch, Callable[[], None]]:
        """What each sink is notified of, as a batch; the notification log in memory is stepped forward, `undo` steps it back."""
        now = self._queue.clock()
        builder = BatchBuilder(notification)
        undos: list[Callable[[], None]] = []

        def undo_all() -> None:
            for undo in reversed(undos):
                undo()

        try:
            repeat = True
            if notification.group is not None:
                ids = alert_ids(source, notification, owned, unassigned)
                repeat, undo = self._log.record_group(source.name, notification.group.key, ids, now)
                undos.append(undo)
            for sink, wanted in group_by_sink(owned, self._index).values():
                self._notify(source, sink, wanted, builder, undos, now=now, repeat=repeat)
        except BaseException:
            undo_all()
            raise
        return builder.build(), undo_all

    def _notify(
        self,
        source: Source,
        sink: Sink,
        wanted: Sequence[Owned],
        builder: BatchBuilder,
        undos: list[Callable[[], None]],
        *,
        now: float,
        repeat: bool,
    ) -> None:
        """Add to the batch what one sink is notified of."""
        alerts = [one.alert for one in wanted]
        notified = self._log.notified(sink, alerts)
        window = self._settings.ha_window
        match source.format.repeats:
            case Repeats.BY_SOURCE:
                due = to_notify(alerts, notified, now=now, ha_window=window, repeat=repeat)
            case Repeats.HEARTBEAT:
                interval = sink.delivery.repeat_interval
                due = heartbeats_to_notify(alerts, notified, now=now, ha_window=window, repeat_interval=interval)
            case Repeats.NEVER:
                due = new_alerts(alerts, notified, now=now, ha_window=window)
        undos.append(self._log.mark_seen(notified, now))
        chosen = [index for index in due if wants_status(sink, alerts[index])]
        if chosen and builder.sends_received_group(sink):
            # The group goes as it came once anything in it has to be sent.
            chosen = [index for index, alert in enumerate(alerts) if wants_status(sink, alert)]
            builder.add_received_group(sink, [wanted[index] for index in chosen])
        else:
            builder.add_alerts(sink, [wanted[index] for index in chosen])
        # A resolution that the sink does not want is recorded all the same: what fires again after it is new.
        if recorded := sorted({*due, *chosen}):
            entries, undo = self._log.record(sink, [alerts[index] for index in recorded], now)
            builder.log_entries += entries
            undos.append(undo)


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


def alert_ids(
    source: Source, notification: IncomingNotification, owned: Sequence[Owned], unassigned: Sequence[tuple[int, NoTenant]]
) -> frozenset[str]:
    """What a notification says, as the ids of its alerts; those without a tenant count too, for they may be why it was sent."""
    ids = {one.alert.id for one in owned}
    if unassigned:
        unowned = {index for index, _ in unassigned}
        for index, incoming in zip(notification.positions(), notification.alerts, strict=True):
            if index in unowned:
                ids.add(incoming.identify(source=source.name, tenant="", dropped_labels=source.dropped_labels).id)
    return frozenset(ids)


def group_by_sink(owned: Sequence[Owned], index: SinkIndex) -> dict[str, tuple[Sink, list[Owned]]]:
    """uid -> the sink and the alerts that it wants; duplicates of one alert, which differ in dropped labels only, are one."""
    wanted: dict[str, tuple[Sink, dict[str, Owned]]] = {}
    for one in owned:
        for sink in index.matching(one.alert):
            alerts = wanted.setdefault(sink.uid, (sink, {}))[1]
            other = alerts.get(one.alert.identity)
            alerts[one.alert.identity] = one if other is None else merged(other, one)
    return {uid: (sink, list(alerts.values())) for uid, (sink, alerts) in wanted.items()}


def merged(one: Owned, other: Owned) -> Owned:
    """Which of two duplicates of an alert represents both, as Alertmanager merges them: it fires while one does, since the earlier time."""
    if one.alert.status is not other.alert.status:
        return one if one.alert.status is Status.FIRING else other
    return other if other.alert.starts_at < one.alert.starts_at else one


def wants_status(sink: Sink, alert: Alert) -> bool:
    """Whether the sink wants alerts of this status."""
    return sink.delivery.send_resolved or alert.status is not Status.RESOLVED
