"""Which handler a method and path belong to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar
from urllib.parse import unquote

H = TypeVar("H")


class NoRoute(LookupError):
    """Nothing is served there.

    Parameters
    ----------
    allowed
        The methods that the path has; empty: there is no such path.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        super().__init__()
        self.allowed = sorted(allowed)


class Routes(Generic[H]):
    """Handlers by method and path.

    Parameters
    ----------
    routes
        Method, path (`/v1/sinks/{uid}/test`: a name in braces is any segment) and handler.
    """

    def __init__(self, routes: Iterable[tuple[str, str, H]]) -> None:
        self._methods: dict[str, dict[str, H]] = {}
        for method, path, handler in routes:
            self._methods.setdefault(path, {})[method] = handler
        self._patterns = [(path.split("/"), handlers) for path, handlers in self._methods.items()]

    def find(self, method: str, path: str) -> tuple[H, dict[str, str]]:
        """The handler, and the named segments of the path, decoded.

        Raises
        ------
        NoRoute
            There is none.
        """
        segments = path.split("/")
        allowed: set[str] = set()
        for pattern, handlers in self._patterns:
            names = _match(pattern, segments)
            if names is None:
                continue
            if method in handlers:
                return handlers[method], names
            allowed |= handlers.keys()
        raise NoRoute(allowed)


def _match(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(segments):
        return None
    names: dict[str, str] = {}
    for wanted, given in zip(pattern, segments, strict=True):
        if wanted.startswith("{") and given:
            names[wanted.strip("{}")] = unquote(given)
        elif wanted != given:
            return None
    return names
