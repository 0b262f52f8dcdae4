"""Each block of commands on the pages for whoever was paged is run by a test, or the page says why not."""

from __future__ import annotations

import re

import pytest

from tests.unit.docs.pages import ROOT, page

BLOCK = re.compile(r"^(.*)\n *```sh$", re.MULTILINE)
MARK = re.compile(r" *<!-- (?:test: (?P<name>\w+)|not run: .+) -->")
RUN_BY = {
    "cluster": "tests/cluster/test_operating_pages.py",
    "router": "tests/e2e/test_deliveries.py",
    "queue": "tests/unit/docs/test_queue.py",
}


@pytest.mark.parametrize("name", ["operator.md", "queue.md", "status.md"])
def test_every_block_of_commands_is_run_or_says_why_not(name: str) -> None:
    marks = [MARK.fullmatch(line) for line in BLOCK.findall(page(name))]
    assert marks
    assert all(marks)
    assert {mark["name"] for mark in marks if mark and mark["name"]} <= RUN_BY.keys()
    assert not re.search(r"^    (?:kubectl|eventsink) ", page(name), re.MULTILINE), "not in a block"


@pytest.mark.parametrize(("mark", "file"), RUN_BY.items())
def test_what_is_marked_is_read_by_the_test_that_runs_it(mark: str, file: str) -> None:
    assert f'"test: {mark}"' in (ROOT / file).read_text(encoding="utf-8")
