"""The pictures of Slack messages show what the program sends now."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scripts import draw_slack_messages
from scripts.slack_page import THEMES, page
from scripts.slack_situations import SITUATIONS
from tests.support.slack_limits import problems
from tests.unit.destinations.slack.test_message import GOLDEN
from tests.unit.docs.pages import page as text_of_page

MAX_BYTES = 1_500_000
PAGES = draw_slack_messages.pages()


def test_each_picture_was_drawn_from_what_the_program_sends_now() -> None:
    wanted = {name: draw_slack_messages.digest(shown) for name, shown in PAGES.items()}
    assert draw_slack_messages.recorded() == wanted, (
        "run `scripts/draw_slack_messages.py`, look at what it drew, and commit the result"
    )
    assert {file.name for file in draw_slack_messages.FOLDER.glob("*.png")} == set(wanted)


def test_the_pictures_are_small_and_phones_show_them_sharp() -> None:
    files = list(draw_slack_messages.FOLDER.glob("*.png"))
    assert sum(file.stat().st_size for file in files) < MAX_BYTES
    for file in files:
        assert int.from_bytes(file.read_bytes()[16:20]) == 2 * 375, file.name


@pytest.mark.parametrize("name", SITUATIONS)
def test_slack_accepts_the_message_of_each_situation(name: str) -> None:
    may_mention = "mentions" in SITUATIONS[name].slack
    assert [found for body in SITUATIONS[name].bodies() for found in problems(body, may_mention=may_mention)] == []


def test_the_page_loads_nothing() -> None:
    for shown in PAGES.values():
        assert not re.search(r"<(?:script|link|img|iframe)|url\(|@import|(?:src|href)=", shown)


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.json")), ids=lambda file: file.stem)
def test_the_page_knows_every_block_that_messages_are_made_of(file: Path) -> None:
    page([json.loads(file.read_text())], THEMES["light"])


@pytest.mark.parametrize(
    "block",
    [
        {"type": "video"},
        {"type": "rich_text", "elements": [{"type": "rich_text_list", "elements": []}]},
        {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [{"type": "color"}]}]},
        {"type": "actions", "elements": [{"type": "datepicker"}]},
    ],
)
def test_a_block_that_the_page_does_not_know_is_an_error(block: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="cannot be shown"):
        page([{"text": "", "blocks": [block]}], THEMES["light"])


def test_the_page_of_documentation_shows_every_picture_with_an_alternative_text() -> None:
    shown = re.findall(r'<img src="images/slack/([\w-]+)-light\.png" width="375" alt="([^"]+)"', text_of_page("slack.md"))
    assert sorted(name for name, _ in shown) == sorted(SITUATIONS)
