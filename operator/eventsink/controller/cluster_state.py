"""What the operator knows of the cluster: EventSinks whole; Secrets and namespaces by their metadata only."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from eventsink.controller.tenancy import Namespace
from eventsink.kube.api import Key, Object
from eventsink.resources.names import TENANT_LABEL


class ClusterState:
    """The current state, fed by watches. `enqueue` is called with the key of each EventSink that a change may concern.

    `tenancy_changed` is called when the owners of tenants changed.
    """

    def __init__(self, enqueue: Callable[[Key], None], tenancy_changed: Callable[[], None]) -> None:
        self._enqueue = enqueue
        self.eventsinks: dict[Key, Object] = {}
        self.namespaces: dict[str, Namespace] = {}
        self.secrets: dict[Key, str] = {}
        """Namespace and name -> resourceVersion."""
        self._users: dict[Key, set[Key]] = {}
        """Secret -> EventSinks that refer to it."""
        self._uses: dict[Key, frozenset[Key]] = {}
        self.secret_handler = _Handler(self._secret_changed, self._secret_gone)
        self.namespace_handler = _Handler(self._namespace_changed, self._namespace_gone)
        self._tenancy_changed = tenancy_changed

    # ---- EventSinks

    def see(self, obj: Object) -> None:
        """An EventSink appeared or changed. A state older than the known one is ignored where that can be seen."""
        metadata = obj["metadata"]
        key = (metadata["namespace"], metadata["name"])
        known = self.eventsinks.get(key)
        if known is not None and known["metadata"]["resourceVersion"] == metadata["resourceVersion"]:
            return
        self.eventsinks[key] = obj
        self._enqueue(key)

    def wrote_status(self, before: str, obj: Object) -> None:
        """The operator itself changed the status of an EventSink: its next state, which needs no other look when the watch shows it.

        Parameters
        ----------
        before
            The resourceVersion that it replaced.
        """
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        known = self.eventsinks.get(key)
        if known is not None and known["metadata"]["resourceVersion"] == before:
            self.eventsinks[key] = obj

    def lose(self, key: Key, uid: str) -> None:
        """An EventSink is gone, unless one of that name was created again since."""
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


class _Handler:
    """A reflector's handler made of two functions."""

    def __init__(self, upsert: Callable[[Key, Object], None], delete: Callable[[Key], None]) -> None:
        self._upsert = upsert
        self._delete = delete

    def upsert(self, key: Key, obj: Object) -> None:
        self._upsert(key, obj)

    def delete(self, key: Key) -> None:
        self._delete(key)
