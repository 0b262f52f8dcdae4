"""The examples of docs/templates.md write what it says, and it names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eventsink.templates.context import VARIABLES
from eventsink.templates.filters import FILTERS
from tests.support.templates import alert as an_alert
from tests.support.templates import rendered, variables

PAGE = (Path(__file__).parents[3] / "docs" / "templates.md").read_text()
EXAMPLES = re.findall(r"```liquid\n(.*?)\n```\n\n```text\n(.*?)\n```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("source", "text"), EXAMPLES)
def test_an_example_writes_what_the_page_says(source: str, text: str) -> None:
    assert rendered(source) == text


def test_each_example_shows_what_it_writes() -> None:
    assert len(EXAMPLES) == PAGE.count("```liquid") > 2


def test_the_page_names_each_variable_and_each_member_of_an_alert() -> None:
    given, _, members = PAGE.partition("Each alert has:")
    named = {name for line in re.findall(r"^\| (`.*?) \|", given, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)}
    assert named == set(VARIABLES)
    table = members.partition("\n\nWhat")[0]
    first = variables(an_alert())["alert"]
    assert isinstance(first, dict)
    found = {name for line in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)", line)}
    assert found == set(first)


def test_the_page_names_each_filter_once() -> None:
    table = PAGE.partition("## Filters")[2].partition("They do")[0]
    assert sorted(re.findall(r"`(\w+)`", table)) == sorted(FILTERS)
