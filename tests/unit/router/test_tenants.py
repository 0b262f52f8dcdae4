"""Whose alert it is, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from eventsink.router.tenants import NoTenant, tenant_of
from tests.unit.router.sinks import source_settings

OWNERS = {"shop": "acme", "bank": "globex"}


@pytest.mark.parametrize(
    ("settings", "labels", "expected"),
    [
        ({"tenant": {"fixed": "acme"}}, {}, "acme"),
        ({}, {"namespace": "shop"}, "acme"),
        ({}, {"namespace": "none"}, "NamespaceWithoutOwner"),
        ({}, {}, "NoNamespace"),
        (
            {"tenant": {"namespaceOwner": {"label": "exported_namespace"}}},
            {"namespace": "shop", "exported_namespace": "bank"},
            "globex",
        ),
        ({"tenant": {"label": "team"}}, {"team": "acme"}, "acme"),
        ({"tenant": {"label": "team"}}, {"team": ""}, "NoTenantLabel"),
        ({"tenant": {"label": "team"}}, {}, "NoTenantLabel"),
        ({"tenant": {"label": "team"}}, {"team": "*"}, "NotATenant"),
        ({"tenant": {"label": "team"}}, {"team": "acme globex"}, "NotATenant"),
        ({"tenant": {"label": "team"}}, {"team": "acme\n"}, "NotATenant"),
        ({"tenant": {"label": "team"}}, {"team": "a" * 64}, "NotATenant"),
        ({"tenant": {"label": "team"}, "defaultTenant": "platform"}, {"team": "*"}, "platform"),
        ({"allowedTenants": ["acme"]}, {"namespace": "shop"}, "acme"),
        ({"allowedTenants": ["acme"]}, {"namespace": "bank"}, "TenantNotAllowed"),
        ({"allowedTenants": []}, {"namespace": "bank"}, "TenantNotAllowed"),
        ({"defaultTenant": "platform"}, {"namespace": "none"}, "platform"),
        ({"defaultTenant": "platform"}, {}, "platform"),
        ({"defaultTenant": "platform"}, {"namespace": "shop"}, "acme"),
        ({"defaultTenant": "platform", "allowedTenants": ["acme"]}, {}, "platform"),
        ({"defaultTenant": "platform", "allowedTenants": ["acme"]}, {"namespace": "bank"}, "TenantNotAllowed"),
    ],
)
def test_the_tenant_of_an_alert(settings: dict[str, Any], labels: dict[str, str], expected: str) -> None:
    result = tenant_of(source_settings(**settings), labels, OWNERS)
    if isinstance(result, NoTenant):
        assert result.reason.value == expected
        assert not any(value and value in result.sentence for value in labels.values())
    else:
        assert result == expected
