"""Whose alert it is: decided from the source's rule, the alert's labels and who owns which namespace."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from eventsink.resources.rules import MAX_TENANT_LENGTH, TENANT_PATTERN
from eventsink.router.sources import SourceSettings

_TENANT = re.compile(TENANT_PATTERN)


class NoTenantReason(StrEnum):
    """Why an alert has no tenant; the values are metric labels."""

    NO_NAMESPACE = "NoNamespace"
    NO_OWNER = "NamespaceWithoutOwner"
    NO_LABEL = "NoTenantLabel"
    NOT_ALLOWED = "TenantNotAllowed"
    NOT_A_TENANT = "NotATenant"


@dataclass(frozen=True, slots=True)
class NoTenant:
    """Why an alert has no tenant: a metric label and a sentence for the source."""

    reason: NoTenantReason
    sentence: str


def tenant_of(source: SourceSettings, labels: Mapping[str, str], owners: Mapping[str, str]) -> str | NoTenant:
    """The tenant of an alert.

    Parameters
    ----------
    source
        Its rule, the tenants that it may name, and its default.
    labels
        Of the alert.
    owners
        Namespace -> tenant.
    """
    tenant = _by_rule(source, labels, owners)
    if isinstance(tenant, NoTenant):
        if source.default_tenant is None:
            return tenant
        tenant = source.default_tenant
    if source.allowed_tenants is not None and tenant not in source.allowed_tenants and tenant != source.default_tenant:
        return NoTenant(NoTenantReason.NOT_ALLOWED, "this source may not send alerts of that tenant (allowedTenants)")
    return tenant


def _by_rule(source: SourceSettings, labels: Mapping[str, str], owners: Mapping[str, str]) -> str | NoTenant:
    rule = source.tenant
    if rule.fixed is not None:
        return rule.fixed
    if rule.label is not None:
        value = labels.get(rule.label, "")
        if not value:
            return NoTenant(NoTenantReason.NO_LABEL, f"the alert has no label {rule.label}, which names its tenant")
        if not _TENANT.fullmatch(value) or len(value) > MAX_TENANT_LENGTH:
            # Nobody's sinks could claim it. That of the platform's sinks (ALL_TENANTS) is no tenant either.
            sentence = (
                f"the alert's label {rule.label} is no name of a tenant: letters, digits, -, _ and ., at most {MAX_TENANT_LENGTH}"
            )
            return NoTenant(NoTenantReason.NOT_A_TENANT, sentence)
        return value
    assert rule.namespace_owner is not None
    label = rule.namespace_owner.label
    namespace = labels.get(label, "")
    if not namespace:
        return NoTenant(NoTenantReason.NO_NAMESPACE, f"the alert has no label {label}, whose namespace's owner is its tenant")
    return owners.get(namespace) or NoTenant(
        NoTenantReason.NO_OWNER, "no tenant owns the alert's namespace: label the Namespace with eventsink.dev/tenant"
    )
