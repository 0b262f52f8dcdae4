"""Files and commands that CONTRIBUTING.md and docs/design.md name exist."""

from __future__ import annotations

import re

import pytest

from tests.unit.docs.pages import PACKAGE, ROOT, names, page

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = {"CONTRIBUTING.md": CONTRIBUTING, "design.md": page("design.md")}


@pytest.mark.parametrize("text", PAGES.values(), ids=PAGES)
def test_every_path_exists(text: str) -> None:
    paths = [
        re.sub(r"^\.venv/bin/pytest ", "", name)
        for name in names(re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
        if re.fullmatch(r"(\.venv/bin/pytest )?[\w./-]+/[\w./-]*", name)
    ]
    assert len(paths) > 5
    for path in paths:
        if not path.startswith((".venv/", "/")):
            assert (ROOT / path).exists() or (PACKAGE / path).exists(), path


def test_every_package_is_described() -> None:
    listed = set(re.findall(r"^      ([\w.]+)/? ", page("design.md"), re.MULTILINE))
    packages = {file.name for file in PACKAGE.iterdir() if file.is_dir() and not file.name.startswith("_")}
    assert packages <= listed
    assert all((PACKAGE / name).exists() for name in listed)


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)`", CONTRIBUTING)) <= targets
