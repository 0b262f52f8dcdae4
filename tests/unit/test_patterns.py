"""No regular expression of the program takes more than linear time, whatever text it is given.

Every use of Python's engine is found in the source, so a new one is measured without being named here. The worst text for each is looked
for among many short ones, and then made longer.
"""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from eventsink.resources import rules
from eventsink.resources.rule import Rule
from eventsink.runtime.patterns import InvalidPattern, Pattern, Wildcards
from eventsink.templates.parsing import MAX_SPACES

PACKAGE = Path(__file__).parents[2] / "operator" / "eventsink"
FUNCTIONS = {"match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
MADE_WHEN_NEEDED = {
    "eventsink.rest.calls.secrets": ["eventsink-" + re.escape("a.sink-of.mine") + "-[0-9a-f]{8}"],
    "eventsink.templates.parsing": [rf"\s{{{MAX_SPACES + 1}}}"],
}
"""Expressions that the source puts together, as an example of each."""

PREFIXES = [
    "",
    "a",
    "1",
    "[",
    "spec",
    "spec.a",
    ".a",
    "bearer",
    "http://",
    "esk_",
    "xoxb-",
    "?code=",
    "`",
    "denied the request: ",
]
REPEATED = [
    *" \tab1A.-_:[]*~`@<&=/\\\n\"'%é",
    "a.",
    "-a",
    "[1",
    "[1]",
    "]:1",
    "1s",
    '\\"',
    "1.",
    "a@",
    "http://",
    "bearer ",
    ".spec",
]
SUFFIXES = ["", "!", "\x00a"]


@dataclass(frozen=True)
class Use:
    """One expression and how it is used."""

    place: str
    function: str
    expression: str
    flags: int = 0

    def __str__(self) -> str:
        return f"{self.place}-{self.function}"

    def run(self) -> Callable[[str], object]:
        pattern = re.compile(self.expression, self.flags)
        if self.function in ("sub", "subn", "search", "findall", "finditer", "split"):
            return lambda text: pattern.sub("", text)
        return pattern.match if self.function == "match" else pattern.fullmatch


def uses() -> Iterator[Use]:
    for file in sorted(PACKAGE.rglob("*.py")):
        module = "eventsink." + ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        yield from uses_in(ast.parse(file.read_text()), module)


def uses_in(tree: ast.AST, module: str) -> Iterator[Use]:
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.ImportFrom) and node.module == "re"), f"{module}: import re as a module"
        function = node.func if isinstance(node, ast.Call) else None
        if not (isinstance(node, ast.Call) and isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)):
            continue
        if function.value.id != "re" or function.attr == "escape":
            continue
        place = f"{module}:{node.lineno}"
        assert function.attr in FUNCTIONS | {"compile"}, f"{place}: say in this test how {function.attr} is measured"
        names = [function.attr] if function.attr != "compile" else ["fullmatch", "sub"]
        flags = re.DOTALL if "DOTALL" in ast.unparse(node) else 0
        for expression, name in product(expressions(node.args[0], module), names):
            yield Use(place, name, expression, flags)


def expressions(argument: ast.expr, module: str) -> list[str]:
    if isinstance(argument, ast.Constant):
        assert isinstance(argument.value, str), f"{module}: an expression on bytes is not measured yet"
        return [argument.value]
    if isinstance(argument, ast.Name):
        value = getattr(importlib.import_module(module), argument.id, None)
        assert isinstance(value, str), f"{module}: {argument.id} is not a text of the module; use runtime.patterns.Pattern"
        return [value]
    assert module in MADE_WHEN_NEEDED, f"{module}: use runtime.patterns.Pattern for an expression that is put together"
    return MADE_WHEN_NEEDED[module]


