"""Keeps what the parts keep in a cluster: compiled sinks, tokens, statuses, and what the REST facade makes, behind the same calls.

So all run here as they are. Secrets lie in the data folder, one file each, readable by its owner only, written before they count.
Statuses are made anew at each start.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal

from eventsink.kube.api import (
    EVENTS,
    PAGE,
    SECRETS,
    Api,
    ApiError,
    Collection,
    Conflict,
    Forbidden,
    Invalid,
    Key,
    NotFound,
    Object,
    ObjectList,
    Resource,
    Unavailable,
    WatchEvent,
    key_of,
)
from eventsink.resources.names import EVENTSINKS
from eventsink.rest.calls.managers import FILE_ANNOTATION
from eventsink.rest.calls.secrets import SECRET_TYPE
from eventsink.runtime.files import remove, remove_unfinished, write_private
from eventsink.standalone.made import MadeSinks

Listener = Callable[[Key, Object | None], None]
"""Called with an object that appeared or changed; None: it is gone."""


class LocalObjects(Api):
    """An `Api` whose server is this object.

    Parameters
    ----------
    folder
        Where Secrets are kept; made if it is absent.
    made
        EventSinks that programs make.
    secret_changed
        Hears of each Secret of the program's own.
    sink_changed
        Called with an EventSink whose status changed.
    sink_made
        Hears of each EventSink that a program made, changed or deleted.
    told
        Called with the Event that the operator writes when a person wants to hear of a change.
    """

    def __init__(
        self,
        folder: Path,
        made: MadeSinks,
        *,
        secret_changed: Listener,
        sink_changed: Callable[[Object], None],
        sink_made: Listener,
        told: Callable[[Object], None],
    ) -> None:
        self._folder = folder
        self.made = made
        self._secret_changed = secret_changed
        self._sink_changed = sink_changed
        self._sink_made = sink_made
        self._told = told
        self.given: dict[Key, Object] = {}
        """Secrets of the documents."""
        self.sinks: dict[Key, Object] = {}
        """EventSinks, with their statuses."""
        self._statuses: dict[Key, dict[str, Object]] = {}
        """EventSink -> field manager -> its part of the status."""
        self._own: dict[Key, Object] = {}
        self._writing = asyncio.Lock()
        self._versions = itertools.count(1)
        """Rising, so that who hears of an EventSink twice knows which is the newer."""
        self._listeners: list[Listener] = []

    def load(self) -> None:
        """Read the EventSinks and Secrets that were kept; `secret_changed` is called for each Secret.

        Raises
        ------
        OSError
            The folder cannot be made or read.
        ValueError
            An EventSink cannot be read.
        """
        self.made.load()
        for key, obj in self.made.objects.items():
            self.put_sink(key, obj)
        owners = {obj["metadata"]["uid"] for obj in self.made.objects.values()}
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_unfinished(self._folder)
        for file in sorted(self._folder.glob("*/*.json")):
            try:
                obj = json.loads(file.read_text(encoding="utf-8"))
                key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
                if (key[0], f"{key[1]}.json") != (file.parent.name, file.name):
                    continue
            except (ValueError, KeyError, TypeError):
                continue  # as a Secret that was never written: it is compiled anew
            if obj.get("type") == SECRET_TYPE and not _owners(obj) & owners:
                file.unlink(missing_ok=True)  # its EventSink was deleted just before the end
                continue
            self._own[key] = obj
            self._secret_changed(key, obj)

    def watch_sinks(self, listener: Listener) -> None:
        """Have `listener` hear of all EventSinks, those that are there first."""
        self._listeners.append(listener)
        for key, obj in self.sinks.items():
            listener(key, obj)

    async def close(self) -> None:
        """Nothing is open."""

    def put_sink(self, key: Key, obj: Object) -> None:
        """An EventSink is there, or changed; its status stays."""
        self._set(key, obj)

    def drop_sink(self, key: Key) -> None:
        """An EventSink is gone."""
        self._statuses.pop(key, None)
        if self.sinks.pop(key, None) is not None:
            for listener in self._listeners:
                listener(key, None)

    def _set(self, key: Key, obj: Object) -> Object:
        changed = self.sinks[key] = self._with_status(key, obj)
        for listener in self._listeners:
            listener(key, changed)
        return changed

    async def get(self, resource: Resource, key: Key) -> Object:
        if resource == EVENTSINKS:
            return self._there(key)
        found = self._own.get(key) or self.given.get(key) if resource == SECRETS else None
        if found is None:
            raise NotFound(404, "NotFound", f"there is no {resource.kind} {key[1]}")
        return found

    async def list(self, collection: Collection, *, limit: int = PAGE, continue_token: str = "") -> ObjectList:
        if collection.resource == EVENTSINKS:
            return ObjectList(list(self.sinks.values()), "", "")
        if collection.resource != SECRETS:
            raise _unsupported(collection.resource)
        kind = collection.field_selector.removeprefix("type=")
        found = [obj for key, obj in self._own.items() if key[0] == collection.namespace and obj.get("type") == kind]
        return ObjectList(found, "", "")

    def watch(
        self, collection: Collection, *, resource_version: str, seconds: int
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent]]:
        raise _unsupported(collection.resource)

    async def create(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        if resource == EVENTS:
            self._told(obj)
            return obj
        key = key_of(obj)
        if resource == SECRETS:
            async with self._writing:
                if key in self._own:
                    raise Conflict(409, "AlreadyExists", f"there is a Secret {key[1]}")
                return await self._write_secret(key, obj)
        if resource != EVENTSINKS:
            raise _unsupported(resource)
        async with self._writing:
            if key in self.sinks:
                raise Conflict(409, "AlreadyExists", f"there is an EventSink {key[1]}")
            made = self._set(key, await self.made.create(key, obj, manager))
            self._sink_made(key, made)
            return made

    async def replace(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        key, metadata = key_of(obj), obj["metadata"]
        async with self._writing:
            if resource == SECRETS:
                self._check_secret(key, metadata.get("resourceVersion", ""))
                return await self._write_secret(key, obj)
            known = self._made_one(resource, key, metadata.get("uid", ""), metadata.get("resourceVersion", ""))
            before = self.made.objects[key]
            after = await self.made.replace(key, obj, manager)
            if after is before:
                return known
            changed = self._set(key, after)
            self._sink_made(key, changed)
            return changed

    async def apply(self, resource: Resource, obj: Object, *, manager: str, subresource: Literal["", "status"] = "") -> Object:
        if resource == EVENTSINKS and subresource == "status":
            return self._status(key_of(obj), manager, obj)
        if resource != SECRETS:
            raise _unsupported(resource)
        async with self._writing:
            return await self._write_secret(key_of(obj), obj)

    async def delete(self, resource: Resource, key: Key, *, uid: str = "", resource_version: str = "") -> None:
        async with self._writing:
            if resource == SECRETS:
                self._check_secret(key, resource_version)
                try:
                    await asyncio.to_thread(remove, self._file(key))
                except OSError as error:
                    raise _unwritable(error) from None
                del self._own[key]
                self._secret_changed(key, None)
                return
            known = self._made_one(resource, key, uid, resource_version)
            await self.made.delete(key)
            self.drop_sink(key)
            self._sink_made(key, None)
            await self._collect(known["metadata"]["uid"])

    # ---- Secrets

    def _check_secret(self, key: Key, version: str) -> None:
        if key in self.given:
            raise Invalid(422, "Invalid", f"the Secret {key[1]} comes from a document")
        if key not in self._own:
            raise NotFound(404, "NotFound", f"there is no Secret {key[1]}")
        if version and version != self._own[key]["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", f"the Secret {key[1]} was changed since")

    async def _write_secret(self, key: Key, obj: Object) -> Object:
        if key in self.given:
            raise Invalid(422, "Invalid", f"the Secret {key[1]} comes from a document")
        stored = {**obj, "metadata": {**obj["metadata"], "resourceVersion": secrets.token_hex(8)}}
        try:
            await asyncio.to_thread(write_private, self._file(key), json.dumps(stored))
        except OSError as error:
            raise _unwritable(error) from None
        self._own[key] = stored
        self._secret_changed(key, stored)
        return stored

    def _file(self, key: Key) -> Path:
        return self._folder / key[0] / f"{key[1]}.json"

    # ---- EventSinks

    def _made_one(self, resource: Resource, key: Key, uid: str, version: str) -> Object:
        """An EventSink that a program made, if it is the one that is meant."""
        if resource != EVENTSINKS:
            raise _unsupported(resource)
        known = self._there(key)
        if key not in self.made.objects:
            file = (known["metadata"].get("annotations") or {}).get(FILE_ANNOTATION, "")
            raise Forbidden(403, "Forbidden", f"the EventSink {key[1]} stands in the file {file}: change it there")
        if uid not in ("", known["metadata"]["uid"]) or version not in ("", known["metadata"]["resourceVersion"]):
            raise Conflict(409, "Conflict", f"the EventSink {key[1]} was changed since")
        return known

    def _there(self, key: Key) -> Object:
        if key not in self.sinks:
            raise NotFound(404, "NotFound", f"there is no EventSink {key[1]}")
        return self.sinks[key]

    async def _collect(self, uid: str) -> None:
        """Drop the Secrets that an EventSink owned, as a cluster's garbage collection does."""
        for key in [key for key, obj in self._own.items() if uid in _owners(obj)]:
            try:
                await asyncio.to_thread(remove, self._file(key))
            except OSError:
                continue  # the next start finds it
            del self._own[key]
            self._secret_changed(key, None)

    # ---- statuses

    def _status(self, key: Key, manager: str, body: Object) -> Object:
        known = self.sinks.get(key)
        if known is None:
            raise NotFound(404, "NotFound", "the EventSink is gone")
        wanted = body["metadata"].get("resourceVersion")
        if wanted not in (None, known["metadata"]["resourceVersion"]):
            raise Conflict(409, "Conflict", "the EventSink was changed since")
        self._statuses.setdefault(key, {})[manager] = body["status"]
        changed = self._set(key, known)
        self._sink_changed(changed)
        return changed

    def _with_status(self, key: Key, obj: Object) -> Object:
        status: dict[str, Any] = {}
        conditions: list[Object] = []
        for part in self._statuses.get(key, {}).values():
            conditions += part.get("conditions", ())
            status |= part
        metadata = {**obj["metadata"], "resourceVersion": str(next(self._versions))}
        return {**obj, "metadata": metadata, "status": {**status, "conditions": conditions}}


def _unsupported(resource: Resource) -> ApiError:
    return ApiError(405, "MethodNotAllowed", f"{resource.plural}: not supported without a cluster")


def _unwritable(error: OSError) -> Unavailable:
    return Unavailable(0, "Unavailable", f"the data folder cannot be written: {error.strerror}")


def _owners(obj: Object) -> set[str]:
    return {str(one.get("uid")) for one in obj["metadata"].get("ownerReferences") or ()}
