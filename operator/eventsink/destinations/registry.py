"""The destination types, by the name that each has in a spec: one line each.

A type is a package with one module for each part that the program needs of it (`spec`, `target`, `resolve`, `sender`, ...), or a single
module that holds them all. A part is imported only by whoever asks for it: the router never imports what reads credentials, nor the
controller what sends. Imports nothing else of the program, so that every layer can use it.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType

_PACKAGES = {
    "slack": "eventsink.destinations.slack",
    "webhook": "eventsink.destinations.webhook",
}
_read = False


def register(name: str, package: str) -> None:
    """Add a type; before anything else of the program is imported, since models are made of the types at import.

    Raises
    ------
    RuntimeError
        The types were read already.
    """
    if _read:
        raise RuntimeError(f"destination type {name}: register it before the models are imported")
    _PACKAGES[name] = package


def names() -> tuple[str, ...]:
    """The names of all types, as in a spec."""
    global _read
    _read = True
    return tuple(_PACKAGES)


@cache
def load(name: str, part: str) -> ModuleType:
    """The module with a part of a type.

    Raises
    ------
    KeyError
        There is no such type.
    """
    package = import_module(_PACKAGES[name])
    return import_module(f"{package.__name__}.{part}") if hasattr(package, "__path__") else package
