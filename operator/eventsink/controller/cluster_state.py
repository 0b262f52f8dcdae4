"""What the operator knows of the cluster: EventSinks without what nobody reads; Secrets and namespaces by their metadata only."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from eventsink.controller.tenancy import Namespace, is_of_tenant, read_namespace
from eventsink.kube.api import Key, Object, is_older
from eventsink.resources.names import MANAGED_BY_LABEL

K = TypeVar("K", bound=Hashable)


class ClusterState:
    """The current state, fed by watches. `enqueue` is called with the key of each EventSink that a change may concern.

    `tenancy_changed` is called when the owners of tenants changed. What is kept of an EventSink is what `keep` makes of it.
    """

    def __init__(
        self,
        enqueue: Callable[[Key], None],
        tenancy_changed: Callable[[], None],
        keep: Callable[[Object], Object] = lambda obj: obj,
    ) -> None:
        self._enqueue = enqueue
        self._keep = keep
        self.eventsinks: dict[Key, Object] = {}
        self.namespaces: dict[str, Namespace] = {}
        self.secrets: dict[Key, str] = {}
        """Namespace and name -> resourceVersion."""
        self.owned_tenants: Counter[str] = Counter()
        """Tenant -> how many namespaces own it; only those that any owns."""
        self._sinks_in: dict[str, set[Key]] = {}
        """Namespace -> its EventSinks."""
        self._sinks_of: dict[str, set[Key]] = {}
        """Tenant -> the EventSinks that claim it."""
        self._named: dict[tuple[str, str], tuple[Key, ...]] = {}
        """Claimed tenant and display name -> the EventSinks with them; each value is replaced as a whole."""
        self._users: dict[Key, set[Key]] = {}
        """Secret -> EventSinks that refer to it."""
        self._uses: dict[Key, frozenset[Key]] = {}
        self._gone_since: set[str] | None = None
        """uids of the EventSinks that vanished since a list was begun; None: none is read."""
        self.secret_handler = _Handler(self._secret_changed, self._secret_gone)
        self.namespace_handler = _Handler(self._namespace_changed, self._namespace_gone)
        self.eventsink_handler = _Handler(lambda _key, obj: self.see(obj), self._gone)
        self._tenancy_changed = tenancy_changed

    # ---- EventSinks

    @contextmanager
    def listing(self) -> Iterator[None]:
        """While a list is read: what is reported as gone meanwhile may still be in it, and is not seen again."""
        self._gone_since = set()
        try:
            yield
        finally:
            self._gone_since = None

    def see(self, obj: Object) -> None:
        """An EventSink appeared or changed. A state older than the known one is ignored where that can be seen."""
        metadata = obj["metadata"]
        if self._gone_since and metadata["uid"] in self._gone_since:
            return
        key = (metadata["namespace"], metadata["name"])
        known = self.eventsinks.get(key)
        if known is not None and self.knows(key, metadata["resourceVersion"]):
            return
        if known is None:
            self._sinks_in.setdefault(key[0], set()).add(key)
        self._claims(key, _tenant(known), _tenant(obj))
        self._names(key, known, obj)
        self.eventsinks[key] = self._keep(obj)
        self._enqueue(key)

    def knows(self, key: Key, version: str) -> bool:
        """Whether this state of an EventSink is known, or a later one."""
        known = self.eventsinks.get(key)
        return known is not None and (
            known["metadata"]["resourceVersion"] == version or is_older(version, known["metadata"]["resourceVersion"])
        )

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
            self.eventsinks[key] = self._keep(obj)

    def lose(self, key: Key, uid: str) -> None:
        """An EventSink is gone, unless one of that name was created again since."""
        if self._gone_since is not None:
            self._gone_since.add(uid)
        known = self.eventsinks.get(key)
        if known is not None and known["metadata"].get("uid") == uid:
            del self.eventsinks[key]
            _discard(self._sinks_in, key[0], key)
            self._claims(key, _tenant(known), "")
            self._names(key, known, None)
            self.uses(key, ())
        self._enqueue(key)

    def _gone(self, key: Key) -> None:
        if (known := self.eventsinks.get(key)) is not None:
            self.lose(key, known["metadata"]["uid"])

    def _claims(self, sink: Key, before: str, now: str) -> None:
        if before == now:
            return
        if before:
            _discard(self._sinks_of, before, sink)
        if now:
            self._sinks_of.setdefault(now, set()).add(sink)

    def named(self, tenant: str, name: str) -> tuple[Key, ...]:
        """The EventSinks that claim a tenant and have a display name; may be called from any thread."""
        return self._named.get((tenant, name), ())

    def namesakes(self, sink: Key, tenant: str, name: str) -> Iterator[Key]:
        """The other EventSinks of the tenant with a display name, one by one: there may be thousands."""
        is_owned = tenant in self.owned_tenants
        others = (one for one in self.named(tenant, name) if one != sink)
        return (one for one in others if is_of_tenant(tenant, self.namespaces.get(one[0]), is_owned=is_owned))

    def _names(self, sink: Key, before: Object | None, now: Object | None) -> None:
        old, new = _name(before), _name(now)
        if old == new:
            return
        if old is not None:
            left = tuple(one for one in self._named.pop(old) if one != sink)
            if left:
                self._named[old] = left
            self._enqueue_only(left)
        if new is not None:
            others = self._named.get(new, ())
            self._named[new] = (*others, sink)
            self._enqueue_only(others)

    def _enqueue_only(self, others: tuple[Key, ...]) -> None:
        """Enqueue the one other EventSink of a name: for it alone, sharing the name begins or ends."""
        if len(others) == 1:
            self._enqueue(others[0])

    def uses(self, sink: Key, names: Iterable[str], tokens: Iterable[Key] = ()) -> None:
        """Note which Secrets of its namespace an EventSink refers to, and which of the operator's own it needs."""
        new = frozenset((sink[0], name) for name in names) | frozenset(tokens)
        old = self._uses.get(sink, frozenset())
        for secret in old - new:
            _discard(self._users, secret, sink)
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

    def give(self, namespace: str, tenant: str) -> None:
        """A namespace belongs to a tenant because a setting says so."""
        self._set_namespace(namespace, Namespace("", tenant))

    def _namespace_changed(self, key: Key, obj: Object) -> None:
        self._set_namespace(key[1], read_namespace(obj["metadata"]))

    def _namespace_gone(self, key: Key) -> None:
        self._set_namespace(key[1], None)

    def _set_namespace(self, name: str, new: Namespace | None) -> None:
        old = self.namespaces.get(name)
        if new is None:
            self.namespaces.pop(name, None)
        else:
            self.namespaces[name] = new
        if old == new or (old is not None and new is not None and (old.uid, old.tenant) == (new.uid, new.tenant)):
            return
        self.owned_tenants.update(_owned(new))
        for tenant in _owned(old):
            self.owned_tenants[tenant] -= 1
            if not self.owned_tenants[tenant]:
                del self.owned_tenants[tenant]
        tenants = {*_owned(old), *_owned(new)}
        for key in sorted(self._sinks_in.get(name, set()).union(*(self._sinks_of.get(one, ()) for one in tenants))):
            self._enqueue(key)
        if tenants:
            self._tenancy_changed()


