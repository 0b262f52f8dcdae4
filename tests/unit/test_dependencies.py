"""What the code imports is declared, and what is declared is explained."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS = {"eventsink", "tests", "demo", "scripts"}
COMES_WITH = {"pydantic-core": "pydantic"}
"""Packages that belong to another one's public face."""
NOT_IMPORTED = {"tzdata"}
"""Data that the standard library finds."""
LINE = re.compile(r"^\| `([^`]+)` \| \S.*\|$", re.MULTILINE)


def names(requirements: Iterable[str]) -> list[str]:
    return [re.split(r"[<>=~!;\[ ]", requirement, maxsplit=1)[0].lower() for requirement in requirements]


RUNTIME = names(PROJECT["project"]["dependencies"])
DEVELOPMENT = names(PROJECT["dependency-groups"]["dev"])


def imported(folder: Path) -> dict[str, Path]:
    """The packages (not modules) that the code below a folder imports, each with a file that does."""
    packages = metadata.packages_distributions()
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module or ""]
            for module in {module.partition(".")[0] for module in modules} - OURS - sys.stdlib_module_names:
                package = packages[module][0].lower().replace("_", "-")
                found[COMES_WITH.get(package, package)] = file
    return found


def test_every_dependency_is_explained_once_and_nothing_else_is() -> None:
    runtime, _, development = (ROOT / "docs" / "dependencies.md").read_text().partition("## For development")
    assert [name.lower() for name in LINE.findall(runtime)] == sorted(RUNTIME)
    assert sorted(name.lower() for name in LINE.findall(development)) == sorted(DEVELOPMENT)


def test_the_program_imports_exactly_its_declared_dependencies() -> None:
    assert set(imported(ROOT / "operator")) == set(RUNTIME) - NOT_IMPORTED


def test_tests_import_only_declared_dependencies() -> None:
    undeclared = {
        name: file
        for name, file in (imported(ROOT / "tests") | imported(ROOT / "demo")).items()
        if name not in {*RUNTIME, *DEVELOPMENT}
    }
    assert not undeclared


def test_scripts_need_only_the_standard_library() -> None:
    assert not imported(ROOT / "scripts")


def test_every_pin_has_a_hash_and_no_lock_file_names_an_address() -> None:
    for name in ("runtime.txt", "dev.txt", "go.txt"):
        text = (ROOT / "requirements" / name).read_text()
        pins = re.findall(r"^\S+==\S+ \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)*)", text, re.MULTILINE)
        assert pins, name
        assert len(pins) == len(re.findall(r"^[^\s#]", text, re.MULTILINE)), name
        assert all(pins), name
        assert "://" not in text, name
