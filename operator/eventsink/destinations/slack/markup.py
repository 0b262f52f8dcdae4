"""Formatting in the templates of a sink's owner: what the owner wrote formats, what an alert says is text as it is.

A template writes one text. In what it writes of alerts, the characters that format are replaced (`inert`) by others that no text of a Slack
message has otherwise; when the formatting has been read, they become themselves again (`as_written`). The result is `rich_text`, in which
Slack reads no markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from eventsink.alerts.links import is_web_url
from eventsink.destinations.slack.text import MAX_URL, seen, with_links

_MARKUP = "*_~`<>|"
_STANDS_FOR = {0xE000 + number: character for number, character in enumerate(_MARKUP)}
"""Private characters, which `seen` removes from every text of an alert."""
_INERT = {ord(character): chr(code) for code, character in _STANDS_FOR.items()}
_FENCE = re.compile(r"```\n?(.*?)(?:\n?```|\Z)", re.DOTALL)
_SPANS = re.compile(
    r"`(?P<code>[^`\n]+)`"
    r"|<(?P<url>[^<>|\n]*)(?:\|(?P<text>[^<>|\n]*))?>"
    r"|(?<!\w)\*(?P<bold>[^\s*](?:[^*\n]*[^\s*])?)\*(?!\w)"
    r"|(?<!\w)_(?P<italic>[^\s_](?:[^_\n]*[^\s_])?)_(?!\w)"
    r"|(?<!\w)~(?P<strike>[^\s~](?:[^~\n]*[^\s~])?)~(?!\w)"
)
_STYLES = ("bold", "italic", "strike")


def inert(text: str) -> str:
    """What is written of an alert: nothing in it formats."""
    return seen(text).translate(_INERT)


def as_written(text: str) -> str:
    """The text with its own characters again."""
    return text.translate(_STANDS_FOR)


def formatted(text: str) -> list[dict[str, Any]]:
    """A block with the text that a template wrote; none of an empty one."""
    elements: list[dict[str, Any]] = []
    start = 0
    for fence in _FENCE.finditer(text):
        elements += _section(text[start : fence.start()])
        if code := as_written(fence.group(1)).strip("\n"):
            elements.append({"type": "rich_text_preformatted", "elements": [{"type": "text", "text": code}]})
        start = fence.end()
    elements += _section(text[start:])
    return [{"type": "rich_text", "elements": elements}] if elements else []


def _section(text: str) -> Iterator[dict[str, Any]]:
    if spans := list(_spans(text.strip("\n"), {})):
        yield {"type": "rich_text_section", "elements": spans}


def _spans(text: str, style: dict[str, bool]) -> Iterator[dict[str, Any]]:
    """Stretches of text, each with its style; styles may be within one another, each once."""
    start = 0
    for found in _SPANS.finditer(text):
        yield from _stretch(text[start : found.start()], style)
        start = found.end()
        kind = found.lastgroup or ""
        if kind == "code":
            yield {"type": "text", "text": as_written(found["code"]), "style": {**style, "code": True}}
        elif kind in _STYLES:
            yield from _spans(found[kind], {**style, kind: True})
        else:
            yield from _link(as_written(found["url"]).strip(), as_written(found["text"] or "").strip(), style)
    yield from _stretch(text[start:], style)


def _link(url: str, text: str, style: dict[str, bool]) -> Iterator[dict[str, Any]]:
    """A link, where the alert has a URL; else what there is instead."""
    if len(url) <= MAX_URL and is_web_url(url):
        yield _styled({"type": "link", "url": url, **({"text": text} if text else {})}, style)
    elif said := ": ".join(part for part in (text, url) if part):
        yield _styled({"type": "text", "text": said}, style)


def _stretch(text: str, style: dict[str, bool]) -> Iterator[dict[str, Any]]:
    for part in with_links(as_written(text)):
        yield _styled(part, style)


def _styled(part: dict[str, Any], style: dict[str, bool]) -> dict[str, Any]:
    return {**part, "style": style} if style else part
