"""Asks the API server about what the operator's watches may not have shown yet."""

from __future__ import annotations

import asyncio
from collections.abc import Collection as Names

from eventsink.controller.admission.review import Fresh
from eventsink.controller.tenancy import Namespace, read_namespace
from eventsink.kube.api import NAMESPACES, SECRETS, Api, ApiError, Collection, Resource

CONFIRM_SECONDS = 2.0
"""For one question; without a response, what the watches have shown counts."""
MAX_SECRETS = 8
"""Secrets in one question; what else is missing counts as missing."""


class Confirmation:
    """A `Confirm`, for calls from any loop; how many there are at once is for the caller to bound.

    Parameters
    ----------
    api
        The operator's.
    loop
        The loop that the API is used in.
    """

    def __init__(self, api: Api, loop: asyncio.AbstractEventLoop) -> None:
        self._api = api
        self._loop = loop

    async def __call__(self, namespace: str, secrets: Names[str], *, owner: bool) -> Fresh | None:
        """See `Confirm`."""
        asked = asyncio.run_coroutine_threadsafe(self._ask(namespace, sorted(secrets)[:MAX_SECRETS], owner), self._loop)
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                return await asyncio.wrap_future(asked)
        except (TimeoutError, ApiError):
            return None

    async def _ask(self, namespace: str, secrets: list[str], owner: bool) -> Fresh:
        found, there = await asyncio.gather(
            self._namespace(namespace if owner else ""),
            asyncio.gather(*(self._exists(SECRETS, namespace, name) for name in secrets)),
        )
        return Fresh(found, frozenset(name for name, exists in zip(secrets, there, strict=True) if exists))

    async def _namespace(self, name: str) -> Namespace | None:
        if not name:
            return None
        items = (await self._api.list(_one(NAMESPACES, "", name), limit=1)).items
        return read_namespace(items[0]["metadata"]) if items else None

    async def _exists(self, resource: Resource, namespace: str, name: str) -> bool:
        return bool((await self._api.list(_one(resource, namespace, name), limit=1)).items)


def _one(resource: Resource, namespace: str, name: str) -> Collection:
    """A collection of one object: its metadata are read by the right to list, and a Secret's values are not sent."""
    return Collection(resource, namespace, metadata_only=True, field_selector=f"metadata.name={name}")
