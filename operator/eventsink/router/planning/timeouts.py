"""Resolves alerts of sources that send what fires all the time, when they do not send one any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from eventsink.alerts.alert import Alert, Status
from eventsink.alerts.formats.format import Repeats
from eventsink.router.directory import SinkDirectory
from eventsink.router.planning.alert_states import AlertStates, StateChange
from eventsink.router.planning.due import deliveries_of, ended
from eventsink.router.planning.entries import updated
from eventsink.router.planning.episodes import BY_ITSELF
from eventsink.router.planning.heartbeats import Overdue
from eventsink.router.planning.quotas import Quotas, submit
from eventsink.router.queue.protocol import Batch, Queue
from eventsink.router.queue.repeat import repeat
from eventsink.router.queue.states import KEEP_BODY, NO_BODY, AlertState
from eventsink.router.sources import Source
from eventsink.runtime.turns import in_turns
from eventsink.sinks.sink import Sink

LOOK_SECONDS = 1.0
"""Between two looks."""
STOPPED_SECONDS = 30.0
"""If so much passed between two looks, the process was stopped, and so was what comes in: it is as after a start."""
ALERTS_AT_ONCE = 200
"""Alerts that are read and resolved in one commit."""

_decoder = msgspec.json.Decoder(Alert)
_encoder = msgspec.json.Encoder()


class Timeouts:
    """Ends what is overdue (`Heartbeats`): whoever was notified that it fires is notified of its end.

    Parameters
    ----------
    sources
        By name. Of one that has another format by now, or of a grouped one, nothing is ended.
    wall_clock
        Seconds since the epoch; its time is the end of what is ended.
    """

    def __init__(
        self,
        directory: SinkDirectory,
        states: AlertStates,
        queue: Queue,
        sources: Mapping[str, Source],
        wall_clock: Callable[[], float] = time.time,
        quotas: Quotas | None = None,
    ) -> None:
        self._directory = directory
        self._states = states
        self._queue = queue
        self._sources = sources
        self._wall_clock = wall_clock
        self._quotas = quotas
        self._looked_at = queue.clock()
        self.resolved = 0
        """Alerts that were ended since the start."""

    async def run(self) -> None:
        """Look until cancelled. The directory is loaded."""
        self.begin()
        failed = "alerts that are not sent any more could not be ended; it is tried again"
        await repeat(self.look, interval=LOOK_SECONDS, failed=failed)

    def begin(self) -> None:
        """Alerts are accepted from now on, or again: sources are given the time to send what fires (`state.resolveGrace`)."""
        self._looked_at = self._queue.clock()
        self._states.heartbeats.nothing_before(self._looked_at + self._states.settings.resolve_grace)

    async def look(self) -> None:
        """End what is overdue."""
        now = self._time()
        heartbeats = self._states.heartbeats
        heartbeats.looked_at = now
        while heartbeats.are_due(now):
            if overdue := heartbeats.overdue(now, ALERTS_AT_ONCE):
                await self._end(overdue, now)
            else:
                await asyncio.sleep(0)
            self._time()

    async def end_silent(self, source: str, since: float) -> None:
        """End what this source has not sent since then, on the queue clock; returns when that is on disk.

        Raises
        ------
        QueueFull, QueueUnavailable
            Not all of it could be stored.
        """
        states, heartbeats, now = self._states, self._states.heartbeats, self._queue.clock()
        for tenant in states.tenants():
            async for some in in_turns(list(states.of_tenant(tenant).values()), ALERTS_AT_ONCE):
                silent = [
                    Overdue(tenant, state.identity)
                    for state in some
                    if state.source == source
                    and state.status == Status.FIRING
                    and states.is_current(state)
                    and heartbeats.silence(tenant, state.identity, since, now)
                ]
                if silent:
                    await self._end(silent, now)

    def _time(self) -> float:
        """The queue clock. It is read so often that a gap in it means that the process was stopped, not that the disk is slow."""
        now = self._queue.clock()
        if now - self._looked_at > STOPPED_SECONDS:
            self.begin()
        self._looked_at = now
        return now

    async def _end(self, overdue: Sequence[Overdue], now: float) -> None:
        states, heartbeats = self._states, self._states.heartbeats
        rows = [state.row for one in overdue if (state := states.get(one.tenant, one.identity)) is not None]
        bodies = await self._queue.alert_bodies(rows)
        change = StateChange()
        chosen: dict[str, tuple[Sink, list[tuple[Alert, bytes]]]] = {}
        forgotten: list[tuple[Overdue, tuple[str, ...]]] = []
        for one in overdue:
            state = states.get(one.tenant, one.identity)  # it may have been sent again meanwhile
            silent, everywhere = heartbeats.silent(one.tenant, one.identity, now)
            if state is None or state.status != Status.FIRING or not self._sends_again(state.source):
                heartbeats.forget(one.tenant, one.identity)
            elif everywhere:
                heartbeats.forget(one.tenant, one.identity)
                forgotten.append((one, silent))
                self._end_one(state, bodies.get(state.row), change, chosen)
            elif silent:
                heartbeats.end(one.tenant, one.identity, silent)
                forgotten.append((one, silent))
                states.put(change, _without(state, silent))
        if not change.written:
            return
        payloads, deliveries = deliveries_of(chosen.values())
        batch = Batch(payloads, deliveries, change.written, sinks=change.sinks)
        try:
            await asyncio.shield(submit(self._queue, batch, change, states, self._quotas))
        except BaseException:
            for one, silent in forgotten:
                heartbeats.hear(one.tenant, one.identity, silent, now)
            raise
        self.resolved += sum(after is not None and after.status == Status.RESOLVED for _, after in change.alerts_before)

    def _is_over_quota(self, sink: Sink, change: StateChange) -> bool:
        """Whether a sink that wants an end is caught up with it later."""
        quotas = self._quotas
        return quotas is not None and sink.delivery.send_resolved and not quotas.admits(sink, self._states, change)

    def _sends_again(self, source: str) -> bool:
        """Whether alerts of this source end when they are not sent again; so do those of one that is not configured any more."""
        known = self._sources.get(source)
        return known is None or known.format.repeats is Repeats.HEARTBEAT

    def _end_one(
        self,
        state: AlertState,
        body: bytes | None,
        change: StateChange,
        chosen: dict[str, tuple[Sink, list[tuple[Alert, bytes]]]],
    ) -> None:
        """End an alert: those that were notified of it are notified of its end, as of one that the source sends."""
        after = msgspec.structs.replace(
            state,
            status=Status.RESOLVED.value,
            ends_at=max(state.starts_at, int(self._wall_clock() * 1_000_000)),
            ended_by=BY_ITSELF,
            received_at=self._queue.clock(),
            held_until=0.0,
            replicas=(),
            replica_starts=(),
            expires_at=0.0,
        )
        alert = _ended(body, after)
        encoded = _encoder.encode(alert) if alert is not None else b""
        notified: dict[str, str] = {}
        waits = False
        for entry in state.notified:
            if entry.status != Status.FIRING:
                continue
            sink = self._directory.sinks.get(entry.sink)
            if entry.sink in self._directory.withheld or (sink is not None and sink.suspend):
                waits = True  # it is notified of the end when it is resumed, or can be read again
            elif sink is not None and sink.may_receive(state.tenant):
                if self._is_over_quota(sink, change):
                    waits = True
                    continue
                notified[sink.uid] = Status.RESOLVED.value
                if not sink.delivery.send_resolved:
                    continue
                if alert is None:
                    self._states.room.ends_lost.add()
                else:
                    chosen.setdefault(sink.uid, (sink, []))[1].append((alert, encoded))
        entries = updated(after.notified, notified, state.starts_at, after.received_at, BY_ITSELF)
        self._states.put(change, after, KEEP_BODY if waits else NO_BODY, notified=entries)


def _without(state: AlertState, replicas: Sequence[str]) -> AlertState:
    """An alert that does not fire any more in these replicas, and does in another."""
    starts = dict(zip(state.replicas, state.replica_starts, strict=False))
    left = tuple(one for one in state.replicas if one not in replicas)
    return msgspec.structs.replace(state, replicas=left, replica_starts=tuple(starts.get(one, state.starts_at) for one in left))


def _ended(body: bytes | None, state: AlertState) -> Alert | None:
    """The end of the alert with this body; None: its body was not kept."""
    if body is None:
        return None
    alert = _decoder.decode(body)
    return ended(alert, state) if alert.status is Status.FIRING else alert
