"""The recipes of CONTRIBUTING.md list what has to change, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventsink.alerts.formats.registry import FORMATS
from eventsink.destinations import registry
from tests.unit.docs.pages import PACKAGE, ROOT, between, names, rows

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FORMAT = between(CONTRIBUTING, "### A source format", "### A destination type")
DESTINATION = between(CONTRIBUTING, "### A destination type", "### A spec field")
FIELD = between(CONTRIBUTING, "### A spec field", "## Rules")


def paths(recipe: str, kind: str, name: str) -> list[Path]:
    """The paths of a recipe, for one that exists."""
    found = [one.replace(f"<{kind}>", name) for one in names(recipe)]
    return [ROOT / one for one in found if one.startswith(("operator/", "tests/", "manifests/"))]


@pytest.mark.parametrize("name", FORMATS)
def test_the_files_of_the_recipe_for_a_format_are_those_of_each_format(name: str) -> None:
    module = name.replace("-", "_")
    listed = paths(FORMAT, "format", module)
    assert PACKAGE / "alerts" / "formats" / f"{module}.py" in listed
    assert not [path for path in listed if not path.exists()]


@pytest.mark.parametrize("name", registry.names())
def test_the_files_of_the_recipe_for_a_destination_type_are_those_of_each_type(name: str) -> None:
    listed = paths(DESTINATION, "type", name)
    assert PACKAGE / "destinations" / name in listed
    assert not [path for path in listed if not path.exists()]


def loaded_parts() -> Iterator[tuple[str, str | None]]:
    """The parts that the program asks types for, and what it uses of each (None: by another name)."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            loading = node.value if isinstance(node, ast.Attribute) else node
            if not (isinstance(loading, ast.Call) and ast.unparse(loading.func).endswith("registry.load")):
                continue
            part = loading.args[1]
            assert isinstance(part, ast.Constant)
            yield str(part.value), node.attr if isinstance(node, ast.Attribute) else None


def test_the_parts_of_a_destination_type_are_those_that_the_program_loads() -> None:
    listed = {names(row[0])[0]: set(names(row[1])) for row in rows(DESTINATION)}
    loaded = set(loaded_parts())
    assert listed.keys() == {part for part, _ in loaded}
    for part, export in loaded:
        assert export is None or export in listed[part]
    for name in registry.names():
        for part, exports in listed.items():
            assert not [export for export in exports if not hasattr(registry.load(name, part), export)], (name, part)


def identifiers(file: Path) -> set[str]:
    """The names that a module uses for fields, arguments and variables."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        for attribute in ("id", "attr", "arg"):
            found.add(str(getattr(node, attribute, "")))
    return found


def test_a_field_of_match_is_named_in_the_modules_of_the_recipe_and_in_no_other() -> None:
    named = {file for file in PACKAGE.rglob("*.py") if "min_severity" in identifiers(file)}
    named -= {file for file in named if PACKAGE / "destinations" in file.parents}  # theirs are other fields of that name
    assert named == {ROOT / name for row in rows(FIELD) for name in names(row[0])}


def test_each_recipe_names_its_proof() -> None:
    for recipe in (FORMAT, DESTINATION, FIELD):
        assert [name for name in re.findall(r"tests/[\w/]+\.py", recipe) if (ROOT / name).exists()]
