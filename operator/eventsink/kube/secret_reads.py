"""Reads Secrets that many objects refer to: once for all that need the same state of one at about the same time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping

from eventsink.kube.api import SECRETS, Api, Key, NotFound
from eventsink.kube.secrets import secret_data

KEPT_SECONDS = 5.0
"""How long what was read is kept in memory after it was last asked for."""
KEPT_SECRETS = 32
KEPT_BYTES = 4 << 20
"""Of their values together."""

Read = tuple[Mapping[str, bytes], str]
"""The decoded data of a Secret, and its resourceVersion."""


class SecretReads:
    """Reads Secrets, each state of one once while it is needed. Values are kept for seconds, and in no representation of this."""

    def __init__(self, api: Api, *, kept_seconds: float = KEPT_SECONDS) -> None:
        self._api = api
        self._kept_seconds = kept_seconds
        self._under_way: dict[Key, asyncio.Task[Read | None]] = {}
        self._kept: OrderedDict[Key, tuple[Read, asyncio.TimerHandle]] = OrderedDict()
        self._bytes = 0

    async def read(self, key: Key, version: str) -> Read | None:
        """A Secret; None: there is none.

        Parameters
        ----------
        version
            The resourceVersion that the watch has shown. What is returned is that state, or the one at the time of the call.

        Raises
        ------
        ApiError
            It cannot be read.
        """
        if (kept := self._kept.get(key)) is not None and kept[0][1] == version:
            self._keep(key, kept[0])
            return kept[0]
        under_way = self._under_way.get(key)
        if under_way is not None:
            read = await asyncio.shield(under_way)
            if read is not None and read[1] == version:
                return read
        return await asyncio.shield(self._begin(key))

    def _begin(self, key: Key) -> asyncio.Task[Read | None]:
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.get_running_loop().create_task(self._get(key))
            task.add_done_callback(_seen)
        return task

    async def _get(self, key: Key) -> Read | None:
        try:
            secret = await self._api.get(SECRETS, key)
        except NotFound:
            return None
        finally:
            del self._under_way[key]
        read = secret_data(secret), secret["metadata"]["resourceVersion"]
        self._keep(key, read)
        return read

    def _keep(self, key: Key, read: Read) -> None:
        self._forget(key)
        if _size(read) > KEPT_BYTES:
            return
        self._kept[key] = read, asyncio.get_running_loop().call_later(self._kept_seconds, self._forget, key)
        self._bytes += _size(read)
        while len(self._kept) > KEPT_SECRETS or self._bytes > KEPT_BYTES:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            kept[1].cancel()
            self._bytes -= _size(kept[0])


def _size(read: Read) -> int:
    return sum(map(len, read[0].values()))


def _seen(task: asyncio.Task[Read | None]) -> None:
    """Its error was seen, also where everybody who waited was cancelled."""
    if not task.cancelled():
        task.exception()
