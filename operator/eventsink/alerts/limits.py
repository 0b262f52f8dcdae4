"""How much of an alert is kept. What exceeds a limit is cut, or left out, and marked (`Alert.truncated`); nothing is rejected for it.

Sizes of text are in characters, others in bytes. Below them an alert passes unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

MAX_LABELS = 128
"""Labels, and equally annotations, of one alert."""
MAX_NAME_CHARACTERS = 256
"""Name of a label or an annotation; one with a longer name, or none, is left out. The alert's own name is cut."""
MAX_VALUE_CHARACTERS = 16_384
"""Value of one label."""
MAX_CLUSTER_CHARACTERS = 128
"""Of the label `cluster`, where messages name the cluster."""
MAX_ANNOTATION_CHARACTERS = 65_536
"""Value of one annotation, and the description that is made of it."""
MAX_SUMMARY_CHARACTERS = 4096
MAX_LABELS_CHARACTERS = 65_536
"""Names and values of an alert's labels together."""
MAX_ANNOTATIONS_CHARACTERS = 262_144
"""Names and values of an alert's annotations together."""
MAX_GROUP_LABELS_CHARACTERS = 8192
"""Names and values of the labels of a notification's group together, and of those that its alerts have in common: each alert repeats them."""
MAX_KEY_CHARACTERS = 1024
"""Key of a group; of a longer one the beginning and a digest are kept, so that two stay two."""
MAX_URL_CHARACTERS = 8192
"""A longer URL is left out: part of a URL leads nowhere."""
MAX_SHARED_URL_CHARACTERS = 2048
"""The same of the URL that all alerts of a notification repeat, and of links that are made of labels."""
MAX_MARKS = 32
"""Entries of `Alert.truncated`."""
ELLIPSIS = "…"
"""Ends what was cut."""
LARGE_BODY_BYTES = 256 * 1024
"""A larger notification is read in a thread, one at a time: reading it takes more than a few milliseconds."""
SMALL_ALERTS = 256
"""As many alerts do not repeat too much of their group."""
MADE_MULTIPLE = 24
"""What may be made of a notification, in documents and in memory, is so many times its size ..."""
MADE_LEAST_BYTES = 64 * 1024**2
"""... of a small one so much ..."""
MADE_MOST_BYTES = 192 * 1024**2
"""... and never more than this."""
_STRING_BYTES = 90
"""What a text of an alert takes in memory beside its characters, with its place in what holds it."""
_MEMBER_BYTES = 64
_ALERT_BYTES = 1024
"""What is added to an alert: identities, times, names of members."""

_FIRST = ("alertname", "namespace", "severity", "summary", "description", "runbook_url")
"""What is kept before anything else where not all can be."""


def size_made_of(body: bytes, alerts: int, group: int = 0) -> int:
    """How many bytes are made of a notification at most, estimated without parsing it: the documents that are stored, and memory.

    Parameters
    ----------
    body
        As it came, in JSON.
    alerts
        How many are in it; 0 where that is not known yet.
    group
        Bytes that each of them repeats of their group.
    """
    # Each text has two quotes and each member or element is followed by a comma; only a text can hold more of them, never fewer.
    return (
        4 * len(body) + body.count(b'"') * _STRING_BYTES // 2 + body.count(b",") * _MEMBER_BYTES + alerts * (_ALERT_BYTES + group)
    )


def is_small(body: bytes, alerts: int) -> bool:
    """Whether so little is made of a notification, whatever is in it, that `size_made_of` need not be asked."""
    return len(body) <= LARGE_BODY_BYTES and alerts <= SMALL_ALERTS


def may_be_made_of(body: bytes) -> int:
    """The largest `size_made_of` that is accepted of a notification."""
    return min(MADE_MOST_BYTES, max(MADE_LEAST_BYTES, MADE_MULTIPLE * len(body)))


def shortened_key(key: str) -> str:
    """The key of a group, or of a long one its beginning and a digest of it all: two keys stay two."""
    if len(key) <= MAX_KEY_CHARACTERS:
        return key
    digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    return f"{key[: MAX_KEY_CHARACTERS - len(digest) - len(ELLIPSIS)]}{ELLIPSIS}{digest}"


def cut(text: str, most: int) -> str:
    """At most `most` characters, an ellipsis at the end of what was longer."""
    return text if len(text) <= most else text[: most - len(ELLIPSIS)] + ELLIPSIS


def bounded(pairs: dict[str, str], what: str, *, longest: int, total: int) -> tuple[dict[str, str], tuple[str, ...]]:
    """Labels or annotations within the limits, and marks of what is not as the source sent it.

    Parameters
    ----------
    pairs
        As sent; returned unchanged where they are within the limits.
    what
        What marks begin with: `labels` says that some are left out, `labels.<name>` that this one is cut.
    longest
        Characters of one value.
    total
        Characters of all names and values.
    """
    if not pairs:
        return pairs, ()
    # To join them is a fraction of the cost of looking at each name and value, and nearly always enough.
    names, values = len("".join(pairs)), len("".join(pairs.values()))
    fits = len(pairs) <= MAX_LABELS and names + values <= total and "" not in pairs
    fits = fits and (names <= MAX_NAME_CHARACTERS or max(map(len, pairs)) <= MAX_NAME_CHARACTERS)
    if fits and (values <= longest or max(map(len, pairs.values())) <= longest):
        return pairs, ()
    return _truncated(pairs, what, longest, total)


def _truncated(pairs: Mapping[str, str], what: str, longest: int, total: int) -> tuple[dict[str, str], tuple[str, ...]]:
    kept: dict[str, str] = {}
    marks: list[str] = []
    left_out = False
    for name in (*(name for name in _FIRST if name in pairs), *(name for name in pairs if name not in _FIRST)):
        if not name or len(name) > MAX_NAME_CHARACTERS:
            left_out = True
            continue
        room = total - len(name)
        if len(kept) == MAX_LABELS or room < len(ELLIPSIS):
            left_out = True
            break
        kept[name] = cut(pairs[name], min(longest, room))
        if kept[name] is not pairs[name]:
            marks.append(f"{what}.{name}")
        total = room - len(kept[name])
    return {name: kept[name] for name in pairs if name in kept}, (*((what,) if left_out else ()), *marks)
