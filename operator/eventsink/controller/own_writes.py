"""Tells the program's own writes from those of others, where a watch shows them before the response arrives."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class OwnWrites(Generic[K]):
    """The writes under way, each of an object that nobody else here writes at the same time, with its resourceVersion as precondition.

    A busy process reads the watch first more often than not, and would look at each object that it wrote once more.
    """

    def __init__(self) -> None:
        self._shown: dict[K, str] = {}
        """Object -> the last resourceVersion that the watch has shown since the write began; empty: none."""

    @contextmanager
    def writing(self, key: K, changed: Callable[[], None]) -> Iterator[Callable[[str], None]]:
        """While an object is written; inside, give the resourceVersion that it got.

        Parameters
        ----------
        changed
            Called at the end where the watch has shown another state meanwhile than the one that was written.
        """
        self._shown[key] = written = ""

        def wrote(version: str) -> None:
            nonlocal written
            written = version

        try:
            yield wrote
        finally:
            if self._shown.pop(key) not in ("", written):
                changed()

    def shows(self, key: K, version: str) -> bool:
        """The watch shows a state of an object: whether it is being written, and `changed` takes care of it."""
        if key not in self._shown:
            return False
        self._shown[key] = version
        return True
