"""What the operator knows of the cluster: EventSinks, without what nobody reads; Secrets and namespaces by their metadata only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from eventsink.controller.known_sink import KnownSink, known_sink
from eventsink.controller.own_writes import OwnWrites
from eventsink.controller.sink_quota import SinkQuota
from eventsink.controller.tenancy import Namespace, is_of_tenant, read_namespace
from eventsink.kube.api import Key, Object, is_older, key_of
from eventsink.resources.names import ALL_TENANTS

K = TypeVar("K", bound=Hashable)


class ClusterState:
    """The current state, fed by watches. `enqueue` is called with the key of each EventSink that a change may concern.

    `tenancy_changed` is called when the owners of tenants changed. What is kept of an EventSink is what `keep` makes of it. A tenant may have
    `max_sinks` sinks, 0: any number.
    """

    def __init__(
        self,
        enqueue: Callable[[Key], None],
        tenancy_changed: Callable[[], None],
        keep: Callable[[Object], Object | bytes] = lambda obj: obj,
        max_sinks: Callable[[str], int] = lambda _tenant: 0,
    ) -> None:
        self._enqueue = enqueue
        self._keep = keep
        self.eventsinks: dict[Key, KnownSink] = {}
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
        self.quota = SinkQuota(max_sinks, self._is_of_tenant, enqueue)
        self._writes: OwnWrites[Key] = OwnWrites()
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
        key = key_of(obj)
        if self.knows(key, metadata["resourceVersion"]):
            return
        known, seen = self.eventsinks.get(key), known_sink(obj, self._keep(obj))
        if known is None:
            self._sinks_in.setdefault(key[0], set()).add(key)
        self._claims(key, known, seen)
        self._names(key, known, seen)
        self.quota.put(key, seen.tenant, seen.created, seen.uid)
        self.eventsinks[key] = seen
        if not self._writes.shows(key, seen.resource_version):
            self._enqueue(key)

    def knows(self, key: Key, version: str) -> bool:
        """Whether this state of an EventSink is known, or a later one; may be called from any thread."""
        known = self.eventsinks.get(key)
        return known is not None and (known.resource_version == version or is_older(version, known.resource_version))

    @contextmanager
    def writing_status(self, key: Key) -> Iterator[Callable[[str, Object], None]]:
        """While the operator itself writes the status of an EventSink; inside, give the resourceVersion that it replaced, and the result.

        That state needs no other look when the watch shows it.
        """
        with self._writes.writing(key, lambda: self._enqueue(key)) as written:

            def wrote(before: str, obj: Object) -> None:
                written(obj["metadata"]["resourceVersion"])
                known = self.eventsinks.get(key)
                if known is not None and known.resource_version == before:
                    self.eventsinks[key] = known_sink(obj, self._keep(obj))

            yield wrote

    def lose(self, key: Key, uid: str) -> None:
        """An EventSink is gone, unless one of that name was created again since."""
        if self._gone_since is not None:
            self._gone_since.add(uid)
        known = self.eventsinks.get(key)
        if known is not None and known.uid == uid:
            del self.eventsinks[key]
            _discard(self._sinks_in, key[0], key)
            self._claims(key, known, None)
            self._names(key, known, None)
            self.quota.remove(key)
            self.uses(key, ())
        self._enqueue(key)

    def _gone(self, key: Key) -> None:
        if (known := self.eventsinks.get(key)) is not None:
            self.lose(key, known.uid)

    def _claims(self, sink: Key, before: KnownSink | None, now: KnownSink | None) -> None:
        old, new = (one.tenant if one is not None else "" for one in (before, now))
        if old == new:
            return
        if old:
            _discard(self._sinks_of, old, sink)
        if new:
            self._sinks_of.setdefault(new, set()).add(sink)

    def _is_of_tenant(self, tenant: str, namespace: str) -> bool:
        return is_of_tenant(tenant, self.namespaces.get(namespace), is_owned=tenant in self.owned_tenants)

    def named(self, tenant: str, name: str) -> tuple[Key, ...]:
        """The EventSinks that claim a tenant and have a display name; may be called from any thread."""
        return self._named.get((tenant, name), ())

    def namesakes(self, sink: Key, tenant: str, name: str) -> Iterator[Key]:
        """The other EventSinks of the tenant with a display name, one by one: there may be thousands."""
        is_owned = tenant in self.owned_tenants
        others = (one for one in self.named(tenant, name) if one != sink)
        return (one for one in others if is_of_tenant(tenant, self.namespaces.get(one[0]), is_owned=is_owned))

    def _names(self, sink: Key, before: KnownSink | None, now: KnownSink | None) -> None:
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

    def give(self, namespace: str, tenant: str, *, platform: bool = False) -> None:
        """A namespace belongs to a tenant, and perhaps to the platform, because a setting says so."""
        self._set_namespace(namespace, Namespace("", tenant, platform))

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
        if old == new or (old is not None and new is not None and replace(old, deleting=new.deleting) == new):
            return
        self.owned_tenants.update(_owned(new))
        for tenant in _owned(old):
            self.owned_tenants[tenant] -= 1
            if not self.owned_tenants[tenant]:
                del self.owned_tenants[tenant]
        tenants = {*_owned(old), *_owned(new)}
        if _is_platform(old) or _is_platform(new):
            tenants.add(ALL_TENANTS)
        if tenants:
            self._tenancy_changed()
        for key in sorted(self._sinks_in.get(name, set()).union(*(self._sinks_of.get(one, ()) for one in tenants))):
            self._enqueue(key)


def _name(known: KnownSink | None) -> tuple[str, str] | None:
    """The tenant that an EventSink claims and its display name; None: it has none that can be read."""
    return (known.tenant, known.display_name) if known is not None and known.display_name is not None else None


def _owned(namespace: Namespace | None) -> tuple[str, ...]:
    return (namespace.tenant,) if namespace is not None and namespace.tenant else ()


def _is_platform(namespace: Namespace | None) -> bool:
    return namespace is not None and namespace.platform


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
