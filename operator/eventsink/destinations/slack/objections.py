"""What may be logged of Slack's objections to the form of a message: what is wrong and where, and nothing that an alert may have said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MAX_OBJECTIONS = 5
"""Of one message; Slack repeats itself for each schema that it tried."""
MAX_WORDS = 24
MAX_STEPS = 12
LEFT_OUT = "…"

_FORM = re.compile(r"\[ERROR\] (?P<text>[^\[\]]{1,400})(?: \[json-pointer:(?P<path>/[^\[\]]{1,400})\])?")
_VOCABULARY = """
a additional all allowed an and any are array at be block blocks boolean button cannot character characters combination containing
contains define duplicate element elements either empty equal exactly exceed exceeds expected failed false few fewer field fields for
format found from greater has have html http https image image_url in integer invalid invalid_keys is it item items json key keys length
less limit long many match maximum message minimum missing more most mrkdwn must no not null number object of one only option or
plain_text properties property provided required schema schemas section short should string style subschema supported text than the this
to too true type types unable unexpected unique unknown unsupported url valid value with
"""
"""Slack's schema messages consist of these; any other word is left out: it may be a piece of the message."""
_WORDS = frozenset(_VOCABULARY.split())


def objections(data: object, body: Mapping[str, Any]) -> list[str]:
    """`response_metadata.messages` of a response, each with the part of its path that is in the body that was sent."""
    metadata = data.get("response_metadata") if isinstance(data, Mapping) else None
    messages = metadata.get("messages") if isinstance(metadata, Mapping) else None
    if not isinstance(messages, list):
        return []
    return [text for message in messages[:MAX_OBJECTIONS] if (text := _objection(message, body))]


def _objection(message: object, body: Mapping[str, Any]) -> str:
    found = _FORM.fullmatch(message[:1000]) if isinstance(message, str) else None
    if found is None:
        return ""
    words = found["text"].split()[:MAX_WORDS]
    text = " ".join(word if word in _WORDS or (word.isdecimal() and len(word) <= 6) else LEFT_OUT for word in words)
    return f"{text} at {'/'.join(_steps(found['path'], body))}" if found["path"] else text


def _steps(path: str, body: Mapping[str, Any]) -> Iterator[str]:
    """The path as far as the body has it: its names are this program's own."""
    at: Any = body
    for step in path.split("/")[1 : MAX_STEPS + 1]:
        if isinstance(at, Mapping) and step in at:
            at = at[step]
        elif isinstance(at, Sequence) and not isinstance(at, str) and step.isdecimal() and len(step) <= 4 and int(step) < len(at):
            at = at[int(step)]
        else:
            yield step if step in _WORDS else LEFT_OUT
            return
        yield step
