"""Every link between pages has a target."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.docs.pages import DOCS, ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links(text: str) -> Iterator[str]:
    """The targets of links and pictures in a page."""
    yield from re.findall(r"\]\(([^)]+)\)", text)
    yield from re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    yield from re.findall(r'(?:src|srcset)="([^"]+)"', text)


def test_the_pages_of_the_root_are_checked_too() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"} <= {page.name for page in PAGES}


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_every_link_has_a_target(file: Path) -> None:
    for link in links(file.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_every_named_link_is_defined_once_and_used(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    defined = re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE)
    assert sorted(defined) == sorted(set(re.findall(r"\]\[([a-z][^\]]*)\]", text)))


def test_every_page_of_the_documentation_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} <= {link.partition("#")[0] for link in links(readme)}


def test_every_claim_about_another_project_has_a_source() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("## Compared with", 1)[1].split("\n\n", 2)[2].split("\n\n", 1)[0]
    lines = [line.split("|")[3:-1] for line in table.splitlines()[2:]]
    assert len(lines) >= 10
    for cells in lines:
        assert len(cells) == 5
        for cell in cells:
            assert re.search(r"\]\[[a-z-]+\]", cell) or "no resource" in cell, cell
