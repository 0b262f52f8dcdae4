"""Decides what a caller may do, and what they may learn when they may not: a sink that is hidden from them does not exist."""

from __future__ import annotations

from collections.abc import Iterable

from eventsink.rest.access.callers import Caller, Verb
from eventsink.rest.errors import Forbidden, NotFound

NO_SUCH_SINK = "no sink has this id"


class Authorizer:
    """Checks calls of one caller."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def check_tenant(self, tenant: str) -> None:
        """Check that the caller has access to the tenant.

        Raises
        ------
        Forbidden
            They do not.
        """
        if not self._caller.may_touch(tenant):
            raise Forbidden("tenant_id: this key has no access to this tenant")

    async def check_sink(self, verb: Verb, tenant: str, namespace: str, name: str) -> None:
        """Check that the caller may do that to a sink.

        Raises
        ------
        Forbidden
            They may read the sink, but not do that.
        NotFound
            They may not know of it.
        """
        if not self._caller.may_touch(tenant):
            raise NotFound(NO_SUCH_SINK)
        if not await self._caller.may(verb, namespace, name):
            if verb != "get" and await self._caller.may("get", namespace, name):
                raise Forbidden(f"this token may not {verb} the sink")
            raise NotFound(NO_SUCH_SINK)

    async def listable(self, namespaces: Iterable[str]) -> set[str]:
        """Those of the namespaces in which the caller may list sinks."""
        return {namespace for namespace in set(namespaces) if await self._caller.may("list", namespace)}
