"""Notifies sinks of counted events that have grown within the sinks' `repeatInterval`, as soon as that has passed."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence

import msgspec

from eventsink.alerts.alert import Alert, Status
from eventsink.router.directory import SinkDirectory
from eventsink.router.planning.alert_states import AlertStates, StateChange
from eventsink.router.planning.due import deliveries_of
from eventsink.router.planning.entries import updated
from eventsink.router.planning.episodes import BY_ITSELF
from eventsink.router.planning.match import SinkIndex
from eventsink.router.planning.quotas import Quotas, submit
from eventsink.router.planning.turns import states_in_turns
from eventsink.router.queue.protocol import Batch, Queue
from eventsink.router.queue.repeat import repeat
from eventsink.router.queue.states import KEEP_BODY, NO_BODY, AlertState, Notified
from eventsink.sinks.sink import Sink

LOOK_SECONDS = 1.0
"""Between two looks."""
EVENTS_AT_ONCE = 200
"""Events that are read and queued in one commit."""
OVER_QUOTA_SECONDS = 30.0
"""Until an event is looked at again whose sink's tenant has no room in its quota."""

_decoder = msgspec.json.Decoder(Alert)


class Growth:
    """Knows which events wait for the `repeatInterval` of a sink, and queues them when it has passed.

    What an event says is stored with its state until then, so that a restart forgets none.
    """

    def __init__(
        self, directory: SinkDirectory, index: SinkIndex, states: AlertStates, queue: Queue, quotas: Quotas | None = None
    ) -> None:
        self._directory = directory
        self._index = index
        self._states = states
        self._queue = queue
        self._quotas = quotas
        self._due: dict[tuple[str, str], float] = {}
        """(tenant, identity) -> queue clock at which to look at it."""
        self._heap: list[tuple[float, tuple[str, str]]] = []
        """The same in order; an entry that `_due` contradicts is out of date."""
        states.when_grown = self.add

    def add(self, at: float, tenant: str, identity: str) -> None:
        """Look at an event at this time of the queue clock, or before."""
        key = (tenant, identity)
        if at < self._due.get(key, float("inf")):
            self._due[key] = at
            heapq.heappush(self._heap, (at, key))

    async def run(self) -> None:
        """Look until cancelled. The directory is loaded."""
        await self.begin()
        failed = "sinks could not be notified of events that have grown; it is tried again"
        await repeat(self.look, interval=LOOK_SECONDS, failed=failed)

    async def begin(self) -> None:
        """Find the events that waited before the start."""
        now = self._queue.clock()
        for tenant in self._states.tenants():
            async for some in states_in_turns(list(self._states.of_tenant(tenant).values())):
                for state in some:
                    if state.status == Status.EVENT and any(_is_behind(one, state.count) for one in state.notified):
                        self.add(now, tenant, state.identity)

    async def look(self) -> None:
        """Queue what is due."""
        while due := self._taken():
            try:
                await self._queue_due(due)
            except BaseException:
                now = self._queue.clock()
                for tenant, identity in due:
                    self.add(now, tenant, identity)
                raise

    def _taken(self) -> list[tuple[str, str]]:
        now = self._queue.clock()
        taken: list[tuple[str, str]] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < EVENTS_AT_ONCE:
            at, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                del self._due[key]
                taken.append(key)
        return taken

    async def _queue_due(self, due: Sequence[tuple[str, str]]) -> None:
        found = [state for key in due if (state := self._states.get(*key)) is not None]
        bodies = await self._queue.alert_bodies([state.row for state in found])
        now = self._queue.clock()
        change = StateChange()
        chosen: dict[str, tuple[Sink, list[tuple[Alert, bytes]]]] = {}
        for known in found:
            state, body = self._states.get(known.tenant, known.identity), bodies.get(known.row)
            if state is None or body is None:
                continue
            alert = _decoder.decode(body)
            sinks, next_at = self._due_to(state, alert, now, chosen)
            if next_at is not None:
                self.add(next_at, state.tenant, state.identity)
            if not sinks:
                continue
            for sink in sinks:
                chosen.setdefault(sink.uid, (sink, []))[1].append((alert, body))
            notified = {sink.uid: Status.EVENT.value for sink in sinks}
            entries = updated(state.notified, notified, state.starts_at, now, BY_ITSELF, alert.count)
            waits = next_at is not None or state.count > alert.count
            self._states.put(change, state, KEEP_BODY if waits else NO_BODY, notified=entries)
        if not change.written:
            return
        payloads, deliveries = deliveries_of(chosen.values())
        batch = Batch(payloads, deliveries, change.written)
        await asyncio.shield(submit(self._queue, batch, change, self._states, self._quotas))

    def _due_to(
        self, state: AlertState, alert: Alert, now: float, chosen: dict[str, tuple[Sink, list[tuple[Alert, bytes]]]]
    ) -> tuple[list[Sink], float | None]:
        """The sinks that are notified of an event now, and when to look at it again; None: nobody waits for it then."""
        sinks: list[Sink] = []
        later: list[float] = []
        for last in state.notified:
            sink = self._directory.sinks.get(last.sink)
            if sink is None or not _is_behind(last, alert.count) or not self._may_be_notified(sink, state, alert):
                continue
            assert sink.delivery.repeat_interval is not None
            at = last.at + sink.delivery.repeat_interval
            if at > now:
                later.append(at)
            elif self._quotas is not None and not self._quotas.room(sink, len(chosen.get(sink.uid, (sink, []))[1])).deliveries:
                later.append(now + OVER_QUOTA_SECONDS)
            else:
                sinks.append(sink)
        return sinks, min(later, default=None)

    def _may_be_notified(self, sink: Sink, state: AlertState, alert: Alert) -> bool:
        return (
            sink.delivery.repeat_interval is not None
            and not sink.suspend
            and sink.uid not in self._directory.withheld
            and sink.may_receive(state.tenant)
            and self._index.wants(sink.uid, alert)
            and (not len(self._index.quiet) or self._index.quiet.suppression(sink.uid, (alert,)) is None)
        )


def _is_behind(last: Notified, count: int) -> bool:
    """Whether an event has grown since a sink was notified of it."""
    return last.status == Status.EVENT and 0 < last.count < count
