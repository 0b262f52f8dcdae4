"""Notifies sinks without waiting for a source: a new, resumed or changed sink of what is firing, and everyone of an alert that was held."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial

import msgspec

from eventsink.alerts.alert import Alert, Status, epoch_micros
from eventsink.resources.names import ALL_TENANTS
from eventsink.router.directory import SinkChange, SinkDirectory
from eventsink.router.planning.alert_states import LEGACY_TENANT, AlertStates, StateChange, group_digest
from eventsink.router.planning.batch import expired_at, takes_groups
from eventsink.router.planning.due import Behind, Due, deliveries_of, due_status, ended, form_of, key_of, may_be_due
from eventsink.router.planning.entries import updated
from eventsink.router.planning.episodes import BY_ITSELF
from eventsink.router.planning.match import SinkIndex
from eventsink.router.planning.quotas import LOOK_SECONDS, Quotas, record_behind, submit
from eventsink.router.planning.turns import ENTRIES_AT_ONCE, states_in_turns
from eventsink.router.queue.protocol import Batch, NewDelivery, Payload, Queue, QueueError
from eventsink.router.queue.states import AlertState, Notified
from eventsink.runtime.logs import get_logger
from eventsink.runtime.turns import in_turns
from eventsink.sinks.sink import Sink, SinkMatch

ALERTS_AT_ONCE = 200
"""Alerts that are read, matched and queued at once ..."""
TURN_SECONDS = 0.005
"""... for so long at most before others have their turn in the event loop."""
SINKS_AT_ONCE = 100
"""Sinks that are compared with what is recorded of them before others have their turn."""
MAX_PASSES = 10
"""Over alerts that could not be decided, since they changed while their bodies were read."""
FEW_SINKS = 16
"""So many are asked one by one whether they want an alert; of more, those that do are looked up."""
MAX_WAITING_KEYS = 200_000
"""A sink with more waiting deliveries is taken to have everything waiting."""
ASK_AGAIN_SECONDS = 30.0
"""While something keeps sinks quiet, it is asked so often at least whether it is over: somebody may set the clock."""
RETRY_SECONDS = 5.0
"""After the queue could not be read or written."""

_decoder = msgspec.json.Decoder(Alert)
_encoder = msgspec.json.Encoder()


class CatchUp:
    """Follows the directory, and queues what its changes make due.

    A sink is caught up after the first list of sinks was loaded: `run` begins then.

    Parameters
    ----------
    sources
        Names of the configured sources: what others sent once is no longer known to fire.
    """

    def __init__(
        self,
        directory: SinkDirectory,
        index: SinkIndex,
        states: AlertStates,
        queue: Queue,
        sources: Collection[str],
        quotas: Quotas | None = None,
    ) -> None:
        self._directory = directory
        self._index = index
        self._quiet = index.quiet
        self._states = states
        self._queue = queue
        self._sources = sources
        self._quotas = quotas
        self._changed: dict[str, None] = {}
        """uids of sinks to look at, in order."""
        self._more_changed = False
        """Whether there are more of them since they were last sorted by tenant."""
        self._deleted: dict[str, str | None] = {}
        """uids of deleted sinks that alerts may still have entries of, with their tenants; None: not known."""
        self._forgetting: dict[str, str | None] = {}
        """Those of which the entries are being removed."""
        self._unwritten: dict[tuple[str, str], None] = {}
        """Alerts (tenant, identity) whose entries of deleted sinks are still on disk."""
        self._forgotten: dict[str, None] = {}
        """uids of deleted sinks of which something may still be on disk: their own records, and entries of alerts."""
        self._moving: dict[str, tuple[str, float]] = {}
        """uid of a sink that is being caught up because of another destination -> that one, and the queue clock since when."""
        self._wake = asyncio.Event()
        self._busy = True
        states.when_held = self.wake
        directory.subscribe(self.change)

    @property
    def idle(self) -> bool:
        """Whether every sink is caught up."""
        return not (self._changed or self._deleted or self._busy or self._wake.is_set())

    async def run(self) -> None:
        """Catch up until cancelled. The directory is loaded."""
        # Those that were deleted while the router was not running.
        gone = self._states.sinks_at_load - self._directory.sinks.keys() - self._directory.withheld
        for uid in gone:
            self._states.forget_sink(uid)
            self._deleted[uid] = None
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
            try:
                async with asyncio.timeout(self._idle_seconds()):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _idle_seconds(self) -> float | None:
        """How long there is nothing to do if nothing happens; None: for ever."""
        release, quiet = self._states.next_release(), self._quiet.ends_in()
        waits = [] if release is None else [max(0.0, release - self._queue.clock())]
        if quiet is not None:
            waits.append(min(quiet, ASK_AGAIN_SECONDS))
        return min(waits, default=None)

    def wake(self) -> None:
        """Look at once at what has to be done."""
        self._wake.set()

    def look_at(self, uid: str) -> None:
        """See whether a sink has to be caught up."""
        self._changed[uid] = None
        self._more_changed = True
        self._wake.set()

    async def watch_quotas(self) -> None:
        """Catch up with sinks that are behind as soon as their tenants have room in their quotas again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look_at_behind()

    def look_at_behind(self) -> None:
        """Catch up with the sinks that are behind and whose tenants have room in their quotas again."""
        if self._quotas is not None:
            for uid in self._quotas.to_catch_up(self._alerts_of):
                self.look_at(uid)

    # ---- the directory

    def change(self, change: SinkChange) -> None:
        """Follow one change of the directory. What is recorded of the sinks is loaded."""
        if change.after is None:
            assert change.before is not None
            self._deleted[change.before.uid] = change.before.tenant
            self._states.forget_sink(change.before.uid)
            self._changed.pop(change.before.uid, None)
            self._moving.pop(change.before.uid, None)
            if self._quotas is not None:
                self._quotas.forget(change.before.uid)
            self._wake.set()
            return
        uid = change.after.uid
        if change.before is None and (uid in self._deleted or uid in self._forgetting or uid in self._forgotten):
            # One that is re-created with its uid inherits nothing, not even while this is still being forgotten.
            self._states.disregard(change.after.uid)
        if change.before is not None and _selection(change.before) != _selection(change.after):
            # It may be as it was before it is looked at, and has missed something nevertheless.
            self._quiet.missing.add(uid)
        last = self._states.sink(uid)
        if last is not None and last != form_of(change.after, last):
            self._record_behind(uid)
        self.look_at(uid)

    def _record_behind(self, uid: str) -> None:
        """Have it on disk, before anything that a sink misses is accepted: the process may end before it is looked at."""
        change = StateChange()
        record_behind(uid, self._states, change)
        if change.sinks:
            try:
                self._queue.submit(Batch(sinks=change.sinks), partial(self._states.undo, change))
            except QueueError as error:  # then no alert can be accepted either
                get_logger().warning("that a sink has changed could not be recorded", sink=uid, reason=str(error))

    def _tenants_of(self, gone: Mapping[str, str | None]) -> Collection[str]:
        if None in gone.values() or ALL_TENANTS in gone.values():
            return self._states.tenants()
        return {LEGACY_TENANT, *(one for one in gone.values() if one)}

    def _forget(self, states: Sequence[AlertState]) -> None:
        """Drop what these sinks were notified of, in memory."""
        for state in states:
            if not any(one.sink in self._forgetting for one in state.notified) or not self._states.is_current(state):
                continue
            kept = self._kept(state, self._forgetting)
            if len(kept) < len(state.notified):
                self._states.replace_entries(state, kept)
                self._unwritten[state.tenant, state.identity] = None

    def _kept(self, state: AlertState, gone: Collection[str]) -> tuple[Notified, ...]:
        """The entries of an alert but those of deleted sinks: of one that was re-created meanwhile, those that are older than that."""
        sinks, states = self._directory.sinks, self._states
        return tuple(
            one for one in state.notified if one.sink not in gone or (one.sink in sinks and not states.is_disregarded(one))
        )

    # ---- the work

    async def _work(self) -> None:
        await self._record_withheld()
        await self._release_held()
        while some := self._quiet.ended():
            self._changed.update(dict.fromkeys(some))
            await asyncio.sleep(0)
        while True:
            while self._deleted:
                await self._forget_deleted()
            await self._write_forgotten()
            if not self._changed:
                break
            await self._catch_up_all()

    async def _record_withheld(self) -> None:
        """Sinks that this version cannot read miss what comes: they are caught up as soon as one can."""
        for start in range(0, len(uids := list(self._directory.withheld)), ALERTS_AT_ONCE):
            change = StateChange()
            for uid in uids[start : start + ALERTS_AT_ONCE]:
                record_behind(uid, self._states, change)
            if change.sinks:
                await self._queue.put(Batch(sinks=change.sinks), partial(self._states.undo, change))

    async def _release_held(self) -> None:
        released = self._states.released(self._queue.clock())
        while released:
            try:
                await self._release(released[-1])
            except BaseException:
                for state in released:
                    self._states.hold_again(state)
                raise
            released.pop()

    async def _forget_deleted(self) -> None:
        self._forgetting, self._deleted = self._deleted, {}
        try:
            for tenant in self._tenants_of(self._forgetting):
                async for states in states_in_turns(list(self._states.of_tenant(tenant).values())):
                    self._forget(states)
            self._forgotten.update(dict.fromkeys(self._forgetting))
            self._forgetting = {}
        except BaseException:
            self._deleted = {**self._forgetting, **self._deleted}
            raise

    async def _write_forgotten(self) -> None:
        while self._unwritten:
            change = StateChange()
            some: list[tuple[str, str]] = []
            entries = 0
            for key in itertools.islice(self._unwritten, ALERTS_AT_ONCE):
                some.append(key)
                state = self._states.get(*key)
                if state is not None:
                    # A commit that failed meanwhile may have brought back what was forgotten.
                    self._states.put(change, state, notified=self._kept(state, self._forgotten))
                    entries += len(state.notified)
                if entries >= ENTRIES_AT_ONCE:
                    break
            for key in some:
                del self._unwritten[key]
            try:
                await self._queue.put(Batch(states=change.written))
            except BaseException:
                self._unwritten.update(dict.fromkeys(some))
                raise
        while self._forgotten:
            sinks = list(itertools.islice(self._forgotten, ALERTS_AT_ONCE))
            await self._queue.forget(sinks=[uid for uid in sinks if self._states.sink(uid) is None])
            for uid in sinks:
                self._forgotten.pop(uid, None)
                if uid not in self._deleted:
                    self._states.regard_again(uid)

    async def _catch_up_all(self) -> None:
        """Catch up with the changed sinks, those of one tenant together; others that change meanwhile have their turn after each tenant."""
        self._more_changed = False
        tenants: dict[str, list[str]] = {}
        for uid in list(self._changed):
            sink = self._directory.sinks.get(uid)
            if sink is None:
                del self._changed[uid]
            else:
                tenants.setdefault(sink.tenant, []).append(uid)
        # Nobody waits for the tenant with the most alerts.
        for tenant in sorted(tenants, key=self._alerts_of):
            await self._catch_up_some(tenant, tenants[tenant])
            if self._more_changed:
                return

    def _alerts_of(self, tenant: str) -> int:
        """How many alerts sinks of a tenant may have to be notified of."""
        return len(self._states) if tenant == ALL_TENANTS else len(self._states.of_tenant(tenant))

    async def _catch_up_some(self, tenant: str, uids: Sequence[str]) -> None:
        """Catch up with these sinks, or as many of them as are looked at in one pass over the alerts of their tenant."""
        some: dict[str, Behind] = {}
        suspended: list[Behind] = []
        taken: list[str] = []
        keys = 0
        try:
            async for part in in_turns(uids, SINKS_AT_ONCE):
                for uid in part:
                    sink = self._directory.sinks.get(uid)
                    if sink is None or keys >= MAX_WAITING_KEYS or uid not in self._changed or uid in self._deleted:
                        continue
                    del self._changed[uid]
                    taken.append(uid)
                    # What it misses from now on makes it behind again.
                    if self._quotas is not None:
                        self._quotas.catches_up(uid)
                    missed = uid in self._quiet.missing
                    self._quiet.missing.discard(uid)
                    last = self._states.sink(uid)
                    behind = Behind(sink, form_of(sink, last))
                    if last == behind.state and not missed:
                        continue
                    if sink.suspend:
                        suspended.append(behind)
                        continue
                    some[uid] = behind
                    if last is not None and last.suspended:
                        behind.expired_at = expired_at(sink, self._queue.clock())
                    if last is not None and last.destination != sink.destination:
                        behind.waiting = await self._queue.waiting_keys(uid, limit=MAX_WAITING_KEYS)
                        behind.moved = len(behind.waiting) < MAX_WAITING_KEYS
                        self._go_on_moving(behind)
                        keys += len(behind.waiting)
            await self._record(suspended)
            await self._catch_up(tenant, some)
            await self._record(list(some.values()))
        except BaseException:
            self._changed.update(dict.fromkeys(taken))
            self._quiet.missing.update(uid for uid in some if uid in self._directory.sinks)
            raise

    def _go_on_moving(self, behind: Behind) -> None:
        """Of a sink with another destination that its tenant's quota has kept from being caught up, leave out what was queued since."""
        sink = behind.sink
        destination, since = self._moving.get(sink.uid, ("", 0.0))
        if destination == sink.destination and behind.moved:
            behind.moved, behind.expired_at = False, max(since, behind.expired_at)
        else:
            self._moving[sink.uid] = (sink.destination, self._queue.clock())

    async def _record(self, done: Sequence[Behind]) -> None:
        """Record for which form these sinks are caught up, unless they were changed or deleted meanwhile, or are behind again."""
        for start in range(0, len(done), ALERTS_AT_ONCE):
            change = StateChange()
            for one in done[start : start + ALERTS_AT_ONCE]:
                if self._directory.sinks.get(one.sink.uid) is one.sink and not self._is_behind(one.sink.uid):
                    self._moving.pop(one.sink.uid, None)
                    self._states.put_sink(change, one.state)
            await self._queue.put(Batch(sinks=change.sinks), partial(self._states.undo, change))

    async def _catch_up(self, tenant: str, some: dict[str, Behind]) -> None:
        """Notify sinks of what is due to them; one that is changed or deleted meanwhile is left out, and looked at again."""
        tenants = self._states.tenants() if tenant == ALL_TENANTS else (tenant,)
        known = itertools.chain.from_iterable(self._states.of_tenant(one).values() for one in tenants)
        states: Sequence[AlertState] = list(known) if some else ()
        if self._quotas is not None:
            for one in some.values():
                one.left = self._quotas.part(one.sink, len(some))
        if states:
            await self._queue.put(Batch())  # their latest bodies may still be being written: returns when they are
        for number in range(MAX_PASSES):
            if not (states and some):
                break
            again: list[AlertState] = []
            found: list[AlertState] = []
            async for part in states_in_turns(states):
                found += [state for state in part if may_be_due(state, some)]
                while len(found) >= ALERTS_AT_ONCE:
                    again += await self._notify(found[:ALERTS_AT_ONCE], some, written=number > 0)
                    del found[:ALERTS_AT_ONCE]
                    await self._release_held()
            again += await self._notify(found, some, written=number > 0)
            if again:
                await self._queue.put(Batch())
            states = again

    def _leave_out_changed(self, some: dict[str, Behind]) -> None:
        for uid in [uid for uid, one in some.items() if self._directory.sinks.get(uid) is not one.sink]:
            del some[uid]

    async def _notify(self, found: Sequence[AlertState], some: dict[str, Behind], *, written: bool) -> list[AlertState]:
        """Notify sinks of those of these alerts that they want; returns those that could not be decided yet.

        Parameters
        ----------
        written
            Whether what is on disk of them is known to be the latest: the body of a firing alert is then all there is for its end.
        """
        again: list[AlertState] = []
        if not found:
            return again
        bodies = await self._queue.alert_bodies([state.row for state in found])
        self._leave_out_changed(some)
        due = Due(self._states, self._queue.clock())
        until = time.monotonic() + TURN_SECONDS
        for known in found:
            if time.monotonic() >= until:
                await self._queue_due(due)
                self._leave_out_changed(some)
                due = Due(self._states, self._queue.clock())
                until = time.monotonic() + TURN_SECONDS
            # What a source sent meanwhile has been decided with it.
            state = self._states.get(known.tenant, known.identity)
            if state is None or not may_be_due(state, some):
                continue
            body = bodies.get(state.row)
            alert = _decoder.decode(body) if body is not None else None
            if alert is not None and alert.status.value != state.status:
                if not (written and state.status == Status.RESOLVED):
                    again.append(state)
                    continue
                alert = ended(alert, state)
                body = _encoder.encode(alert)
            sinks, silent = self._due_to(state, alert, some)
            if self._quotas is not None:
                sinks = [sink for sink in sinks if self._is_left(self._quotas, some, sink, alert)]
            if sinks or silent:
                due.add(state, alert, body, sinks, silent)
        await self._queue_due(due)
        return again

    def _due_to(self, state: AlertState, alert: Alert | None, some: Mapping[str, Behind]) -> tuple[list[Sink], list[Sink]]:
        """The sinks that are notified of an alert, and those that do not ask for its end, which is due to them."""
        last_of = {one.sink: one for one in state.notified if one.sink in some}
        if state.status == Status.RESOLVED:
            ended = [some[uid].sink for uid, last in last_of.items() if due_status(state, last, moved=False) is not None]
            silent = [sink for sink in ended if not sink.delivery.send_resolved]
            return [sink for sink in ended if sink.delivery.send_resolved and alert is not None], silent
        if alert is None or not self._is_current(state, alert):
            return [], []
        if len(some) > FEW_SINKS:
            wanting = [some[sink.uid] for sink in self._index.matching(alert) if sink.uid in some]
        else:
            wanting = [one for uid, one in some.items() if self._index.wants(uid, alert)]
        due = [one.sink for one in wanting if one.is_due(state, last_of.get(one.sink.uid), alert)]
        return [sink for sink in due if not self._is_missed(sink, alert)], []

    def _is_missed(self, sink: Sink, alert: Alert) -> bool:
        """Whether a sink is not notified now of an alert that is due to it: it is behind then."""
        if not len(self._quiet) or self._quiet.suppression(sink.uid, (alert,)) is None:
            return False
        self._quiet.missing.add(sink.uid)
        return True

    def _is_behind(self, uid: str) -> bool:
        return uid in self._quiet.missing or (self._quotas is not None and self._quotas.is_behind(uid))

    def _is_left(self, quotas: Quotas, some: dict[str, Behind], sink: Sink, alert: Alert | None) -> bool:
        """Whether a delivery of an alert is left to a sink by its tenant's quota; if not, it is left out of this pass."""
        one = some[sink.uid]
        if one.left is None:
            return True
        if alert is not None and takes_groups(sink):
            if (group := key_of(alert, sink)) in one.groups:
                return True
            one.groups.add(group)
        one.left -= 1
        if one.left < 0:
            del some[sink.uid]
            quotas.defer(sink, quotas.room(sink).limit, 0)  # counted when it was received
        return one.left >= 0

    async def _put(self, batch: Batch, change: StateChange) -> None:
        await asyncio.shield(submit(self._queue, batch, change, self._states, self._quotas))

    async def _queue_due(self, due: Due) -> None:
        if due.change.written:
            payloads, deliveries = deliveries_of(due.chosen.values())
            await self._put(Batch(payloads=payloads, deliveries=deliveries, states=due.change.written), due.change)
        else:
            await asyncio.sleep(0)

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
        for sink in list(sinks):
            if alert is not None and self._is_missed(sink, alert):
                sinks.remove(sink)
                self._quiet.miss(sink, self._states, change)
        if self._quotas is not None:
            sinks = [sink for sink in sinks if self._quotas.admits(sink, self._states, change)]
        after = msgspec.structs.replace(state, held_until=0.0)
        payloads: list[Payload] = []
        deliveries: list[NewDelivery] = []
        if alert is not None and body is not None and sinks:
            entries = {sink.uid: Status.FIRING.value for sink in sinks}
            now = self._queue.clock()
            notified = updated(after.notified, entries, epoch_micros(alert.starts_at), now, BY_ITSELF)
            after = msgspec.structs.replace(after, notified=notified)
            payloads, deliveries = deliveries_of([(sink, [(alert, body)]) for sink in sinks])
        self._states.put(change, after)
        await self._put(Batch(payloads=payloads, deliveries=deliveries, states=change.written, sinks=change.sinks), change)


def _selection(sink: Sink) -> tuple[bool, SinkMatch]:
    """What decides which alerts are queued for a sink."""
    return sink.suspend, sink.match
