"""docs/security.md claims nothing without a test, and names no test that does not exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.unit.docs.pages import ROOT, between, names, page, rows

PAGE = page("security.md")
NAMED = sorted(set(re.findall(r"`(tests/[^`\s]+)`", PAGE)))


def defined(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    """The tests in a module, and the classes with their tests, as pytest names them."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name
            yield from defined(node.body, f"{prefix}{node.name}::")
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


@cache
def names_in(file: str) -> frozenset[str]:
    return frozenset(defined(ast.parse((ROOT / file).read_text(encoding="utf-8")).body))


@pytest.mark.parametrize("name", NAMED)
def test_each_test_on_the_page_exists(name: str) -> None:
    file, _, test = name.partition("::")
    path = ROOT / file
    assert path.is_file(), f"{file} does not exist: name the test that proves the claim now"
    assert test in names_in(file), f"{file} has no {test}"
    assert test.rpartition("::")[2].lower().startswith("test"), "not a test"


@pytest.mark.parametrize(("section", "end"), [("## Credentials", "\n## "), ("## What is tried", "\nWhat is not protected")])
def test_each_claim_has_a_test(section: str, end: str) -> None:
    claims = rows(between(PAGE, section, end))
    assert len(claims) > 10
    for claim in claims:
        assert [name for name in names(claim[-1]) if name.startswith("tests/")], f"no test for: {claim[0]} | {claim[1]}"
