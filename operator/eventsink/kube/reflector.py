"""Follows a kind of object on the API server: list, then watch, for ever, through outages, without a storm.

What the handler is told is complete: an object that vanished while nothing was connected is told as deleted after the next list, and one
that did not change is not told again.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any, Protocol

from eventsink.kube.client import JSON, METADATA, METADATA_LIST, Api, ApiError, Gone, Object, Unavailable
from eventsink.runtime.backoff import Backoff, Chance
from eventsink.runtime.logs import Repeated, get_logger

PAGE = 500
"""Objects of one list request."""
WATCH_SECONDS = 300
"""How long the server keeps one watch; less a random part, so that many do not end at once."""
SILENCE_SECONDS = 90.0
"""Without a byte for so long (bookmarks come each minute), a watch is taken for dead."""
BACKOFF = Backoff(first=0.5, longest=30.0, jitter=0.5)
SHORT_WATCH_SECONDS = 1.0
"""A watch that ends sooner counts as a failure."""

Key = tuple[str, str]
"""Namespace (empty for cluster-wide kinds) and name."""


class Handler(Protocol):
    """Is told of changes, in the event loop; must not block."""

    def upsert(self, key: Key, obj: Object) -> None:
        """The object appeared or changed."""
        ...

    def delete(self, key: Key) -> None:
        """The object is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """What to follow."""

    path: str
    """Of the collection, such as /api/v1/secrets."""
    metadata_only: bool = False
    """Ask for metadata alone: of Secrets, the data never come here."""
    label_selector: str = ""
    field_selector: str = ""


class Reflector:
    """Follows one selection. `run` is a task for ever; `synced` is set after the first whole list."""

    def __init__(
        self,
        api: Api,
        name: str,
        selection: Selection,
        handler: Handler,
        *,
        chance: Chance = random.random,
    ) -> None:
        self._api = api
        self._name = name
        self._selection = selection
        self._handler = handler
        self._chance = chance
        self._known: dict[Key, str] = {}
        self._version = ""
        self._failures = 0
        self._outage = Repeated(60.0)
        self._down_since: float | None = None
        self.synced = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether the last attempt reached the API server."""
        return self._down_since is None

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list()
                    self.synced.set()
                await self._watch()
            except Gone:
                self._version = ""
            except ApiError as error:
                if error.status not in (0, 429) and error.status < 500:
                    self._version = ""
                await self._wait(error)

    async def _list(self) -> None:
        seen: dict[Key, str] = {}
        token = ""
        accept = METADATA_LIST if self._selection.metadata_only else JSON
        while True:
            query = {**self._query(), "limit": str(PAGE)}
            if token:
                query["continue"] = token
            page = await self._api.request("GET", self._selection.path, query=query, accept=accept)
            for obj in page.get("items") or ():
                key, version = _key(obj), obj["metadata"]["resourceVersion"]
                seen[key] = version
                if self._known.get(key) != version:
                    self._known[key] = version
                    self._handler.upsert(key, obj)
            token = page["metadata"].get("continue") or ""
            if not token:
                break
        for key in [key for key in self._known if key not in seen]:
            del self._known[key]
            self._handler.delete(key)
        self._version = page["metadata"]["resourceVersion"]

    async def _watch(self) -> None:
        lasting = int(WATCH_SECONDS * (0.7 + 0.3 * self._chance()))
        query = {
            **self._query(),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(lasting),
        }
        accept = METADATA if self._selection.metadata_only else JSON
        began = time.monotonic()
        async with self._api.stream(self._selection.path, query=query, accept=accept, silence=SILENCE_SECONDS) as events:
            self._connected()
            async for event in events:
                self._apply(event)
        if time.monotonic() - began < SHORT_WATCH_SECONDS:
            raise Unavailable(0, "Unavailable", "the watch ended at once")
        self._failures = 0

    def _apply(self, event: dict[str, Any]) -> None:
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            if obj.get("code") == 410:
                raise Gone(410, "Expired", "the watch is too old")
            raise Unavailable(int(obj.get("code") or 500), "Unavailable", "the watch ended with an error")
        self._version = obj["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return
        key = _key(obj)
        if kind == "DELETED":
            if self._known.pop(key, None) is not None:
                self._handler.delete(key)
        elif self._known.get(key) != self._version:
            self._known[key] = self._version
            self._handler.upsert(key, obj)

    def _query(self) -> dict[str, str]:
        query = {}
        if self._selection.label_selector:
            query["labelSelector"] = self._selection.label_selector
        if self._selection.field_selector:
            query["fieldSelector"] = self._selection.field_selector
        return query

    def _connected(self) -> None:
        if self._down_since is not None:
            get_logger().info("the API server is back", watch=self._name, seconds=round(time.monotonic() - self._down_since, 1))
            self._down_since = None
            self._outage = Repeated(60.0)

    async def _wait(self, error: ApiError) -> None:
        """Say that it does not work, once a minute at most, and wait: longer each time, and never two at the same moment."""
        if self._down_since is None:
            self._down_since = time.monotonic()
        more = self._outage.due()
        if more is not None:
            get_logger().warning(
                "a watch does not work; it is tried again", watch=self._name, reason=str(error), status=error.status
            )
        self._failures += 1
        await asyncio.sleep(BACKOFF.wait(self._failures, self._chance))


def _key(obj: Object) -> Key:
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
