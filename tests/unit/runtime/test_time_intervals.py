"""Recurring intervals of time: what is read, what is in them, and when that changes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from eventsink.runtime import time_intervals as intervals
from eventsink.runtime.time_intervals import OpeningTimes, TimeInterval, load_location

BERLIN = load_location("Europe/Berlin")
RECORDED = Path(__file__).parents[2] / "data" / "alertmanager" / "time_intervals.json"


def at(text: str, zone: str = "Europe/Berlin") -> datetime:
    """A local time, the first one of that name where the clocks repeat it."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def interval(written: dict[str, Any]) -> TimeInterval:
    """An interval as Alertmanager's configuration writes it."""
    return TimeInterval(
        times=tuple(
            (intervals.parse_time_of_day(one["start_time"]), intervals.parse_time_of_day(one["end_time"]))
            for one in written.get("times", ())
        ),
        weekdays=tuple(map(intervals.parse_weekdays, written.get("weekdays", ()))),
        days_of_month=tuple(map(intervals.parse_days_of_month, written.get("days_of_month", ()))),
        months=tuple(map(intervals.parse_months, written.get("months", ()))),
        years=tuple(map(intervals.parse_years, written.get("years", ()))),
        zone=load_location(written.get("location", "UTC")),
    )


@pytest.mark.parametrize(
    ("parse", "text", "found"),
    [
        (intervals.parse_time_of_day, "00:00", 0),
        (intervals.parse_time_of_day, "09:30", 570),
        (intervals.parse_time_of_day, "24:00", 1440),
        (intervals.parse_weekdays, "sunday", (0, 0)),
        (intervals.parse_weekdays, "Monday:FRIDAY", (1, 5)),
        (intervals.parse_days_of_month, "31", (31, 31)),
        (intervals.parse_days_of_month, "1:-1", (1, -1)),
        (intervals.parse_days_of_month, "-3:-1", (-3, -1)),
        (intervals.parse_months, "december", (12, 12)),
        (intervals.parse_months, "1:march", (1, 3)),
        (intervals.parse_years, "2026:2030", (2026, 2030)),
    ],
)
def test_what_alertmanager_reads_is_read(parse: Callable[[str], object], text: str, found: object) -> None:
    assert parse(text) == found


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (intervals.parse_time_of_day, "9:30", "HH:MM"),
        (intervals.parse_time_of_day, "24:01", "HH:MM"),
        (intervals.parse_time_of_day, "12:60", "HH:MM"),
        (intervals.parse_weekdays, "mon", "in full"),
        (intervals.parse_weekdays, "monday:friday:sunday", "in full"),
        (intervals.parse_weekdays, "friday:monday", "begins with Sunday"),
        (intervals.parse_days_of_month, "0", "from 1 to 31"),
        (intervals.parse_days_of_month, "32", "from 1 to 31"),
        (intervals.parse_days_of_month, "5:1", "before the first"),
        (intervals.parse_days_of_month, "-3:1", "counted from the end"),
        (intervals.parse_days_of_month, "28:-28", "before the first"),
        (intervals.parse_months, "13", "by name or number"),
        (intervals.parse_months, "november:february", "as two"),
        (intervals.parse_years, "2030:2026", "before the first"),
        (intervals.parse_years, "soon", "2027"),
        (load_location, "Mars/Olympus", "IANA"),
        (load_location, "../../etc/passwd", "IANA"),
        (load_location, "Europe", "IANA"),
        (load_location, "", "IANA"),
        (load_location, "A" * 10_000, "IANA"),
    ],
)
def test_what_alertmanager_rejects_is_rejected_with_what_to_write(parse: Callable[[str], object], text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(text)


def clocks_go_forward_in_the_month_of(moment: datetime, zone: Any) -> bool:
    local = moment.astimezone(zone)
    first = local.replace(day=1, hour=0, minute=0)
    following = (first + timedelta(days=32)).replace(day=1)
    after, before = following.utcoffset(), first.utcoffset()
    assert after is not None
    assert before is not None
    return after > before


def test_an_interval_contains_what_alertmanager_says_that_it_contains() -> None:
    compared = 0
    for case in json.loads(RECORDED.read_text()):
        one = interval(case["interval"])
        for minutes, contains in zip(case["moments"], case["contains"], strict=True):
            moment = datetime.fromtimestamp(minutes * 60, UTC)
            if one.days_of_month and clocks_go_forward_in_the_month_of(moment, one.zone):
                continue  # it divides the hours of the month by 24, and takes a month with one hour less for a day shorter
            assert one.contains(moment) is (contains == "1"), (case["interval"], moment)
            compared += 1
    assert compared > 4000


WORKING_HOURS = interval(
    {"times": [{"start_time": "08:00", "end_time": "18:00"}], "weekdays": ["monday:friday"], "location": "Europe/Berlin"}
)
NIGHTS = interval({"times": [{"start_time": "02:30", "end_time": "03:30"}], "location": "Europe/Berlin"})
LAST_DAY = interval({"days_of_month": ["-1"], "location": "Europe/Berlin"})
LEAP_DAY = interval({"days_of_month": ["29"], "months": ["february"]})


@pytest.mark.parametrize(
    ("active", "mute", "now", "is_open", "until"),
    [
        pytest.param([], [], at("2026-11-26T12:00"), True, None, id="no intervals: always"),
        pytest.param([WORKING_HOURS], [], at("2026-11-26T12:00"), True, at("2026-11-26T18:00"), id="within"),
        pytest.param([WORKING_HOURS], [], at("2026-11-26T17:59:59"), True, at("2026-11-26T18:00"), id="last second"),
        pytest.param([WORKING_HOURS], [], at("2026-11-26T18:00"), False, at("2026-11-27T08:00"), id="the end is not included"),
        pytest.param([WORKING_HOURS], [], at("2026-11-27T18:00"), False, at("2026-11-30T08:00"), id="over a weekend"),
        pytest.param([], [WORKING_HOURS], at("2026-11-27T12:00"), False, at("2026-11-27T18:00"), id="muted"),
        pytest.param([WORKING_HOURS], [LAST_DAY], at("2026-11-27T20:00"), False, at("2026-12-01T08:00"), id="muted on the 30th"),
        pytest.param([WORKING_HOURS], [WORKING_HOURS], at("2026-11-27T20:00"), False, None, id="never"),
        pytest.param([NIGHTS], [], at("2026-03-29T01:59"), False, at("2026-03-29T03:00"), id="begins in the skipped hour"),
        pytest.param([NIGHTS], [], at("2026-03-29T03:00"), True, at("2026-03-29T03:30"), id="ends after the skipped hour"),
        pytest.param([NIGHTS], [], at("2026-10-25T02:45"), True, datetime(2026, 10, 25, 1, tzinfo=UTC), id="the clocks go back"),
        pytest.param(
            [NIGHTS],
            [],
            datetime(2026, 10, 25, 1, 10, tzinfo=UTC),
            False,
            datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
            id="once more",
        ),
        pytest.param(
            [WORKING_HOURS], [], at("2026-03-27T18:00"), False, at("2026-03-30T08:00"), id="over a change of the clocks"
        ),
        pytest.param([LAST_DAY], [], at("2027-02-28T12:00"), True, at("2027-03-01T00:00"), id="February has 28 days"),
        pytest.param([LAST_DAY], [], at("2028-02-28T12:00"), False, at("2028-02-29T00:00"), id="February has 29 days"),
        pytest.param([LAST_DAY], [], at("2026-03-31T12:00"), True, at("2026-04-01T00:00"), id="in a month with a short day"),
        pytest.param(
            [LEAP_DAY], [], datetime(2027, 6, 1, tzinfo=UTC), False, datetime(2028, 2, 29, tzinfo=UTC), id="next leap day"
        ),
        pytest.param([LEAP_DAY], [], datetime(2026, 6, 1, tzinfo=UTC), False, None, id="beyond what is looked at"),
        pytest.param(
            [interval({"years": ["2027"]})],
            [],
            datetime(2026, 12, 31, 23, 59, tzinfo=UTC),
            False,
            datetime(2027, 1, 1, tzinfo=UTC),
            id="a new year",
        ),
    ],
)
def test_it_is_known_whether_alerts_may_be_sent_and_until_when_that_holds(
    active: list[TimeInterval], mute: list[TimeInterval], now: datetime, is_open: bool, until: datetime | None
) -> None:
    opening = OpeningTimes(active, mute).when(now.timestamp())
    assert opening.open is is_open
    assert (datetime.fromtimestamp(opening.until, UTC) if opening.until is not None else None) == until
    assert opening.again > now.timestamp()
    assert opening.muted is (not is_open and any(one.contains(now) for one in mute))


def test_the_answer_stays_until_the_moment_that_was_named_and_follows_a_clock_that_is_set() -> None:
    times = OpeningTimes([WORKING_HOURS], [])
    evening, morning = at("2026-11-26T20:00").timestamp(), at("2026-11-27T08:00").timestamp()
    assert times.when(evening) is times.when(morning - 1)
    assert times.when(morning).open
    assert not times.when(evening).open


def test_nothing_changes_between_a_moment_and_the_change_that_was_named() -> None:
    chance = random.Random(13)
    cases = [interval(case["interval"]) for case in json.loads(RECORDED.read_text())]
    for _ in range(150):
        active, mute = chance.sample(cases, chance.randint(0, 3)), chance.sample(cases, chance.randint(0, 1))
        # The days on which clocks change somewhere, and others.
        begin = datetime(2026, chance.choice([3, 4, 10, 11]), 1, tzinfo=UTC) + timedelta(minutes=chance.randrange(31 * 1440))
        opening = OpeningTimes(active, mute).when(begin.timestamp())

        def is_open(moment: datetime, active: Any = active, mute: Any = mute) -> bool:
            return (not active or any(one.contains(moment) for one in active)) and not any(one.contains(moment) for one in mute)

        minutes = range(min(600, int(opening.again - begin.timestamp()) // 60))
        assert all(is_open(begin + timedelta(minutes=one)) is opening.open for one in minutes)
        if opening.until is not None:
            assert is_open(datetime.fromtimestamp(opening.until, UTC)) is not opening.open


def test_what_is_remembered_of_one_moment_is_right_at_others_too() -> None:
    chance = random.Random(7)
    cases = [interval(case["interval"]) for case in json.loads(RECORDED.read_text())]
    for _ in range(40):
        active, mute = chance.sample(cases, chance.randint(0, 3)), chance.sample(cases, chance.randint(0, 2))
        times, now = OpeningTimes(active, mute), at("2026-03-01T00:00").timestamp()
        for _ in range(12):
            opening = times.when(now)
            assert opening.open is OpeningTimes(active, mute).when(now).open
            now = chance.choice([opening.again, opening.again + 60, now + 3600, now - 86_400])


def test_a_change_that_is_far_away_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    far, near = interval({"years": ["2020"], "location": "Europe/Berlin"}), WORKING_HOURS
    looked_for: list[TimeInterval] = []
    next_change = TimeInterval.next_change

    def counted(one: TimeInterval, moment: datetime) -> datetime:
        looked_for.append(one)
        return next_change(one, moment)

    monkeypatch.setattr(TimeInterval, "next_change", counted)
    times = OpeningTimes([far, near], [])
    now = at("2026-11-26T20:00").timestamp()
    for _ in range(20):
        now = times.when(now).again
    assert looked_for.count(far) == 1


def test_the_worst_that_a_spec_may_say_takes_a_bounded_time() -> None:
    flips = [
        TimeInterval(times=tuple((hour * 180 + minute, hour * 180 + minute + 1) for hour in range(8)), zone=BERLIN)
        for minute in range(0, 160, 10)
    ]
    opening = OpeningTimes(flips, [TimeInterval()]).when(at("2026-03-28T20:00").timestamp())
    assert not opening.open
    assert opening.until is None
    assert opening.again - at("2026-03-28T20:00").timestamp() > 3600
