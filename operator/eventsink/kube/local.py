"""The Kubernetes API without a server: objects in this process, with what a server adds to them.

As far as this program uses it: uids, generations, resourceVersions, optimistic locking, a status of several field managers, watches,
the garbage collection of what an object owned. Not: schemas, defaults, finalizers, and the merging of what several managers apply to
an object itself (the last one makes it what it is). What has to outlive the process is stored by `commit`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal
from weakref import WeakValueDictionary

from eventsink.kube.api import (
    PAGE,
    Api,
    ApiError,
    Collection,
    Conflict,
    Gone,
    Key,
    NotFound,
    Object,
    ObjectList,
    Resource,
    WatchEvent,
    key_of,
)
from eventsink.kube.local_watch import History, Selector, Watch
from eventsink.runtime.times import format_time


@dataclass(frozen=True, slots=True)
class Change:
    """A write that is about to be made. Neither object has a status."""

    resource: Resource
    key: Key
    before: Object | None
    """None: the object is new."""
    after: Object | None
    """None: it is deleted."""


Commit = Callable[[Change], Awaitable[None]]
"""Stores a change before anybody sees it; raises an ApiError to reject it. Changes of one object come one after the other."""


async def keep_nothing(change: Change) -> None:
    """A `Commit` that takes everything and stores nothing."""


class LocalApi(Api):
    """An `Api` whose server is this object.

    Parameters
    ----------
    resources
        The kinds of objects that there are.
    passing
        Of these, the ones that are committed but not kept: nobody lists or watches them.
    commit
        Called for what is written by `create`, `replace`, `apply` and `delete`; not for statuses.
    """

    def __init__(
        self,
        resources: Iterable[Resource],
        *,
        passing: Iterable[Resource] = (),
        commit: Commit = keep_nothing,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._passing = frozenset(passing)
        self._commit = commit
        self._now = now
        # Above all versions of earlier processes, so that none ever means two states of an object.
        self._version = time.time_ns() // 1000
        self._kinds = {one: _Kind(self._version) for one in resources}
        self._changes = 0
        self._locks: WeakValueDictionary[tuple[Resource, Key], asyncio.Lock] = WeakValueDictionary()
        self._dependents: dict[str, set[tuple[Resource, Key]]] = {}
        """uid of an owner -> what it owns."""
        self._read = asyncio.Event()
        self._entries: dict[tuple[str, str], Object] = {}
        """Manager and operation -> the last entry of `managedFields`; there are as many as the program has managers."""
        self._listed: tuple[Collection | None, int, list[Object]] = (None, 0, [])
        """What was listed last, and after how many changes: its next page needs no other search."""

    # ---- what somebody else keeps

    def put(self, resource: Resource, obj: Object) -> Object:
        """Have an object be there that somebody else keeps, without a commit. Its status stays; what it says of uid, generation and
        times counts. Without a resourceVersion it gets a new one."""
        kind, key = self._kind(resource), key_of(obj)
        version = str(obj["metadata"].get("resourceVersion") or self._next())
        if version.isdigit():
            self._version = max(self._version, int(version))
        return self._set(resource, key, {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}}, kind.status(key))

    def drop(self, resource: Resource, key: Key) -> None:
        """Have an object be gone, without a commit; it need not be there. What it owned stays."""
        self._remove(resource, key)

    def objects(self, resource: Resource) -> Iterator[Object]:
        """All objects of a kind, at this moment."""
        return iter(list(self._kind(resource).objects.values()))

    async def caught_up(self) -> None:
        """Wait until every watch was read to its end: whoever watches knows all that was written before."""
        while any(watch.behind for kind in self._kinds.values() for watch in kind.history.watches):
            self._read.clear()
            await self._read.wait()

    # ---- the protocol

    async def get(self, resource: Resource, key: Key) -> Object:
        return self._there(resource, key)

    async def list(self, collection: Collection, *, limit: int = PAGE, continue_token: str = "") -> ObjectList:
        kind = self._kind(collection.resource)
        changes, _, begin = continue_token.partition("/")
        if continue_token and changes != str(self._changes):
            raise Gone(410, "Expired", "the list has changed since; list again")
        wanted = Selector(collection)
        if not continue_token or self._listed[:2] != (collection, self._changes):
            found = [kind.objects[key] for key in sorted(kind.objects) if wanted.matches(kind.objects[key])]
            self._listed = (collection, self._changes, found)
        found = self._listed[2]
        start = int(begin or 0)
        token = f"{self._changes}/{start + limit}" if len(found) > start + limit else ""
        if not token:
            self._listed = (None, 0, [])
        return ObjectList([wanted.shown(one) for one in found[start : start + limit]], str(self._next()), token)

    @asynccontextmanager
    async def watch(
        self, collection: Collection, *, resource_version: str, seconds: int
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        kind = self._kind(collection.resource)
        history = kind.history
        watch = Watch(Selector(collection), deque(history.since(resource_version)), self._read.set)
        history.watches.add(watch)
        try:
            yield self._until(watch, seconds)
        finally:
            history.watches.discard(watch)
            self._read.set()

    async def _until(self, watch: Watch, seconds: int) -> AsyncIterator[WatchEvent]:
        async for event in watch.read(seconds):
            yield event
        yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": str(self._next())}})

    async def create(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        metadata = obj["metadata"]
        name = metadata.get("name") or f"{metadata.get('generateName', '')}{secrets.token_hex(3)}"
        key = (metadata.get("namespace", ""), name)
        if resource in self._passing:
            after = {**obj, "metadata": {**metadata, "name": name, "resourceVersion": str(self._next())}}
            await self._commit(Change(resource, key, None, after))
            return after
        async with self._lock(resource, key):
            if key in self._kind(resource).objects:
                raise Conflict(409, "AlreadyExists", f"{resource.plural} {name!r} already exists")
            return await self._write(resource, key, obj, None, (manager, "Update"))

    async def replace(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        key = key_of(obj)
        async with self._lock(resource, key):
            before = self._there(resource, key)
            self._check(resource, before, **_preconditions(obj))
            return await self._write(resource, key, obj, before, (manager, "Update"))

    async def apply(self, resource: Resource, obj: Object, *, manager: str, subresource: Literal["", "status"] = "") -> Object:
        key = key_of(obj)
        async with self._lock(resource, key):
            before = self._kind(resource).objects.get(key) if not subresource else self._there(resource, key)
            if before is not None:
                self._check(resource, before, **_preconditions(obj))
            if not subresource:
                return await self._write(resource, key, obj, before, (manager, "Apply"))
            return self._apply_status(resource, key, before or {}, obj.get("status") or {}, manager)

    async def delete(self, resource: Resource, key: Key, *, uid: str = "", resource_version: str = "") -> None:
        async with self._lock(resource, key):
            before = self._there(resource, key)
            self._check(resource, before, uid=uid, resource_version=resource_version)
            await self._commit(Change(resource, key, _without_status(before), None))
            self._remove(resource, key)
        for dependent, its_key in sorted(self._dependents.get(before["metadata"].get("uid", ""), ()), key=lambda one: one[1]):
            try:
                await self.delete(dependent, its_key)
            except ApiError:
                continue  # gone already, or to be collected by whoever stores it when it can

    async def close(self) -> None:
        """Nothing is open."""

    # ---- writing

    async def _write(self, resource: Resource, key: Key, obj: Object, before: Object | None, manager: tuple[str, str]) -> Object:
        """Commit and keep an object, unless it is as it was."""
        content = {name: value for name, value in obj.items() if name not in ("metadata", "status")}
        said = obj["metadata"]
        metadata: Object = {"name": key[1]} | ({"namespace": key[0]} if key[0] else {})
        metadata |= {name: said[name] for name in ("labels", "annotations", "ownerReferences") if said.get(name)}
        old = before["metadata"] if before is not None else {}
        given = {name: old[name] for name in ("uid", "generation", "creationTimestamp", "managedFields") if name in old}
        if before is not None:
            if resource.status and content != _content(before):
                given["generation"] = old.get("generation", 0) + 1
            elif {**content, "metadata": metadata | given} == _without_version(before):
                return before
        else:
            given = {"uid": str(uuid.uuid4()), "creationTimestamp": format_time(self._now())}
            if resource.status:
                given["generation"] = 1
        entry = self._entry(manager)
        others = [one for one in old.get("managedFields") or [] if (one["manager"], one["operation"]) != manager]
        given["managedFields"] = [*others, entry]
        after = {**content, "metadata": {**metadata, **given, "resourceVersion": str(self._next())}}
        await self._commit(Change(resource, key, _without_status(before), after))
        return self._set(resource, key, after, self._kind(resource).status(key))

    def _entry(self, manager: tuple[str, str]) -> Object:
        """An entry of `managedFields`; the same one for all that a manager writes within a second."""
        time = format_time(self._now())
        last = self._entries.get(manager)
        if last is None or last["time"] != time:
            last = self._entries[manager] = {"manager": manager[0] or "unknown", "operation": manager[1], "time": time}
        return last

    def _apply_status(self, resource: Resource, key: Key, before: Object, status: Object, manager: str) -> Object:
        kind = self._kind(resource)
        known = kind.statuses.get(key, {})
        parts = {**known, manager: status}
        if not (status or manager in known) or _merged(parts) == before.get("status"):
            return before
        kind.statuses[key] = parts
        metadata = {**before["metadata"], "resourceVersion": str(self._next())}
        return self._set(resource, key, {**before, "metadata": metadata}, _merged(parts))

    def _set(self, resource: Resource, key: Key, obj: Object, status: Object | None) -> Object:
        kind = self._kind(resource)
        after = {**obj, "status": status} if status is not None else obj
        before = kind.objects.get(key)
        self._note_owners(resource, key, before, after)
        kind.objects[key] = after
        self._changes += 1
        kind.history.add(self._next(), before, after)
        return after

    def _remove(self, resource: Resource, key: Key) -> None:
        kind = self._kind(resource)
        kind.statuses.pop(key, None)
        before = kind.objects.pop(key, None)
        if before is not None:
            self._note_owners(resource, key, before, None)
            self._changes += 1
            gone = {**before, "metadata": {**before["metadata"], "resourceVersion": str(self._next())}}
            kind.history.add(self._next(), gone, None)

    def _note_owners(self, resource: Resource, key: Key, before: Object | None, after: Object | None) -> None:
        for uid in owners_of(before) - owners_of(after):
            self._dependents[uid].discard((resource, key))
            if not self._dependents[uid]:
                del self._dependents[uid]
        for uid in owners_of(after):
            self._dependents.setdefault(uid, set()).add((resource, key))

    def _next(self) -> int:
        self._version += 1
        return self._version

    # ---- reading

    def _kind(self, resource: Resource) -> _Kind:
        if resource not in self._kinds:
            raise NotFound(404, "NotFound", f"there are no {resource.plural} here")
        return self._kinds[resource]

    def _there(self, resource: Resource, key: Key) -> Object:
        found = self._kind(resource).objects.get(key)
        if found is None:
            raise NotFound(404, "NotFound", f"{resource.plural} {key[1]!r} not found")
        return found

    def _check(self, resource: Resource, found: Object, *, uid: str, resource_version: str) -> None:
        metadata = found["metadata"]
        if uid not in ("", metadata.get("uid")) or resource_version not in ("", metadata["resourceVersion"]):
            raise Conflict(409, "Conflict", f"{resource.plural} {metadata['name']!r} was changed since it was read")

    def _lock(self, resource: Resource, key: Key) -> asyncio.Lock:
        return self._locks.setdefault((resource, key), asyncio.Lock())


class _Kind:
    """The objects of one kind."""

    def __init__(self, position: int) -> None:
        self.objects: dict[Key, Object] = {}
        self.statuses: dict[Key, dict[str, Object]] = {}
        """Field manager -> its part of the status."""
        self.history = History(position)

    def status(self, key: Key) -> Object | None:
        """What the field managers say together; None: nothing yet."""
        parts = self.statuses.get(key)
        return _merged(parts) if parts else None


def owners_of(obj: Object | None) -> set[str]:
    """uids of the owners of an object."""
    return {str(one.get("uid")) for one in obj["metadata"].get("ownerReferences") or ()} if obj is not None else set()


def _merged(parts: dict[str, Object]) -> Object:
    """The parts of several field managers as one status; each has its own fields, and conditions of its own types."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    status: Object = {}
    for part in parts.values():
        status |= part
    if "conditions" in status:
        status["conditions"] = [one for part in parts.values() for one in part.get("conditions", ())]
    return status


def _preconditions(obj: Object) -> dict[str, str]:
    metadata = obj["metadata"]
    return {"uid": metadata.get("uid") or "", "resource_version": metadata.get("resourceVersion") or ""}


def _content(obj: Object) -> Object:
    return {name: value for name, value in obj.items() if name not in ("metadata", "status")}


def _without_status(obj: Object | None) -> Object | None:
    return {name: value for name, value in obj.items() if name != "status"} if obj is not None else None


def _without_version(obj: Object) -> Object:
    metadata = {name: value for name, value in obj["metadata"].items() if name != "resourceVersion"}
    return {**_content(obj), "metadata": metadata}
