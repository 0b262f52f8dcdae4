"""The resolvers of all destination types."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from eventsink.controller.config import OperatorSettings
from eventsink.destinations import registry
from eventsink.destinations.resolver import Resolver, ResolverContext
from eventsink.destinations.settings import declared, sections_of
from eventsink.kube.api import Api
from eventsink.sinks.egress import EgressGuard


class Resolvers:
    """Opens a resolver for each destination type. Create it in the event loop.

    Parameters
    ----------
    settings
        The operator's.
    api
        For the operator's own Secrets. It is not one that writes for the leader alone: see `ResolverContext`.
    used_in
        Names of the Secrets of a namespace that EventSinks need.
    check_leader
        Raises an ApiError where another replica may be leading; None: there is no other.
    own_namespace
        The namespace of the operator's own Secrets; None: as the settings of each type say.
    """

    def __init__(
        self,
        settings: OperatorSettings,
        api: Api,
        used_in: Callable[[str], Collection[str]],
        *,
        check_leader: Callable[[], object] | None = None,
        own_namespace: str | None = None,
    ) -> None:
        context = ResolverContext(
            api=api,
            egress=EgressGuard(settings.egress),
            used_in=used_in,
            settings=sections_of(settings, declared("OPERATOR_SETTINGS")),
            check_leader=check_leader or _nothing,
            own_namespace=own_namespace,
        )
        self._resolvers: dict[str, Resolver] = {
            name: registry.load(name, "resolve").open_resolver(context) for name in registry.names()
        }

    def __getitem__(self, name: str) -> Resolver:
        """The resolver of a destination type."""
        return self._resolvers[name]

    def own_namespaces(self) -> set[str]:
        """The namespaces in which the operator keeps Secrets of its own."""
        return {name for resolver in self._resolvers.values() for name in resolver.own_namespaces()}

    async def run(self) -> None:
        """Let each resolver maintain what it keeps, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, resolver in self._resolvers.items():
                group.create_task(resolver.run(), name=name)
            await asyncio.Event().wait()

    async def close(self, grace: float) -> None:
        """Close all resolvers; each has `grace` seconds to finish what must not be interrupted."""
        await asyncio.gather(*(resolver.close(grace) for resolver in self._resolvers.values()))


def _nothing() -> None:
    """There is no other replica."""
