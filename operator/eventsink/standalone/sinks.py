"""Brings the EventSinks of documents into force: the operator's reconciler over documents instead of a cluster."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry

from eventsink.controller.config import OperatorSettings
from eventsink.controller.metrics import OperatorMetrics
from eventsink.controller.reconcile import Reconciler
from eventsink.controller.slack import SlackTargets
from eventsink.controller.slack_codes import SlackCodes
from eventsink.controller.slack_tokens import SecretTokenStore
from eventsink.controller.status import StatusWriter
from eventsink.controller.store import CompiledStore
from eventsink.controller.worker import TENANCY, Worker
from eventsink.controller.workqueue import WorkQueue
from eventsink.controller.world import World
from eventsink.kube.client import ApiError, Object
from eventsink.kube.reflector import Key
from eventsink.resources.eventsink import InvalidSpec, read_object, read_spec
from eventsink.resources.spec import KIND
from eventsink.resources.status import DELIVERING
from eventsink.router.directory import SinkDirectory
from eventsink.router.watch import SinkHandler, TenancyHandler
from eventsink.runtime.logs import get_logger
from eventsink.sinks.egress import EgressGuard
from eventsink.sinks.guarded import guarded_session
from eventsink.sinks.sink import SINK_SECRET_TYPE, TENANCY_SECRET_TYPE
from eventsink.standalone.documents import Document, DocumentKey
from eventsink.standalone.objects import LocalObjects

WORKERS = 8
FINISH_SECONDS = 15.0
"""How long the end waits for codes that are being exchanged."""
FIRST_ROUND_SECONDS = 30.0
"""How long the start waits until each sink was brought into force once: Slack may be away."""
_UIDS = uuid.UUID("5f4c1a8e-0d0e-5bd0-9f43-7f6a55f2f6a1")
"""Of the uids that are made from names, so that a sink keeps its queue over a restart."""
_FIELD = re.compile(r"(spec(?:\.\w+|\[\d+\])*): ")

Generations = dict[str, tuple[int, str]]
"""`namespace/name` -> generation, and the digest of the spec that it stands for."""


def uid_of(kind: str, namespace: str, name: str) -> str:
    """The uid of a document."""
    return str(uuid.uuid5(_UIDS, f"{kind}/{namespace}/{name}"))


def next_generations(before: Generations, documents: Mapping[DocumentKey, Document]) -> Generations:
    """As the API server counts them: one more for each change of a spec."""
    result: Generations = {}
    for (kind, namespace, name), one in documents.items():
        if kind == KIND:
            sink, new = f"{namespace}/{name}", _digest(one.object.get("spec"))
            generation, old = before.get(sink, (0, ""))
            result[sink] = (generation if old == new else generation + 1, new)
    return result


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


class DocumentSinks:
    """Follows documents: give it all that there are with `apply`, as often as they change.

    Parameters
    ----------
    folder
        Where compiled sinks and tokens are kept.
    directory
        Of the router: filled from what was compiled, as from a cluster's Secrets.
    """

    def __init__(self, settings: OperatorSettings, folder: Path, directory: SinkDirectory, registry: CollectorRegistry) -> None:
        self._settings = settings
        self._directory = directory
        self._metrics = OperatorMetrics(registry)
        self._queue: WorkQueue[Key] = WorkQueue()
        self._settled = asyncio.Event()
        self._world = World(self._queue.add, lambda: self._queue.add(TENANCY))
        self._sink_handler = SinkHandler(directory)
        self._tenancy_handler = TenancyHandler(directory)
        self.objects = LocalObjects(
            folder, secret_changed=self._secret_changed, sink_changed=self._status_changed, told=self._told
        )
        self._documents: dict[DocumentKey, Document] = {}
        self._delivering: dict[Key, tuple[str, str]] = {}
        self._session = guarded_session(EgressGuard(settings.egress), timeout=settings.slack.timeout)
        self._store = CompiledStore(self.objects, settings.sinks_namespace)
        tokens = SecretTokenStore(self.objects, settings.slack_app.tokens_namespace)
        self._codes = SlackCodes(settings.slack_app, settings.slack, tokens, self._session)
        writer = StatusWriter(self.objects, lambda: datetime.now(UTC))
        slack = SlackTargets(settings.slack, self._session)
        self._reconciler = Reconciler(settings, self.objects, self._world, self._store, writer, slack, self._codes)

    async def run(self) -> None:
        """Work until cancelled."""
        worker = Worker(
            self._queue,
            self._world,
            self._store,
            self._reconciler,
            self._metrics,
            failed=self._failed,
            finished=self._finished,
        )
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(WORKERS):
                    group.create_task(worker.run(), name="worker")
                if self._settings.slack_app.client_id:
                    namespace = self._settings.slack_app.tokens_namespace
                    group.create_task(self._codes.keep(lambda: self._world.used_in(namespace)), name="tokens")
        finally:
            await self._codes.finish(FINISH_SECONDS)
            await self._session.close()

    async def first_round(self) -> None:
        """Wait until everything was tried once; then the router knows its sinks."""
        self._queue.add(TENANCY)
        try:
            async with asyncio.timeout(FIRST_ROUND_SECONDS):
                await self._settled.wait()
        except TimeoutError:
            get_logger().warning("not every sink could be brought into force yet; the others are")
        known = self._directory.sinks
        # They are there, and their deliveries wait for them: only the deliveries of deleted sinks become dead letters.
        self._directory.withheld |= {uid for key in self.objects.sinks if (uid := uid_of(KIND, *key)) not in known}
        self._directory.mark_loaded()
        get_logger().info("loaded", sinks=len(known), not_ready=len(self._directory.withheld))

    # ---- documents

    def apply(self, documents: Mapping[DocumentKey, Document], generations: Generations) -> None:
        """These are all documents now."""
        before, self._documents = self._documents, dict(documents)
        self._namespaces(before, documents)
        for key in before.keys() - documents.keys():
            self._drop(key)
        for key, one in documents.items():
            old = before.get(key)
            place = (one.namespace, one.name)
            if one.kind == "Secret" and (old is None or old.object != one.object):
                version = _digest(one.object["data"])[:16]
                obj = {**one.object, "metadata": {**one.object["metadata"], "resourceVersion": version}}
                self.objects.given[place] = obj
                self._world.secret_handler.upsert(place, obj)
            elif one.kind == KIND and (old is None or old.object != one.object):
                uid = uid_of(KIND, *place)
                metadata = {"uid": uid, "generation": generations["/".join(place)][0]}
                self.objects.put_sink(place, {**one.object, "metadata": {**one.object["metadata"], **metadata}})
                self._world.see(self.objects.sinks[place])
        for compiled in list(self._world.compiled.values()):
            if compiled.sink not in self.objects.sinks:
                self._queue.add(compiled.sink)
        self._metrics.compiled.set(len(self._world.compiled))

    def _namespaces(self, before: Mapping[DocumentKey, Document], now: Mapping[DocumentKey, Document]) -> None:
        """Those of documents, and those that documents lie in: on a cluster these would have to be there, too."""
        old = {one.namespace or one.name for one in before.values()}
        new = {one.namespace or one.name for one in now.values()}
        for name in sorted(old - new):
            self._world.namespace_handler.delete(("", name))
        for name in sorted(new):
            said = now.get(("Namespace", "", name))
            labels = said.object["metadata"]["labels"] if said is not None else {}
            metadata = {"name": name, "uid": uid_of("Namespace", "", name), "labels": labels}
            self._world.namespace_handler.upsert(("", name), {"metadata": metadata})

    def _drop(self, key: DocumentKey) -> None:
        kind, *place = key
        where = (place[0], place[1])
        if kind == "Secret":
            self.objects.given.pop(where, None)
            self._world.secret_handler.delete(where)
        elif kind == KIND:
            self.objects.drop_sink(where)
            self._delivering.pop(where, None)
            self._directory.withheld.discard(uid_of(KIND, *where))
            self._world.lose(where, uid_of(KIND, *where))

    # ---- what the objects tell

    def _secret_changed(self, key: Key, obj: Object | None) -> None:
        """As a cluster's watches would tell it: compiled sinks to both sides, the tenancy to the router, tokens to the operator."""
        if key[0] != self._settings.sinks_namespace:
            handler = self._world.secret_handler
            handler.upsert(key, obj) if obj is not None else handler.delete(key)
        elif obj is None:
            self._sink_handler.delete(key)
            self._world.compiled_handler.delete(key)
        elif obj.get("type") == SINK_SECRET_TYPE:
            self._sink_handler.upsert(key, obj)
            self._world.compiled_handler.upsert(key, obj)
        elif obj.get("type") == TENANCY_SECRET_TYPE:
            self._tenancy_handler.upsert(key, obj)

    def _status_changed(self, obj: Object) -> None:
        self._world.see(obj)
        sink = read_object(obj)
        condition = sink.status.condition(DELIVERING)
        if condition is None:
            return
        key = (sink.namespace, sink.name)
        told, self._delivering[key] = self._delivering.get(key), (condition.status, condition.reason)
        if told != self._delivering[key] and condition.reason != "NothingSent":
            get_logger().info(
                "delivery to a sink",
                sink="/".join(key),
                delivering=condition.status,
                reason=condition.reason,
                message=condition.message,
            )

    def _told(self, event: Object) -> None:
        """The operator's Events, with the file and the line that they are about."""
        involved = event["involvedObject"]
        key = (involved["namespace"], involved["name"])
        sink = "/".join(key)
        if event["type"] == "Normal":
            get_logger().info("a sink is ready", sink=sink, reason=event["reason"], message=event["message"])
            return
        document = self._documents.get((KIND, *key))
        if document is None:
            return
        field = _FIELD.match(event["message"])
        path = field[1] if field is not None else ""
        get_logger().warning(
            "a sink is not ready",
            sink=sink,
            file=document.file,
            line=document.line_of(path),
            field=path,
            reason=event["reason"],
            message=event["message"],
        )
        for path, line, message in spec_errors(document)[1:]:
            get_logger().warning(
                "a sink is not ready",
                sink=sink,
                file=document.file,
                line=line,
                field=path,
                reason=event["reason"],
                message=message,
            )

    # ---- work

    def _failed(self, key: Key, error: ApiError, wait: float) -> None:
        get_logger().warning(
            "a sink could not be reconciled; it is tried again", sink="/".join(key), reason=str(error), wait=wait
        )

    def _finished(self) -> None:
        if self._queue.idle:
            self._settled.set()


def spec_errors(document: Document) -> list[tuple[str, int, str]]:
    """What is wrong with the spec of an EventSink by itself: path, line, sentence."""
    try:
        read_spec(document.object.get("spec"))
    except InvalidSpec as invalid:
        return [(error.path, document.line_of(error.path), error.message) for error in invalid.errors]
    return []
