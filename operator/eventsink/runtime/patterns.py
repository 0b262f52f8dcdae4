"""Regular expressions and wildcards for texts that somebody else writes: the time they take grows linearly with the text.

Expressions run on RE2, as in the API server and in Alertmanager. Python's own engine backtracks: with two repetitions in a row it takes
the square of the length, with three its cube. A test finds every use of it and measures that use.
"""

from __future__ import annotations

from collections.abc import Iterable

import re2

MAX_MEMORY_BYTES = 1 << 20
"""What one of the program's own expressions may take."""


class InvalidPattern(ValueError):
    """The text is no expression of RE2, or its compiled form takes more memory than allowed; the text says which."""


class Pattern:
    """A compiled expression of RE2.

    Raises
    ------
    InvalidPattern
        It cannot be compiled within `max_memory` bytes.
    """

    __slots__ = ("_compiled", "size")

    def __init__(self, expression: str, max_memory: int = MAX_MEMORY_BYTES) -> None:
        options = re2.Options()
        options.max_mem = max_memory
        options.log_errors = False
        options.never_capture = True
        try:
            self._compiled = re2.compile(utf8(expression), options=options)
        except re2.error as error:
            detail = error.args[0] if error.args else ""
            raise InvalidPattern(detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)) from None
        self.size: int = self._compiled.programsize
        """Instructions of the compiled form: matching takes at most some nanoseconds for each of them and each byte of the text."""

    def fullmatch(self, text: str) -> bool:
        """Whether the whole text matches."""
        return self._compiled.fullmatch(utf8(text)) is not None

    def search(self, text: str) -> bool:
        """Whether a part of the text matches."""
        return self._compiled.search(utf8(text)) is not None


def utf8(text: str) -> bytes:
    """In UTF-8; a lone surrogate, which JSON can say and UTF-8 cannot, becomes U+FFFD, as in the API server."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


class Wildcards:
    """Patterns in which `*` stands for any characters and everything else for itself; a text matches if one of them does.

    Without a regular expression: each part between two `*` is looked for once, behind the part before it.
    """

    __slots__ = ("_names", "_parts")

    def __init__(self, patterns: Iterable[str]) -> None:
        parts = [tuple(pattern.split("*")) for pattern in patterns]
        self._names = frozenset(one[0] for one in parts if len(one) == 1)
        self._parts = tuple(one for one in parts if len(one) > 1)

    def match(self, text: str) -> bool:
        """Whether the whole text matches one of the patterns."""
        return text in self._names or any(text.startswith(parts[0]) and _matches(parts, text) for parts in self._parts)

    @property
    def names(self) -> frozenset[str] | None:
        """The texts that match, where no pattern has a `*`."""
        return None if self._parts else self._names


def _matches(parts: tuple[str, ...], text: str) -> bool:
    first, last = parts[0], parts[-1]
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in parts[1:-1]:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True
