"""A Slack message as lines of a terminal: every block that messages are made of, and no other.

Reads the JSON that is sent to Slack, so that what it shows is what Slack is given.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import click

BAR = "▌"
_MARKUP = re.compile(r"<([^<>|]+)(?:\|([^<>]*))?>")


def terminal_lines(body: Mapping[str, Any], *, width: int, urls: bool = True) -> list[str]:
    """The message, in lines of about `width` columns, with ANSI codes.

    Parameters
    ----------
    body
        What chat.postMessage takes.
    width
        Columns; what people copy, such as a URL, is not broken.
    urls
        Whether buttons are shown with what they open.

    Raises
    ------
    ValueError
        The message has a block that this module does not know.
    """
    return list(_body(body, width, urls=urls))


def _body(body: Mapping[str, Any], width: int, *, urls: bool) -> Iterator[str]:
    if not body.get("blocks"):
        yield from _wrapped(readable(str(body["text"])), width)
    for block in body.get("blocks", ()):
        for line in _block(block, width, urls=urls):
            yield click.style(line, bold=True)
    for attachment in body.get("attachments", ()):
        bar = click.style(BAR, fg=_rgb(attachment["color"]))
        for block in attachment["blocks"]:
            for line in _block(block, width - 2, urls=urls):
                yield f"{bar} {line}"


def _block(block: Mapping[str, Any], width: int, *, urls: bool) -> Iterator[str]:
    match block["type"]:
        case "section":
            if "text" in block:
                yield from _wrapped(_text(block["text"]), width)
            for field in block.get("fields", ()):
                yield from _wrapped(_text(field), width)
        case "rich_text":
            for one in block["elements"]:
                yield from _rich_text(one, width)
        case "context":
            for line in _wrapped("  ".join(_text(one) for one in block["elements"]), width):
                yield click.style(line, dim=True)
        case "actions":
            yield from _buttons(block["elements"], width, urls=urls)
        case "divider":
            yield click.style("─" * width, dim=True)
        case unknown:
            raise ValueError(f"the block type {unknown} cannot be shown")


def _rich_text(one: Mapping[str, Any], width: int) -> Iterator[str]:
    text = "".join(map(_inline, one["elements"]))
    match one["type"]:
        case "rich_text_section":
            yield from _wrapped(text, width)
        case "rich_text_preformatted":
            yield from text.split("\n")
        case unknown:
            raise ValueError(f"the rich text {unknown} cannot be shown")


def _inline(one: Mapping[str, Any]) -> str:
    match one["type"]:
        case "text":
            return str(one["text"])
        case "link":
            return f"{one['text']} ({one['url']})" if one.get("text") else str(one["url"])
        case "user":
            return f"@{one['user_id']}"
        case "usergroup":
            return f"@{one['usergroup_id']}"
        case "broadcast":
            return f"@{one['range']}"
        case unknown:
            raise ValueError(f"the element {unknown} cannot be shown")


def _buttons(elements: list[Mapping[str, Any]], width: int, *, urls: bool) -> Iterator[str]:
    buttons = [f"[ {_text(one['text'])} ]" for one in elements]
    if not urls:
        yield from _wrapped("  ".join(buttons), width)
        return
    widest = max(map(len, buttons))
    for button, one in zip(buttons, elements, strict=True):
        yield f"{button:<{widest}}  {click.style(one['url'], dim=True)}"


def _text(one: Mapping[str, Any]) -> str:
    return readable(str(one["text"])) if one["type"] == "mrkdwn" else str(one["text"])


def readable(text: str) -> str:
    """Slack's markup as people read it: of a time its text in UTC, of a link its text or its URL, of a mention what it names."""
    return html.unescape(_MARKUP.sub(_shown, text))


def _shown(found: re.Match[str]) -> str:
    target, text = found.group(1), found.group(2)
    if target.startswith("!subteam^"):
        return f"@{target.removeprefix('!subteam^')}"
    if target.startswith("@") or (target.startswith("!") and "^" not in target):
        return f"@{target[1:]}"
    return text or target


def _wrapped(text: str, width: int) -> Iterator[str]:
    for line in text.split("\n"):
        yield from textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]


def _rgb(colour: str) -> tuple[int, int, int]:
    digits = colour.lstrip("#")
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)
