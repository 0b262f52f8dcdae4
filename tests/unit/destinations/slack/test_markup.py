"""In a sink's own template the owner's words format; what an alert says is text as it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.destinations.slack.blocks import plain_lines
from eventsink.destinations.slack.markup import formatted, inert

URL = "https://wiki.example.com/x"
BOLD, ITALIC, STRUCK = {"bold": True}, {"italic": True}, {"strike": True}


def text(words: str, **style: bool) -> dict[str, Any]:
    return {"type": "text", "text": words, **({"style": style} if style else {})}


def spans(written: str) -> list[dict[str, Any]]:
    (block,) = formatted(written)
    (section,) = block["elements"]
    assert section["type"] == "rich_text_section"
    found: list[dict[str, Any]] = section["elements"]
    return found


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a *b* c", [text("a "), text("b", **BOLD), text(" c")]),
        ("_a_ ~b~ `c`", [text("a", **ITALIC), text(" "), text("b", **STRUCK), text(" "), text("c", code=True)]),
        ("*a _b_*", [text("a ", **BOLD), text("b", **BOLD, **ITALIC)]),
        ("`*a*`", [text("*a*", code=True)]),
        ("2 * 3 * 4, a_b_c, ~ and `", [text("2 * 3 * 4, a_b_c, ~ and `")]),
        ("*a\nb*", [text("*a\nb*")]),
        (f"<{URL}|Wiki>", [{"type": "link", "url": URL, "text": "Wiki"}]),
        (f"<{URL}>", [{"type": "link", "url": URL}]),
        (f"*<{URL}|Wiki>*", [{"type": "link", "url": URL, "text": "Wiki", "style": BOLD}]),
        (f"see {URL}.", [text("see "), {"type": "link", "url": URL}, text(".")]),
        ("<|Wiki>", [text("Wiki")]),
        ("<see the wiki|Wiki>", [text("Wiki: see the wiki")]),
        ("<javascript:alert(1)|Wiki>", [text("Wiki: javascript:alert(1)")]),
        ("a < b > c", [text("a "), text("b"), text(" c")]),
    ],
)
def test_the_owners_words_format(written: str, expected: list[dict[str, Any]]) -> None:
    assert spans(written) == expected


def test_three_backticks_are_a_block_of_one_width() -> None:
    (block,) = formatted("a\n```\n*b*  c\n```\nd")
    assert [element["type"] for element in block["elements"]] == [
        "rich_text_section",
        "rich_text_preformatted",
        "rich_text_section",
    ]
    assert block["elements"][1]["elements"] == [text("*b*  c")]


def test_what_was_cut_within_three_backticks_is_still_a_block() -> None:
    (block,) = formatted("```a…")
    assert block["elements"] == [{"type": "rich_text_preformatted", "elements": [text("a…")]}]


def test_nothing_is_no_block() -> None:
    assert formatted("\n\n") == formatted("<>") == formatted("``````\n<|>") == []


HOSTILE = "*b* _i_ ~s~ `c` ``` <!channel> <@U123> <https://evil.example.com|click> *"


@pytest.mark.parametrize("around", ["{}", "*{}*", "_{}_", "`{}`", "```{}```", "~a {} b~"])
def test_what_an_alert_says_neither_formats_nor_ends_the_owners_formatting(around: str) -> None:
    (block,) = formatted(around.format(inert(HOSTILE)))
    (element,) = block["elements"]
    assert len({str(part.get("style")) for part in element["elements"]}) == 1
    assert "".join(part.get("text") or part["url"] for part in element["elements"]) == around.strip("*_`~").format(HOSTILE)
    assert all(part["type"] == "text" or part["url"] == "https://evil.example.com" for part in element["elements"])


def test_what_an_alert_says_cannot_change_where_a_link_of_the_owner_leads() -> None:
    hostile = inert("x|https://evil.example.com> <https://evil.example.com|y")
    assert spans(f"<{URL}/{hostile}|Wiki>") == [text(f"Wiki: {URL}/x|https://evil.example.com> <https://evil.example.com|y")]
    assert spans(f"<{URL}|{hostile}>") == [
        {"type": "link", "url": URL, "text": "x|https://evil.example.com> <https://evil.example.com|y"}
    ]


def test_private_characters_of_an_alert_are_no_formatting() -> None:
    assert spans(f"*a* {inert(chr(0xE000))}b{inert(chr(0xE000))}") == [text("a", **BOLD), text(" b")]


@given(st.text(alphabet=st.sampled_from("*_~`<>|! @#a\n.:/-\ue000\ue004\u200d"), max_size=60))
def test_any_text_of_an_alert_is_shown_as_it_is_and_any_owners_text_is_rendered(said: str) -> None:
    clean = "\n".join(plain_lines(formatted(f"a{inert(said)}a")))
    assert clean == "a" + inert(said).translate({0xE000 + n: c for n, c in enumerate("*_~`<>|")}) + "a"
    for block in formatted(said):
        assert all(element["elements"] for element in block["elements"])
