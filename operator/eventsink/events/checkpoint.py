"""Up to where Events have been sent, in a ConfigMap: written by the leader alone, now and then, read by whoever leads next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from eventsink.events.config import CheckpointSettings
from eventsink.events.event import members_of, text_of
from eventsink.events.metrics import EventsMetrics
from eventsink.kube.api import Api, ApiError, Conflict, Key, NotFound, Object, Resource
from eventsink.kube.lease import NotLeading, pod_namespace
from eventsink.runtime.logs import Repeated, get_logger

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
ALL = "_all"
"""The key of the position in all namespaces."""
MAX_DIGITS = 20
"""Of a resourceVersion; what is no such number counts as absent."""
ATTEMPTS = 2
"""To write what somebody else writes at the same time."""
LAST_WRITE_SECONDS = 3.0
"""How long the end waits for the last write."""


class Checkpoint:
    """The positions (collection -> resourceVersion) up to which everything has been sent.

    Parameters
    ----------
    api
        Writes for the leader alone.
    """

    def __init__(self, api: Api, settings: CheckpointSettings, metrics: EventsMetrics) -> None:
        self._api = api
        self._key: Key = (settings.namespace or pod_namespace(), settings.name)
        self._interval = settings.interval
        self._metrics = metrics
        self._positions: dict[str, str] = {}
        self._written: dict[str, str] = {}
        self._object: Object | None = None
        self._changed = asyncio.Event()
        self._outage = Repeated(60.0)

    async def load(self) -> None:
        """Read it.

        Raises
        ------
        ApiError
            It cannot be read; that there is none yet is no error.
        """
        try:
            self._object = await self._api.get(CONFIG_MAPS, self._key)
        except NotFound:
            self._object = None
        self._positions = positions_of(self._object or {})
        self._written = dict(self._positions)

    def position(self, collection: str) -> str:
        """Where to go on; empty: there is no checkpoint of it. One of all namespaces holds for each of them."""
        return self._positions.get(collection) or self._positions.get("", "")

    def advance(self, positions: Mapping[str, str]) -> None:
        """Everything up to these has been sent."""
        self._positions.update(positions)
        self._changed.set()

    def keep(self, collections: list[str]) -> None:
        """Forget the positions of other collections: they are not followed any more, and say nothing about later."""
        self._positions = {name: self.position(name) for name in collections if self.position(name)}

    async def run(self) -> None:
        """Write what has changed, at most once an interval, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.write()
            except (ApiError, TimeoutError) as error:
                self._changed.set()
                self._failed(error)
            await asyncio.sleep(self._interval)

    async def close(self) -> None:
        """Write what has changed, at the end."""
        try:
            async with asyncio.timeout(LAST_WRITE_SECONDS):
                await self.write()
        except (ApiError, TimeoutError) as error:
            self._failed(error)

    async def write(self) -> None:
        """Write what has changed.

        Raises
        ------
        ApiError
            It could not be written.
        """
        positions = dict(self._positions)
        if positions == self._written:
            return
        data = {name or ALL: version for name, version in positions.items()}
        body: Object = {
            "apiVersion": CONFIG_MAPS.api_version,
            "kind": CONFIG_MAPS.kind,
            "metadata": {
                "namespace": self._key[0],
                "name": self._key[1],
                "labels": {"app.kubernetes.io/name": "eventsink-events", "app.kubernetes.io/part-of": "eventsink"},
            },
            "data": data,
        }
        for attempt in range(ATTEMPTS):
            try:
                if self._object is None:
                    self._object = await self._api.create(CONFIG_MAPS, body)
                else:
                    # Somebody's own labels and annotations stay.
                    self._object = await self._api.replace(CONFIG_MAPS, {**self._object, "data": data})
                break
            except (Conflict, NotFound):
                # Somebody else has written or deleted it, or a write that got no response was made. This replica leads: what it knows counts.
                self._object = await self._read()
                if attempt == ATTEMPTS - 1:
                    raise
        self._written = positions
        self._metrics.checkpoint.set(time.time())
        self._outage = Repeated(60.0)

    async def _read(self) -> Object | None:
        try:
            return await self._api.get(CONFIG_MAPS, self._key)
        except NotFound:
            return None

    def _failed(self, error: ApiError | TimeoutError) -> None:
        if not isinstance(error, NotLeading) and (more := self._outage.due()) is not None:
            reason = str(error) if isinstance(error, ApiError) else "no response in time"
            get_logger().warning(
                "the checkpoint could not be written, retrying", config_map="/".join(self._key), reason=reason, more=more
            )


def positions_of(config_map: Object) -> dict[str, str]:
    """The positions that a ConfigMap holds."""
    data = members_of(config_map.get("data"))
    return {"" if name == ALL else name: version for name, version in data.items() if _is_version(text_of(version))}


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
