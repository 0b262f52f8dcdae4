"""A file of the configuration that may change while the process runs, as a mounted Secret does when it is rotated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.settings import ConfigurationError

T = TypeVar("T")
Stamp = tuple[int, int, int]
"""Of a file: another one means that it has changed."""


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file as it is now; OSError where there is none."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


class ChangingFile(Generic[T]):
    """What a file says; it is read again when it has changed. While the new content cannot be used, the one before is.

    Parameters
    ----------
    setting
        The setting that names the file.
    read
        Reads and parses it; raises ConfigurationError.

    Raises
    ------
    ConfigurationError
        It cannot be used; the text names the setting.
    """

    def __init__(self, setting: str, path: Path, read: Callable[[Path], T]) -> None:
        self._setting = setting
        self._path = path
        self._read = read
        self._trouble = Repeated(60.0)
        try:
            self._stamp = self._look()
            self._value = read(path)
        except ConfigurationError as error:
            raise ConfigurationError(f"{setting}: {error}") from None

    def current(self) -> T:
        """What it says now; costs a look at the file's metadata."""
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._value, self._stamp = self._read(self._path), stamp
                get_logger().info("a file of the configuration was read again", setting=self._setting)
        except ConfigurationError as error:
            if self._trouble.due() is not None:
                get_logger().warning(
                    "a file of the configuration cannot be read; what it said before stays active",
                    setting=self._setting,
                    reason=str(error),
                )
        return self._value

    def _look(self) -> Stamp:
        try:
            return stamp_of(self._path)
        except OSError as error:
            raise ConfigurationError(f"{self._path}: cannot be read: {error.strerror}") from None
