"""A dispatcher over a real queue and scripted senders, for the tests of dispatch."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry

from eventsink.router.directory import SinkDirectory
from eventsink.router.dispatch.dispatcher import Dispatcher
from eventsink.router.dispatch.health import SinkHealth
from eventsink.router.dispatch.retry import RetrySettings
from eventsink.router.dispatch.settings import DispatchSettings
from eventsink.router.dispatch.sink_tests import SinkTests
from eventsink.router.metrics import DispatchMetrics
from eventsink.router.queue.delivery_log import DeliveryFilter, DeliveryRecord, DeliveryState
from eventsink.router.queue.posts import PostRef
from eventsink.router.queue.protocol import (
    MAX_TAKE_BYTES,
    Batch,
    DeadLetter,
    Delivery,
    NewDelivery,
    Payload,
    PayloadKind,
    QueueDamaged,
)
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from eventsink.router.queue.states import SinkReport
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, Outcome
from eventsink.sinks.sink import Sink
from tests.unit.router.sinks import directory, source, uid

DEADLINE_SECONDS = 30.0
FAST = RetrySettings.model_validate(
    {"first": "1ms", "longest": "5ms", "sinkLongest": "5ms", "probeFirst": "1h", "probeLongest": "1h"}
)
TRANSIENT = Failed(FailureClass.TRANSIENT, "HTTP503", "https://x responded with 503", 503)
MESSAGE = Failed(FailureClass.MESSAGE, "HTTP400", "https://x responded with 400", 400)
SINK = Failed(FailureClass.SINK, "HTTP401", "https://x responded with 401", 401)
HANG = object()


@dataclass
class ScriptedSender:
    """Returns the outcomes of its script, then reports everything as delivered."""

    script: list[object] = field(default_factory=list)
    sent: list[tuple[str, list[str]]] = field(default_factory=list)
    """Message id and the alerts in it, of each attempt."""
    times: list[float] = field(default_factory=list)
    """Event loop's clock at each attempt."""
    closed: bool = False

    async def send(self, message: Message) -> Outcome:
        bodies = [message.group] if message.group is not None else message.alerts
        self.sent.append((message.id, [body.decode() for body in bodies]))
        self.times.append(asyncio.get_running_loop().time())
        step = self.script.pop(0) if self.script else Delivered(200)
        if callable(step):
            step = step(message)
        if inspect.isawaitable(step):
            step = await step
        if step is HANG:
            await asyncio.Event().wait()
        assert isinstance(step, Delivered | Failed)
        return step

    async def close(self) -> None:
        self.closed = True


class AnnouncingQueue(SqliteQueue):
    """A queue of which a test can have deliveries announced once more, or not at all."""

    listeners: tuple[Callable[[Sequence[Delivery]], None], ...] = ()
    lost: frozenset[str] = frozenset()
    """Keys of deliveries that are committed and not announced."""

    unreadable = False
    """Whether reading fails, as from a damaged page."""

    posts_unreadable = False
    """Whether the record of posts cannot be read."""

    stalled: asyncio.Event | None = None
    """Until it is set, no dead letter gets to the disk."""

    async def dead_letter(self, dead_letters: Sequence[DeadLetter]) -> None:
        if self.stalled is not None:
            await self.stalled.wait()
        await super().dead_letter(dead_letters)

    async def take(self, sink: str, *, after: int, limit: int, max_bytes: int = MAX_TAKE_BYTES) -> list[Delivery]:
        if self.unreadable:
            raise QueueDamaged("queue.db is damaged")
        return await super().take(sink, after=after, limit=limit, max_bytes=max_bytes)

    async def read_bodies(self, seqs: Sequence[int]) -> dict[int, bytes]:
        if self.unreadable:
            raise QueueDamaged("queue.db is damaged")
        return await super().read_bodies(seqs)

    async def announced(self, sink: str, destination: str, alerts: Sequence[str]) -> dict[str, PostRef]:
        if self.posts_unreadable:
            raise QueueDamaged("queue.db is damaged")
        return await super().announced(sink, destination, alerts)

    def subscribe(self, listener: Callable[[Sequence[Delivery]], None]) -> None:
        self.listeners = (*self.listeners, listener)
        super().subscribe(lambda deliveries: listener([one for one in deliveries if one.key not in self.lost]))

    def announce(self, deliveries: Sequence[Delivery]) -> None:
        for listener in self.listeners:
            listener(deliveries)


