"""Prints the steps of the demo, and Slack messages as a person would see them."""

from __future__ import annotations

import html
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

WIDTH = 96
_COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def paint(text: str, *styles: str) -> str:
    """The text in colour, if standard output is a terminal."""
    return "".join(f"\033[{_CODES[style]}m" for style in styles) + text + "\033[0m" if _COLOUR else text


def say(text: str = "") -> None:
    """One line of output."""
    print(text, flush=True)


def step(number: int, title: str) -> None:
    """The heading of a step."""
    say()
    say(paint(f"{number}. {title}", "bold", "cyan"))


def check(text: str, *, passed: bool = True) -> None:
    """A statement that was checked, and whether it is true."""
    say(f"   {paint('✓', 'green') if passed else paint('✗', 'red')} {text}")


def aside(text: str, style: str = "dim") -> None:
    """An explanation, in as many lines as it needs."""
    for line in textwrap.wrap(text, WIDTH - 3):
        say(paint(f"   {line}", style))


def message(body: Mapping[str, Any], channel: str) -> None:
    """A Slack message, as much of it as a terminal can show."""
    say(f"   {paint('┌', 'dim')} {paint(f'#{channel}', 'bold')} {paint('· Slack', 'dim')}")
    for part in textwrap.wrap(plain(str(body.get("text") or "")), WIDTH - 5):
        say(f"   {paint('│', 'dim')} {part}")
    for attachment in body.get("attachments") or [{}]:
        bar = paint("▌", _nearest(str(attachment.get("color") or "")))
        for line in _lines(attachment.get("blocks") or body.get("blocks") or []):
            for part in textwrap.wrap(line, WIDTH - 7) or [""]:
                say(f"   {paint('│', 'dim')} {bar} {part}")
    say(f"   {paint('└', 'dim')}")


def _lines(blocks: list[Mapping[str, Any]]) -> Iterator[str]:
    for block in blocks:
        kind = block.get("type")
        if kind == "header":
            yield paint(plain(block["text"]["text"]), "bold")
        elif kind == "section":
            if "text" in block:
                yield from plain(block["text"]["text"]).split("\n")
            for field in block.get("fields") or []:
                yield " ".join(plain(field["text"]).split("\n"))
        elif kind == "context":
            yield paint("  ".join(plain(str(one.get("text") or "")) for one in block["elements"]), "dim")
        elif kind == "actions":
            yield "  ".join(f"[ {plain(one['text']['text'])} ]" for one in block["elements"])
        elif kind == "divider":
            yield paint("─" * 20, "dim")


def plain(text: str) -> str:
    """mrkdwn as a person reads it."""
    text = re.sub(r"<!date\^[^|>]*\|([^>]*)>", r"\1", text)
    text = re.sub(r"<[^|>]+\|([^>]+)>", r"\1", text)
    return html.unescape(re.sub(r"<(https?:[^>]+)>", r"\1", text)).replace("\u2060", "")


def _nearest(colour: str) -> str:
    """The terminal's colour that is nearest to a hexadecimal one."""
    try:
        red, green, blue = (int(colour.lstrip("#")[at : at + 2], 16) for at in (0, 2, 4))
    except ValueError:
        return "dim"
    if green > red and green >= blue:
        return "green"
    return "red" if red > green * 1.6 else "yellow"
