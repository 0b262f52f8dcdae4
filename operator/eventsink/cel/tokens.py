"""The tokens of an expression, as far as its limits are about them: names, texts and everything else.

The library parses expressions; this is what it does not tell: which names an expression reads, and how many loops it has. A text in which
a quotation mark is missing ends with the expression, which the library then rejects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

_QUOTES = ('"""', "'''", '"', "'")
_PREFIXES = frozenset({"r", "b", "br"})


class Kind(Enum):
    """What a token is."""

    NAME = auto()
    TEXT = auto()
    """A string literal with its quotation marks and its prefix."""
    BYTES = auto()
    MARK = auto()
    """One character of an operator, a bracket or anything else; a number is several of them."""


@dataclass(frozen=True, slots=True)
class Token:
    """A part of an expression."""

    kind: Kind
    text: str
    """As written; of a name in backticks without them."""
    start: int
    end: int
    """Where it is in the expression; prefixes and backticks count."""


def tokens_of(expression: str) -> list[Token]:
    """All tokens; comments and spaces are none."""
    return list(_scan(expression))


def _scan(source: str) -> Iterator[Token]:
    at = 0
    while at < len(source):
        character = source[at]
        if character.isspace():
            at += 1
        elif source.startswith("//", at):
            at = _after(source, "\n", at)
        elif character == "`":
            end = _after(source, "`", at + 1)
            yield Token(Kind.NAME, source[at + 1 : end - 1], at, end)
            at = end
        elif character in "\"'":
            end = _text_end(source, at, raw=False)
            yield Token(Kind.TEXT, source[at:end], at, end)
            at = end
        elif character == "_" or (character.isascii() and character.isalnum()):
            end = at + 1
            while end < len(source) and (source[end] == "_" or (source[end].isascii() and source[end].isalnum())):
                end += 1
            word = source[at:end]
            if word.lower() in _PREFIXES and source[end : end + 1] in ('"', "'"):
                start, end = at, _text_end(source, end, raw="r" in word.lower())
                kind = Kind.BYTES if "b" in word.lower() else Kind.TEXT
                yield Token(kind, source[start:end], start, end)
            else:
                yield Token(Kind.MARK if word[0].isdigit() else Kind.NAME, word, at, end)
            at = end
        else:
            yield Token(Kind.MARK, character, at, at + 1)
            at += 1


def _text_end(source: str, at: int, *, raw: bool) -> int:
    quote = next(quote for quote in _QUOTES if source.startswith(quote, at))
    at += len(quote)
    while at < len(source):
        if source[at] == "\\" and not raw:
            at += 2
        elif source.startswith(quote, at):
            return at + len(quote)
        else:
            at += 1
    return len(source)


def _after(source: str, mark: str, at: int) -> int:
    found = source.find(mark, at)
    return len(source) if found < 0 else found + len(mark)


def position(expression: str, at: int) -> str:
    """Where a character is, for people: `line 1, column 5`."""
    return f"line {expression.count(chr(10), 0, at) + 1}, column {at - (expression.rfind(chr(10), 0, at) + 1) + 1}"
