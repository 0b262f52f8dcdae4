"""Texts of alerts in Slack messages: as the alert has them, without what is not seen.

Nothing is inserted into a text, so that what people copy is what they see. That it neither mentions anybody nor formats is up to the blocks
that hold it: `plain_text` and `rich_text`, in which Slack reads no markup. Rules: https://docs.slack.dev/messaging/formatting-message-text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from eventsink.alerts.links import is_web_url

ELLIPSIS = "…"
_LOOKED_AT = 4
"""Times what is shown: of a thousand alerts, more would keep the event loop for seconds."""
MAX_URL = 3000
"""Characters that Slack takes of one."""
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
"""Unicode's controls, formats (bidirectional overrides among them), surrogates, private and unassigned characters."""
_JOINERS = frozenset({"\u200c", "\u200d"})
"""What languages and emoji need between two of their characters; next to ASCII they are only invisible."""
_BLACK_FLAG, _TAGS = "\U0001f3f4", range(0xE0020, 0xE0080)
"""Flags of regions are this flag and tags."""
_KEPT = frozenset({"\u200d", "\ufe0f"})
_ANSI = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b[ -/]*[0-Z\\-~]?")
_URL = re.compile(r"\bhttps?://[^\s<>\"'`|\\^{}]+", re.IGNORECASE)
_AFTER_URL = ".,;:!?)]*_~"
_COLUMNS = re.compile(r"^ +\S|\S {2,}\S", re.MULTILINE)


def one_line(text: str, most: int) -> str:
    """The text in one line of at most `most` characters, without anything that is not seen."""
    return cut(" ".join(seen(_beginning(text, most)).split()), most)


def some_lines(text: str, most: int) -> str:
    """The text with its line breaks, indentation and columns, at most one empty line in a row, in at most `most` characters."""
    return tidy(seen(_beginning(text, most).replace("\r\n", "\n")), most)


def _beginning(text: str, most: int) -> str:
    """As much of a text as is looked at to show at most `most` characters of it."""
    return text if len(text) <= _LOOKED_AT * most else text[: _LOOKED_AT * most] + ELLIPSIS


def tidy(text: str, most: int) -> str:
    """As `some_lines`, of a text in which everything is seen."""
    lines = [line.expandtabs(8).rstrip() for line in text.split("\n")]
    return cut(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n"), most)


def cut(text: str, most: int) -> str:
    """At most `most` characters, an ellipsis at the end of what was longer; no character loses its accents."""
    if len(text) <= most:
        return text
    end = most - len(ELLIPSIS)
    while end > 0 and (unicodedata.combining(text[end]) or text[end] in _KEPT or text[end - 1] in _KEPT):
        end -= 1
    return text[:end].rstrip() + ELLIPSIS


def escaped(text: str) -> str:
    """For the text beside the blocks, which notifications show. Its escapes count as characters, so cut it before."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut_escaped(text: str, most: int) -> str:
    """The text escaped, in at most `most` characters, none of which is half of an escape."""
    if len(text) <= most and len(whole := escaped(text)) <= most:
        return whole
    length = 0
    for place, character in enumerate(text):
        length += len(escaped(character))
        if length >= most:
            return escaped(cut(text, place + 1))
    return escaped(text)


def cut_bytes(text: str, most: int) -> str:
    """Escaped text in at most `most` bytes, without half a character or escape at its end."""
    encoded = text.encode()
    if len(encoded) <= most:
        return text
    whole = encoded[: most - len(ELLIPSIS.encode())].decode(errors="ignore")
    return re.sub(r"&[a-z]*$", "", whole) + ELLIPSIS


def prose(text: str) -> dict[str, Any]:
    """A block with the text as it is; its URLs are links that show all of the URL. Indentation and columns are shown in one width."""
    kind = "rich_text_preformatted" if _COLUMNS.search(text) else "rich_text_section"
    return {"type": "rich_text", "elements": [{"type": kind, "elements": list(with_links(text))}]}


def with_links(text: str) -> Iterator[dict[str, Any]]:
    """Elements of a `rich_text` block: the text as it is, and its URLs as links that show all of the URL."""
    start = 0
    for found in _URL.finditer(text):
        url = found.group().rstrip(_AFTER_URL)
        if len(url) > MAX_URL or not is_web_url(url) or found.group().endswith(ELLIPSIS):
            continue
        if found.start() > start:
            yield {"type": "text", "text": text[start : found.start()]}
        yield {"type": "link", "url": url}
        start = found.start() + len(url)
    if start < len(text):
        yield {"type": "text", "text": text[start:]}


def date(moment: datetime) -> str:
    """A time that Slack shows in the reader's own zone; where it cannot, in UTC."""
    moment = moment.astimezone(UTC)
    # Slack takes Unix timestamps and says nothing of negative ones; a source that knows no time writes the year 1.
    if moment.timestamp() < 0:
        return moment.replace(tzinfo=None).isoformat(" ", "minutes") + " UTC"
    return f"<!date^{int(moment.timestamp())}^{{date_short_pretty}} {{time}}|{moment:%Y-%m-%d %H:%M} UTC>"


def duration(lasted: timedelta) -> str:
    """How long something lasted, in its two largest units."""
    seconds = int(lasted.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60 % 60, seconds // 3600 % 24, seconds // 86400
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    while not parts[0][0]:
        del parts[0]
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count)


def seen(text: str) -> str:
    """The text without colours of terminals and without what is not seen."""
    if text.isprintable():
        return text
    text = _ANSI.sub("", text)
    taken: list[str] = []
    in_flag = False
    for place, character in enumerate(text):
        if character.isprintable():
            in_flag = character == _BLACK_FLAG
            taken.append(character)
            continue
        in_flag = in_flag and ord(character) in _TAGS
        if character in "\r\x0b\x0c":
            taken.append(" ")
        elif character in _JOINERS:
            if 0 < place < len(text) - 1 and not text[place - 1].isascii() and not text[place + 1].isascii():
                taken.append(character)
        elif in_flag or character in "\n\t" or unicodedata.category(character) not in _UNSEEN:
            taken.append(character)
    return "".join(taken)
