"""What the REST API knows of the cluster: EventSinks by uid and by tenant, and which namespace owns which tenant. Fed by watches."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from eventsink.kube.api import Key, Object
from eventsink.resources.names import ALL_TENANTS, PLATFORM_LABEL, TENANT_LABEL
from eventsink.rest.calls.responses import created_at
from eventsink.rest.errors import Conflict, InvalidRequest

HOME_LABEL = "eventsink.dev/rest"
"""On a Namespace: `true` marks the one of its tenant that sinks are created in, where several belong to it."""
MAX_GONE = 10_000
"""Deleted sinks that are remembered, so that a late event of the watch does not bring one back."""


class Catalog:
    """All EventSinks and namespaces. Give `sinks` and `namespaces` to what watches them."""

    def __init__(self) -> None:
        self._sinks: dict[str, Object] = {}
        self._uids: dict[Key, str] = {}
        self._tenants: dict[str, set[str]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._left: OrderedDict[str, None] = OrderedDict()
        """Those whose deletion the watch saw: a late response must not bring one back, while the watch may."""
        self._ending = False
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._owners: dict[str, str] = {}
        self._owned: Counter[str] = Counter()
        """Tenant -> how many namespaces belong to it."""
        self._platform: dict[str, None] = {}
        """Namespaces whose sinks may receive the alerts of all tenants."""
        self._homes: set[str] = set()
        self._listed = False
        """Whether a setting says whose namespaces are, not labels."""
        self.sinks = _Feed(self._upsert, self._went)
        self.namespaces = _Feed(self._namespace, self._namespace_gone)

    # ---- sinks

    def get(self, uid: str) -> Object | None:
        """The EventSink with that uid, if its claim to the tenant is valid."""
        obj = self._sinks.get(uid)
        return obj if obj is not None and self.is_valid_claim(obj) else None

    def of_tenant(self, tenant: str) -> list[Object]:
        """The tenant's EventSinks, oldest first."""
        found = (self._sinks[uid] for uid in self._tenants.get(tenant, ()))
        return sorted((one for one in found if self.is_valid_claim(one)), key=order)

    def put(self, obj: Object) -> None:
        """Add what the API server just returned, before the watch reports it."""
        if obj["metadata"]["uid"] not in self._left:
            self._upsert(_key(obj), obj)

    def drop(self, obj: Object) -> None:
        """Remove what was just deleted."""
        uid = obj["metadata"]["uid"]
        _remember(self._gone, uid)
        if self._uids.get(_key(obj)) == uid:
            self._delete(_key(obj))

    @contextmanager
    def watching(self, uid: str) -> Iterator[asyncio.Event]:
        """An event that is set at each change of that EventSink."""
        changed = asyncio.Event()
        self._waiting.setdefault(uid, set()).add(changed)
        try:
            yield changed
        finally:
            self._waiting[uid].discard(changed)
            if not self._waiting[uid]:
                del self._waiting[uid]

    @property
    def has_waits(self) -> bool:
        """Whether anything waits for a change."""
        return bool(self._waiting)

    def end_waits(self) -> None:
        """End all waits: the process is stopping."""
        self._ending = True
        for uid in list(self._waiting):
            self._notify(uid)

    async def until(self, uid: str, holds: Callable[[Object], bool], seconds: float) -> Object | None:
        """Wait until that holds for the EventSink, at most for `seconds`; returns it as it is then, or None if it is gone."""
        with self.watching(uid) as changed:
            try:
                async with asyncio.timeout(seconds):
                    while (obj := self._sinks.get(uid)) is not None and not holds(obj) and not self._ending:
                        changed.clear()
                        await changed.wait()
            except TimeoutError:
                pass
        return self._sinks.get(uid)

    def _upsert(self, key: Key, obj: Object) -> None:
        metadata = obj["metadata"]
        uid = metadata["uid"]
        if uid in self._gone:
            return
        if metadata.get("deletionTimestamp"):
            self._delete(key)  # a finalizer may keep it for long
            return
        before = self._sinks.get(self._uids.get(key, ""))
        if before is not None:
            if before["metadata"]["uid"] == uid and not _newer(obj, before):
                return
            self._delete(key)
        self._sinks[uid] = obj
        self._uids[key] = uid
        self._tenants.setdefault(tenant_of(obj), set()).add(uid)
        self._notify(uid)

    def _went(self, key: Key) -> None:
        if (uid := self._uids.get(key)) is not None:
            _remember(self._left, uid)
        self._delete(key)

    def _delete(self, key: Key) -> None:
        uid = self._uids.pop(key, None)
        if uid is None:
            return
        tenant = tenant_of(self._sinks.pop(uid))
        self._tenants[tenant].discard(uid)
        if not self._tenants[tenant]:
            del self._tenants[tenant]
        self._notify(uid)

    def _notify(self, uid: str) -> None:
        for changed in self._waiting.get(uid, ()):
            changed.set()

    # ---- tenants

    def is_valid_claim(self, obj: Object) -> bool:
        """Whether the EventSink can belong to its tenant: it is in a namespace of the tenant, or neither has an owner.

        One in another tenant's namespace is that tenant's business, whatever it claims; the operator rejects it.
        """
        tenant, namespace = tenant_of(obj), obj["metadata"]["namespace"]
        if tenant == ALL_TENANTS:
            return namespace in self._platform
        owner = self._owners.get(namespace, "")
        return owner == tenant or (not owner and not self._owned[tenant])

    def home(self, tenant: str, default: str) -> str:
        """The namespace that new sinks of the tenant are created in.

        Parameters
        ----------
        default
            For tenants without a namespace; empty: there is none.

        Raises
        ------
        Conflict
            The tenant has several namespaces, and not exactly one is marked.
        InvalidRequest
            The tenant has no namespace, and there is no default, or that belongs to another tenant.
        """
        of_all = tenant == ALL_TENANTS
        if of_all and self._listed and self._platform:
            return next(iter(self._platform))
        own = sorted(self._platform if of_all else (one for one, owner in self._owners.items() if owner == tenant))
        if len(own) > 1:
            marked = [namespace for namespace in own if namespace in self._homes]
            if len(marked) != 1:
                raise Conflict(
                    "tenant_id: the tenant has several namespaces; the platform team marks the one for sinks: "
                    f"kubectl label namespace <one> {HOME_LABEL}=true"
                )
            return marked[0]
        if own:
            return own[0]
        if of_all:
            label = f"kubectl label namespace <one> {PLATFORM_LABEL}=true {HOME_LABEL}=true"
            how = "by the setting namespaces of operator and REST API" if self._listed else label
            raise InvalidRequest(
                f"tenant_id: no namespace may receive the alerts of all tenants; the platform team marks one: {how}"
            )
        if not default or self._owners.get(default):
            label = f"kubectl label namespace <one> {TENANT_LABEL}=<tenant>"
            how = "by the setting namespaces of operator and REST API" if self._listed else label
            raise InvalidRequest(f"tenant_id: no namespace belongs to this tenant; the platform team gives it one: {how}")
        return default

    def give(self, namespace: str, tenant: str, *, platform: bool = False) -> None:
        """A namespace belongs to a tenant because a setting says so; the tenant's first one is that of its new sinks."""
        if platform:
            self._platform[namespace] = None
        self._listed = True
        if tenant not in self._owned:
            self._homes.add(namespace)
        self._owners[namespace] = tenant
        self._owned[tenant] += 1

    def _namespace(self, key: Key, obj: Object) -> None:
        metadata = obj["metadata"]
        labels = {} if metadata.get("deletionTimestamp") else metadata.get("labels") or {}
        self._namespace_gone(key)
        if owner := labels.get(TENANT_LABEL):
            self._owners[key[1]] = owner
            self._owned[owner] += 1
        if labels.get(PLATFORM_LABEL) == "true":
            self._platform[key[1]] = None
        if labels.get(HOME_LABEL) == "true":
            self._homes.add(key[1])

    def _namespace_gone(self, key: Key) -> None:
        owner = self._owners.pop(key[1], None)
        if owner is not None:
            self._owned -= Counter([owner])
        self._homes.discard(key[1])
        self._platform.pop(key[1], None)


class _Feed:
    """A reflector's handler."""

    def __init__(self, upsert: Callable[[Key, Object], None], delete: Callable[[Key], None]) -> None:
        self.upsert = upsert
        self.delete = delete


def _remember(uids: OrderedDict[str, None], uid: str) -> None:
    uids[uid] = None
    while len(uids) > MAX_GONE:
        uids.popitem(last=False)


def order(obj: Object) -> tuple[str, str]:
    """Sorts the oldest first; the uid decides among those of one second."""
    return created_at(obj), str(obj["metadata"]["uid"])


def tenant_of(obj: Object) -> str:
    """The tenant that it claims; empty: none."""
    spec: Any = obj.get("spec")
    tenant = spec.get("tenant") if isinstance(spec, dict) else None
    return tenant if isinstance(tenant, str) else ""


def _key(obj: Object) -> Key:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _newer(obj: Object, than: Object) -> bool:
    """By resourceVersion, which the API server increases (Kubernetes 1.35, KEP-5504); others count as newer when they differ."""
    new, old = str(obj["metadata"].get("resourceVersion")), str(than["metadata"].get("resourceVersion"))
    return int(new) > int(old) if new.isdigit() and old.isdigit() else new != old
