"""Where the operator works: in all namespaces, or in those that a setting lists, one watch each, so that Roles in them suffice.

A listed namespace may be absent. Then the API server denies its lists, just as it does where the Role is missing: nothing is known of its
EventSinks, and what was compiled for them stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from eventsink.controller.cluster_state import ClusterState
from eventsink.kube.api import SECRETS, Api, Collection
from eventsink.kube.reflector import Reflector
from eventsink.resources.names import EVENTSINKS
from eventsink.resources.namespaces import NamespaceSettings
from eventsink.sinks.sink import SINK_SECRET_TYPE, TENANCY_SECRET_TYPE

WATCHES_PER_NAMESPACE = 2
FOREIGN_SECRETS = f"type!={SINK_SECRET_TYPE},type!={TENANCY_SECRET_TYPE}"
"""Field selector of the Secrets that are not compiled documents."""


class NamespaceWatch:
    """Follows one listed namespace: its Secrets first, then its EventSinks, which are judged by what Secrets there are."""

    def __init__(self, api: Api, name: str, state: ClusterState) -> None:
        self._secrets = _secrets_of(name, api, state)
        self._eventsinks = Reflector(api, f"eventsinks of {name}", Collection(EVENTSINKS, name), state.eventsink_handler)

    @property
    def complete(self) -> bool:
        """Whether everything there is was listed once: an EventSink that is not known does not exist."""
        return self._eventsinks.synced.is_set()

    @property
    def denied(self) -> bool:
        """Whether it cannot be read: it does not exist, or the Role in it does not."""
        return self._secrets.denied or self._eventsinks.denied

    async def tried(self) -> None:
        """Wait until everything was listed once, or the API server has denied it."""
        await self._secrets.tried.wait()
        if not self._secrets.denied:
            await self._eventsinks.tried.wait()

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._secrets.run())
            await self._secrets.synced.wait()
            group.create_task(self._eventsinks.run())


class Scope:
    """The namespaces that the operator works in; without any in its settings: all."""

    def __init__(self, namespaces: Sequence[NamespaceSettings], api: Api, state: ClusterState) -> None:
        self.watches = {one.name: NamespaceWatch(api, one.name, state) for one in namespaces}
        for one in namespaces:
            state.give(one.name, one.tenant, platform=one.platform)

    @property
    def everywhere(self) -> bool:
        """Whether it works in all namespaces, which are watched as one."""
        return not self.watches

    def covers(self, namespace: str) -> bool:
        """Whether it works there."""
        return self.everywhere or namespace in self.watches

    def knows(self, namespace: str) -> bool:
        """Whether an EventSink there that was not seen does not exist."""
        return self.everywhere or (namespace in self.watches and self.watches[namespace].complete)

    def denied(self) -> list[str]:
        """The listed namespaces that cannot be read at present."""
        return [name for name, watch in self.watches.items() if watch.denied]

    async def tried(self) -> None:
        """Wait until every listed namespace was read, or denied."""
        for watch in self.watches.values():
            await watch.tried()


def own_secrets(api: Api, namespaces: Iterable[str], state: ClusterState) -> list[Reflector]:
    """What follows the operator's own Secrets, which no watch of a listed namespace sees."""
    return [_secrets_of(name, api, state) for name in sorted(set(namespaces))]


def _secrets_of(namespace: str, api: Api, state: ClusterState) -> Reflector:
    secrets = Collection(SECRETS, namespace, metadata_only=True, field_selector=FOREIGN_SECRETS)
    return Reflector(api, f"secrets of {namespace}", secrets, state.secret_handler)
