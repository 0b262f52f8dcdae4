"""Parses a template with python-liquid, within bounds, and says where it is wrong and what to write instead.

This module loads python-liquid, and with it babel: import it where a template is used only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from liquid import Environment
from liquid.ast import Node
from liquid.exceptions import LiquidError
from liquid.stream import TokenStream
from liquid.tag import Tag

from eventsink.templates.errors import InvalidTemplate, position

MAX_NESTING = 20
"""Blocks within blocks."""
MAX_MESSAGE = 400
MAX_NAMED = 20
"""Names that a message lists."""
TAGS = ("assign", "break", "capture", "case", "comment", "continue", "echo", "for", "if", "liquid", "unless", "#")
"""Those that a template may have; `raw` is read before them."""
MAX_SPACES = 200
MAX_PARENTHESES = 200
_SPACES = re.compile(rf"\s{{{MAX_SPACES + 1}}}")
_OPENS = re.compile(r"\{\{|\{%-?\s*(?P<name>\w{0,20})")
_ENDS_RAW = re.compile(r"\{%-?\s*endraw\s*-?%\}")
_HINTS = {
    "disallowed parentheses in logical expression": "there are no parentheses: assign a part of the condition first",
    "disallowed ternary expression": "write {% if ... %}",
    "disallowed not operator in logical expression": "there is no not: write {% unless ... %}, or != or == false",
    "missing tag name or closing delimiter": "write {% name ... %}",
    "unexpected liquid parsing error": "it cannot be read: write simpler expressions",
    "block nesting limit reached": f"there are more than {MAX_NESTING} blocks within one another",
}
NO_GO = "; templates are Liquid, not Go: write {{ commonLabels.alertname }}, {% for alert in alerts %} ... {% endfor %}"
GO_WORDS = ("range", "end", "with", "template", "define", "eq", "len", "index", "toUpper", "title", "if", "else")


class _Located(Tag):
    """A tag whose errors have a position."""

    def __init__(self, tag: Tag) -> None:
        super().__init__(tag.env)
        self._tag = tag

    def get_node(self, stream: TokenStream) -> Node:
        token = stream.current
        try:
            return self._tag.get_node(stream)
        except LiquidError as error:
            if error.token is None or error.token.start_index < 0:
                error.token = token
            raise

    def parse(self, stream: TokenStream) -> Node:
        return self._tag.parse(stream)


class _Liquid(Environment):
    block_nesting_limit = MAX_NESTING

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        kept = {*TAGS, "content", "output", "illegal"}
        self.tags = {name: _Located(tag) for name, tag in self.tags.items() if name in kept}


_LIQUID = _Liquid()


def parse(source: str) -> Sequence[Node]:
    """The template's nodes. Its length is bounded by the caller.

    Raises
    ------
    InvalidTemplate
        With line, column and what to write.
    """
    _check_quickly(source)
    try:
        return _LIQUID.from_string(source).nodes
    except (LiquidError, RecursionError) as error:
        raise _invalid(source, error) from None


def _check_quickly(source: str) -> None:
    """Reject what would take the parser's regular expressions long: they are quadratic in what is not closed, and in white space."""
    if found := _SPACES.search(source):
        raise at(source, found.start(), f"there are more than {MAX_SPACES} spaces or line breaks in a row")
    if source.count("(") > MAX_PARENTHESES:
        raise at(source, source.index("("), f"there are more than {MAX_PARENTHESES} parentheses")
    index = 0
    while found := _OPENS.search(source, index):
        index, closing = found.start(), "%}" if found["name"] is not None else "}}"
        end = source.find(closing, found.end())
        if end >= 0 and found["name"] == "raw":
            ending = _ENDS_RAW.search(source, end)
            if ending is None:
                raise at(source, index, "{% endraw %} is missing")
            end = ending.end() - 2
        if end < 0:
            raise at(source, index, f"{closing} is missing")
        index = end + 2


def _invalid(source: str, error: Exception) -> InvalidTemplate:
    token = error.token if isinstance(error, LiquidError) else None
    if not isinstance(error, LiquidError):
        return InvalidTemplate("it is nested too deeply")
    text = str(error.message)
    index = token.start_index if token is not None else -1
    here = source[max(index, 0) :].split(None, 1)[:1] or [""]
    if text.startswith("unexpected tag"):
        text = unknown("tag", token.value if token is not None else "", [name for name in TAGS if name != "#"])
    elif text in _HINTS:
        text = _HINTS[text]
    elif index >= 0 and text.startswith(("expected a ", "unexpected '")) and (here[0][0] in ".$" or here[0] in GO_WORDS):
        text += NO_GO
    text = text.replace("primitive expression", "value")
    return at(source, index, text)


def at(source: str, index: int, text: str) -> InvalidTemplate:
    """An error with its position, counted from 1."""
    text = " ".join(text[:MAX_MESSAGE].split())
    if index < 0:
        return InvalidTemplate(text)
    return InvalidTemplate(f"{position(source, index)}: {text}")


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """What is said of a name that is not one of the known ones."""
    name = name[:40]
    if name.startswith("end") or name in ("else", "elsif", "when"):
        return f"unexpected {kind} {name}: nothing that it belongs to is open"
    if close := difflib.get_close_matches(name, known, 1):
        return f"there is no {kind} {name}: did you mean {close[0]}?"
    return f"there is no {kind} {name}" + (f": write one of {', '.join(known)}" if len(known) <= MAX_NAMED else "")
