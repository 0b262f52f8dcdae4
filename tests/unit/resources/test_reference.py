"""docs/eventsink.md has every field and every message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventsink.destinations.webhook.spec import CREDENTIAL_HEADERS, REFUSED_HEADERS
from eventsink.resources.crd import crd
from eventsink.resources.rule import Rule
from tests.unit.resources.every_rule import RULES

REFERENCE = (Path(__file__).parents[3] / "docs" / "eventsink.md").read_text(encoding="utf-8")
SPEC: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def fields(schema: dict[str, Any], path: str) -> list[str]:
    """Paths of the fields that people fill in; a reference to a Secret is one, an object is its fields."""
    properties = schema.get("items", schema).get("properties", {})
    if not properties or set(properties) == {"name", "key"}:
        return [path]
    path += "[]" if "items" in schema else ""
    return [leaf for name, value in properties.items() for leaf in fields(value, f"{path}.{name}")]


@pytest.mark.parametrize("path", fields(SPEC, "spec"))
def test_every_field_is_in_the_reference(path: str) -> None:
    # Both lists of intervals have one table.
    assert f"| `{path.replace('.muteTimes[].', '.activeTimes[].')}` |" in REFERENCE


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.message[:40])
def test_every_message_is_in_the_reference(rule: Rule) -> None:
    assert rule.message.replace("|", "\\|") in REFERENCE


@pytest.mark.parametrize("header", [*REFUSED_HEADERS, *CREDENTIAL_HEADERS])
def test_every_rejected_header_is_in_the_reference(header: str) -> None:
    assert f"`{header}`" in REFERENCE.lower()
