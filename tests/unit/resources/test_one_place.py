"""A field of the spec is named where it is declared, compiled and used, and nowhere else: that many modules a new field touches."""

from __future__ import annotations

import ast

import pytest

from eventsink.destinations import registry
from tests.unit.docs.pages import PACKAGE

DECLARED_AND_COMPILED = {"resources/spec.py", "controller/compile.py", "sinks/sink.py"}
CLIENT = {"client.py"}
"""Has no dependencies, so it declares its arguments itself; a test compares them with the OpenAPI document."""
MUTES = {
    "resources/mutes.py",
    "rest/calls/specs.py",
    "rest/http/operations.py",
    "rest/models.py",
    "router/planning/quiet.py",
    "sinks_command.py",
}
"""Mutes have matchers of their own, and a call of their own."""
QUEUE = {"router/queue/protocol.py", "router/queue/sqlite/queue.py", "router/queue/sqlite/store.py", "router/admin/server.py"}
"""Deliveries have a greatest age of their own, which is that of their sink."""


def names_in(module: ast.Module) -> set[str]:
    """Attributes, arguments and fields that code names; docstrings and texts do not count."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.keyword | ast.arg):
            found.add(node.arg or "")
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found.add(node.value)
    return found


NAMES = {
    str(file.relative_to(PACKAGE)): names_in(ast.parse(file.read_text(encoding="utf-8")))
    for file in sorted(PACKAGE.rglob("*.py"))
}


@pytest.mark.parametrize(
    ("names", "consumers"),
    [
        ({"min_severity", "minSeverity"}, {"router/planning/match.py"}),
        ({"max_age", "maxAge"}, {"router/planning/batch.py", *QUEUE}),
        ({"matchers"}, {"router/planning/match.py", *MUTES}),
    ],
    ids=["minSeverity", "maxAge", "matchers"],
)
def test_a_field_is_named_by_its_declaration_the_compiler_and_its_consumer_only(names: set[str], consumers: set[str]) -> None:
    naming = {module for module, found in NAMES.items() if found & names}
    naming -= {module for module in naming if module.startswith("destinations/")}  # theirs are other fields of that name
    assert naming == DECLARED_AND_COMPILED | CLIENT | consumers


def test_no_module_but_those_of_a_destination_type_names_it() -> None:
    naming = {module for module, found in NAMES.items() if found & set(registry.names())}
    own = {module for module in naming if module.startswith("destinations/")}
    # The browser flow that installs the platform's Slack app is a page of that type.
    assert naming - own - CLIENT <= {"rest/pages/slack_install.py"}
