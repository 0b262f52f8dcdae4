"""Who owns which tenant, and which claims follow from it. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eventsink.destinations.problem import Effect, Problem
from eventsink.resources.names import ALL_TENANTS, PLATFORM_LABEL, TENANT_LABEL
from eventsink.sinks.sink import Tenancy


@dataclass(frozen=True, slots=True)
class Namespace:
    """What matters of a Namespace."""

    uid: str
    """Empty: not known; the namespace is one of the setting `namespaces`."""
    tenant: str
    """The value of its label eventsink.dev/tenant, or as the setting says; empty: it owns none."""
    platform: bool = False
    """Whether its sinks may receive the alerts of all tenants: label eventsink.dev/platform=true, or as the setting says."""
    deleting: bool = False
    """Its objects are being deleted, one after the other; until it is gone, it owns what it owned."""


def read_namespace(metadata: Mapping[str, Any]) -> Namespace:
    """What matters of a Namespace with these metadata."""
    labels = metadata.get("labels") or {}
    platform = labels.get(PLATFORM_LABEL) == "true"
    return Namespace(
        metadata.get("uid", ""), labels.get(TENANT_LABEL, ""), platform, metadata.get("deletionTimestamp") is not None
    )


def tenancy_document(namespaces: Mapping[str, Namespace]) -> Tenancy:
    """The document for the router."""
    known = sorted(namespaces.items())
    return Tenancy(
        owners={name: one.tenant for name, one in known if one.tenant},
        platform=tuple(name for name, one in known if one.platform),
    )


def owned_tenants(namespaces: Iterable[Namespace]) -> set[str]:
    """The tenants that these namespaces own."""
    return {one.tenant for one in namespaces if one.tenant}


def is_of_tenant(tenant: str, namespace: Namespace | None, *, is_owned: bool) -> bool:
    """Whether what claims the tenant in a namespace is of it, rather than of somebody who only claims it."""
    if tenant == ALL_TENANTS:
        return namespace is not None and namespace.platform
    owner = namespace.tenant if namespace is not None else ""
    return owner == tenant or not (owner or is_owned)


def check_claim(
    tenant: str, namespace: str, namespaces: Mapping[str, Namespace], owned: Container[str], *, allow_unowned: bool
) -> None:
    """Whether a sink in `namespace` may claim `tenant`; `owned` are the tenants that any namespace owns.

    Raises
    ------
    Problem
        It may not. The message names no other namespace.
    """
    own = namespaces.get(namespace)
    if tenant == ALL_TENANTS:
        if own is None or not own.platform:
            raise _not_of_platform(namespace)
        return
    own_tenant = own.tenant if own is not None else ""
    if own_tenant == tenant:
        return
    command = f"kubectl label namespace {namespace} {TENANT_LABEL}={tenant}"
    if own_tenant:
        sentence = (
            f"this namespace belongs to the tenant {own_tenant} and may not claim another; "
            "write its tenant, or move the EventSink to a namespace of the tenant that you mean"
        )
        raise Problem("TenantMismatch", "spec.tenant", sentence, effect=Effect.WITHDRAW)
    if tenant in owned:
        sentence = f"the tenant {tenant} belongs to other namespaces; if it is also this one's, the platform team runs: {command}"
        raise Problem("TenantOwnedElsewhere", "spec.tenant", sentence, effect=Effect.WITHDRAW)
    if not allow_unowned:
        sentence = f"no namespace owns the tenant {tenant}; to give it to this namespace, the platform team runs: {command}"
        raise Problem("TenantNotOwned", "spec.tenant", sentence, effect=Effect.WITHDRAW)


def _not_of_platform(namespace: str) -> Problem:
    sentence = (
        "only a sink in a namespace that the platform team has marked may receive the alerts of all tenants; write the tenant whose alerts "
        f"you want, or, if this namespace is the platform's own, the platform team runs: kubectl label namespace {namespace} "
        f"{PLATFORM_LABEL}=true"
    )
    return Problem("NotPlatformNamespace", "spec.tenant", sentence, effect=Effect.WITHDRAW)
