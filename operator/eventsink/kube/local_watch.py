"""Watches of the local API: the history of each kind of objects, and who follows it. Bounded, as a server's is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from eventsink.kube.api import Collection, Gone, Object, WatchEvent

HISTORY = 1_000
"""Changes of one kind that are kept for watches; one that is further behind has to list again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How an object changed."""

    position: int
    """In the order of the changes; the object's resourceVersion was drawn before the change was committed."""
    before: Object | None
    after: Object | None

    @property
    def version(self) -> str:
        """The resourceVersion of the object as it is sent."""
        shown = self.after if self.after is not None else self.before
        return str(shown["metadata"]["resourceVersion"]) if shown is not None else ""


class History:
    """The last changes of one kind of objects, and the watches that follow them."""

    def __init__(self, position: int) -> None:
        self.watches: set[Watch] = set()
        self._entries: deque[Entry] = deque(maxlen=HISTORY)
        self._forgotten = position
        """Position of the newest change that is not known any more."""

    def add(self, position: int, before: Object | None, after: Object | None) -> None:
        """An object changed."""
        if len(self._entries) == HISTORY:
            self._forgotten = self._entries[0].position
        entry = Entry(position, before, after)
        self._entries.append(entry)
        for watch in self.watches:
            watch.push(entry)

    def since(self, version: str) -> Iterator[Entry]:
        """The changes after that version: one that a list or a bookmark had, or that of an object.

        Raises
        ------
        Gone
            They are not known any more, or the version is none.
        """
        entries = list(self._entries)
        for index, one in enumerate(entries):
            if one.version == version:
                return iter(entries[index + 1 :])
        if not version.isdigit() or int(version) < self._forgotten:
            raise Gone(410, "Expired", "the resourceVersion is too old; list again")
        return iter([one for one in entries if one.position > int(version)])


@dataclass(eq=False, slots=True)
class Watch:
    """A watch under way."""

    selector: Selector
    pending: deque[Entry]
    was_read: Callable[[], None]
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    behind: bool = True
    """Whether there is anything that was not read yet."""
    lost: bool = False

    def push(self, entry: Entry) -> None:
        """A change that came."""
        if len(self.pending) == HISTORY:
            self.pending.clear()
            self.lost = True
        if not self.lost:
            self.pending.append(entry)
        self.behind = True
        self.changed.set()

    async def read(self, seconds: int) -> AsyncIterator[WatchEvent]:
        """The changes that concern the watch as they come; `was_read` is called whenever all were read.

        Raises
        ------
        Gone
            More came than is kept.
        """
        end = asyncio.get_running_loop().time() + seconds
        while True:
            while self.pending:
                event = self.selector.event(self.pending.popleft())
                if event is not None:
                    yield event
            if self.lost:
                raise Gone(410, "Expired", f"the watch is more than {HISTORY} changes behind")
            self.behind = False
            self.was_read()
            try:
                async with asyncio.timeout_at(end):
                    await self.changed.wait()
            except TimeoutError:
                if not self.behind:
                    return  # else something changed in that moment, and whoever watches goes on from here
            self.changed.clear()


class Selector:
    """Which objects a collection has, and how they are shown."""

    def __init__(self, collection: Collection) -> None:
        self._namespace = collection.namespace
        self._metadata_only = collection.metadata_only
        self._labels = list(_terms(collection.label_selector))
        self._fields = [(path.split("."), value, equal) for path, value, equal in _terms(collection.field_selector)]

    def matches(self, obj: Object) -> bool:
        """Whether it is one of them."""
        metadata = obj["metadata"]
        if self._namespace and metadata.get("namespace") != self._namespace:
            return False
        labels = metadata.get("labels") or {}
        return all((labels.get(name) == value) == equal for name, value, equal in self._labels) and all(
            (_field(obj, path) == value) == equal for path, value, equal in self._fields
        )

    def shown(self, obj: Object) -> Object:
        """The object as it is sent."""
        if not self._metadata_only:
            return obj
        return {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": obj["metadata"]}

    def event(self, entry: Entry) -> WatchEvent | None:
        """What a change looks like to a watch of these objects only."""
        before = entry.before is not None and self.matches(entry.before)
        after = entry.after is not None and self.matches(entry.after)
        if after:
            assert entry.after is not None
            return WatchEvent("MODIFIED" if before else "ADDED", self.shown(entry.after))
        if before:
            assert entry.before is not None
            return WatchEvent("DELETED", self.shown(entry.before))
        return None


def _terms(selector: str) -> Iterator[tuple[str, str, bool]]:
    """Name, value, and whether they are to be equal: of `a=b,c!=d`."""
    for term in filter(None, selector.split(",")):
        name, equal, value = term.partition("!=") if "!=" in term else term.replace("==", "=").partition("=")
        yield name, value, equal == "="


def _field(obj: Object, path: list[str]) -> Any:
    found: Any = obj
    for name in path:
        found = found.get(name, "") if isinstance(found, dict) else ""
    return found