def text(shape: tuple[str, str, str], length: int) -> str:
    prefix, repeated, suffix = shape
    return prefix + repeated * (length // len(repeated)) + suffix


def cpu(run: Callable[[str], object], argument: str, times: int = 3) -> float:
    """Seconds, the best of some runs."""
    best = float("inf")
    for _ in range(times):
        began = time.process_time()
        run(argument)
        best = min(best, time.process_time() - began)
    return best


def worst(run: Callable[[str], object], length: int, count: int) -> list[tuple[str, str, str]]:
    """The shapes that take longest at this length."""
    taken = {}
    for shape in product(PREFIXES, REPEATED, SUFFIXES):
        taken[shape] = cpu(run, text(shape, length))
    return sorted(taken, key=taken.__getitem__)[-count:]


def grows_linearly(run: Callable[[str], object], shape: tuple[str, str, str]) -> bool:
    """From 1,000 to 100,000 characters the time grows a hundredfold: tenfold for each step, and four times that is allowed."""
    before = cpu(run, text(shape, 1_000))
    if before > 0.03:
        return False
    for length in (10_000, 100_000):
        now = cpu(run, text(shape, length))
        if now > max(40 * before, 0.02):
            return False
        before = max(now, 0.0005)
    return True


USES = list(dict.fromkeys(uses()))


@pytest.mark.parametrize("use", USES, ids=str)
def test_an_expression_takes_linear_time(use: Use) -> None:
    run = use.run()
    for shape in worst(run, 200, 4):
        assert grows_linearly(run, shape), f"{use.expression!r} on {shape[0]!r} + {shape[1]!r} * n + {shape[2]!r}"


@pytest.mark.parametrize("expression", [r"\s*a\s*=\s*(.*?)\s*", r"[ab]*[ac]*x", r"[0-9]+s"])
def test_an_expression_that_takes_longer_is_found(expression: str) -> None:
    run = Use("here", "sub", expression).run()
    assert not all(grows_linearly(run, shape) for shape in worst(run, 200, 4))


def test_the_expressions_of_the_program_are_found() -> None:
    assert len({use.place for use in USES}) > 15


def test_models_use_the_linear_engine_of_pydantic() -> None:
    assert not [file for file in PACKAGE.rglob("*.py") if "regex_engine" in file.read_text()]


@pytest.mark.parametrize(
    "rule", [rules.MATCHER, rules.MATCHER_OPERATOR, rules.MATCHER_QUOTES, rules.MATCHER_UNQUOTED, rules.DISPLAY_NAME]
)
@pytest.mark.parametrize(
    "shape", [("a=", " ", ""), ("a=", " ", '"'), ('a="', "\\", ""), ("a", " ", "="), ("a=", "a ", "")], ids=repr
)
def test_the_rules_of_an_eventsink_take_linear_time(rule: Rule, shape: tuple[str, str, str]) -> None:
    assert rule.holds is not None
    assert grows_linearly(rule.holds, shape)


@pytest.mark.parametrize(
    ("patterns", "text", "matches"),
    [
        (("shop",), "shop", True),
        (("shop",), "shops", False),
        (("shop-*",), "shop-a", True),
        (("shop-*",), "shop-", True),
        (("*",), "", True),
        (("a*a",), "a", False),
        (("a*a",), "aa", True),
        (("*b*c*",), "xcxbxcx", True),
        (("*b*c*",), "xcxb", False),
        (("ab*bc",), "abc", False),
        (("**x",), "x", True),
        (("a.b", "c|d"), "axb", False),
        (("other", "c*"), "c\nd", True),
        ((), "", False),
    ],
)
def test_only_a_star_stands_for_other_characters(patterns: tuple[str, ...], text: str, matches: bool) -> None:
    assert Wildcards(patterns).match(text) is matches
    assert any(re.fullmatch(".*".join(map(re.escape, one.split("*"))), text, re.DOTALL) for one in patterns) is matches


def test_wildcards_take_linear_time() -> None:
    assert grows_linearly(Wildcards(["*a" * 31 + "b*", "*aab*"]).match, ("b", "a", "c"))


def test_a_lone_surrogate_is_a_character_like_others() -> None:
    assert Pattern("a.c").fullmatch("a\ud800c")
    assert not Pattern("[!-~]+").fullmatch("a\ud800c")


@pytest.mark.parametrize(
    ("expression", "reason"), [("(", "missing )"), ("(?=a)", "invalid perl operator"), (".{900}{9}", "bad repetition")]
)
def test_what_is_no_expression_is_rejected_with_a_reason(expression: str, reason: str) -> None:
    with pytest.raises(InvalidPattern, match=re.escape(reason)):
        Pattern(expression)
