"""The alert states and the notification log in memory; the queue keeps the same on disk."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from eventsink.alerts.alert import Status
from eventsink.router.planning.body_room import BodyRoom
from eventsink.router.planning.heartbeats import Heartbeats
from eventsink.router.planning.state_settings import StateSettings
from eventsink.router.queue.states import KEEP_BODY, AlertState, AlertStateStore, AlertStateWrite, GroupState, Notified, SinkState
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.turns import in_turns

LEGACY_TENANT = ""
"""Of states that version 0.1 wrote as log entries: it did not record the tenant. Their next notification gives it."""
EVICTED_AT_ONCE = 1000
COMPARED_AT_ONCE = 3000
"""Alerts among which the oldest are looked for before others have their turn in the event loop: a few milliseconds."""
OVER_MAX_ALERTS = 0.05
"""So much more than `max_alerts` may be known until `make_room` has looked at all of them."""
FORGOTTEN_AT_ONCE = 1000
"""Rows in one change of the queue."""


class StateChange(msgspec.Struct):
    """Changes of several records, made in memory at once and written with a batch of the queue."""

    written: list[AlertStateWrite] = []
    groups: list[GroupState] = []
    sinks: list[SinkState] = []
    forgotten: list[int] = []
    alerts_before: list[tuple[AlertState | None, AlertState | None]] = []
    """Each state before and after, in the order of the changes; None: there was none."""
    groups_before: list[tuple[GroupState | None, GroupState | None]] = []
    sinks_before: list[tuple[SinkState | None, SinkState]] = []


class AlertStates:
    """What is known of alerts, of groups and of sinks.

    Changes are made before the commit, so that the next request sees them, and reverted if the commit fails (`undo`).
    """

    def __init__(self, store: AlertStateStore, settings: StateSettings) -> None:
        self._store = store
        self.settings = settings
        self._tenants: dict[str, dict[str, AlertState]] = {}
        self._count = 0
        self._firing = 0
        self._groups: dict[bytes, GroupState] = {}
        """In the order in which they were last received."""
        self._sinks: dict[str, SinkState] = {}
        self._disregarded: dict[str, float] = {}
        """uid of a sink that was re-created -> queue clock at which it was."""
        self._next_row = 1
        self._next_group = 1
        self._held: list[tuple[float, str, str]] = []
        """Heap of (held until, tenant, identity); may name states that are not held any more."""
        self.crowded = asyncio.Event()
        """Set when more alerts than `max_alerts` are known: it is time for `make_room`."""
        self._most = settings.max_alerts + max(EVICTED_AT_ONCE, int(OVER_MAX_ALERTS * settings.max_alerts))
        self._evictions = Repeated(60.0)
        self.evicted = 0
        """States that were forgotten since the start to make room."""
        self.room = BodyRoom(store)
        self.heartbeats = Heartbeats()
        self.when_held: Callable[[], None] = lambda: None
        """Called when an alert is held that may be released sooner than those before."""
        self.when_grown: Callable[[float, str, str], None] = lambda _at, _tenant, _identity: None
        """Called when an event has grown of which a sink is notified later: the queue clock then, tenant and identity."""
        self.sinks_at_load: frozenset[str] = frozenset()
        """uids of the sinks that some alert on disk had been notified to."""

    async def load(self) -> int:
        """Read what is on disk; returns of how many alerts."""
        names: dict[str, str] = {}
        notified_sinks: set[str] = set()
        async for state in self._store.alert_states():
            # One object for each name, however many states hold it.
            notified = tuple(
                msgspec.structs.replace(
                    one, sink=shared(names, one.sink), status=shared(names, one.status), sender=shared(names, one.sender)
                )
                for one in state.notified
            )
            state = msgspec.structs.replace(
                state,
                tenant=shared(names, state.tenant),
                source=shared(names, state.source),
                status=shared(names, state.status),
                ended_by=shared(names, state.ended_by),
                held_until=state.held_until or 0.0,
                expires_at=state.expires_at or 0.0,
                notified=notified,
            )
            notified_sinks.update([one.sink for one in notified])
            self._replace(None, state)
            self._next_row = max(self._next_row, state.row + 1)
            if state.held_until:
                heapq.heappush(self._held, (state.held_until, state.tenant, state.identity))
            self._hear_again(state)
        self.sinks_at_load = frozenset(notified_sinks)
        identities = {identity: identity for states in self._tenants.values() for identity in states}
        groups = [group async for group in self._store.group_states()]
        for group in sorted(groups, key=lambda one: one.at):
            firing = tuple(identities.get(one, one) for one in group.firing)
            self._groups[group.key] = msgspec.structs.replace(group, firing=firing)
            self._next_group = max(self._next_group, group.row + 1)
        async for sink in self._store.sink_states():
            self._sinks[sink.uid] = sink
        return self._count

    # ---- what others ask

    def get(self, tenant: str, identity: str) -> AlertState | None:
        """What is known of an alert."""
        states = self._tenants.get(tenant)
        state = states.get(identity) if states is not None else None
        if state is None and LEGACY_TENANT in self._tenants:
            state = self._tenants[LEGACY_TENANT].get(identity)
        return self._regarded(state) if self._disregarded and state is not None else state

    def group(self, key: bytes) -> GroupState | None:
        """What the last notification of a group said."""
        return self._groups.get(key)

    def of_tenant(self, tenant: str) -> Mapping[str, AlertState]:
        """Identity -> state of each alert of a tenant; a live view."""
        return MappingProxyType(self._tenants.get(tenant, {}))

    def tenants(self) -> list[str]:
        """Those of which an alert is known."""
        return list(self._tenants)

    def is_current(self, state: AlertState) -> bool:
        """Whether nothing has changed since this was what is known of its alert."""
        states = self._tenants.get(state.tenant)
        return states is not None and states.get(state.identity) is state

    def sink(self, uid: str) -> SinkState | None:
        """For which form of a sink it was notified of everything that is firing; None: of none yet."""
        return self._sinks.get(uid)

    @property
    def firing(self) -> int:
        """How many alerts are firing."""
        return self._firing

    @property
    def groups(self) -> int:
        """How many groups are remembered."""
        return len(self._groups)

    def __len__(self) -> int:
        return self._count

    def released(self, now: float) -> list[AlertState]:
        """The held alerts whose window is over; each is given once."""
        found = []
        while self._held and self._held[0][0] <= now:
            until, tenant, identity = heapq.heappop(self._held)
            state = self.get(tenant, identity)
            if state is not None and state.held_until == until and state.status == Status.FIRING:
                found.append(state)
        return found

    def next_release(self) -> float | None:
        """Queue clock at which `released` may give something."""
        return self._held[0][0] if self._held else None

    def hold_again(self, state: AlertState) -> None:
        """A released alert could not be released after all: `released` gives it again."""
        heapq.heappush(self._held, (state.held_until, state.tenant, state.identity))

    # ---- changing

    def put(
        self,
        change: StateChange,
        state: AlertState,
        payload: int = KEEP_BODY,
        added: Sequence[Notified] = (),
        **changed: object,
    ) -> None:
        """Record an alert, with the members that are `changed` beside the state; a new one is given its row. `added`: as in
        `AlertStateWrite`."""
        before = self.get(state.tenant, state.identity)
        if before is None:
            if self._count >= self.settings.max_alerts:
                self.crowded.set()
                if self._count >= self._most:
                    self._evict(change)
            state = msgspec.structs.replace(state, row=self._next_row, **changed)
            self._next_row += 1
        elif changed:
            state = msgspec.structs.replace(state, **changed)
        self._replace(before, state)
        change.alerts_before.append((before, state))
        change.written.append(AlertStateWrite(state, payload, before is None, added))
        if state.held_until and (before is None or before.held_until != state.held_until):
            heapq.heappush(self._held, (state.held_until, state.tenant, state.identity))
            self.when_held()

    def put_group(self, change: StateChange, group: GroupState) -> None:
        """Record what a group's notification said; one in which nothing fires is forgotten. A new one is given its row."""
        before = self._groups.pop(group.key, None)
        if before is None:
            if not group.firing:
                return
            group = msgspec.structs.replace(group, row=self._next_group)
            self._next_group += 1
            if len(self._groups) >= self.settings.max_groups:
                oldest = self._groups.pop(next(iter(self._groups)))
                change.groups_before.append((oldest, None))
                change.groups.append(msgspec.structs.replace(oldest, firing=()))
        if group.firing:
            self._groups[group.key] = group
        change.groups_before.append((before, group))
        change.groups.append(group)

    def put_sink(self, change: StateChange, sink: SinkState) -> None:
        """Record for which form of a sink it was notified of everything."""
        change.sinks_before.append((self._sinks.get(sink.uid), sink))
        self._sinks[sink.uid] = sink
        change.sinks.append(sink)

    def replace_entries(self, state: AlertState, notified: tuple[Notified, ...]) -> None:
        """Change what sinks were notified of an alert, in memory only."""
        self._replace(state, msgspec.structs.replace(state, notified=notified))

    def disregard(self, uid: str) -> None:
        """A sink was deleted and re-created with its uid: `get` leaves out what it was notified of until now, which is still to be forgotten."""
        self._disregarded[uid] = self._store.clock()

    def is_disregarded(self, entry: Notified) -> bool:
        """Whether `get` leaves out an entry."""
        return entry.at <= self._disregarded.get(entry.sink, -math.inf)

    def regard_again(self, uid: str) -> None:
        """What a re-created sink was notified of before has been forgotten."""
        self._disregarded.pop(uid, None)

    def _regarded(self, state: AlertState) -> AlertState:
        if not any(one.sink in self._disregarded for one in state.notified):
            return state
        return msgspec.structs.replace(state, notified=tuple(one for one in state.notified if not self.is_disregarded(one)))

    def forget_sink(self, uid: str) -> None:
        """Forget for which form a sink was notified, in memory only."""
        self._sinks.pop(uid, None)

    def undo(self, change: StateChange) -> None:
        """Revert a change: nothing of it was written."""
        for alert, changed_alert in reversed(change.alerts_before):
            self._replace(changed_alert, alert)
            if alert is not None and changed_alert is None:
                self._hear_again(alert)
            if alert is not None and alert.held_until:
                self.hold_again(alert)  # what was changed may have been taken off the heap
                self.when_held()
        for group, changed_group in reversed(change.groups_before):
            if changed_group is not None:
                self._groups.pop(changed_group.key, None)
            if group is not None:
                self._groups[group.key] = group
        for sink, changed_sink in reversed(change.sinks_before):
            if sink is None:
                self._sinks.pop(changed_sink.uid, None)
            else:
                self._sinks[sink.uid] = sink

    def _replace(self, before: AlertState | None, after: AlertState | None) -> None:
        if before is not None and (after is None or before.tenant != after.tenant):
            self._drop(before)
        if after is not None:
            states = self._tenants.get(after.tenant)
            if states is None:
                states = self._tenants[after.tenant] = {}
            known = states.get(after.identity)
            states[after.identity] = after
            self._count += known is None
            self._firing += (after.status == Status.FIRING) - (known is not None and known.status == Status.FIRING)

    # ---- forgetting

    async def prune(self, sinks: Iterable[str]) -> int:
        """Forget what is too old to matter, here and on disk; returns of how many alerts.

        Parameters
        ----------
        sinks
            uids of all sinks that exist.
        """
        now, keep = self._store.clock(), self.settings
        known = frozenset(sinks)
        count = 0
        rows: list[int] = []
        for tenant in self.tenants():
            async for states in in_turns(list(self.of_tenant(tenant).values())):
                for state in states:
                    if now - state.received_at > keep.resolved_retention and self._is_old(state, now) and self.is_current(state):
                        self._drop(state)
                        rows.append(state.row)
                if len(rows) >= FORGOTTEN_AT_ONCE:
                    count += len(rows)
                    await self._store.forget(states=rows)
                    rows = []
        old_groups: list[int] = []
        async for groups in in_turns(list(self._groups.values())):
            for group in groups:
                if now - group.at > keep.retention and self._groups.get(group.key) is group:
                    del self._groups[group.key]
                    old_groups.append(group.row)
        gone = [uid for uid in self._sinks if uid not in known]
        for uid in gone:
            del self._sinks[uid]
        count += len(rows)
        for start in range(0, max(len(rows), len(old_groups), len(gone)), FORGOTTEN_AT_ONCE):
            part = slice(start, start + FORGOTTEN_AT_ONCE)
            await self._store.forget(states=rows[part], groups=old_groups[part], sinks=gone[part])
        return count

    def _is_old(self, state: AlertState, now: float) -> bool:
        if now - state.received_at > self.settings.retention:
            return True
        if state.status == Status.EVENT and now < state.expires_at:
            return False
        return state.status != Status.FIRING and all(one.status != Status.FIRING for one in state.notified)

    def _hear_again(self, state: AlertState) -> None:
        if state.expires_at and state.status == Status.FIRING:
            self.heartbeats.hear(state.tenant, state.identity, state.replicas, state.expires_at)

    def _drop(self, state: AlertState) -> None:
        states = self._tenants.get(state.tenant, {})
        known = states.pop(state.identity, None)
        if known is None:
            return
        self._count -= 1
        self._firing -= known.status == Status.FIRING
        self.heartbeats.forget(state.tenant, state.identity)
        if not states:
            del self._tenants[state.tenant]

    async def make_room(self) -> int:
        """Forget some of the tenant with the most (`_evicted_first`), if more is known than `max_alerts`; returns how many alerts."""
        self.crowded.clear()
        wanted = self._count - self.settings.max_alerts
        if wanted < 0:
            return 0
        wanted = min(wanted, EVICTED_AT_ONCE) + EVICTED_AT_ONCE
        states = max(self._tenants.values(), key=len)
        oldest: list[AlertState] = []
        async for some in in_turns(list(states.values()), COMPARED_AT_ONCE):
            oldest = heapq.nsmallest(wanted, itertools.chain(oldest, some), key=self._evicted_first)
        count = 0
        async for some in in_turns(oldest, FORGOTTEN_AT_ONCE):
            rows = [state.row for state in some if self.is_current(state)]
            for state in some:
                if self.is_current(state):
                    self._drop(state)
            count += len(rows)
            self._count_evicted(oldest[0].tenant, len(rows))
            await self._store.forget(states=rows)
        if self._count >= self.settings.max_alerts:
            self.crowded.set()
        return count

    def _evict(self, change: StateChange) -> None:
        """Make room at once, since `make_room` has not done so in time: among as many as can be looked at, instead of all."""
        states = max(self._tenants.values(), key=len)
        some = itertools.chain(
            itertools.islice(states.values(), COMPARED_AT_ONCE // 2),
            itertools.islice(reversed(states.values()), COMPARED_AT_ONCE // 2),
        )
        oldest = heapq.nsmallest(EVICTED_AT_ONCE, {state.row: state for state in some}.values(), key=self._evicted_first)
        for state in oldest:
            self._drop(state)
            change.alerts_before.append((state, None))
            change.forgotten.append(state.row)
        self._count_evicted(oldest[0].tenant, len(oldest))

    def _evicted_first(self, state: AlertState) -> tuple[bool, bool, float]:
        """Resolved alerts go first, then those that were received longest ago. Of what its source sends all the time, what is known longest
        stays: each that is forgotten is new a minute later, so that otherwise all of them would be, one after another."""
        firing = state.status == Status.FIRING
        sent_again = firing and self.heartbeats.until(state.tenant, state.identity) > 0.0
        return firing, sent_again, -state.row if sent_again else state.received_at

    def _count_evicted(self, tenant: str, count: int) -> None:
        self.evicted += count
        more = self._evictions.due()
        if more is not None:
            get_logger().warning(
                "alerts were forgotten to make room (raise state.maxAlerts): sinks are notified again of those that are repeated, and of no "
                "end of one that ends before",
                tenant=tenant,
                count=count,
                more=more,
            )


def shared(names: dict[str, str], name: str) -> str:
    """The one object that stands for this name."""
    return names.setdefault(name, name)


def group_digest(source: str, key: str) -> bytes:
    """What a group is known by: 16 bytes over the source's name and the group's key."""
    name = source.encode()
    return hashlib.blake2b(b"%d:%b%b" % (len(name), name, key.encode()), digest_size=16).digest()
