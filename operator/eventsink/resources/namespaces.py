"""The setting `namespaces`: where an installation works that has rights in some namespaces only, and whose those are."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from eventsink.resources import rules
from eventsink.runtime.settings import Settings

MAX_NAMESPACES = 100
"""Each has two watches, so two connections to the API server; docs/operator.md says what they cost."""


class NamespaceSettings(Settings):
    """A listed namespace belongs to one tenant."""

    name: str = Field(max_length=63, pattern=rules.DNS_LABEL)
    """Its name. It may be created later, or deleted and created again."""
    tenant: str = Field(max_length=63, pattern=rules.TENANT_PATTERN)
    """The tenant that owns it: its EventSinks may claim no other, and those of other tenants' namespaces not this one."""
    platform: bool = False
    """Whether its EventSinks may also receive the alerts of all tenants (spec.tenant "*")."""


def _are_different(namespaces: tuple[NamespaceSettings, ...]) -> tuple[NamespaceSettings, ...]:
    names = [one.name for one in namespaces]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the namespace {twice} is there twice; a namespace has one tenant")
    return namespaces


ListedNamespaces = Annotated[tuple[NamespaceSettings, ...], Field(max_length=MAX_NAMESPACES), AfterValidator(_are_different)]
"""Type of the setting; empty: all namespaces, whose tenants their labels say."""