def compact(obj: Object) -> Object:
    """Of an EventSink, what the operator reads, with equal texts kept once: a quarter of what the API server writes."""
    metadata = obj["metadata"]
    kept = {name: metadata[name] for name in KEPT if name in metadata}
    if (managed_by := (metadata.get("labels") or {}).get(MANAGED_BY_LABEL)) is not None:
        kept["labels"] = {MANAGED_BY_LABEL: managed_by}
    shared: Object = _shared({"metadata": kept, **{name: obj[name] for name in ("spec", "status") if name in obj}})
    return shared


KEPT = ("namespace", "name", "uid", "generation", "resourceVersion", "deletionTimestamp")
"""Metadata of an EventSink that the operator reads."""
SHARED_LENGTH = 100
"""Characters of the longest text that is looked for among those of other objects."""


def _shared(value: Any) -> Any:
    if isinstance(value, dict):
        return {sys.intern(name): _shared(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_shared(one) for one in value]
    return sys.intern(value) if isinstance(value, str) and len(value) <= SHARED_LENGTH else value


def _tenant(obj: Object | None) -> str:
    """The tenant that an EventSink claims; empty: none that can be read."""
    spec = obj.get("spec") if obj is not None else None
    tenant = spec.get("tenant") if isinstance(spec, dict) else None
    return tenant if isinstance(tenant, str) else ""


def _name(obj: Object | None) -> tuple[str, str] | None:
    """The tenant that an EventSink claims and its display name; None: it has none that can be read."""
    tenant = _tenant(obj)
    name = obj["spec"].get("name") if obj is not None and tenant else None
    return (tenant, name) if isinstance(name, str) else None


def _owned(namespace: Namespace | None) -> tuple[str, ...]:
    return (namespace.tenant,) if namespace is not None and namespace.tenant else ()


def _discard(index: dict[K, set[Key]], key: K, sink: Key) -> None:
    """Remove a sink from an index that keeps no empty sets."""
    index[key].discard(sink)
    if not index[key]:
        del index[key]


class _Handler:
    """A reflector's handler made of two functions."""

    def __init__(self, upsert: Callable[[Key, Object], None], delete: Callable[[Key], None]) -> None:
        self._upsert = upsert
        self._delete = delete

    def upsert(self, key: Key, obj: Object) -> None:
        self._upsert(key, obj)

    def delete(self, key: Key) -> None:
        self._delete(key)
