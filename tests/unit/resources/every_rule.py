"""All rules about an EventSink: the general ones, and those of each destination type."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from eventsink.destinations import registry
from eventsink.resources import mutes, rules, spec, times
from eventsink.resources.rule import Rule


def _modules() -> Iterator[ModuleType]:
    """Those with rules: of a destination type, all whose names end in `spec`."""
    yield from (rules, spec, times, mutes)
    for name in registry.names():
        package = registry.load(name, "spec").__name__.rpartition(".")[0]
        folder = importlib.import_module(package)
        for found in pkgutil.iter_modules(folder.__path__):
            if found.name.endswith("spec"):
                yield importlib.import_module(f"{package}.{found.name}")


def _rules(module: ModuleType) -> Iterator[tuple[str, Rule]]:
    for name, value in vars(module).items():
        if isinstance(value, Rule):
            yield name, value
        elif isinstance(value, tuple):
            yield from ((f"{name}[{index}]", one) for index, one in enumerate(value) if isinstance(one, Rule))


RULES: dict[str, Rule] = {name: rule for module in _modules() for name, rule in _rules(module)}
