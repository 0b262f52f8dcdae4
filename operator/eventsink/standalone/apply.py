"""Applies documents to the local API, with what a cluster's API server would add to them: uids, generations, namespaces."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from eventsink.kube.api import NAMESPACES, SECRETS, Key, Object, Resource, key_of
from eventsink.kube.local import LocalApi
from eventsink.resources.names import EVENTSINKS, KIND
from eventsink.rest.calls.managers import FILE_ANNOTATION
from eventsink.runtime.logs import get_logger
from eventsink.runtime.times import format_time
from eventsink.standalone.documents import Document, DocumentKey
from eventsink.standalone.storage import file_of

_UIDS = uuid.UUID("5f4c1a8e-0d0e-5bd0-9f43-7f6a55f2f6a1")
"""Of the uids that are made from names, so that a sink keeps its queue over a restart."""
MANAGER = "eventsink-run"
"""Field manager of the EventSinks that documents define."""


class Generation(NamedTuple):
    """What a cluster would know of an EventSink of a document. Times are RFC 3339 UTC with seconds."""

    number: int
    digest: str
    """Of the spec that has this number."""
    created: str
    changed: str
    """When the spec changed last."""


Generations = dict[str, Generation]
"""By `namespace/name`."""


class DocumentApplier:
    """Gives the API all documents with `apply`, as often as they change.

    An EventSink that a program created stays when a document has the same name; the document is applied when that one is deleted
    (`sink_deleted`).
    """

    def __init__(self, api: LocalApi) -> None:
        self._api = api
        self._given: tuple[Mapping[DocumentKey, Document], Generations] = ({}, {})
        """What `apply` was called with last."""
        self._applied: dict[DocumentKey, Document] = {}
        self._ignored: set[Key] = set()
        """EventSinks of documents whose name a program's has."""

    def document(self, sink: Key) -> Document | None:
        """The document of an EventSink; None: a program created it."""
        return self._applied.get((KIND, *sink))

    def apply(self, documents: Mapping[DocumentKey, Document], generations: Generations) -> None:
        """These are all documents now."""
        self._given = (documents, generations)
        before, now = self._applied, self._without_ignored(documents)
        self._applied = now
        self._apply_namespaces()
        for key in before.keys() - now.keys():
            self._drop(key)
        changed = [one for key, one in now.items() if not _is_same(before.get(key), one)]
        for one in changed:
            if one.kind == SECRETS.kind:
                self._api.put(SECRETS, secret_of(one))
        for one in changed:
            if one.kind == KIND:
                self._api.put(EVENTSINKS, eventsink_of(one, generations[f"{one.namespace}/{one.name}"]))

    def sink_deleted(self, key: Key) -> None:
        """An EventSink was deleted: a document of that name counts from now on."""
        if key in self._ignored:
            self.apply(*self._given)

    def use_namespace(self, name: str) -> None:
        """Something is going to be in that namespace: on a cluster it would have to exist."""
        if not any(one["metadata"]["name"] == name for one in self._api.objects(NAMESPACES)):
            self._api.put(NAMESPACES, namespace_of(name, None))

    def _without_ignored(self, documents: Mapping[DocumentKey, Document]) -> dict[DocumentKey, Document]:
        taken = {key_of(one) for one in self._api.objects(EVENTSINKS) if not file_of(one)}
        found = {}
        self._ignored = set()
        for key, one in documents.items():
            sink = (one.namespace, one.name)
            if one.kind == KIND and sink in taken:
                self._ignored.add(sink)
                get_logger().error(
                    "document ignored: a program created a sink of this name; rename the document",
                    file=one.file,
                    line=one.line,
                    sink="/".join(sink),
                )
            else:
                found[key] = one
        return found

    def _apply_namespaces(self) -> None:
        """Those of documents, and those that anything is in."""
        names = {one.namespace or one.name for one in self._applied.values()}
        names |= {key_of(one)[0] for one in self._api.objects(EVENTSINKS) if not file_of(one)}
        known = {one["metadata"]["name"]: one for one in self._api.objects(NAMESPACES)}
        for name in sorted(known.keys() - names):
            self._api.drop(NAMESPACES, ("", name))
        for name in sorted(names):
            wanted = namespace_of(name, self._applied.get((NAMESPACES.kind, "", name)))
            if name not in known or known[name]["metadata"]["labels"] != wanted["metadata"]["labels"]:
                self._api.put(NAMESPACES, wanted)

    def _drop(self, key: DocumentKey) -> None:
        kind, namespace, name = key
        resource: Resource | None = {KIND: EVENTSINKS, SECRETS.kind: SECRETS}.get(kind)
        if resource is not None:
            self._api.drop(resource, (namespace, name))


def uid_of(kind: str, namespace: str, name: str) -> str:
    """The uid of a document."""
    return str(uuid.uuid5(_UIDS, f"{kind}/{namespace}/{name}"))


def next_generations(before: Generations, documents: Mapping[DocumentKey, Document], now: datetime) -> Generations:
    """As the API server counts them: one more for each change of a spec."""
    result: Generations = {}
    time = format_time(now)
    for (kind, namespace, name), one in documents.items():
        if kind == KIND:
            sink, digest = f"{namespace}/{name}", _digest(one.object.get("spec"))
            old = before.get(sink) or Generation(0, "", time, time)
            result[sink] = old if old.digest == digest else Generation(old.number + 1, digest, old.created, time)
    return result


def eventsink_of(one: Document, generation: Generation) -> Object:
    """The EventSink of a document, as a cluster would have it."""
    metadata = {
        **_metadata(one),
        "uid": uid_of(KIND, one.namespace, one.name),
        "generation": generation.number,
        "creationTimestamp": generation.created,
        "managedFields": [{"manager": MANAGER, "operation": "Update", "time": generation.changed}],
    }
    return {**one.object, "metadata": metadata}


def secret_of(one: Document) -> Object:
    """The Secret of a document; its resourceVersion is the same for the same data, so that a restart compiles nothing."""
    return {**one.object, "metadata": {**_metadata(one), "resourceVersion": _digest(one.object["data"])[:16]}}


def namespace_of(name: str, document: Document | None) -> Object:
    """A namespace, with the labels of its document if it has one."""
    labels = document.object["metadata"]["labels"] if document is not None else {}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "uid": uid_of("Namespace", "", name), "labels": labels},
    }


def _metadata(one: Document) -> Object:
    metadata = one.object["metadata"]
    return {**metadata, "annotations": {**(metadata.get("annotations") or {}), FILE_ANNOTATION: one.file}}


def _is_same(old: Document | None, new: Document) -> bool:
    """Whether the API has it already: where it is in its file does not matter."""
    return old is not None and (old.file, old.object) == (new.file, new.object)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
