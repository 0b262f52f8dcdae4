"""Durations as people write them, in an EventSink and in settings: `90s`, `4h`, `3d`, `1h30m`."""

from __future__ import annotations

import re

DURATION_PATTERN = r"^([0-9]{1,7}(ms|s|m|h|d|w))+$"
"""Whole numbers, each with its unit. Seven digits keep the sum of any text of 32 characters within 64 bits of milliseconds."""
MAX_DURATION_LENGTH = 32

UNITS_MS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
"""Unit -> milliseconds, the longest first."""

DURATION_FORM = "write a duration as whole numbers with units (ms, s, m, h, d, w), such as 90s, 4h, 3d or 1h30m"

_PART = re.compile(r"([0-9]{1,7})(ms|s|m|h|d|w)")


class InvalidDuration(ValueError):
    """The text is not a duration."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(DURATION_FORM)


def parse_duration(text: str) -> float:
    """Seconds of a duration.

    Parameters
    ----------
    text
        One or more whole numbers, each followed by its unit: `ms`, `s`, `m`, `h`, `d` (24 hours) or `w` (7 days).

    Raises
    ------
    InvalidDuration
        Anything else: no unit, a sign, a fraction, a space, more than 32 characters.
    """
    if len(text) > MAX_DURATION_LENGTH or not re.fullmatch(DURATION_PATTERN, text):
        raise InvalidDuration(text)
    return sum(int(number) * UNITS_MS[unit] for number, unit in _PART.findall(text)) / 1000


def format_duration(seconds: float) -> str:
    """The shortest usual way to write a duration: 5400 is `1h30m`, 259200 is `3d`; rounded to milliseconds.

    Raises
    ------
    ValueError
        A negative number of seconds.
    """
    if seconds < 0:
        raise ValueError("a duration cannot be negative")
    rest = round(seconds * 1000)
    parts = []
    for unit, size in UNITS_MS.items():
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"
