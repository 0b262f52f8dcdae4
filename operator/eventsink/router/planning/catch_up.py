"""Notifies sinks without waiting for a source: a new, resumed or changed sink of what is firing, and everyone of an alert that was held."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

import msgspec

from eventsink.alerts.alert import Alert, Status, epoch_micros
from eventsink.alerts.alertmanager_group import encoded_group
from eventsink.router.directory import SinkChange, SinkDirectory
from eventsink.router.planning.alert_states import LEGACY_TENANT, AlertStates, StateChange, group_digest
from eventsink.router.planning.batch import group_key, new_delivery, takes_groups
from eventsink.router.planning.match import SinkIndex
from eventsink.router.planning.plan import updated
from eventsink.router.queue.protocol import (
    AlertState,
    Batch,
    NewDelivery,
    Payload,
    PayloadKind,
    Queue,
    QueueError,
    SinkState,
)
from eventsink.runtime.logs import get_logger
from eventsink.sinks.sink import Sink

ALERTS_AT_ONCE = 200
"""Alerts that are read, matched and queued at once: a few milliseconds of work."""
MAX_WAITING_KEYS = 200_000
"""A sink with more waiting deliveries is taken to have everything waiting."""
RETRY_SECONDS = 5.0
"""After the queue could not be read or written."""
BY_ITSELF = ""
"""The sender of notifications that the router makes of its own record."""

_decoder = msgspec.json.Decoder(Alert)


class CatchUp:
    """Follows the directory, and queues what its changes make due.

    A sink is caught up after the first list of sinks was loaded: `run` begins then.

    Parameters
    ----------
    sources
        Names of the configured sources: what others sent once is no longer known to fire.
    """

    def __init__(
        self, directory: SinkDirectory, index: SinkIndex, states: AlertStates, queue: Queue, sources: Collection[str]
    ) -> None:
        self._directory = directory
        self._index = index
        self._states = states
        self._queue = queue
        self._sources = sources
        self._changed: dict[str, None] = {}
        """uids of sinks to look at, in order."""
        self._forgotten: dict[str, list[tuple[str, str]]] = {}
        """uid of a deleted sink -> the alerts (tenant, identity) whose entries of it are still on disk."""
        self._wake = asyncio.Event()
        self._busy = True
        states.when_held = self.wake
        directory.subscribe(self._sink_changed)

    @property
    def idle(self) -> bool:
        """Whether every sink is caught up."""
        return not (self._changed or self._forgotten or self._busy or self._wake.is_set())

    async def run(self) -> None:
        """Catch up until cancelled. The directory is loaded."""
        self._forget_unknown()
        while True:
            self._wake.clear()
            self._busy = True
            try:
                await self._work()
            except QueueError as error:
                get_logger().warning("sinks could not be caught up; it is tried again", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()
            self._busy = False
            release = self._states.next_release()
            try:
                async with asyncio.timeout(None if release is None else max(0.0, release - self._queue.clock())):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def wake(self) -> None:
        """Look at once at what has to be done."""
        self._wake.set()

    def look_at(self, uid: str) -> None:
        """See whether a sink has to be caught up."""
        self._changed[uid] = None
        self._wake.set()

    # ---- the directory

    def _sink_changed(self, change: SinkChange) -> None:
        if change.after is None:
            assert change.before is not None
            self._forget(change.before.uid, change.before.tenant)
            self._changed.pop(change.before.uid, None)
            self._wake.set()
        else:
            self.look_at(change.after.uid)

    def _forget(self, uid: str, tenant: str) -> None:
        """Drop at once what a deleted sink was notified of: one that is re-created, perhaps with its uid, inherits nothing."""
        found = [
            state
            for of in {tenant, LEGACY_TENANT}
            for state in self._states.of_tenant(of).values()
            if any(one.sink == uid for one in state.notified)
        ]
        for state in found:
            entries = tuple(one for one in state.notified if one.sink != uid)
            self._states.replace_entries(state, entries)
        self._states.forget_sink(uid)
        self._forgotten[uid] = [(state.tenant, state.identity) for state in found]

    def _forget_unknown(self) -> None:
        """Drop what sinks were notified of that were deleted while the router was not running."""
        known = self._directory.sinks.keys() | self._directory.withheld
        gone = {(one.sink, state.tenant) for state in self._states.all() for one in state.notified if one.sink not in known}
        for uid, tenant in gone:
            self._forget(uid, tenant)

    # ---- the work

    async def _work(self) -> None:
        released = self._states.released(self._queue.clock())
        while released:
            try:
                await self._release(released[-1])
            except BaseException:
                for state in released:
                    self._states.hold_again(state)
                raise
            released.pop()
        while self._forgotten:
            uid = next(iter(self._forgotten))
            await self._write_forgotten(uid, self._forgotten[uid])
            del self._forgotten[uid]
        done: list[SinkState] = []
        while self._changed:
            uid = next(iter(self._changed))
            del self._changed[uid]
            try:
                caught_up = await self._catch_up(uid)
                if caught_up is not None:
                    done.append(caught_up)
                if len(done) >= ALERTS_AT_ONCE or not self._changed:
                    await self._record(done)
                    done = []
            except BaseException:
                self._changed.update(dict.fromkeys([uid, *(one.uid for one in done)]))
                raise

    async def _record(self, done: Sequence[SinkState]) -> None:
        if done:
            change = StateChange()
            for caught_up in done:
                self._states.put_sink(change, caught_up)
            await self._queue.put(Batch(sinks=change.sinks), partial(self._states.undo, change))

    async def _write_forgotten(self, uid: str, alerts: Sequence[tuple[str, str]]) -> None:
        for start in range(0, len(alerts), ALERTS_AT_ONCE):
            change = StateChange()
            for tenant, identity in alerts[start : start + ALERTS_AT_ONCE]:
                state = self._states.get(tenant, identity)
                if state is not None:
                    self._states.put(change, state)
            await self._queue.put(Batch(states=change.written))
        if self._states.sink(uid) is None:
            await self._queue.forget(sinks=[uid])

    async def _catch_up(self, uid: str) -> SinkState | None:
        """Notify a sink of what is due to it; returns what to record then, None: nothing."""
        sink = self._directory.sinks.get(uid)
        if sink is None:
            return None
        last = self._states.sink(uid)
        now = SinkState(uid, sink.destination, match_digest(sink), sink.suspend)
        if last == now or sink.suspend:
            return None if last == now else now
        moved = last is not None and last.destination != sink.destination
        is_due = partial(due_status, uid=uid, moved=moved)
        candidates = [state for state in self._states.of_tenant(sink.tenant).values() if is_due(state)]
        waiting: set[str] = set()
        if moved and candidates:
            waiting = await self._queue.waiting_keys(uid, limit=MAX_WAITING_KEYS)
            if len(waiting) >= MAX_WAITING_KEYS:
                is_due = partial(due_status, uid=uid, moved=False)
        for start in range(0, len(candidates), ALERTS_AT_ONCE):
            complete = await self._notify(sink, candidates[start : start + ALERTS_AT_ONCE], is_due, waiting)
            if not complete or self._directory.sinks.get(uid) is not sink:
                self._changed[uid] = None
                return None
        return now

    async def _notify(
        self, sink: Sink, found: Sequence[AlertState], is_due: Callable[[AlertState], Status | None], waiting: set[str]
    ) -> bool:
        """Notify a sink of those of these alerts that it wants; whether each was decided."""
        bodies = await self._queue.alert_bodies([state.row for state in found])
        if self._directory.sinks.get(sink.uid) is not sink:
            return False
        complete = True
        chosen: list[tuple[AlertState, Alert, bytes]] = []
        silent: list[AlertState] = []
        for known in found:
            # What a source sent meanwhile has been decided with it.
            state = self._states.get(known.tenant, known.identity)
            status = is_due(state) if state is not None else None
            if state is None or status is None:
                continue
            if status is Status.RESOLVED and not sink.delivery.send_resolved:
                silent.append(state)
                continue
            body = bodies.get(known.row)
            if body is None:
                continue
            alert = _decoder.decode(body)
            if alert.status is not status:
                complete = False  # its latest body is being written
            elif status is Status.RESOLVED or (
                not is_waiting(alert, waiting) and self._is_current(state, alert) and self._index.wants(sink.uid, alert)
            ):
                chosen.append((state, alert, body))
        await self._queue_for(sink, chosen, silent)
        return complete

    def _is_current(self, state: AlertState, alert: Alert) -> bool:
        """Whether a firing alert would be sent by its source now: not if its group's last notification left it out, silenced for example."""
        if state.source not in self._sources:
            return False
        group = self._states.group(group_digest(state.source, alert.group.key)) if alert.group is not None else None
        return group is None or state.identity in group.firing

    async def _release(self, held: AlertState) -> None:
        """The window of a held alert is over and its end has not arrived: notify everyone who wants it and was notified of an end."""
        bodies = await self._queue.alert_bodies([held.row])
        state = self._states.get(held.tenant, held.identity)
        if state is None or state.held_until != held.held_until or state.status != Status.FIRING:
            return
        body = bodies.get(state.row)
        alert = _decoder.decode(body) if body is not None else None
        sinks: list[Sink] = []
        if alert is not None:
            last_of = {one.sink: one.status for one in state.notified}
            sinks = [sink for sink in self._index.matching(alert) if last_of.get(sink.uid) != Status.FIRING]
        change = StateChange()
        after = msgspec.structs.replace(state, held_until=0.0)
        payloads: list[Payload] = []
        deliveries: list[NewDelivery] = []
        if alert is not None and body is not None and sinks:
            entries = {sink.uid: Status.FIRING.value for sink in sinks}
            now = self._queue.clock()
            notified = updated(after.notified, entries, epoch_micros(alert.starts_at), now, BY_ITSELF)
            after = msgspec.structs.replace(after, notified=notified)
            payloads, deliveries = deliveries_of(sinks, [(alert, body)])
        self._states.put(change, after)
        batch = Batch(payloads=payloads, deliveries=deliveries, states=change.written)
        await self._queue.put(batch, partial(self._states.undo, change))

    async def _queue_for(
        self, sink: Sink, chosen: Sequence[tuple[AlertState, Alert, bytes]], silent: Sequence[AlertState]
    ) -> None:
        change = StateChange()
        now = self._queue.clock()
        for state, alert, _ in chosen:
            self._put_entry(change, state, sink, alert.status, epoch_micros(alert.starts_at), now)
        for state in silent:
            self._put_entry(change, state, sink, Status.RESOLVED, state.starts_at, now)
        if change.written:
            payloads, deliveries = deliveries_of([sink], [(alert, body) for _, alert, body in chosen])
            batch = Batch(payloads=payloads, deliveries=deliveries, states=change.written)
            await self._queue.put(batch, partial(self._states.undo, change))

    def _put_entry(self, change: StateChange, state: AlertState, sink: Sink, status: Status, starts_at: int, now: float) -> None:
        notified = updated(state.notified, {sink.uid: status.value}, starts_at, now, BY_ITSELF)
        self._states.put(change, msgspec.structs.replace(state, notified=notified))


