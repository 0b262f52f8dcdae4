"""Whose alert it is, as a table; and who may send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from eventsink.router.sources import Source, authenticate, open_sources
from eventsink.router.tenants import Refused, tenant_of
from eventsink.runtime.settings import ConfigurationError
from tests.unit.router.sinks import TOKEN, source, source_settings

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
    if isinstance(result, Refused):
        assert result.why.value == expected
        assert not any(value and value in result.sentence for value in labels.values())
    else:
        assert result == expected


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"tenant": {}}, "set exactly one of fixed, namespaceOwner and label"),
        ({"tenant": {"fixed": "a", "label": "b"}}, "set exactly one of"),
        ({"tokenHashes": []}, "needs tokenFiles or tokenHashes"),
        ({"tokenHashes": ["md5:abc"]}, "should match pattern"),
        ({"name": "Not A Name"}, "should match pattern"),
        ({"format": "smoke-signals"}, "Input should be 'alertmanager'"),
    ],
)
def test_a_wrong_source_stops_the_start(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        source_settings(**settings)


def test_two_sources_of_one_name_stop_the_start() -> None:
    with pytest.raises(ConfigurationError, match="two have the name alertmanager"):
        open_sources((source_settings(), source_settings()))


def test_only_the_right_token_of_the_right_source_is_taken() -> None:
    sources = {"alertmanager": source()}
    assert authenticate(sources, "alertmanager", TOKEN) is sources["alertmanager"]
    for name, token in (("alertmanager", "wrong"), ("alertmanager", ""), ("other", TOKEN), ("", ""), ("alertmanager", "\udc80")):
        assert authenticate(sources, name, token) is None


def test_two_tokens_live_at_once_and_a_rotated_file_counts_without_a_restart(tmp_path: Path) -> None:
    now = 0.0
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("one\n")
    new.write_text("two\n")
    rotating = Source(source_settings(tokenHashes=[], tokenFiles=[str(old), str(new)]), clock=lambda: now)
    assert rotating.knows("one")
    assert rotating.knows("two")
    old.write_text("three")
    now += 6
    assert (rotating.knows("one"), rotating.knows("three")) == (False, True)
    old.unlink()  # a Secret that is being replaced: the tokens read last stay
    now += 6
    assert rotating.knows("three")
