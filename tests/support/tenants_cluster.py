"""The operator and the router over a local API in one process, held against the model of who may see what (`tenants`).

Everything that decides is the real thing: the operator's reconcile, the compiled Secrets that the router watches, intake, planning, queue and
dispatch. Only sockets are absent: requests are handed to the intake, and messages to the `World`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Container, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from eventsink.controller.cluster_state import ClusterState
from eventsink.controller.config import OperatorSettings, TenancySettings
from eventsink.controller.metrics import OperatorMetrics
from eventsink.controller.reconcile import Reconciler
from eventsink.controller.resolvers import Resolvers
from eventsink.controller.scope import FOREIGN_SECRETS, Scope
from eventsink.controller.status import StatusWriter
from eventsink.controller.store import CompiledStore
from eventsink.controller.worker import TENANCY, Worker
from eventsink.controller.workqueue import WorkQueue
from eventsink.kube.api import EVENTS, NAMESPACES, SECRETS, Collection, Key, Object
from eventsink.kube.local import LocalApi
from eventsink.kube.reflector import Reflector
from eventsink.resources.names import EVENTSINKS, PLATFORM_LABEL, TENANT_LABEL
from eventsink.router.directory import SinkDirectory
from eventsink.router.dispatch.dispatcher import Dispatcher
from eventsink.router.dispatch.settings import DispatchSettings
from eventsink.router.intake.metrics import IntakeMetrics
from eventsink.router.intake.requests import Intake
from eventsink.router.metrics import DispatchMetrics
from eventsink.router.planning.accept import Acceptor
from eventsink.router.planning.alert_states import AlertStates
from eventsink.router.planning.catch_up import CatchUp
from eventsink.router.planning.match import SinkIndex
from eventsink.router.planning.state_settings import StateSettings
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from eventsink.router.sources import PostingSource, PostingSourceSettings
from eventsink.router.watch import SinkWatch
from eventsink.runtime.listener.messages import RequestHead, Response
from eventsink.sinks.sender import Delivered, Message, Outcome
from eventsink.sinks.sink import SINK_SECRET_TYPE, Sink
from tests.support.parts import notification
from tests.support.sinks import event_sink
from tests.support.tenants import FORMS, SOURCES, TENANTS, KnownSink, World, tenant_of

DEADLINE_SECONDS = 20.0
TOKEN_REREAD_SECONDS = 6.0
"""By the clock of the sources: a little more than they let pass."""
BEGIN = datetime(2026, 6, 1, tzinfo=UTC)
"""Of the first hour."""


class _Recorder:
    """A sender whose receiver is the world."""

    def __init__(self, sink: Sink, world: World) -> None:
        self._sink, self._world = sink, world

    async def send(self, message: Message) -> Outcome:
        for body in (*message.alerts, *([message.group] if message.group is not None else [])):
            self._world.arrive(self._sink, body)
        return Delivered(200)

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class _Group:
    source: str
    labels: dict[int, Mapping[str, str]]
    """Of each alert in it that fires."""


class Cluster:
    """The operator and the router over a local API, and the world that they are held against. Use `open` and `close`."""

    def __init__(self, folder: Path, *, allow_unowned: bool) -> None:
        self._folder = folder
        self.world = World(allow_unowned)
        self._api = LocalApi((EVENTSINKS, SECRETS, NAMESPACES, EVENTS), passing=(EVENTS,))
        self._work: WorkQueue[Key] = WorkQueue()
        self._tasks: list[asyncio.Task[Any]] = []
        self._now = 0.0
        self._tokens = {name: f"{name}-0" for name in SOURCES}
        self._marks = 0
        self.alerts = 0
        """How many were posted."""
        self._groups: list[_Group] = []
        for name, token in self._tokens.items():
            self._token_file(name).write_text(token)
        self._sources = {
            name: PostingSource(
                PostingSourceSettings.model_validate({"name": name, **rule, "tokenFiles": [str(self._token_file(name))]}),
                clock=lambda: self._now,
            )
            for name, rule in SOURCES.items()
        }
        self.registry = CollectorRegistry()
        self._intake_metrics = IntakeMetrics(self.registry)
        self._router = AsyncExitStack()

    def _token_file(self, name: str) -> Path:
        return self._folder / f"token-{name}"

    # ---- life

    async def open(self) -> Cluster:
        """Start both."""
        settings = OperatorSettings(tenancy=TenancySettings(allow_unowned=self.world.allow_unowned))
        self._sinks_namespace = settings.sinks_namespace
        state = ClusterState(self._work.add, lambda: self._work.add(TENANCY))
        store = CompiledStore(self._api, settings.sinks_namespace, self._work.add)
        self._resolvers = Resolvers(settings, self._api, state.used_in)
        writer = StatusWriter(self._api, lambda: datetime.now(UTC))
        reconciler = Reconciler(settings, self._api, state, store, writer, self._resolvers, Scope((), self._api, state))
        metrics = OperatorMetrics(CollectorRegistry())
        worker = Worker(self._work, state, store, reconciler, metrics, failed=self._fail)
        compiled = Collection(SECRETS, settings.sinks_namespace, field_selector=f"type={SINK_SECRET_TYPE}")
        reflectors = [
            Reflector(self._api, "compiled", compiled, store),
            Reflector(self._api, "secrets", Collection(SECRETS, field_selector=FOREIGN_SECRETS), state.secret_handler),
            Reflector(self._api, "namespaces", Collection(NAMESPACES), state.namespace_handler),
            Reflector(self._api, "eventsinks", Collection(EVENTSINKS), state.eventsink_handler),
        ]
        self._work.add(TENANCY)
        self._tasks = [asyncio.ensure_future(work) for work in (*(one.run() for one in reflectors), worker.run())]
        for one in reflectors:
            await one.synced.wait()
        await self._open_router()
        return self

    def _fail(self, key: Key, error: Exception, _seconds: float) -> None:
        self.world.wrong.append(f"{key} could not be reconciled: {error}")

    def _wall(self) -> float:
        return (BEGIN + timedelta(hours=self.world.hour, minutes=30)).timestamp()

    async def _open_router(self) -> None:
        queue_settings = QueueSettings(path=self._folder / "queue.db", min_free_bytes=0)
        self._queue = await SqliteQueue.open(queue_settings)
        self._router.push_async_callback(self._queue.close)
        self._directory, index = SinkDirectory(), SinkIndex(wall=self._wall)
        self._directory.subscribe(index.change)
        states = AlertStates(self._queue, StateSettings())
        self._dispatcher = Dispatcher(
            DispatchSettings(),
            self._queue,
            self._directory,
            lambda sink: _Recorder(sink, self.world),
            DispatchMetrics(CollectorRegistry()),
            sources=self._sources,
            wall=self._wall,
        )
        self._router.push_async_callback(self._dispatcher.stop, 0.0)
        self._catch_up = CatchUp(self._directory, index, states, self._queue, self._sources.keys())
        await states.load()
        acceptor = Acceptor(self._directory, index, states, self._queue)
        self._intake = Intake(
            self._sources, acceptor.accept_bytes, self._intake_metrics, max_under_way=100, max_body_bytes=1024**2
        )
        loaded = asyncio.Event()
        self._directory.when_loaded(loaded.set)
        self._run(SinkWatch(self._api, self._sinks_namespace, self._directory).run())
        async with asyncio.timeout(DEADLINE_SECONDS):
            await loaded.wait()
        await self._dispatcher.load()
        self._run(self._catch_up.run())

    def _run(self, work: Awaitable[None]) -> None:
        """Run something until the router is closed."""
        task = asyncio.ensure_future(work)

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])

        self._router.push_async_callback(end)

    async def restart_router(self) -> None:
        """Close the router, and open another over the same queue."""
        await self._router.aclose()
        self._router = AsyncExitStack()
        await self._open_router()
        await self.settled()

    async def close(self) -> None:
        """Stop both."""
        await self._router.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._resolvers.close(0.0)

    async def settled(self) -> None:
        """Wait until the operator and the router are done with everything; then nothing may have gone wrong, and nothing be missing."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while await self._busy():
                    await asyncio.sleep(0.0005)
        except TimeoutError:
            self.world.wrong.append(f"something is still to be done: {await self._busy()}")
        missing = self.world.missing()
        wrong = [
            *self.world.wrong,
            *(f"{sent} did not arrive at {self.world.sinks[uid]}" for uid, sent in sorted(missing, key=str)),
        ]
        assert not wrong, "\n".join(wrong[:10])

    async def _busy(self) -> str:
        """What is still to be done; empty: nothing."""
        await self._api.caught_up()
        if not self._work.idle:
            return "the operator works"
        if not self._catch_up.idle:
            return "sinks are being caught up"
        if self._dispatcher.in_flight:
            return "messages are in flight"
        await self._queue.flush()
        world = self.world
        waiting = [
            uid
            for uid in await self._queue.sinks_waiting()
            if uid not in world.sinks or (world.active(uid) and not world.closed(uid))
        ]
        return f"deliveries wait for {waiting}" if waiting else ""

    async def do(self, *move: Any) -> None:
        """Have something happen, and compare: the name of a move and its arguments, as in `match` below; what cannot happen now is nothing."""
        world = self.world
        match move:
            case "own", namespace, tenant:
                await self.own(namespace, tenant)
            case "mark", namespace, marked if namespace in world.namespaces:
                await self.own(namespace, world.owners.get(namespace, ""), platform=marked)
            case "delete namespace", namespace if namespace in world.namespaces:
                await self.delete_namespace(namespace)
            case "create", (namespace, name), tenant, form if namespace in world.namespaces:
                await self.create_sink((namespace, name), tenant or world.owners.get(namespace) or TENANTS[0], form)
            case "rename", key, name if self.uid(key) is not None:
                await self.edit_sink(key, name=name)
            case "claim", key, tenant if self.uid(key) is not None:
                await self.edit_sink(key, tenant=tenant or world.owners.get(key[0]))
            case "hand over", key, tenant if self.uid(key) is not None:
                await self.own(key[0], tenant)
                await self.edit_sink(key, tenant=tenant)
            case "quiet", key, quiet if self.uid(key) is not None:
                await self.edit_sink(key, quiet=quiet)
            case "an hour passes", *_:
                await self.pass_an_hour()
            case "delete", key if self.uid(key) is not None:
                await self.delete_sink(key)
            case "rotate", source, labels:
                await self.post_with(source, self.rotate(source), labels)
            case "restart router", *_:
                await self.restart_router()
            case "post", source, labels:
                await self.post(source, labels)
            case "again", number, ended if groups := [one for one in self._groups if one.labels]:
                await self._send(self._groups.index(groups[number % len(groups)]), ended)

    # ---- what happens to the cluster

    async def own(self, namespace: str, tenant: str, *, platform: bool | None = None) -> None:
        """Create a namespace, or change whose it is; an empty tenant: nobody's; None: whether it is the platform's stays as it is."""
        marked = namespace in self.world.platform if platform is None else platform
        labels = {**({TENANT_LABEL: tenant} if tenant else {}), **({PLATFORM_LABEL: "true"} if marked else {})}
        made: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
        await (self._api.replace if namespace in self.world.namespaces else self._api.create)(NAMESPACES, made)
        self.world.namespaces.add(namespace)
        self.world.owners.pop(namespace, None)
        (self.world.platform.add if marked else self.world.platform.discard)(namespace)
        if tenant:
            self.world.owners[namespace] = tenant
        await self._changed()

    async def delete_namespace(self, namespace: str) -> None:
        """Delete a namespace with what is in it."""
        for uid, one in list(self.world.sinks.items()):
            if one.key[0] == namespace:
                await self._delete(uid)
        await self._api.delete(NAMESPACES, ("", namespace))
        self.world.namespaces.discard(namespace)
        self.world.platform.discard(namespace)
        self.world.owners.pop(namespace, None)
        await self._changed()

    async def create_sink(self, key: Key, tenant: str, form: str) -> None:
        """Create an EventSink; one of that name is deleted first, as when it is created again."""
        if (old := self.uid(key)) is not None:
            await self._delete(old)
        made = await self._api.create(EVENTSINKS, event_sink(*key, tenant=tenant, **FORMS[form]))
        self.world.sinks[made["metadata"]["uid"]] = KnownSink(key, tenant)
        await self._changed()

    async def edit_sink(self, key: Key, *, tenant: str | None = None, name: str = "renamed", quiet: str | None = None) -> None:
        """Change an EventSink: its display name; its tenant, as whoever gets around the CRD's rule; how it is quiet in this hour."""
        uid = self.uid(key)
        assert uid is not None
        now = await self._api.get(EVENTSINKS, key)
        one = self.world.sinks[uid]
        spec = {**now["spec"], "name": name, "tenant": tenant or one.tenant}
        one.edited = one.edited or one.tenant != spec["tenant"]
        one.tenant = spec["tenant"]
        if quiet is not None:
            one.quiet, one.until = quiet, self.world.hour + 1
            spec = _quiet_spec(spec, quiet, self.world.hour)
        await self._api.replace(EVENTSINKS, {**now, "spec": spec})
        await self._changed()

    async def pass_an_hour(self) -> None:
        """Let time pass: whatever was quiet is not any more."""
        self.world.hour += 1
        self._catch_up.wake()
        for uid in self.world.sinks:
            self._dispatcher.probe(uid)
        await self._changed()

    async def delete_sink(self, key: Key) -> None:
        """Delete an EventSink."""
        uid = self.uid(key)
        assert uid is not None
        await self._delete(uid)
        await self._changed()

    def uid(self, key: Key) -> str | None:
        """Of the EventSink with this namespace and name."""
        return next((uid for uid, one in self.world.sinks.items() if one.key == key), None)

    async def _delete(self, uid: str) -> None:
        await self._api.delete(EVENTSINKS, self.world.sinks.pop(uid).key)

    async def _changed(self) -> None:
        self.world.counts["changes"] += 1
        self.world.want()
        await self.settled()

    # ---- what sources send

    def rotate(self, source: str) -> str:
        """Give a source another token; returns the one that is not valid any more."""
        old = self._tokens[source]
        name, number = old.rsplit("-", 1)
        self._tokens[source] = f"{name}-{int(number) + 1}"
        self._token_file(source).write_text(self._tokens[source])
        self._now += TOKEN_REREAD_SECONDS
        return old

    async def post(self, source: str, labels: Sequence[Mapping[str, str]]) -> None:
        """Post new alerts with these labels, in one notification of a new group."""
        self._groups.append(_Group(source, {self.alerts + number: one for number, one in enumerate(labels)}))
        self.alerts += len(labels)
        await self._send(len(self._groups) - 1, ())

    async def post_with(self, source: str, token: str, labels: Mapping[str, str]) -> None:
        """Post with a token that is not the source's: nothing is accepted."""
        response = await self._respond(source, token, self._body(source, [self._written(source, labels, "0", fires=True)], "g"))
        assert response.status == 401, response
        await self.settled()

    async def _send(self, number: int, ended: Container[int]) -> None:
        world, group = self.world, self._groups[number]
        written, unowned = [], []
        for index, (alert, labels) in enumerate(list(group.labels.items())):
            fires = index not in ended
            self._marks += 1
            written.append(self._written(group.source, {**labels, "alert": str(alert)}, str(self._marks), fires=fires))
            tenant = tenant_of(SOURCES[group.source], labels, world.owners)
            if tenant is None:
                unowned.append(index)
            world.send(str(self._marks), alert, tenant, fires=fires)
            if not fires:
                del group.labels[alert]
        await self._check(group.source, written, unowned, f"g{number}")

    async def _check(self, source: str, written: Sequence[Mapping[str, Any]], unowned: Sequence[int], group: str) -> None:
        """Post, and see that what has no tenant is counted and shown."""
        world = self.world
        world.want()
        before = self._rejected(source)
        response = await self._respond(source, self._tokens[source], self._body(source, written, group))
        world.counts["alerts"] += len(written)
        world.counts["without a tenant"] += len(unowned)
        assert self._rejected(source) - before == len(unowned), "an alert without a tenant was not counted"
        if len(unowned) < len(written):
            said = json.loads(response.body)
            assert (response.status, said["accepted"]) == (200, len(written) - len(unowned)), response
            shown = len(said["rejected"]) + said.get("moreRejected", 0)
            assert [one["index"] for one in said["rejected"]] == unowned[: len(said["rejected"])], "not shown in the response"
            assert shown == len(unowned), "not shown in the response"
        else:
            assert response.status in (400, 403), response
        await self.settled()

    def _rejected(self, source: str) -> int:
        """How many of its alerts are counted as rejected."""
        samples = [one for metric in self.registry.collect() for one in metric.samples if one.labels.get("source") == source]
        return int(sum(one.value for one in samples if one.name == "eventsink_router_alerts_rejected_total"))

    def _written(self, source: str, labels: Mapping[str, str], mark: str, *, fires: bool) -> dict[str, Any]:
        ends = "2026-01-01T13:00:00Z"
        one: dict[str, Any] = {
            "labels": {"alertname": "A", **labels},
            "annotations": {"mark": mark},
            "startsAt": "2026-01-01T12:00:00Z",
        }
        if SOURCES[source].get("format") == "prometheus":
            return {**one, **({} if fires else {"endsAt": ends})}
        return {**one, "status": "firing" if fires else "resolved", "endsAt": "0001-01-01T00:00:00Z" if fires else ends}

    def _body(self, source: str, written: Sequence[Mapping[str, Any]], group: str) -> bytes:
        grouped = SOURCES[source].get("format") != "prometheus"
        return json.dumps(notification(*written, group=group) if grouped else written).encode()

    async def _respond(self, source: str, token: str, body: bytes) -> Response:
        suffix = "/api/v2/alerts" if SOURCES[source].get("format") == "prometheus" else ""
        headers = {b"authorization": f"Bearer {token}".encode()}
        admitted = self._intake.admit(RequestHead("POST", f"/v1/alerts/{source}{suffix}", "", headers, "10.0.0.1"))
        if isinstance(admitted, Response):
            return admitted
        response = self._intake.handle(admitted, body)
        return response if isinstance(response, Response) else await response


def _quiet_spec(spec: Mapping[str, Any], quiet: str, hour: int) -> dict[str, Any]:
    """The spec of a sink that is quiet so for this hour; empty: that is not."""
    begin, end = BEGIN + timedelta(hours=hour), BEGIN + timedelta(hours=hour + 1)
    match = {name: value for name, value in spec.get("match", {}).items() if name not in ("muteTimes", "outsideTimes")}
    changed = {name: value for name, value in spec.items() if name not in ("match", "mutes")}
    if quiet == "muted":
        changed["mutes"] = [{"matchers": ['alertname="A"'], "until": f"{end:%Y-%m-%dT%H:%M:%SZ}"}]
    elif quiet:
        times = [{"startTime": f"{begin:%H}:00", "endTime": f"{begin.hour + 1:02}:00"}]
        day = {"daysOfMonth": [str(begin.day)], "months": [str(begin.month)], "years": [str(begin.year)]}
        match |= {"muteTimes": [{"times": times, **day}], "outsideTimes": "drop" if quiet == "dropping" else "wait"}
    return {**changed, "match": match} if match else changed
