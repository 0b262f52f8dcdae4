"""Keeps what the parts keep in a cluster: compiled sinks, tokens, statuses, and what the REST facade makes, behind the same calls.

So all run here as they are. Secrets lie in the data folder, one file each, readable by its owner only, written before they count.
Statuses are made anew at each start.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eventsink.kube.client import JSON, Api, ApiError, Conflict, Forbidden, Invalid, NotFound, Object, Unavailable
from eventsink.kube.reflector import Key
from eventsink.resources.names import GROUP, PLURAL, VERSION
from eventsink.rest.calls.facade import SECRET_TYPE
from eventsink.rest.calls.managers import FILE_ANNOTATION
from eventsink.runtime.files import remove, remove_unfinished, write_private
from eventsink.standalone.made import MadeSinks

_SINKS = re.compile(rf"/apis/{re.escape(GROUP)}/{VERSION}/namespaces/([^/]+)/{PLURAL}(?:/([^/]+))?")
_SECRETS = re.compile(r"/api/v1/namespaces/([^/]+)/secrets(?:/([^/]+))?")
_STATUS = re.compile(rf"/apis/{re.escape(GROUP)}/{VERSION}/namespaces/([^/]+)/{PLURAL}/([^/]+)/status")
_EVENTS = re.compile(r"/api/v1/namespaces/([^/]+)/events")

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

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Object:
        """One of the requests that operator, router and facade make.

        Raises
        ------
        ApiError
            As the API server would answer.
        """
        if found := _SECRETS.fullmatch(path):
            return await self._secret(method, found[1], found[2] or "", query or {}, body or {})
        if found := _SINKS.fullmatch(path):
            return await self._sink(method, found[1], found[2] or "", (query or {}).get("fieldManager", ""), body or {})
        if found := _STATUS.fullmatch(path):
            return self._status((found[1], found[2]), (query or {}).get("fieldManager", ""), body or {})
        if _EVENTS.fullmatch(path):
            self._told(body or {})
            return body or {}
        raise ApiError(405, "MethodNotAllowed", f"{method} {path}: there is no such thing without a cluster")

    # ---- Secrets

    async def _secret(self, method: str, namespace: str, name: str, query: Mapping[str, str], body: Object) -> Object:
        if method == "GET" and not name:
            kind = query.get("fieldSelector", "").removeprefix("type=")
            return {"items": [obj for key, obj in self._own.items() if key[0] == namespace and obj.get("type") == kind]}
        if method == "GET":
            found = self._own.get((namespace, name)) or self.given.get((namespace, name))
            if found is None:
                raise NotFound(404, "NotFound", f"there is no Secret {name}")
            return found
        name = name or body["metadata"]["name"]
        key = (namespace, name)
        if key in self.given:
            raise Invalid(422, "Invalid", f"the Secret {name} comes from a document")
        async with self._writing:
            before = self._own.get(key)
            if method == "POST" and before is not None:
                raise Conflict(409, "AlreadyExists", f"there is a Secret {name}")
            if method in ("PUT", "DELETE") and before is None:
                raise NotFound(404, "NotFound", f"there is no Secret {name}")
            wanted = (body.get("preconditions") if method == "DELETE" else body.get("metadata")) or {}
            if before is not None and wanted.get("resourceVersion") not in (None, before["metadata"]["resourceVersion"]):
                raise Conflict(409, "Conflict", f"the Secret {name} was changed since")
            file = self._folder / namespace / f"{name}.json"
            try:
                if method == "DELETE":
                    await asyncio.to_thread(remove, file)
                    del self._own[key]
                    self._secret_changed(key, None)
                    return body
                stored = {**body, "metadata": {**body["metadata"], "resourceVersion": secrets.token_hex(8)}}
                await asyncio.to_thread(write_private, file, json.dumps(stored))
            except OSError as error:
                raise Unavailable(0, "Unavailable", f"the data folder cannot be written: {error.strerror}") from None
            self._own[key] = stored
            self._secret_changed(key, stored)
            return stored

    # ---- EventSinks

    async def _sink(self, method: str, namespace: str, name: str, manager: str, body: Object) -> Object:
        key = (namespace, name or str(body.get("metadata", {}).get("name", "")))
        if method == "GET" and name:
            return self._there(key)
        async with self._writing:
            if method == "POST" and not name:
                if key in self.sinks:
                    raise Conflict(409, "AlreadyExists", f"there is an EventSink {key[1]}")
                made = self._set(key, await self.made.create(key, body, manager))
                self._sink_made(key, made)
                return made
            if method not in ("PUT", "DELETE") or not name:
                raise ApiError(405, "MethodNotAllowed", f"{method} of EventSinks: there is no such thing without a cluster")
            known = self._there(key)
            if key not in self.made.objects:
                file = (known["metadata"].get("annotations") or {}).get(FILE_ANNOTATION, "")
                raise Forbidden(403, "Forbidden", f"the EventSink {name} stands in the file {file}: change it there")
            wanted = (body.get("preconditions") if method == "DELETE" else body.get("metadata")) or {}
            if any(wanted.get(one) not in (None, known["metadata"][one]) for one in ("uid", "resourceVersion")):
                raise Conflict(409, "Conflict", f"the EventSink {name} was changed since")
            if method == "PUT":
                before = self.made.objects[key]
                after = await self.made.replace(key, body, manager)
                if after is before:
                    return known
                changed = self._set(key, after)
                self._sink_made(key, changed)
                return changed
            await self.made.delete(key)
            self.drop_sink(key)
            self._sink_made(key, None)
            await self._collect(known["metadata"]["uid"])
            return known

    def _there(self, key: Key) -> Object:
        if key not in self.sinks:
            raise NotFound(404, "NotFound", f"there is no EventSink {key[1]}")
        return self.sinks[key]

    async def _collect(self, uid: str) -> None:
        """Drop the Secrets that an EventSink owned, as a cluster's garbage collection does."""
        for key in [key for key, obj in self._own.items() if uid in _owners(obj)]:
            try:
                await asyncio.to_thread(remove, self._folder / key[0] / f"{key[1]}.json")
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


def _owners(obj: Object) -> set[str]:
    return {str(one.get("uid")) for one in obj["metadata"].get("ownerReferences") or ()}