def due_status(state: AlertState, *, uid: str, moved: bool) -> Status | None:
    """Of what a sink that is caught up is notified, of one alert; of a firing one only if it wants it. None: of nothing.

    Parameters
    ----------
    uid
        Of the sink.
    moved
        Whether it has another destination than the one that was notified.
    """
    last = next((one for one in state.notified if one.sink == uid), None)
    if state.status == Status.RESOLVED:
        return Status.RESOLVED if last is not None and last.status == Status.FIRING else None
    if state.status != Status.FIRING or state.held_until:
        return None
    if last is None or last.status != Status.FIRING or moved or last.starts_at < state.starts_at:
        return Status.FIRING
    return None


def deliveries_of(sinks: Iterable[Sink], alerts: Sequence[tuple[Alert, bytes]]) -> tuple[list[Payload], list[NewDelivery]]:
    """The deliveries of alerts to each of these sinks; `bytes` is the alert as JSON.

    A sink of groups gets those of one group together, its resolved ones apart from those that fire.
    """
    payloads: list[Payload] = []
    deliveries: list[NewDelivery] = []
    stored: dict[object, int] = {}
    groups: dict[tuple[str, Status], list[Alert]] = {}
    for sink in sinks:
        if not takes_groups(sink):
            for alert, body in alerts:
                number = stored.setdefault(alert.id, len(payloads))
                if number == len(payloads):
                    payloads.append(Payload(PayloadKind.ALERT, body, alert.name))
                deliveries.append(new_delivery(sink, number, key_of(alert, sink), alert.status))
            continue
        if not groups:
            for alert, _ in alerts:
                groups.setdefault((key_of(alert, sink), alert.status), []).append(alert)
        for (key, status), members in groups.items():
            number = stored.setdefault((key, status), len(payloads))
            if number == len(payloads):
                payloads.append(Payload(PayloadKind.GROUP, _group_of(members), members[0].name))
            deliveries.append(new_delivery(sink, number, key, status))
    return payloads, deliveries


def key_of(alert: Alert, sink: Sink) -> str:
    """The key of a delivery of an alert to a sink: that of the group for a sink of groups, if the alert came in one."""
    if takes_groups(sink) and alert.group is not None:
        return group_key(alert.source, alert.group.key)
    return alert.fingerprint


def is_waiting(alert: Alert, waiting: set[str]) -> bool:
    """Whether a delivery of the alert, or of its group, is among those with these keys."""
    return bool(waiting) and (
        alert.fingerprint in waiting or (alert.group is not None and group_key(alert.source, alert.group.key) in waiting)
    )


def match_digest(sink: Sink) -> str:
    """Digest of a sink's match rules."""
    return hashlib.blake2b(sink.match.model_dump_json().encode(), digest_size=16).hexdigest()


def _group_of(alerts: Sequence[Alert]) -> bytes:
    first = alerts[0]
    key, receiver = (first.group.key, first.group.receiver) if first.group is not None else (first.fingerprint, first.source)
    return encoded_group(alerts, key=key, receiver=receiver)
