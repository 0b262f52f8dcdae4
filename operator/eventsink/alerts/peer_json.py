"""JSON as peers mean it: `null` counts as absent, and a number or a boolean where a text is expected as its own text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime

import msgspec

MAX_NUMBER = 2**53 - 1
"""What every reader of JSON takes for exactly this number, and the queue stores."""
_LONE_SURROGATE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_any = msgspec.json.Decoder()
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements = msgspec.json.Decoder(list[msgspec.Raw])
_time = msgspec.json.Decoder(datetime, strict=False)


def members_of(raw: msgspec.Raw | bytes) -> dict[str, msgspec.Raw]:
    """The members of a JSON object that are not null; ValidationError if it is none."""
    return {name: value for name, value in _members.decode(raw).items() if bytes(value) != b"null"}


def text_of(raw: msgspec.Raw | None) -> str:
    """A JSON value as a text; absent: empty. Of what is no text, the JSON itself."""
    if raw is None:
        return ""
    value = _any.decode(raw)
    return value if isinstance(value, str) else bytes(raw).decode()


def texts_of(raw: msgspec.Raw | None) -> dict[str, str]:
    """The members of a JSON object as texts; empty where it is absent or no object."""
    try:
        return {name: text_of(value) for name, value in members_of(raw).items()} if raw is not None else {}
    except msgspec.ValidationError:
        return {}


def object_of(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw]:
    """The members of a JSON object that are not null; none where it is absent or no object."""
    try:
        return members_of(raw) if raw is not None else {}
    except msgspec.ValidationError:
        return {}


def list_of(raw: msgspec.Raw | None) -> list[msgspec.Raw]:
    """The elements of a JSON list that are not null; none where it is absent or no list."""
    try:
        return [one for one in _elements.decode(raw) if bytes(one) != b"null"] if raw is not None else []
    except msgspec.ValidationError:
        return []


def number_of(raw: msgspec.Raw | None) -> int:
    """A whole number, also one written as a text; 0 where it is absent or none. One beyond `MAX_NUMBER` counts as that."""
    try:
        return max(-MAX_NUMBER, min(int(text_of(raw) or 0), MAX_NUMBER))
    except ValueError:
        return 0


def time_of(raw: msgspec.Raw | None) -> datetime | None:
    """A time as in RFC 3339, or seconds since 1970; None: it is absent, or an empty text; ValidationError if it is none of these."""
    return _time.decode(raw) if raw is not None and bytes(raw) != b'""' else None


def without_lone_surrogates(body: bytes) -> bytes:
    r"""JSON in which U+FFFD is in the place of each lone surrogate, such as `\ud800`, as in Go; the same object if it has none.

    Programs that cut a text within a character write them; to others, that is not JSON.
    """
    if (b"\\ud" not in body and b"\\uD" not in body) or b"\0" in body:
        return body
    text = body.replace(rb"\\", b"\0").decode("latin-1")  # in `\\ud800` none begins
    replaced, count = _LONE_SURROGATE.subn(r"\\ufffd", text)
    return replaced.encode("latin-1").replace(b"\0", rb"\\") if count else body


def same_to_every_reader(body: bytes) -> bool:
    """Whether no object in it, at any depth, has two members of one name.

    Readers differ in which of the two they take, and some, such as Go's, in whether upper and lower case are two names.
    """
    try:
        json.loads(body, object_pairs_hook=_check_names)
    except (ValueError, RecursionError):
        return False
    return True


def _check_names(pairs: Sequence[tuple[str, object]]) -> None:
    if len({name.casefold() for name, _ in pairs}) != len(pairs):
        raise ValueError("two members of one name")
