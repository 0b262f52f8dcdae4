"""Writes into an EventSink's status how delivery goes: the condition `Delivering` and `status.delivery`, and no other field.

Written when `Delivering` changes, else at most each five minutes a sink, and at most 20 a second in all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eventsink.kube.api import Api, ApiError, Conflict, NotFound, Object
from eventsink.kube.status import StatusApplier
from eventsink.resources.names import API_VERSION, EVENTSINKS, KIND, ROUTER_MANAGER
from eventsink.resources.status import DELIVERING, Condition, DeliveryStatus, EventSinkStatus
from eventsink.router.directory import SinkDirectory
from eventsink.router.dispatch.health import DeliveringState, SinkHealth
from eventsink.runtime.backoff import Backoff
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.times import format_time
from eventsink.sinks.sink import Sink

EVERY_SECONDS = 300.0
"""Between two writes to one sink without a change of `Delivering`."""
PER_SECOND = 20
"""Writes in all."""
LOOK_SECONDS = 1.0
BACKOFF = Backoff(first=1.0, longest=60.0)
NOTHING_SENT = SinkHealth(DeliveringState.UNKNOWN, "NothingSent", "nothing was sent yet")


@dataclass(slots=True)
class Written:
    """What a status says already, as far as the router knows."""

    state: str = ""
    reason: str = ""
    changed: str = ""
    """When the state last changed, RFC 3339."""
    last_delivered: float | None = None
    last_error: str = ""
    at: float = float("-inf")
    """Monotonic clock of the last write, or attempt."""


def is_due(health: SinkHealth, written: Written, now: float) -> bool:
    """Whether a sink's status is to be written now."""
    if (health.state.value, health.reason) != (written.state, written.reason):
        return True
    other = (health.last_delivered, health.last_error) != (written.last_delivered, written.last_error)
    return other and now - written.at >= EVERY_SECONDS


class StatusReporter:
    """Writes statuses, for ever, through outages: of each sink only the newest is kept.

    Parameters
    ----------
    health
        uid -> how it goes, of all sinks.
    """

    def __init__(
        self,
        api: Api,
        directory: SinkDirectory,
        health: Callable[[str], SinkHealth | None],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._statuses = StatusApplier(api, EVENTSINKS, ROUTER_MANAGER)
        self._directory = directory
        self._health = health
        self._clock = clock
        self._wall = wall
        self._written: dict[str, Written] = {}
        self._changed = asyncio.Event()
        self._failures = 0
        self._log = Repeated(60.0)

    def changed(self, _sink: Sink, _health: SinkHealth) -> None:
        """Something is to be written soon."""
        self._changed.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            await self._round()

    async def _round(self) -> None:
        sinks = self._directory.sinks
        for uid in [uid for uid in self._written if uid not in sinks]:
            del self._written[uid]
        for uid, health in due(sinks, self._health, self._written, self._clock()):
            sink = sinks.get(uid)
            if sink is None:
                continue
            written = self._written.setdefault(uid, Written())
            try:
                await self._write(sink, health, written)
                self._failures = 0
            except (NotFound, Conflict):
                self._remember(written, health)  # gone, or another object of that name: the directory is updated soon
            except ApiError as error:
                await self._wait(error)
                return
            await asyncio.sleep(1 / PER_SECOND)

    async def _write(self, sink: Sink, health: SinkHealth, written: Written) -> None:
        changed = written.changed if health.state.value == written.state else format_time(self._wall())
        applied = await self._statuses.apply(status_body(sink, health, changed))
        if applied["metadata"]["uid"] != sink.uid:
            # The sink was re-created since: server-side apply accepts another uid silently, so what was written is taken back.
            await self._statuses.apply(status_body(sink, NOTHING_SENT, changed))
        written.changed = changed
        self._remember(written, health)

    def _remember(self, written: Written, health: SinkHealth) -> None:
        written.state, written.reason = health.state.value, health.reason
        written.last_delivered, written.last_error = health.last_delivered, health.last_error
        written.at = self._clock()

    async def _wait(self, error: ApiError) -> None:
        more = self._log.due()
        if more is not None:
            get_logger().warning("could not write statuses, retrying", reason=str(error), more=more)
        self._failures += 1
        await asyncio.sleep(BACKOFF.wait(self._failures))


def due(
    sinks: Mapping[str, Sink], health: Callable[[str], SinkHealth | None], written: Mapping[str, Written], now: float
) -> list[tuple[str, SinkHealth]]:
    """The sinks whose status is to be written, those whose `Delivering` changed first."""
    found: list[tuple[bool, str, SinkHealth]] = []
    for uid in sinks:
        current = health(uid)
        if current is None:
            continue
        before = written.get(uid, Written())
        if is_due(current, before, now):
            found.append((before.state == current.state.value, uid, current))
    found.sort(key=lambda one: one[:2])
    return [(uid, current) for _, uid, current in found]


def status_body(sink: Sink, health: SinkHealth, changed: str) -> Object:
    """What is applied: all fields of this manager, each time."""
    condition = Condition(
        type=DELIVERING,
        status=health.state.value,
        reason=health.reason,
        message=health.message,
        last_transition_time=changed,
        observed_generation=sink.compiled_from.generation,
    )
    delivery = DeliveryStatus(
        last_delivered_time=format_time(health.last_delivered) if health.last_delivered is not None else None,
        last_error=health.last_error or None,
    )
    known = delivery != DeliveryStatus()
    status = EventSinkStatus(conditions=(condition,), delivery=delivery if known else None)
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": sink.name, "namespace": sink.namespace},
        "status": status.to_dict(),
    }
