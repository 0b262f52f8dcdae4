"""Callers of the REST API, and what each may do: an API key is bound to tenants; RBAC decides for a ServiceAccount (`reviews.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from eventsink.rest.access.keys import KeyRecord

Verb = Literal["get", "list", "create", "update", "delete"]


class Caller(Protocol):
    """An authenticated caller."""

    @property
    def name(self) -> str:
        """For the log."""
        ...

    @property
    def knows_tenants(self) -> bool:
        """Whether they may learn how a tenant that they have access to is set up."""
        ...

    def may_touch(self, tenant: str) -> bool:
        """Whether they can have access to anything of the tenant."""
        ...

    async def may(self, verb: Verb, namespace: str, name: str = "") -> bool:
        """Whether they may do that to EventSinks in the namespace."""
        ...


@dataclass(frozen=True)
class KeyCaller:
    """Has an API key: may do everything to its tenants' sinks."""

    record: KeyRecord

    @property
    def name(self) -> str:
        return f"key {self.record.id}"

    @property
    def knows_tenants(self) -> bool:
        return True

    def may_touch(self, tenant: str) -> bool:
        return self.record.tenants is None or tenant in self.record.tenants

    async def may(self, verb: Verb, namespace: str, name: str = "") -> bool:
        return True
