"""Blocks of a Slack message, and their text where it is sent as text alone. Limits: https://docs.slack.dev/reference/block-kit/blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

MAX_LIST = 2800
"""Of the text of one block Slack takes 3,000."""
MAX_LINES = 25
_DATE = re.compile(r"<!date\^[^|>]*\|([^>]*)>")


def run(text: str) -> dict[str, Any]:
    """A stretch of text within a `rich_text` block."""
    return {"type": "text", "text": text}


def link(url: str, text: str) -> dict[str, Any]:
    """A link behind a text."""
    return {"type": "link", "url": url, "text": text}


def rich(elements: list[dict[str, Any]]) -> dict[str, Any]:
    """A block in which Slack reads no markup: stretches of text, links and mentions."""
    return {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": elements}]}


def section(text: str) -> dict[str, Any]:
    """A text as it is."""
    return {"type": "section", "text": {"type": "plain_text", "text": text or "–", "emoji": False}}


def context_markup(text: str) -> dict[str, Any]:
    """A small line in which Slack reads markup: for nothing that an alert says."""
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text, "verbatim": True}]}


def context(text: str) -> dict[str, Any]:
    """A small line of text as it is."""
    return {"type": "context", "elements": [{"type": "plain_text", "text": text, "emoji": False}]}


def listed(lines: Sequence[list[dict[str, Any]]], rest: str, counts: Sequence[int] = (), *, further: int = 0) -> dict[str, Any]:
    """As many lines as fit, and how many more there are; with the counts of alerts behind the lines, also how many alerts those are.

    `further` is the number of those of which no line was made.
    """
    taken: list[dict[str, Any]] = []
    length = shown = 0
    for line in lines:
        length += sum(len(part.get("text", "")) + len(part.get("url", "")) for part in line) + 1
        if shown == MAX_LINES or (length > MAX_LIST and shown):
            break
        taken += [run("\n"), *line] if taken else line
        shown += 1
    if left := len(lines) - shown + further:
        taken.append(run(f"\nand {left} {rest}" + (f", {sum(counts[shown:]):,} alerts" if counts else "")))
    return rich(taken)


def characters(value: Any) -> int:
    """How many characters are in all texts of blocks, URLs and names of types among them: what Slack counts is not documented."""
    if isinstance(value, str):
        return len(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(characters(one) for one in inner)


def plain_lines(blocks: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The text of blocks, line by line; of links the URLs."""
    for block in blocks:
        for one in block.get("elements", ()):
            if block["type"] == "rich_text":
                yield "".join(map(_plain, one["elements"]))
            elif block["type"] == "actions":
                yield f"{one['text']['text']}: {one['url']}"
            elif one["type"] == "plain_text":
                yield one["text"]
            else:
                yield _DATE.sub(r"\1", one["text"])


def _plain(part: dict[str, Any]) -> str:
    if part["type"] == "text":
        return str(part["text"])
    return f"{part['text']}: {part['url']}" if "text" in part else str(part["url"])
