"""No parser is forgotten: each function that is named as one is run by a target, or has a reason here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.fuzz.targets import ROOT

PACKAGE = ROOT / "operator" / "eventsink"
_PARSER = re.compile(r"(read|parse)_\w+")
_UNTRUSTED = re.compile(r"\b(str|bytes|Object|Any|object|Mapping)\b")
"""In the annotation of a first parameter."""
WITHOUT_TARGET = {
    "read_channel": "read_page runs it",
    "read_values": "read_documents runs it",
    "read_payload": "the arguments of a command; what a file holds is read by read_notification",
    "read_sinks": "the name of a file, which read_documents reads",
}
"""Function -> why no target runs it."""


def parsers() -> dict[str, Path]:
    """Public functions of modules that make something of a text, of bytes or of an object."""
    return {
        one.name: file
        for file in sorted(PACKAGE.rglob("*.py"))
        for one in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(one, ast.FunctionDef) and _PARSER.fullmatch(one.name) and _UNTRUSTED.search(_first_annotation(one))
    }


def _first_annotation(function: ast.FunctionDef) -> str:
    first = [*function.args.args, *function.args.kwonlyargs][:1]
    return ast.unparse(first[0].annotation) if first and first[0].annotation is not None else ""


def test_every_function_that_is_named_as_a_parser_is_run_by_a_target() -> None:
    named = {
        one.id if isinstance(one, ast.Name) else one.attr
        for file in Path(__file__).parent.glob("*.py")
        if file.name != Path(__file__).name
        for one in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(one, ast.Name | ast.Attribute)
    }
    found = parsers()
    assert len(found) > 20
    forgotten = {
        f"{name} in {file.relative_to(PACKAGE)}" for name, file in found.items() if name not in named | WITHOUT_TARGET.keys()
    }
    assert not forgotten
    assert WITHOUT_TARGET.keys() <= found.keys() - named
