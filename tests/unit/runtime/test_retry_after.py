"""Retry-After is read as RFC 9110 has it, and written so that no client retries at once."""

from __future__ import annotations

import pytest

from eventsink.runtime.retry_after import format_retry_after, parse_retry_after

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("999999999999999999999", 3600.0),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Fri, 15 Jan 2077 07:00:00 GMT", 3600.0),
        ("soon", None),
        ("-1", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date_up_to_a_limit(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


@pytest.mark.parametrize(("seconds", "value"), [(0.0, "1"), (0.4, "1"), (1.0, "1"), (29.6, "30"), (3600.0, "3600")])
def test_retry_after_is_written_in_whole_seconds_and_at_least_one(seconds: float, value: str) -> None:
    assert format_retry_after(seconds) == value
