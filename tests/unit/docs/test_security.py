"""docs/security.md claims nothing without a test, and names no test that does not exist; and what it says of metrics and imports is so."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

import pytest

from tests.unit.docs.pages import ROOT, between, names, page, rows
from tests.unit.docs.test_settings import PARTS, metrics_of

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


def test_each_statement_about_trust_and_each_sentence_about_policies_has_a_test() -> None:
    trusted = between(PAGE, "## Whom you trust with what", "\n## ").split("\n- ")[1:]
    [policies] = [one for one in between(PAGE, "## Rights", "\n## ").split("\n\n") if one.startswith("Admission policies")]
    assert len(trusted) >= 5
    for claim in (*trusted, policies):
        assert [name for name in names(claim) if name.startswith("tests/")], f"no test for: {claim}"


def test_no_metric_has_a_label_for_a_tenant_a_sink_or_a_key_but_the_one_that_the_page_names() -> None:
    labels: dict[str, set[str]] = defaultdict(set)
    for part in PARTS:
        for metric, its_labels, _ in metrics_of(part):
            for label in names(its_labels):
                labels[label] |= set(names(metric))
    assert labels.pop("tenant") == {"eventsink_router_over_quota_total"}
    known = {
        "about",
        "code",
        "failure",
        "kind",
        "limit",
        "listener",
        "operation",
        "outcome",
        "ready",
        "reason",
        "result",
        "share",
    }
    assert labels.keys() == known | {"source", "status"}, (
        "what can its values be? No name of a tenant, a sink, a namespace or a key"
    )


def test_the_operator_may_import_nothing_that_sends_and_the_router_nothing_that_reads_credentials() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    forbidden: dict[str, set[str]] = defaultdict(set)
    for contract in contracts:
        if contract["type"] == "forbidden":
            for module in contract["source_modules"]:
                forbidden[module] |= set(contract["forbidden_modules"])
    assert forbidden["eventsink.controller"] >= {"eventsink.destinations.senders", "eventsink.destinations.*.sender"}
    assert "eventsink.destinations.*.resolve" in forbidden["eventsink.router"]
