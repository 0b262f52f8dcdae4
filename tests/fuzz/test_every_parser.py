"""Each function that is named as a parser is run by a target, or has a reason here.

What has no such name (a method, a model, what an application decides) is in the targets because somebody thought of it: nothing here finds it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.fuzz.targets import ROOT

PACKAGE = ROOT / "operator" / "eventsink"
_PARSER = re.compile(r"(read|parse)_\w+")
_JUDGE = re.compile(r"(judge|check|classify)(_\w+)?|\w+_of")
"""Makes something of a text of others, or decides about it; more often it is of a value that was read already."""
_TEXT = re.compile(r"str|bytes|object")
_UNTRUSTED = re.compile(r"\b(str|bytes|Object|Any|object|Mapping)\b")
"""In the annotation of a first parameter."""
WITHOUT_TARGET = {
    "check_address": "settings run it",
    "check_claim": "compares names; it reads nothing",
    "check_start": "read_requests runs it",
    "members_of": "sent_of runs it",
    "namespace_of": "makes a Namespace of the name of one",
    "parts_of": "parse_matchers runs it",
    "tag_of": "read_documents runs it",
    "tokens_of": "read_condition runs it",
    "read_channel": "read_page runs it",
    "read_values": "read_documents runs it",
    "read_payload": "the arguments of a command; what a file holds is read by read_notification",
    "read_sinks": "the name of a file, which read_documents reads",
}
"""Function -> why no target names it."""
WITHOUT_TARGET |= dict.fromkeys(
    ("check_size", "check_version", "size_made_of", "may_be_made_of", "severity_of", "text_of"), "the formats run it"
)
WITHOUT_TARGET |= dict.fromkeys(
    ("fingerprint_of", "destination_of", "uid_of"), "a digest of what was read already, whatever it is"
)
WITHOUT_TARGET |= dict.fromkeys(("notes_of", "result_of"), "a sentence of this program")


def parsers() -> dict[str, Path]:
    """Public functions of modules that by their names and parameters make something of what others wrote."""
    return {
        one.name: file
        for file in sorted(PACKAGE.rglob("*.py"))
        for one in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(one, ast.FunctionDef) and _is_parser(one.name, _first_annotation(one))
    }


def _is_parser(name: str, annotation: str) -> bool:
    if _PARSER.fullmatch(name):
        return bool(_UNTRUSTED.search(annotation))
    return not name.startswith("_") and bool(_JUDGE.fullmatch(name) and _TEXT.fullmatch(annotation))


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
    assert len(found) > 60
    forgotten = {
        f"{name} in {file.relative_to(PACKAGE)}" for name, file in found.items() if name not in named | WITHOUT_TARGET.keys()
    }
    assert not forgotten
    assert WITHOUT_TARGET.keys() <= found.keys() - named