class DispatchUnderTest:
    """A dispatcher and what is around it; `restart` makes a new one over the same queue file."""

    def __init__(self, folder: Path, *sinks: Sink, **settings: object) -> None:
        self.folder = folder
        self.sinks = sinks
        self.settings = DispatchSettings.model_validate({"retry": FAST, "expiryInterval": "20ms", **settings})
        self.senders: dict[str, ScriptedSender] = {one.name: ScriptedSender() for one in sinks}
        self.queue_settings: dict[str, object] = {}
        self.registry = CollectorRegistry()
        self.health: list[tuple[str, SinkHealth]] = []
        self.wall: Callable[[], float] = time.time
        self.reports: dict[str, SinkReport] = {}
        """What an earlier process reported, by uid."""
        self.directory: SinkDirectory
        self.queue: AnnouncingQueue
        self.dispatcher: Dispatcher
        self.tests: SinkTests

    async def start(self, *before_load: str) -> DispatchUnderTest:
        """Start, and commit alerts of these names when the directory is loaded and the dispatcher is not yet."""
        self.registry = CollectorRegistry()
        self.queue = await AnnouncingQueue.open(
            QueueSettings.model_validate({"path": self.folder / "q.db", "minFreeBytes": 0, **self.queue_settings})
        )
        self.directory = SinkDirectory()
        self.dispatcher = Dispatcher(
            self.settings,
            self.queue,
            self.directory,
            lambda one: self.senders[one.name],
            DispatchMetrics(self.registry),
            sources={"alertmanager": source()},
            health_changed=lambda one, health: self.health.append((one.name, health)),
            reported=self.reports.get,
            wall=self.wall,
        )
        self.tests = SinkTests(self.queue, self.dispatcher)
        for one in directory(*self.sinks).sinks.values():
            self.directory.put(one)
        self.directory.mark_loaded()
        if before_load:
            await self.put(*before_load)
        await self.dispatcher.load()
        return self

    async def stop(self, grace: float = 0.0) -> None:
        await self.dispatcher.stop(grace)
        await self.queue.close()

    async def put(
        self,
        *names: str,
        sinks: tuple[str, ...] = ("s",),
        key: str = "",
        tenant: str = "acme",
        max_age: float = 1e6,
        body: bytes | None = None,
        kind: PayloadKind = PayloadKind.ALERT,
    ) -> None:
        payloads = [Payload(kind, name.encode() if body is None else body, name) for name in names]
        deliveries = [
            NewDelivery(n, uid(one), tenant, key or name, "firing", max_age) for n, name in enumerate(names) for one in sinks
        ]
        await self.queue.put(Batch(payloads, deliveries))

    async def start_with_a_response(self) -> DispatchUnderTest:
        """Start, and have each sink respond to an alert: until then, only one message at a time leaves."""
        await self.start()
        scripts = {name: sender.script for name, sender in self.senders.items()}
        for name, sender in self.senders.items():
            sender.script = []
            await self.put("first", key="first", sinks=(name,))
        await self.until_empty()
        for name, sender in self.senders.items():
            sender.sent.clear()
            sender.script = scripts[name]
        return self

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                await asyncio.sleep(0.005)

    async def until_empty(self) -> None:
        await self.until(lambda: self.queue.depth().waiting == 0)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"eventsink_router_{name}", labels) or 0.0

    def held(self) -> dict[str, str]:
        """Name of each sink that is held -> the reason."""
        found = {one.name: self.dispatcher.health(uid(one.name)) for one in self.sinks}
        return {name: health.held for name, health in found.items() if health is not None and health.held}

    def arrived(self, name: str = "s") -> list[str]:
        return [alert for _, alerts in self.senders[name].sent for alert in alerts]

    async def dead(self) -> list[DeliveryRecord]:
        return await self.queue.look_up(DeliveryFilter(state=DeliveryState.DEAD), limit=100)


MakeDispatch = Callable[..., DispatchUnderTest]
