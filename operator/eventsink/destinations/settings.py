"""Adds the settings that destination types declare to the configuration of a part of the program.

A type's part `config` names them: `ROUTER_SETTINGS = {"slack": SlackSettings}` gives the router the section `slack`, whose fields all
have defaults. A type without such a mapping has no settings there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pydantic import create_model

from eventsink.destinations import registry
from eventsink.runtime.settings import Settings

Model = TypeVar("Model", bound=Settings)


def declared(part: str) -> dict[str, type[Settings]]:
    """Section name -> its model, of all destination types.

    Parameters
    ----------
    part
        Name of the mapping in each type's `config`, such as `ROUTER_SETTINGS`.
    """
    return {
        section: model for name in registry.names() for section, model in getattr(registry.load(name, "config"), part, {}).items()
    }


def with_destinations(*parts: str) -> Callable[[type[Model]], type[Model]]:
    """A class decorator that adds a field for each section declared for one of `parts`; fields that the model has already stay."""

    def extended(model: type[Model]) -> type[Model]:
        sections = {section: found for part in parts for section, found in declared(part).items()}
        fields: dict[str, Any] = {
            section: (found, found()) for section, found in sections.items() if section not in model.model_fields
        }
        return create_model(model.__name__, __base__=model, __module__=model.__module__, __doc__=model.__doc__, **fields)

    return extended


def sections_of(settings: Settings, sections: Iterable[str]) -> tuple[Settings, ...]:
    """The values of some sections of a configuration."""
    return tuple(getattr(settings, section) for section in sections)
