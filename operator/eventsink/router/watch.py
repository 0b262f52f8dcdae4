"""Fills the directory of sinks from the compiled Secrets of one namespace."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable

from pydantic import ValidationError

from eventsink.kube.api import SECRETS, Api, Collection, Key, Object
from eventsink.kube.reflector import Reflector
from eventsink.router.directory import SinkDirectory
from eventsink.runtime.logs import get_logger
from eventsink.sinks.sink import (
    SINK_SECRET_KEY,
    SINK_SECRET_TYPE,
    TENANCY_SECRET_KEY,
    TENANCY_SECRET_NAME,
    TENANCY_SECRET_TYPE,
    Sink,
    Tenancy,
    sink_secret_name,
)


class UnreadableDocument(ValueError):
    """The Secret does not hold a document that this version can read. The text repeats nothing of it."""


class SinkHandler:
    """Turns Secrets of the type eventsink.dev/sink into sinks; one that cannot be read keeps its last good version."""

    def __init__(self, directory: SinkDirectory) -> None:
        self._directory = directory
        self.unreadable: set[str] = set()
        """Names of Secrets that cannot be read at present."""

    def upsert(self, key: Key, obj: Object) -> None:
        name = key[1]
        uid = name.removeprefix("sink-")
        try:
            sink = read_sink(obj)
        except UnreadableDocument as error:
            self.unreadable.add(name)
            if uid not in self._directory.sinks:
                self._directory.withheld.add(uid)
            get_logger().error(
                "a compiled sink cannot be read; its last good version stays active", secret=name, reason=str(error)
            )
            return
        self.unreadable.discard(name)
        self._directory.withheld.discard(uid)
        self._directory.put(sink)

    def delete(self, key: Key) -> None:
        uid = key[1].removeprefix("sink-")
        self.unreadable.discard(key[1])
        self._directory.withheld.discard(uid)
        self._directory.remove(uid)


class TenancyHandler:
    """Reads the tenancy document. When it is deleted, the last one stays: nobody becomes an owner by that."""

    def __init__(self, directory: SinkDirectory) -> None:
        self._directory = directory
        self.known = asyncio.Event()

    def upsert(self, key: Key, obj: Object) -> None:
        if key[1] != TENANCY_SECRET_NAME:
            return
        try:
            text = _document(obj, TENANCY_SECRET_KEY)
            self._directory.set_tenancy(Tenancy.model_validate_json(text))
            self.known.set()
        except (UnreadableDocument, ValidationError):
            get_logger().error("the tenancy document cannot be read; the last good one stays active", secret=key[1])

    def delete(self, key: Key) -> None:
        if key[1] == TENANCY_SECRET_NAME:
            get_logger().warning("the tenancy document was deleted; the last one stays active", secret=key[1])


class SinkWatch:
    """Follows the compiled Secrets of a namespace; marks the directory as loaded once all were seen.

    Parameters
    ----------
    complete
        Waits until all sinks that there are were compiled, where that is known.
    """

    def __init__(
        self, api: Api, namespace: str, directory: SinkDirectory, *, complete: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._directory = directory
        self._complete = complete
        self.sinks = SinkHandler(directory)
        self._tenancy = TenancyHandler(directory)
        sinks = Collection(SECRETS, namespace, field_selector=f"type={SINK_SECRET_TYPE}")
        tenancy = Collection(SECRETS, namespace, field_selector=f"type={TENANCY_SECRET_TYPE}")
        self.reflectors = {
            "sinks": Reflector(api, "sinks", sinks, self.sinks),
            "tenancy": Reflector(api, "tenancy", tenancy, self._tenancy),
        }

    def missing(self) -> str | None:
        """What is not loaded yet, for readiness; None: all is."""
        waiting = [name for name, reflector in self.reflectors.items() if not reflector.synced.is_set()]
        if waiting:
            return f"not listed yet: {', '.join(waiting)}"
        if not self._directory.tenancy_known:
            return "the operator has not written the tenancy yet"
        return None

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, reflector in self.reflectors.items():
                group.create_task(reflector.run(), name=f"watch-{name}")
            await self._mark_loaded()

    async def _mark_loaded(self) -> None:
        for reflector in self.reflectors.values():
            await reflector.synced.wait()
        if self._complete is not None:
            await self._complete()
        await self._tenancy.known.wait()
        self._directory.mark_loaded()
        get_logger().info("loaded", sinks=len(self._directory.sinks), withheld=len(self._directory.withheld))


def read_sink(obj: Object) -> Sink:
    """The compiled sink in a Secret.

    Raises
    ------
    UnreadableDocument
        Another version, not a document, or not the one that its name says.
    """
    try:
        sink = Sink.model_validate_json(_document(obj, SINK_SECRET_KEY))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise UnreadableDocument(f"{'.'.join(map(str, first['loc'])) or 'the document'}: {first['type']}") from None
    if sink_secret_name(sink.uid) != obj["metadata"]["name"]:
        raise UnreadableDocument("uid: is not the one in the Secret's name")
    return sink


def _document(obj: Object, key: str) -> bytes:
    try:
        return base64.b64decode((obj.get("data") or {})[key], validate=True)
    except (KeyError, TypeError, ValueError):
        raise UnreadableDocument(f"data.{key}: is missing or not base64") from None
