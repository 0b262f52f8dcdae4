"""A Slack message reads in a terminal as it does in Slack."""

from __future__ import annotations

from typing import Any

import click
import pytest

from eventsink.destinations.slack.terminal import readable, terminal_lines
from tests.unit.destinations.slack.messages_made import made
from tests.unit.destinations.slack.test_message import CASES, FORMS


def lines(body: dict[str, Any], width: int = 60, *, urls: bool = True) -> list[str]:
    return [click.unstyle(line) for line in terminal_lines(body, width=width, urls=urls)]


@pytest.mark.parametrize("name", CASES)
def test_every_message_can_be_shown_and_nothing_of_its_text_is_lost(name: str) -> None:
    message = made(CASES[name], **FORMS.get(name, {}))
    shown = "".join("".join(line.removeprefix("▌ ").split()) for line in lines(message.body()))
    said = [word for word in readable(message.plain_body()["text"]).split() if word not in ("Runbook:", "Silence:")]
    assert [word for word in said if word.removesuffix("…").strip(":(") not in shown] == []


def test_headline_attachment_and_buttons_are_shown_in_order() -> None:
    assert lines(made(CASES["one"]).body(), 72) == [
        "🔴 Critical · KubePodCrashLooping · payments/api-0 · The pod is crash",
        "looping.",
        "▌ Pod payments/api-0 was restarted 7 times in ten minutes.",
        "▌ since 2026-03-01 09:30 UTC",
        "▌ cluster=production",
        "▌ [ Runbook ]    https://runbooks.example.com/KubePodCrashLooping",
        "▌ [ Dashboard ]  https://grafana.example.com/d/pods",
        "▌ [ Silence ]    https://alertmanager.example.com/#/silences/new?filter=%7B%7D",
        "▌ [ Source ]     https://prometheus.example.com/graph?g0.expr=up",
        "▌ acme/security-alerts · tenant acme",
    ]


def test_the_bar_has_the_colour_of_the_attachment() -> None:
    assert terminal_lines(made(CASES["one"]).body(), width=60)[-1].startswith("\x1b[38;2;211;47;47m▌")


def test_buttons_can_be_shown_without_what_they_open() -> None:
    assert "▌ [ Runbook ]  [ Dashboard ]  [ Silence ]  [ Source ]" in lines(made(CASES["one"]).body(), urls=False)


def test_columns_stay_columns_however_narrow_the_terminal_is() -> None:
    table = "NAME      READY\napi-0     0/1\n" + "x" * 50
    block = {"type": "rich_text", "elements": [{"type": "rich_text_preformatted", "elements": [{"type": "text", "text": table}]}]}
    body = {"text": "", "blocks": [block]}
    assert lines(body, 20) == table.split("\n")


@pytest.mark.parametrize(
    ("markup", "read"),
    [
        ("<!date^1772357400^{date_short_pretty} {time}|2026-03-01 09:30 UTC>", "2026-03-01 09:30 UTC"),
        ("<!here> <!subteam^S1> <@U1>", "@here @S1 @U1"),
        ("<https://example.com|Runbook> <https://example.com>", "Runbook https://example.com"),
        ("a &lt;b&gt; &amp;amp;", "a <b> &amp;"),
    ],
)
def test_markup_is_shown_as_people_read_it(markup: str, read: str) -> None:
    assert readable(markup) == read


def test_mentions_in_rich_text_are_named() -> None:
    elements = [
        {"type": "user", "user_id": "U1"},
        {"type": "usergroup", "usergroup_id": "S1"},
        {"type": "broadcast", "range": "here"},
    ]
    block = {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": elements}]}
    assert lines({"text": "", "blocks": [block]}) == ["@U1@S1@here"]


def test_fields_are_shown_one_below_the_other() -> None:
    fields = [{"type": "plain_text", "text": "Team"}, {"type": "mrkdwn", "text": "core"}]
    assert lines({"text": "", "blocks": [{"type": "section", "fields": fields}]}) == ["Team", "core"]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "video"},
        {"type": "rich_text", "elements": [{"type": "rich_text_list", "elements": []}]},
        {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [{"type": "color"}]}]},
    ],
)
def test_a_block_that_is_not_known_is_an_error_and_not_left_out(block: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be shown"):
        lines({"text": "", "blocks": [block]})


def test_a_message_of_text_alone_is_shown_too() -> None:
    assert lines(made(CASES["minimal"]).plain_body())[0].endswith("Alert · Watchdog")
