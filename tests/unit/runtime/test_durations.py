"""Durations are read and written as people write them in an EventSink and in settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.runtime.durations import InvalidDuration, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("4h", 14_400),
        ("3d", 259_200),
        ("1w", 604_800),
        ("1h30m", 5_400),
        ("30m1h", 5_400),
        ("1500ms", 1.5),
        ("1m500ms", 60.5),
        ("0s", 0),
        ("9999999w9999999w9999999w", 3 * 9_999_999 * 604_800),
    ],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "90", "s", "-1s", "1.5h", "1 h", "1h ", "1h\n", "1H", "1y", "12345678s", "1s" * 17, "\u0661s"]
)
def test_an_invalid_duration_is_rejected_with_the_forms_to_use(text: str) -> None:
    with pytest.raises(InvalidDuration, match="such as 90s, 4h, 3d or 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (90, "1m30s"), (5_400, "1h30m"), (259_200, "3d"), (0.25, "250ms"), (694_861.5, "1w1d1h1m1s500ms")],
)
def test_a_duration_is_written_in_its_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=0, max_value=9_999_999 * 604_800_000))
def test_a_written_duration_is_read_back(milliseconds: int) -> None:
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


def test_a_negative_duration_is_not_written() -> None:
    with pytest.raises(ValueError, match="negative"):
        format_duration(-1)
