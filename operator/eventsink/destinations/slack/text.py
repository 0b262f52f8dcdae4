"""Texts of alerts in Slack messages: whatever an alert says, it neither mentions anybody, nor formats, nor links.

Slack's rules: https://docs.slack.dev/messaging/formatting-message-text.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

ELLIPSIS = "…"
_JOINER = "\u2060"
"""Invisible, and no line may break there: put where Slack would see a mention, a link or a format."""
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
"""Unicode's controls, formats (bidirectional overrides among them), surrogates, private and unassigned characters."""
_KEPT = frozenset({"\u200d", "\ufe0f"})
"""What emoji are joined by."""
_FORMATS = re.compile(r"[*_~`@]|(?<=\w)[.:](?=[\w/])|^(?=&gt;)|<|>")


def one_line(text: str, most: int) -> str:
    """The text in one line of at most `most` characters, without anything that is not seen."""
    return cut(" ".join(_seen(text).split()), most)


def some_lines(text: str, most: int) -> str:
    """The text with its line breaks, at most one empty line in a row, in at most `most` characters."""
    lines = [" ".join(line.split()) for line in _seen(text).split("\n")]
    return cut(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), most)


def cut(text: str, most: int) -> str:
    """At most `most` characters, an ellipsis at the end of what was longer; no character loses its accents."""
    if len(text) <= most:
        return text
    end = most - len(ELLIPSIS)
    while end > 0 and (unicodedata.combining(text[end]) or text[end] in _KEPT or text[end - 1] in _KEPT):
        end -= 1
    return text[:end].rstrip() + ELLIPSIS


def inert(text: str) -> str:
    """For where Slack formats: the text means itself. Its escapes count as characters, so cut it before."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _FORMATS.sub(lambda found: found.group() + _JOINER, escaped)


def date(moment: datetime) -> str:
    """A time that Slack shows in the reader's own zone; where it cannot, in UTC."""
    moment = moment.astimezone(UTC)
    # Slack takes Unix timestamps and says nothing of negative ones; a source that knows no time writes the year 1.
    if moment.timestamp() < 0:
        return moment.replace(tzinfo=None).isoformat(" ", "minutes") + " UTC"
    return f"<!date^{int(moment.timestamp())}^{{date_short_pretty}} {{time}}|{moment:%Y-%m-%d %H:%M} UTC>"


def _seen(text: str) -> str:
    def kept(character: str) -> bool:
        return character == "\n" or character in _KEPT or unicodedata.category(character) not in _UNSEEN

    return "".join(character if kept(character) else " " if character in "\t\r\x0b\x0c" else "" for character in text)
