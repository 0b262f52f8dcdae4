"""Reads the Events of a collection in order: from where it was, through restarts, outages and watches that the API server ended.

A watch goes on after a resourceVersion. Where that is too old (410), everything is listed, and what is newer than it was not read yet: an
object's own resourceVersion is that of its last change, and grows with each change of any object of its kind. What is in the list twice,
or was sent before a kill, the router knows: it notifies nobody twice.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from eventsink.events.event import EVENTS, created, last_seen, sent_of, subject_of
from eventsink.events.filters import Filter
from eventsink.events.metrics import EventsMetrics
from eventsink.events.rate import RateLimit
from eventsink.events.window import Read, Window
from eventsink.kube.api import Api, ApiError, Collection, Forbidden, Gone, Object, Unavailable, is_older
from eventsink.runtime.backoff import Backoff, Chance
from eventsink.runtime.logs import Repeated, get_logger

PAGE = 40
"""Events of one list request: whoever may write Events may write some of more than a megabyte, and a page is several times in memory."""
WATCH_SECONDS = 60
"""How long the server keeps one watch: it may send nothing meanwhile, no bookmark either, and a watch that is silent for longer is taken for
dead."""
MAX_OFFERED = 100_000
"""Of so many Events of a list that fails in its middle it is known that they were offered, some 100 bytes each; others may count twice for the
rate."""
NEW_NAMESPACE_SECONDS = 3.0
"""So old is the first Event of a namespace at least when it is sent: the router learns the owner of a new namespace from the operator, which
learns of it when this process does. An Event that comes earlier is nobody's, or that of the source's default tenant."""
MAX_NAMESPACES = 10_000
"""Of so many it is known that an Event was sent; the one of which none has come for longest makes room, and counts as new."""
BACKOFF = Backoff(first=0.5, longest=30.0, jitter=0.5)
SHORT_WATCH_SECONDS = 1.0
"""A watch that ends sooner counts as a failure, and so does a list whose version is too old sooner."""


class Follower:
    """Follows the Events of one namespace, or of all; `run` is a task for ever.

    Parameters
    ----------
    namespace
        Empty: all.
    version
        The resourceVersion of the checkpoint; empty: there is none.
    first_start_age
        Seconds: without a checkpoint, what happened longer ago is left out.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        version: str,
        window: Window,
        filter_: Filter,
        rate: RateLimit,
        metrics: EventsMetrics,
        *,
        first_start_age: float,
        wall_clock: Callable[[], float] = time.time,
        chance: Chance = random.random,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._api = api
        self._collection = Collection(EVENTS, namespace, field_selector=filter_.field_selector)
        self._anything = Collection(EVENTS, namespace)
        self._version = version
        self._must_list = not version
        self._offered: set[str] = set()
        """Resource versions of what was read of a list that is to be read again, since it has not come to its end."""
        self._window = window
        self._filter = filter_
        self._rate = rate
        self._metrics = metrics
        self._first_start_age = first_start_age
        self._wall_clock = wall_clock
        self._chance = chance
        self._pause = pause
        self._namespaces: OrderedDict[str, None] = OrderedDict()
        self._listed_at = -math.inf
        self._failures = 0
        self._down_since: float | None = None
        self._outage = Repeated(60.0)
        self.problem: str | None = "Events were not listed yet"
        """Why nothing can be read, although the API server responds; None: it can, or the API server does not respond."""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self._check_history()
                if self._must_list:
                    await self._list()
                await self._watch()
            except Gone as error:
                self._must_list = True
                self._metrics.relists.inc()
                if time.monotonic() - self._listed_at < SHORT_WATCH_SECONDS:
                    await self._wait(error)
            except ApiError as error:
                if error.status not in (0, 429) and error.status < 500:
                    self._must_list = True
                await self._wait(error)

    async def _check_history(self) -> None:
        """Forget a resourceVersion that the API server has not reached: it was restored from an older state, and would send nothing for long."""
        if self._version and is_older((await self._api.list(self._anything, limit=1)).resource_version, self._version):
            get_logger().warning(
                "the API server is at an older state than the checkpoint; it is begun again, as at the first start",
                namespace=self._collection.namespace,
            )
            self._version, self._must_list = "", True
            self._offered.clear()

    async def _list(self) -> None:
        if not self._version:
            await self._window.put(Read(self._collection.namespace, await self._beginning()))
        self._listed_at = time.monotonic()
        token = ""
        while True:
            page = await self._api.list(self._collection, limit=PAGE, continue_token=token)
            for event in page.items:
                version = event["metadata"]["resourceVersion"]
                if version in self._offered:
                    continue
                if self._is_new(event):
                    await self._offer(event, "")
                if len(self._offered) < MAX_OFFERED:
                    self._offered.add(version)
            token = page.continue_token
            if not token:
                break
        self._offered.clear()
        await self._window.put(Read(self._collection.namespace, page.resource_version))
        self._version, self._must_list, self._listed_at = page.resource_version, False, time.monotonic()
        self._connected()

    async def _beginning(self) -> str:
        """Where to go on if this process ends before what a first start finds was sent: before the first of it. Empty: that cannot be said."""
        first, token = 0, ""
        while True:
            page = await self._api.list(self._collection, limit=PAGE, continue_token=token)
            for event in page.items:
                if not self._is_recent(event):
                    continue
                version = event["metadata"]["resourceVersion"]
                if not version.isdigit():
                    return ""
                first = min(first or int(version), int(version))
            token = page.continue_token
            if not token:
                return str(max(1, first - 1)) if first else page.resource_version

    def _is_new(self, event: Object) -> bool:
        """Whether an Event of a list was not read yet."""
        version = event["metadata"]["resourceVersion"]
        if self._version:
            return version != self._version and not is_older(version, self._version)
        if self._is_recent(event):
            return True
        self._metrics.old.inc()
        return False

    def _is_recent(self, event: Object) -> bool:
        """Whether a first start sends an Event."""
        seen = last_seen(event)
        return seen is None or seen.timestamp() >= self._wall_clock() - self._first_start_age

    async def _watch(self) -> None:
        began = time.monotonic()
        async with self._api.watch(self._collection, resource_version=self._version, seconds=WATCH_SECONDS) as events:
            self._connected()
            async for change in events:
                version = change.object["metadata"]["resourceVersion"]
                if change.type in ("ADDED", "MODIFIED"):
                    await self._offer(change.object, version)
                else:
                    await self._window.put(Read(self._collection.namespace, version))
                self._version = version
        if time.monotonic() - began < SHORT_WATCH_SECONDS:
            raise Unavailable(0, "Unavailable", "the watch ended at once")
        self._failures = 0

    async def _offer(self, event: Object, version: str) -> None:
        """Have an Event sent, if it is to be."""
        self._metrics.read.inc()
        read = Read(self._collection.namespace, version)
        if not self._filter.passes(event):
            self._metrics.filtered.inc()
        elif (suppressed := self._rate.take(subject_of(event))) is None:
            self._metrics.suppressed.inc()
        else:
            read.event, read.suppressed = sent_of(event), suppressed
            read.uid = event["metadata"].get("uid", "")
            await self._wait_for_owner(event)
        if read.event is not None or version:
            await self._window.put(read)

    async def _wait_for_owner(self, event: Object) -> None:
        """Of a namespace that seems to be new: what is read meanwhile grows older, too, so that many of them take no longer than one."""
        namespace = event["metadata"].get("namespace", "")
        if namespace not in self._namespaces:
            at = created(event)
            left = at.timestamp() + NEW_NAMESPACE_SECONDS - self._wall_clock() if at is not None else 0.0
            if 0.0 < left <= NEW_NAMESPACE_SECONDS:  # more: the clocks differ
                await self._pause(left)
            self._namespaces[namespace] = None
            if len(self._namespaces) > MAX_NAMESPACES:
                self._namespaces.popitem(last=False)
        self._namespaces.move_to_end(namespace)

    def _connected(self) -> None:
        self.problem = None
        if self._down_since is not None:
            get_logger().info("the API server is back", seconds=round(time.monotonic() - self._down_since, 1))
            self._down_since = None
            self._outage = Repeated(60.0)
            self._metrics.watches_down.dec()

    async def _wait(self, error: ApiError) -> None:
        if self._down_since is None:
            self._down_since = time.monotonic()
            self._metrics.watches_down.inc()
        if isinstance(error, Forbidden):
            self.problem = "its ServiceAccount may not list and watch events.events.k8s.io: bind the role that comes with it"
        if (more := self._outage.due()) is not None:
            get_logger().warning("Events cannot be read, retrying", reason=str(error), status=error.status, more=more)
        self._failures += 1
        await asyncio.sleep(BACKOFF.wait(self._failures, self._chance))
