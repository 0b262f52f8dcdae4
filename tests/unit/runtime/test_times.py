"""Times are written and read in RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from eventsink.runtime.times import format_time, parse_time

NOON = datetime(2026, 3, 1, 12, 0, 15, 999_000, tzinfo=UTC)


@pytest.mark.parametrize("moment", [NOON, NOON.astimezone(timezone(timedelta(hours=2))), NOON.timestamp()])
def test_a_moment_is_written_in_utc_with_whole_seconds(moment: datetime | float) -> None:
    assert format_time(moment) == "2026-03-01T12:00:15Z"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T12:00:15Z", NOON.replace(microsecond=0)),
        ("2026-03-01T12:00:15.999Z", NOON),
        ("2026-03-01T14:00:15.999000+02:00", NOON),
    ],
)
def test_a_time_is_read_in_any_zone_and_given_in_utc(text: str, moment: datetime) -> None:
    assert (parse_time(text), parse_time(text).tzinfo) == (moment, UTC)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "2026-03-01T12:00:15", "2026-03-01", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00"],
)
def test_a_text_that_is_not_a_time_with_a_zone_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|isoformat"):
        parse_time(text)


def test_a_moment_without_a_zone_is_not_written() -> None:
    with pytest.raises(ValueError, match="time zone"):
        format_time(datetime(2026, 1, 1))
