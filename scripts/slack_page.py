"""Shows Slack messages as a page of HTML: every block that messages are made of, about as Slack's app for phones shows it.

The page is our own, with fonts that Debian has, and loads nothing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

WIDTH = 375
"""CSS pixels: a phone."""


@dataclass(frozen=True)
class Theme:
    """Colours of a page."""

    background: str
    text: str
    quiet: str
    link: str
    line: str
    code: str
    mention: str


THEMES = {
    "light": Theme("#ffffff", "#1d1c1d", "#616061", "#1264a3", "#bbbabb", "#f6f6f6", "#fdf3d1"),
    "dark": Theme("#1a1d21", "#d5d6d8", "#9b9da0", "#4aa8e0", "#56595d", "#22252a", "#3f3a24"),
}
NAMES = {"S0123456789": "on-call"}
"""Slack shows the names of those whom a message mentions by id."""
_MARKUP = re.compile(r"<([^<>|]+)(?:\|([^<>]*))?>")
_TAGS = {"bold": "b", "italic": "i", "strike": "s", "code": "code"}
_STYLE = """
* { box-sizing: border-box; margin: 0; padding: 0; }
body { width: %(width)dpx; padding: 12px 14px 14px; background: %(background)s; color: %(text)s;
  font: 15px/1.42 "Liberation Sans", "Noto Color Emoji", "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
.message { display: grid; grid-template-columns: 36px 1fr; column-gap: 9px; }
.message + .message { margin-top: 16px; }
.avatar { width: 36px; height: 36px; border-radius: 7px; background: #24507a; color: #fff;
  font: bold 19px/36px "Liberation Sans"; text-align: center; }
.who { font-weight: bold; line-height: 1.2; }
.who span { font-weight: normal; font-size: 12px; color: %(quiet)s; }
.who .app { font-size: 10px; padding: 0 3px; border-radius: 3px; background: %(code)s; margin: 0 3px; }
.text { white-space: pre-wrap; unicode-bidi: plaintext; }
.attachment { border-left: 4px solid; border-radius: 3px; padding-left: 10px; margin-top: 6px; }
.attachment > * + *, .blocks > * + * { margin-top: 6px; }
.context { font-size: 12.5px; color: %(quiet)s; white-space: pre-wrap; unicode-bidi: plaintext; }
.context > span + span { margin-left: 8px; }
.fields { display: grid; grid-template-columns: 1fr; row-gap: 6px; white-space: pre-wrap; unicode-bidi: plaintext; }
pre { font: 12px/1.5 "Liberation Mono", "DejaVu Sans Mono", monospace; background: %(code)s; border: 1px solid %(line)s; border-radius: 4px;
  padding: 6px 8px; white-space: pre-wrap; }
code { font: 12.5px "Liberation Mono", "DejaVu Sans Mono", monospace; background: %(code)s; border: 1px solid %(line)s; border-radius: 3px;
  padding: 0 3px; }
.actions { display: flex; flex-wrap: wrap; gap: 7px; }
.button { border: 1px solid %(line)s; border-radius: 5px; padding: 4px 11px; font-size: 13.5px; font-weight: bold; }
.link { color: %(link)s; }
.mention { background: %(mention)s; color: %(link)s; border-radius: 3px; padding: 0 2px; }
.divider { border-top: 1px solid %(line)s; }
.thread { margin: 10px 0 0 45px; font-size: 12px; color: %(quiet)s; }
"""


def page(bodies: Sequence[Mapping[str, Any]], theme: Theme, *, replies: int = 0) -> str:
    """A document with some messages, each as chat.postMessage takes it, one below the other.

    Parameters
    ----------
    replies
        So many of the messages, from the last, are replies in the thread of the one before them.

    Raises
    ------
    ValueError
        A message has a block that the page does not know.
    """
    first = len(bodies) - replies
    shown = [_message(body) for body in bodies]
    if replies:
        shown.insert(first, f'<p class="thread">{replies} {"reply" if replies == 1 else "replies"}</p>')
    style = _STYLE % {"width": WIDTH, **vars(theme)}
    return f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><style>{style}</style><body>{"".join(shown)}</body></html>'


def _message(body: Mapping[str, Any]) -> str:
    blocks = body.get("blocks") or [{"type": "section", "text": {"type": "mrkdwn", "text": body["text"]}}]
    attachments = [
        f'<div class="attachment" style="border-color: {html.escape(one["color"])}">{"".join(map(_block, one["blocks"]))}</div>'
        for one in body.get("attachments", ())
    ]
    who = '<p class="who">EventSink<span class="app">APP</span><span>9:31</span></p>'
    return (
        f'<div class="message"><div class="avatar">E</div><div>{who}'
        f'<div class="blocks">{"".join(map(_block, blocks))}</div>{"".join(attachments)}</div></div>'
    )


def _block(block: Mapping[str, Any]) -> str:
    match block["type"]:
        case "section":
            text = f'<p class="text">{_text(block["text"])}</p>' if "text" in block else ""
            fields = "".join(f"<p>{_text(one)}</p>" for one in block.get("fields", ()))
            return text + (f'<div class="fields">{fields}</div>' if fields else "")
        case "rich_text":
            return "".join(map(_rich_text, block["elements"]))
        case "context":
            return f'<p class="context">{"".join(f"<span>{_text(one)}</span>" for one in block["elements"])}</p>'
        case "actions":
            return f'<p class="actions">{"".join(map(_button, block["elements"]))}</p>'
        case "divider":
            return '<p class="divider"></p>'
        case unknown:
            raise ValueError(f"the block type {unknown} cannot be shown")


def _rich_text(one: Mapping[str, Any]) -> str:
    inner = "".join(map(_inline, one["elements"]))
    match one["type"]:
        case "rich_text_section":
            return f'<p class="text">{inner}</p>'
        case "rich_text_preformatted":
            return f"<pre>{inner}</pre>"
        case unknown:
            raise ValueError(f"the rich text {unknown} cannot be shown")


def _inline(one: Mapping[str, Any]) -> str:
    match one["type"]:
        case "text":
            return _styled(html.escape(one["text"]), one)
        case "link":
            return _styled(f'<span class="link">{html.escape(one.get("text") or one["url"])}</span>', one)
        case "user" | "usergroup" | "broadcast":
            return _mention(one.get("user_id") or one.get("usergroup_id") or one["range"])
        case unknown:
            raise ValueError(f"the element {unknown} cannot be shown")


def _mention(who: str) -> str:
    return f'<span class="mention">@{html.escape(NAMES.get(who, who))}</span>'


def _styled(shown: str, one: Mapping[str, Any]) -> str:
    for style in one.get("style", ()):
        shown = f"<{_TAGS[style]}>{shown}</{_TAGS[style]}>"
    return shown


def _button(one: Mapping[str, Any]) -> str:
    if one["type"] != "button":
        raise ValueError(f"the element {one['type']} cannot be shown")
    return f'<span class="button">{_text(one["text"])}</span>'


def _text(one: Mapping[str, Any]) -> str:
    if one["type"] == "plain_text":
        return html.escape(one["text"])
    return "".join(_marked_up(one["text"]))


def _marked_up(text: str) -> Iterator[str]:
    end = 0
    for found in _MARKUP.finditer(text):
        yield html.escape(html.unescape(text[end : found.start()]))
        end = found.end()
        target, shown = found.group(1), found.group(2)
        if target.startswith("!date^"):
            moment = datetime.fromtimestamp(int(target.split("^")[1]), UTC)
            yield f"{moment:%b} {moment.day}, {moment:%Y} {moment:%H:%M}"
        elif target.startswith(("@", "!")):
            yield _mention(target.lstrip("@!").removeprefix("subteam^"))
        else:
            yield f'<span class="link">{html.escape(shown or target)}</span>'
    yield html.escape(html.unescape(text[end:]))
