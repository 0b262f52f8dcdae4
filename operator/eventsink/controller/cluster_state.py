"""What the operator knows of the cluster: EventSinks whole, Secrets and namespaces by their metadata only, and what it compiled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from eventsink.controller.tenancy import Namespace
from eventsink.kube.api import Key, Object
from eventsink.resources.names import TENANT_LABEL
from eventsink.sinks.sink import CompiledFrom

FROM_ANNOTATION = "eventsink.dev/compiled-from"
"""On a compiled Secret: what it was made from, JSON of `CompiledFrom`."""
SINK_ANNOTATION = "eventsink.dev/sink"
"""On a compiled Secret: `namespace/name` of its EventSink."""
WITHDRAWN_ANNOTATION = "eventsink.dev/withdrawn"
"""On a compiled Secret: the reason for which the sink was withdrawn."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the metadata of a compiled Secret say."""

    uid: str
    """Of the EventSink."""
    sink: Key
    made_from: CompiledFrom | None
    """None: not readable, so it is compiled anew."""
    withdrawn: str
    """The reason; empty: it is in force."""
    resource_version: str


class World:
    """The current state, fed by watches. `enqueue` is called with the key of each EventSink that a change may concern.

    `tenancy_changed` is called when the owners of tenants changed.
    """

    def __init__(self, enqueue: Callable[[Key], None], tenancy_changed: Callable[[], None]) -> None:
        self._enqueue = enqueue
        self.eventsinks: dict[Key, Object] = {}
        self.namespaces: dict[str, Namespace] = {}
        self.secrets: dict[Key, str] = {}
        """Namespace and name -> resourceVersion."""
        self.compiled: dict[str, Compiled] = {}
        """uid of the EventSink -> what was compiled for it."""
        self._users: dict[Key, set[Key]] = {}
        """Secret -> EventSinks that refer to it."""
        self._uses: dict[Key, frozenset[Key]] = {}
        self.secret_handler = _Handler(self._secret_changed, self._secret_gone)
        self.namespace_handler = _Handler(self._namespace_changed, self._namespace_gone)
        self.compiled_handler = _Handler(self._compiled_changed, self._compiled_gone)
        self._tenancy_changed = tenancy_changed

    # ---- EventSinks

    def see(self, obj: Object) -> None:
        """An EventSink appeared or changed. A state older than the known one is ignored where that can be told."""
        metadata = obj["metadata"]
        key = (metadata["namespace"], metadata["name"])
        known = self.eventsinks.get(key)
        if known is not None and known["metadata"]["resourceVersion"] == metadata["resourceVersion"]:
            return
        self.eventsinks[key] = obj
        self._enqueue(key)

    def lose(self, key: Key, uid: str) -> None:
        """An EventSink is gone, unless one of that name was made anew since."""
        known = self.eventsinks.get(key)
        if known is not None and known["metadata"].get("uid") == uid:
            del self.eventsinks[key]
            self.uses(key, ())
        self._enqueue(key)

    def uses(self, sink: Key, names: Iterable[str], tokens: Iterable[Key] = ()) -> None:
        """Note which Secrets of its namespace an EventSink refers to, and which of the operator's own it needs."""
        new = frozenset((sink[0], name) for name in names) | frozenset(tokens)
        old = self._uses.get(sink, frozenset())
        for secret in old - new:
            users = self._users[secret]
            users.discard(sink)
            if not users:
                del self._users[secret]
        for secret in new - old:
            self._users.setdefault(secret, set()).add(sink)
        if new:
            self._uses[sink] = new
        else:
            self._uses.pop(sink, None)

    def used_in(self, namespace: str) -> set[str]:
        """Names of the Secrets of a namespace that EventSinks need."""
        return {name for owner, name in self._users if owner == namespace}

    def compiled_for(self, sink: Key) -> list[Compiled]:
        """Everything compiled for EventSinks of that namespace and name, also former ones."""
        return [compiled for compiled in self.compiled.values() if compiled.sink == sink]

    # ---- Secrets

    def _secret_changed(self, key: Key, obj: Object) -> None:
        self.secrets[key] = obj["metadata"]["resourceVersion"]
        self._enqueue_users(key)

    def _secret_gone(self, key: Key) -> None:
        self.secrets.pop(key, None)
        self._enqueue_users(key)

    def _enqueue_users(self, secret: Key) -> None:
        for sink in sorted(self._users.get(secret, ())):
            self._enqueue(sink)

    # ---- namespaces

    def _namespace_changed(self, key: Key, obj: Object) -> None:
        metadata = obj["metadata"]
        tenant = (metadata.get("labels") or {}).get(TENANT_LABEL, "")
        if metadata.get("deletionTimestamp"):
            tenant = ""  # what is being deleted owns nothing any more
        self._set_namespace(key[1], Namespace(metadata.get("uid", ""), tenant))

    def _namespace_gone(self, key: Key) -> None:
        self._set_namespace(key[1], None)

    def _set_namespace(self, name: str, new: Namespace | None) -> None:
        old = self.namespaces.get(name)
        if new is None:
            self.namespaces.pop(name, None)
        else:
            self.namespaces[name] = new
        if old == new:
            return
        tenants = {one.tenant for one in (old, new) if one is not None} - {""}
        for key, obj in self.eventsinks.items():
            if key[0] == name or (obj.get("spec") or {}).get("tenant") in tenants:
                self._enqueue(key)
        if tenants:
            self._tenancy_changed()

    # ---- compiled sinks

    def _compiled_changed(self, key: Key, obj: Object) -> None:
        uid = key[1].removeprefix("sink-")
        compiled = read_compiled(uid, obj["metadata"])
        before = self.compiled.get(uid)
        self.compiled[uid] = compiled
        if before is not None and before.resource_version != compiled.resource_version:
            self._enqueue(compiled.sink)  # somebody else may have changed it

    def _compiled_gone(self, key: Key) -> None:
        gone = self.compiled.pop(key[1].removeprefix("sink-"), None)
        if gone is not None:
            self._enqueue(gone.sink)


def read_compiled(uid: str, metadata: Mapping[str, Any]) -> Compiled:
    """What the metadata of a compiled Secret say; of unreadable ones, as much as there is."""
    annotations = metadata.get("annotations") or {}
    namespace, _, name = annotations.get(SINK_ANNOTATION, "").partition("/")
    try:
        made_from = CompiledFrom.model_validate(json.loads(annotations.get(FROM_ANNOTATION, "")))
    except (ValueError, ValidationError):
        made_from = None
    return Compiled(uid, (namespace, name), made_from, annotations.get(WITHDRAWN_ANNOTATION, ""), metadata["resourceVersion"])


class _Handler:
    """A reflector's handler made of two functions."""

    def __init__(self, upsert: Callable[[Key, Object], None], delete: Callable[[Key], None]) -> None:
        self._upsert = upsert
        self._delete = delete

    def upsert(self, key: Key, obj: Object) -> None:
        self._upsert(key, obj)

    def delete(self, key: Key) -> None:
        self._delete(key)
