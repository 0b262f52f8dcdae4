"""Brings EventSinks into force: the operator's reconciler over documents, and what programs make, instead of a cluster."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from eventsink.controller.assembly import Controller
from eventsink.controller.config import OperatorSettings
from eventsink.kube.api import Key, Object
from eventsink.resources.eventsink import InvalidSpec, read_object, read_spec
from eventsink.resources.names import KIND
from eventsink.resources.status import DELIVERING
from eventsink.rest.calls.managers import FILE_ANNOTATION
from eventsink.router.directory import SinkDirectory
from eventsink.router.watch import SinkHandler, TenancyHandler
from eventsink.runtime.logs import get_logger
from eventsink.runtime.times import format_time
from eventsink.sinks.sink import SINK_SECRET_TYPE, TENANCY_SECRET_TYPE
from eventsink.standalone.config import TOKENS_NAMESPACE
from eventsink.standalone.documents import Document, DocumentKey
from eventsink.standalone.made import MadeSinks
from eventsink.standalone.objects import Listener, LocalObjects

FIRST_ROUND_SECONDS = 30.0
"""How long the start waits until each sink was brought into force once: Slack may be away."""
_UIDS = uuid.UUID("5f4c1a8e-0d0e-5bd0-9f43-7f6a55f2f6a1")
"""Of the uids that are made from names, so that a sink keeps its queue over a restart."""

FILES = "eventsink-run"
"""Field manager of the EventSinks that stand in files."""


class Generation(NamedTuple):
    """What a cluster would know of an EventSink that stands in a file. Times are RFC 3339 UTC with seconds."""

    number: int
    digest: str
    """Of the spec that the number stands for."""
    created: str
    changed: str
    """When the spec changed last."""


Generations = dict[str, Generation]
"""By `namespace/name`."""


def uid_of(kind: str, namespace: str, name: str) -> str:
    """The uid of a document."""
    return str(uuid.uuid5(_UIDS, f"{kind}/{namespace}/{name}"))


def next_generations(before: Generations, documents: Mapping[DocumentKey, Document], now: datetime) -> Generations:
    """As the API server counts them: one more for each change of a spec."""
    result: Generations = {}
    for (kind, namespace, name), one in documents.items():
        if kind == KIND:
            sink, digest, time = f"{namespace}/{name}", _digest(one.object.get("spec")), format_time(now)
            old = before.get(sink) or Generation(0, "", time, time)
            result[sink] = old if old.digest == digest else Generation(old.number + 1, digest, old.created, time)
    return result


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


class DocumentSinks:
    """Follows documents: give it all that there are with `apply`, as often as they change.

    Parameters
    ----------
    folder
        Where compiled sinks and tokens are kept.
    made
        EventSinks that programs make.
    directory
        Of the router: filled from what was compiled, as from a cluster's Secrets.
    """

    def __init__(
        self, settings: OperatorSettings, folder: Path, made: MadeSinks, directory: SinkDirectory, registry: CollectorRegistry
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._begun = asyncio.Event()
        self._sink_handler = SinkHandler(directory)
        self._tenancy_handler = TenancyHandler(directory)
        self.objects = LocalObjects(
            folder,
            made,
            secret_changed=self._secret_changed,
            sink_changed=self._status_changed,
            sink_made=self._made,
            told=self._told,
        )
        self._given: tuple[Mapping[DocumentKey, Document], Generations] = ({}, {})
        """What `apply` was called with last."""
        self._documents: dict[DocumentKey, Document] = {}
        """Those of them that count."""
        self._namespaces: dict[str, Object] = {}
        self._namespace_listeners: list[Listener] = []
        self._delivering: dict[Key, tuple[str, str]] = {}
        self._controller = Controller(settings, self.objects, registry, own_namespace=TOKENS_NAMESPACE)
        self._state = self._controller.state

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            await self._begun.wait()
            async with asyncio.TaskGroup() as group:
                for name, task in self._controller.tasks():
                    group.create_task(task, name=name)
        finally:
            await self._controller.close()

    async def first_round(self) -> None:
        """Wait until everything was tried once; then the router knows its sinks."""
        self._begun.set()
        try:
            async with asyncio.timeout(FIRST_ROUND_SECONDS):
                await self._controller.settled.wait()
        except TimeoutError:
            get_logger().warning("not every sink could be brought into force yet; the others are")
        known = self._directory.sinks
        # They are there, and their deliveries wait for them: only the deliveries of deleted sinks become dead letters.
        self._directory.withheld |= {uid for obj in self.objects.sinks.values() if (uid := obj["metadata"]["uid"]) not in known}
        self._directory.mark_loaded()
        get_logger().info("loaded", sinks=len(known), not_ready=len(self._directory.withheld))

    # ---- documents

    def begin(self, documents: Mapping[DocumentKey, Document], generations: Generations) -> None:
        """What was made is loaded, and these are the documents that there are at the start."""
        self.apply(documents, generations)
        for key in self.objects.made.objects:
            self._state.see(self.objects.sinks[key])

    def apply(self, documents: Mapping[DocumentKey, Document], generations: Generations) -> None:
        """These are all documents now."""
        self._given = (documents, generations)
        before, now = self._documents, self._those_that_count(documents)
        self._documents = now
        self._follow_namespaces()
        for key in before.keys() - now.keys():
            self._drop(key)
        for key, one in now.items():
            old = before.get(key)
            place = (one.namespace, one.name)
            if one.kind == "Secret" and (old is None or old.object != one.object):
                version = _digest(one.object["data"])[:16]
                obj = {**one.object, "metadata": {**one.object["metadata"], "resourceVersion": version}}
                self.objects.given[place] = obj
                self._state.secret_handler.upsert(place, obj)
            elif one.kind == KIND and (old is None or (old.file, old.object) != (one.file, one.object)):
                self.objects.put_sink(place, eventsink_of(one, generations["/".join(place)]))
                self._state.see(self.objects.sinks[place])

    def _those_that_count(self, documents: Mapping[DocumentKey, Document]) -> dict[DocumentKey, Document]:
        """All but EventSinks whose name one has that a program made."""
        found = {}
        for key, one in documents.items():
            if one.kind == KIND and (one.namespace, one.name) in self.objects.made.objects:
                get_logger().error(
                    "a document does not count: a sink of this name was made by program; give it another name",
                    file=one.file,
                    line=one.line,
                    sink=f"{one.namespace}/{one.name}",
                )
            else:
                found[key] = one
        return found

    def watch_namespaces(self, listener: Listener) -> None:
        """Have `listener` hear of all namespaces, those that are there first."""
        self._namespace_listeners.append(listener)
        for name, obj in self._namespaces.items():
            listener(("", name), obj)

    def _follow_namespaces(self) -> None:
        """Those of documents, and those that anything lies in: on a cluster these would have to be there, too."""
        names = {one.namespace or one.name for one in self._documents.values()}
        names |= {namespace for namespace, _ in self.objects.made.objects}
        for name in sorted(self._namespaces.keys() - names):
            del self._namespaces[name]
            self._state.namespace_handler.delete(("", name))
            for listener in self._namespace_listeners:
                listener(("", name), None)
        for name in sorted(names):
            said = self._documents.get(("Namespace", "", name))
            labels = said.object["metadata"]["labels"] if said is not None else {}
            obj: Object = {"metadata": {"name": name, "uid": uid_of("Namespace", "", name), "labels": labels}}
            if self._namespaces.get(name) != obj:
                self._namespaces[name] = obj
                self._state.namespace_handler.upsert(("", name), obj)
                for listener in self._namespace_listeners:
                    listener(("", name), obj)

    def _drop(self, key: DocumentKey) -> None:
        kind, *place = key
        where = (place[0], place[1])
        if kind == "Secret":
            self.objects.given.pop(where, None)
            self._state.secret_handler.delete(where)
        elif kind == KIND:
            self.objects.drop_sink(where)
            self._forget(where)

    def _forget(self, where: Key) -> None:
        """An EventSink is gone."""
        self._delivering.pop(where, None)
        known = self._state.eventsinks.get(where)
        uid = known["metadata"]["uid"] if known is not None else uid_of(KIND, *where)
        self._directory.withheld.discard(uid)
        self._state.lose(where, uid)

    # ---- what programs make

    def _made(self, key: Key, obj: Object | None) -> None:
        if obj is not None:
            self._follow_namespaces()
            self._state.see(obj)
        else:
            self._forget(key)
            self.apply(*self._given)  # a document of the same name counts from now on

    # ---- what the objects tell

    def _secret_changed(self, key: Key, obj: Object | None) -> None:
        """As a cluster's watches would tell it: compiled sinks to both sides, the tenancy to the router, tokens to the operator."""
        if key[0] != self._settings.sinks_namespace:
            handler = self._state.secret_handler
            handler.upsert(key, obj) if obj is not None else handler.delete(key)
        elif obj is None:
            self._sink_handler.delete(key)
            self._controller.store.delete(key)
        elif obj.get("type") == SINK_SECRET_TYPE:
            self._sink_handler.upsert(key, obj)
            self._controller.store.upsert(key, obj)
        elif obj.get("type") == TENANCY_SECRET_TYPE:
            self._tenancy_handler.upsert(key, obj)

    def _status_changed(self, obj: Object) -> None:
        self._state.see(obj)
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
            get_logger().warning("a sink is not ready", sink=sink, reason=event["reason"], message=event["message"])
            return
        path = involved.get("fieldPath", "")
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


def eventsink_of(one: Document, generation: Generation) -> Object:
    """The EventSink of a document, as a cluster would have it."""
    metadata = {
        **one.object["metadata"],
        "annotations": {**(one.object["metadata"].get("annotations") or {}), FILE_ANNOTATION: one.file},
        "uid": uid_of(KIND, one.namespace, one.name),
        "generation": generation.number,
        "creationTimestamp": generation.created,
        "managedFields": [{"manager": FILES, "operation": "Update", "time": generation.changed}],
    }
    return {**one.object, "metadata": metadata}


def spec_errors(document: Document) -> list[tuple[str, int, str]]:
    """What is wrong with the spec of an EventSink by itself: path, line, sentence."""
    try:
        read_spec(document.object.get("spec"))
    except InvalidSpec as invalid:
        return [(error.path, document.line_of(error.path), error.message) for error in invalid.errors]
    return []
