"""Follows a kind of object on the API server: list, then watch, for ever, through outages, without a storm.

What the handler gets is complete: an object that vanished while nothing was connected is reported as deleted after the next list, and one
that did not change is not reported again.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Container
from typing import Protocol

from eventsink.kube.api import (
    Api,
    ApiError,
    Collection,
    Forbidden,
    Gone,
    Key,
    NotFound,
    Object,
    Unavailable,
    WatchEvent,
    is_older,
    key_of,
)
from eventsink.runtime.backoff import Backoff, Chance
from eventsink.runtime.logs import Repeated, get_logger

WATCH_SECONDS = 300
"""How long the server keeps one watch; less a random part, so that many do not end at once."""
BACKOFF = Backoff(first=0.5, longest=30.0, jitter=0.5)
SHORT_WATCH_SECONDS = 1.0
"""A watch that ends sooner counts as a failure, and so does a list whose version is too old sooner."""


class Handler(Protocol):
    """Gets the changes, in the event loop; must not block."""

    def upsert(self, key: Key, obj: Object) -> None:
        """The object appeared or changed."""
        ...

    def delete(self, key: Key) -> None:
        """The object is gone."""
        ...


class Reflector:
    """Follows one collection. `run` is a task for ever; `synced` is set after the first whole list.

    Parameters
    ----------
    absent_seconds
        The API server may not have this kind of objects: then there are none, and it is looked for again after so long. None: it has.
    """

    def __init__(
        self,
        api: Api,
        name: str,
        collection: Collection,
        handler: Handler,
        *,
        chance: Chance = random.random,
        absent_seconds: float | None = None,
    ) -> None:
        self._api = api
        self._name = name
        self._collection = collection
        self._handler = handler
        self._chance = chance
        self._absent_seconds = absent_seconds
        self._known: dict[Key, str] = {}
        self._version = ""
        self._listed_at = -math.inf
        self._failures = 0
        self._outage = Repeated(60.0)
        self._down_since: float | None = None
        self.synced = asyncio.Event()
        self.tried = asyncio.Event()
        """Set once the API server has listed the collection, or denied it."""
        self.denied = False
        """Whether the last attempt was denied: a right is missing, or the namespace that would grant it."""

    @property
    def connected(self) -> bool:
        """Whether the last attempt reached the API server."""
        return self._down_since is None

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                if self._version:
                    await self._check_history()
                if not self._version:
                    await self._list()
                    self.denied = False
                    self.synced.set()
                    self.tried.set()
                await self._watch()
            except Gone as error:
                self._version = ""
                if time.monotonic() - self._listed_at < SHORT_WATCH_SECONDS:
                    await self._wait(error)
            except ApiError as error:
                if self._absent_seconds is not None and isinstance(error, NotFound):
                    await self._wait_for_kind(self._absent_seconds)
                    continue
                self.denied = isinstance(error, Forbidden)
                if self.denied:
                    self.tried.set()
                if error.status not in (0, 429) and error.status < 500:
                    self._version = ""
                await self._wait(error)

    async def _check_history(self) -> None:
        """List again where the API server is at an older state: restored from a backup, it would send nothing until it has caught up."""
        newest = (await self._api.list(self._collection, limit=1)).resource_version
        if is_older(newest, self._version):
            get_logger().warning("the API server is at an older state than before; everything is listed again", watch=self._name)
            self._version = ""
            # It may give a version that is known to another state of the object.
            self._known = dict.fromkeys(self._known, "")

    async def _list(self) -> None:
        self._listed_at = time.monotonic()
        seen: dict[Key, str] = {}
        token = ""
        while True:
            page = await self._api.list(self._collection, continue_token=token)
            for obj in page.items:
                key, version = key_of(obj), obj["metadata"]["resourceVersion"]
                seen[key] = version
                if self._known.get(key) != version:
                    self._known[key] = version
                    self._handler.upsert(key, obj)
            token = page.continue_token
            if not token:
                break
        self._forget_all_but(seen)
        self._version, self._listed_at = page.resource_version, time.monotonic()

    def _forget_all_but(self, seen: Container[Key]) -> None:
        for key in [key for key in self._known if key not in seen]:
            del self._known[key]
            self._handler.delete(key)

    async def _wait_for_kind(self, seconds: float) -> None:
        """The API server does not have this kind of objects: there are none until it has."""
        self._forget_all_but(())
        self._version, self.denied = "", False
        self._connected()
        self.synced.set()
        self.tried.set()
        await asyncio.sleep(seconds)

    async def _watch(self) -> None:
        lasting = int(WATCH_SECONDS * (0.7 + 0.3 * self._chance()))
        began = time.monotonic()
        async with self._api.watch(self._collection, resource_version=self._version, seconds=lasting) as events:
            self._connected()
            async for event in events:
                self._apply(event)
        if time.monotonic() - began < SHORT_WATCH_SECONDS:
            raise Unavailable(0, "Unavailable", "the watch ended at once")
        self._failures = 0

    def _apply(self, event: WatchEvent) -> None:
        self._version = event.object["metadata"]["resourceVersion"]
        if event.type == "BOOKMARK":
            return
        key = key_of(event.object)
        if event.type == "DELETED":
            if self._known.pop(key, None) is not None:
                self._handler.delete(key)
        elif self._known.get(key) != self._version:
            self._known[key] = self._version
            self._handler.upsert(key, event.object)

    def _connected(self) -> None:
        if self._down_since is not None:
            get_logger().info("the API server is back", watch=self._name, seconds=round(time.monotonic() - self._down_since, 1))
            self._down_since = None
            self._outage = Repeated(60.0)

    async def _wait(self, error: ApiError) -> None:
        """Log that the watch failed, once a minute at most, and wait: longer each time, and never two at the same moment."""
        if self._down_since is None:
            self._down_since = time.monotonic()
        more = self._outage.due()
        if more is not None:
            get_logger().warning("watch failed, retrying", watch=self._name, reason=str(error), status=error.status)
        self._failures += 1
        await asyncio.sleep(BACKOFF.wait(self._failures, self._chance))
