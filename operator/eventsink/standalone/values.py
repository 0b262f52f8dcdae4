"""Reads YAML and JSON into values, as kubectl does, and knows the line of each field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Any

import yaml

from eventsink.runtime.yaml_text import UNREADABLE, is_bounded
from eventsink.standalone.scalars import INTEGER, NULL, STRING, FastLoader, Loader

_BYTE_ORDER_MARK = re.compile(r"^(---.*\n)\ufeff", re.MULTILINE)
"""Before a later document, where files were joined; kubectl skips it as it does before the first."""
_BLANK = re.compile(r"[ \t\r\n]*")
_ESCAPE = re.compile(r"\\(?:(?P<pair>u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|.)")
"""In JSON two of these stand for one character beyond U+FFFF, such as an emoji; in YAML for none."""


class NotYaml(Exception):
    """A document that cannot be read; the message repeats nothing of it."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass(frozen=True)
class Value:
    """A document, or an item of a list."""

    value: Any = field(repr=False)
    lines: Mapping[str, int] = field(repr=False)
    """Path of a field -> its line; the path of the whole is the empty text."""
    commented: frozenset[str] = frozenset()
    """Paths of fields without a value because a comment begins where it would be (`channel: #alerts`)."""

    def items(self) -> list[Value]:
        """The items of a list, each with the lines of its fields by their paths within it."""
        items = self.value["items"]
        lines: list[dict[str, int]] = [{"": self.lines.get("", 1)} for _ in items]
        commented: list[set[str]] = [set() for _ in items]
        for path, line in self.lines.items():
            index, inner = _place(path, len(items))
            if index is not None:
                lines[index][inner] = line
        for path in self.commented:
            index, inner = _place(path, len(items))
            if index is not None:
                commented[index].add(inner)
        return [Value(item, lines[index], frozenset(commented[index])) for index, item in enumerate(items)]


def _place(path: str, count: int) -> tuple[int | None, str]:
    """The item that a path of a list belongs to, and the path within it."""
    digits, closed, inner = path.removeprefix("items[").partition("]")
    if not (path.startswith("items[") and closed and digits.isdecimal() and int(digits) < count and inner[:1] in ("", ".")):
        return None, ""
    return int(digits), inner[1:]


def read_values(text: str, loader: type[Loader | FastLoader]) -> Iterator[Value]:
    """Each document of a text.

    Raises
    ------
    NotYaml
        What follows cannot be read.
    """
    pieces = _json_values(text)
    if pieces is None:
        yield from _read(_BYTE_ORDER_MARK.sub(r"\1", text), loader, 0)
        return
    line = 0
    for piece in pieces:
        # JSON is YAML but for tabs between its values, which no JSON text holds within them.
        yield from _read(_ESCAPE.sub(_one_character, piece.replace("\t", " ")), loader, line)
        line += piece.count("\n")


def _json_values(text: str) -> list[str] | None:
    """The pieces of a text, which hold one JSON value each, with what is between them; None: it is not JSON."""
    pieces, at = [], 0
    decoder = json.JSONDecoder()
    try:
        while (begin := _end_of_blank(text, at)) < len(text):
            if text[begin] not in '{["':
                return None
            _, end = decoder.raw_decode(text, begin)
            pieces.append(text[at:end])
            at = end
    except (ValueError, RecursionError):  # also a number of thousands of digits
        return None
    return pieces


def _one_character(found: re.Match[str]) -> str:
    return str(json.loads(f'"\\{found["pair"]}"')) if found["pair"] else found[0]


def _end_of_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found is not None else at


def _read(text: str, load: type[Loader | FastLoader], before: int) -> Iterator[Value]:
    """The documents of a text before which there are so many lines."""
    try:
        loader = load(text)
        try:
            while loader.check_node():
                node = loader.get_node()
                if node is None:
                    break
                if not is_bounded(node):
                    line = before + node.start_mark.line + 1
                    raise NotYaml(line, "the document is too large, or an alias (*) refers to what contains it")
                notes = _Notes(text, before)
                notes.add(node, "")
                value = loader.construct_document(node)
                if value is not None:
                    yield Value(value, notes.lines, frozenset(notes.commented))
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        # The text of the error may repeat the content (an unknown alias, a tag): it could be a part of a credential.
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark is not None else _line_at(text, getattr(error, "position", 0))
        raise NotYaml(before + line, "is not valid YAML; check the indentation, quotes and colons here and above") from None
    except UNREADABLE:
        raise NotYaml(0, "cannot be read as YAML: a value is none of its type (!!), or it is nested too deeply") from None


def _line_at(text: str, position: object) -> int:
    return text.count("\n", 0, position) + 1 if isinstance(position, int) else 0


class _Notes:
    """What is noted of the fields of one document."""

    def __init__(self, text: str, before: int) -> None:
        self._text = text
        self._before = before
        self._split: list[str] | None = None
        self.lines: dict[str, int] = {}
        self.commented: set[str] = set()

    def add(self, node: yaml.Node, path: str) -> None:
        """Note a node and all below it.

        Raises
        ------
        NotYaml
            A name is none, or is there twice.
        """
        self.lines.setdefault(path, self._line(node))
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise NotYaml(self._line(key), "the name of a field must be a text")
                if key.tag.endswith(":merge"):
                    continue
                if key.value in seen:
                    raise NotYaml(self._line(key), "duplicate field; remove one of them")
                seen.add(key.value)
                if key.tag == INTEGER and (key.value == "0" or key.value[0] in "123456789") and key.value.isdecimal():
                    key.tag = STRING  # as in JSON, where every name is one
                key.value = intern(key.value)
                inner = intern(f"{path}.{key.value}" if path else key.value)
                self.lines[inner] = self._line(key)
                self.add(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self.add(value, intern(f"{path}[{index}]"))
        elif node.tag == NULL and not node.value and self._begins_comment(node.start_mark):
            self.commented.add(path)

    def _line(self, node: yaml.Node) -> int:
        return self._before + int(node.start_mark.line) + 1

    def _begins_comment(self, mark: yaml.Mark) -> bool:
        if self._split is None:
            self._split = self._text.split("\n")
        return mark.line < len(self._split) and self._split[mark.line][mark.column :].lstrip(" ").startswith("#")
