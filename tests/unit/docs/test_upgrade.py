"""Each command of docs/upgrade.md is run on real pods (tests/pods), or the page says why not."""

from __future__ import annotations

import re

from tests.unit.docs.pages import ROOT, page

TESTS = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests" / "pods").glob("test_*.py"))
BLOCK = re.compile(r"^ *(.*)\n *```sh$", re.MULTILINE)
RUN = re.compile(r"documented\(PAGE, ([^)]+)\)")
MARK = re.compile(r"<!-- (?:pods: (?P<name>\w+)|not run: .+) -->")


def test_every_command_is_run_or_says_why_not() -> None:
    marks = [MARK.fullmatch(line) for line in BLOCK.findall(page("upgrade.md"))]
    assert len(marks) > 5
    assert all(marks)
    names = {mark["name"] for mark in marks if mark and mark["name"]}
    assert names == set(re.findall(r'"(\w+)"', "".join(RUN.findall(TESTS))))
