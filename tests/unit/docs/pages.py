"""Reads pages and the program, so that the one can be compared with the other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "operator" / "eventsink"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def between(text: str, start: str, end: str) -> str:
    """The text between two pieces of a page that are both in it."""
    assert start in text, start
    rest = text.split(start, 1)[1]
    assert end in rest, end
    return rest.split(end, 1)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a piece of a page, without heads."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    heads = {index - 1 for index, line in enumerate(cells) if all(set(cell) == {"-"} for cell in line)}
    return [line for index, line in enumerate(cells) if index not in heads and index - 1 not in heads]


def names(cell: str) -> list[str]:
    """The texts in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def calls(part: str, function: str) -> Iterator[ast.Call]:
    """Calls of a function or method of that name in a part or a file of the program."""
    where = PACKAGE / part
    for file in [where] if where.is_file() else sorted(where.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == function:
                yield node


def strings(node: ast.expr) -> set[str]:
    """The texts that an expression of constants and conditions may come to."""
    if isinstance(node, ast.IfExp):
        return strings(node.body) | strings(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def marked(text: str, mark: str) -> list[str]:
    """The commands of a page behind `<!-- MARK -->`, block by block."""
    found = re.findall(rf"^( *)<!-- {re.escape(mark)} -->\n *```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", commands, flags=re.MULTILINE) for indent, commands in found]


def in_text(text: str, program: str) -> list[str]:
    """The commands of a program that a page names in its sentences, with arguments."""
    return sorted(set(re.findall(rf"`({program} [^`]+)`", text)))
