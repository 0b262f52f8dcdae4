"""Keeps what operator and router keep in a cluster: compiled sinks, tokens and statuses, behind the same calls.

So both run here as they are. Secrets lie in the data folder, one file each, readable by its owner only, written before they count.
Statuses are made anew at each start.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eventsink.kube.client import JSON, Api, ApiError, Conflict, Invalid, NotFound, Object, Unavailable
from eventsink.kube.reflector import Key
from eventsink.resources.spec import GROUP, PLURAL, VERSION
from eventsink.runtime.files import write_private

_SECRETS = re.compile(r"/api/v1/namespaces/([^/]+)/secrets(?:/([^/]+))?")
_STATUS = re.compile(rf"/apis/{re.escape(GROUP)}/{VERSION}/namespaces/([^/]+)/{PLURAL}/([^/]+)/status")
_EVENTS = re.compile(r"/api/v1/namespaces/([^/]+)/events")

SecretListener = Callable[[Key, Object | None], None]
"""Called with a Secret of the program's own that appeared or changed; None: it is gone."""


class LocalObjects(Api):
    """An `Api` whose server is this object.

    Parameters
    ----------
    folder
        Where Secrets are kept; made if it is absent.
    secret_changed
        See `SecretListener`.
    sink_changed
        Called with an EventSink whose status changed.
    told
        Called with the Event that the operator writes when a person wants to hear of a change.
    """

    def __init__(
        self,
        folder: Path,
        *,
        secret_changed: SecretListener,
        sink_changed: Callable[[Object], None],
        told: Callable[[Object], None],
    ) -> None:
        self._folder = folder
        self._secret_changed = secret_changed
        self._sink_changed = sink_changed
        self._told = told
        self.given: dict[Key, Object] = {}
        """Secrets of the documents."""
        self.sinks: dict[Key, Object] = {}
        """EventSinks, with their statuses."""
        self._statuses: dict[Key, dict[str, Object]] = {}
        """EventSink -> field manager -> its part of the status."""
        self._own: dict[Key, Object] = {}
        self._writing = asyncio.Lock()

    def load(self) -> None:
        """Read the Secrets that were kept; `secret_changed` is called for each.

        Raises
        ------
        OSError
            The folder cannot be made or read.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in sorted(self._folder.glob("*/*.json")):
            try:
                obj = json.loads(file.read_text(encoding="utf-8"))
                key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
                if (key[0], f"{key[1]}.json") != (file.parent.name, file.name):
                    continue
            except (ValueError, KeyError, TypeError):
                continue  # as a Secret that was never written: it is compiled anew
            self._own[key] = obj
            self._secret_changed(key, obj)

    async def close(self) -> None:
        """Nothing is open."""

    def put_sink(self, key: Key, obj: Object) -> None:
        """An EventSink is there, or changed; its status stays."""
        self.sinks[key] = self._with_status(key, obj)

    def drop_sink(self, key: Key) -> None:
        """An EventSink is gone."""
        self.sinks.pop(key, None)
        self._statuses.pop(key, None)

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
        """One of the requests that operator and router make.

        Raises
        ------
        ApiError
            As the API server would answer.
        """
        if found := _SECRETS.fullmatch(path):
            return await self._secret(method, found[1], found[2] or "", query or {}, body or {})
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
                    await asyncio.to_thread(file.unlink, missing_ok=True)
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

    # ---- statuses

    def _status(self, key: Key, manager: str, body: Object) -> Object:
        known = self.sinks.get(key)
        if known is None:
            raise NotFound(404, "NotFound", "the EventSink is gone")
        wanted = body["metadata"].get("resourceVersion")
        if wanted not in (None, known["metadata"]["resourceVersion"]):
            raise Conflict(409, "Conflict", "the EventSink was changed since")
        self._statuses.setdefault(key, {})[manager] = body["status"]
        changed = self.sinks[key] = self._with_status(key, known)
        self._sink_changed(changed)
        return changed

    def _with_status(self, key: Key, obj: Object) -> Object:
        status: dict[str, Any] = {}
        conditions: list[Object] = []
        for part in self._statuses.get(key, {}).values():
            conditions += part.get("conditions", ())
            status |= part
        metadata = {**obj["metadata"], "resourceVersion": secrets.token_hex(8)}
        return {**obj, "metadata": metadata, "status": {**status, "conditions": conditions}}
