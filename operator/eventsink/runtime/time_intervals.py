"""Recurring intervals of time in Alertmanager's syntax, and until when it is inside or outside of them.

Source of the syntax: Alertmanager's configuration reference, section time_interval. An interval contains a moment if each of its fields does;
a field that is absent contains every moment. Minutes are the finest unit: an interval begins and ends with one. Fields are read in the time
zone of the interval, so that a local hour that the clocks skip is in no interval, and one that they repeat is in it twice.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

DAYS_AHEAD = 400
"""So far the next change of an interval is looked for: it is found if it is within a year."""
MAX_CHANGES = 200
"""Changes of single intervals that are looked through for the next one of all of them together."""
DAY_MINUTES = 24 * 60
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)

WEEKDAYS = {
    name: number for number, name in enumerate(["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"])
}
MONTHS = {
    name: number
    for number, name in enumerate(
        [
            "january",
            "february",
            "march",
            "april",
            "may",
            "june",
            "july",
            "august",
            "september",
            "october",
            "november",
            "december",
        ],
        start=1,
    )
}
MAX_LOCATION_CHARACTERS = 64

Range = tuple[int, int]
"""First and last, both included."""

_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")
_NUMBER = re.compile(r"-?[0-9]{1,4}")
_LOCATION = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")


def parse_time_of_day(text: str) -> int:
    """Minutes since midnight of a time of day, from 00:00 to 24:00.

    Raises
    ------
    ValueError
        With a sentence that says what to write; so do the functions below.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("write a time of day as HH:MM, from 00:00 to 24:00")
    return int(found[1]) * 60 + int(found[2]) if found[1] is not None else DAY_MINUTES


def parse_weekdays(text: str) -> Range:
    """Weekdays, from Sunday (0) to Saturday (6)."""
    found = _range(text, WEEKDAYS.get, "write a weekday or a range of them in full, such as saturday or monday:friday")
    if found[0] > found[1]:
        raise ValueError(
            "the week begins with Sunday: write a range that goes over its end as two, such as friday:saturday and sunday"
        )
    return found


def parse_days_of_month(text: str) -> Range:
    """Days of a month, counted from its first day (1) or from its last one (-1)."""
    form = (
        "write a day of the month from 1 to 31, or from -31 to -1 counted from its end, or a range of them, such as 1:7 or -3:-1"
    )
    begin, end = found = _range(text, _number, form)
    if not all(1 <= abs(one) <= 31 for one in found):
        raise ValueError(form)
    if begin < 0 < end:
        raise ValueError("a range that begins with a day counted from the end of the month has to end with one, such as -3:-1")
    # The shortest month has 28 days: what is out of order in it alone is a range in the others.
    if _from_start(begin, 27) > _from_start(end, 27):
        raise ValueError("the last day of the range is before the first one")
    return found


def parse_months(text: str) -> Range:
    """Months, from January (1) to December (12)."""
    form = "write a month or a range of them, by name or number, such as december or 1:3"
    found = _range(text, lambda name: MONTHS.get(name) or _number(name), form)
    if not all(1 <= one <= 12 for one in found):
        raise ValueError(form)
    if found[0] > found[1]:
        raise ValueError(
            "a range of months ends in the same year: write one that goes over its end as two, such as 11:12 and 1:2"
        )
    return found


def parse_years(text: str) -> Range:
    """Years."""
    form = "write a year or a range of them, such as 2027 or 2027:2029"
    found = _range(text, _number, form)
    if not all(1 <= one <= 9999 for one in found):
        raise ValueError(form)
    if found[0] > found[1]:
        raise ValueError("the last year of the range is before the first one")
    return found


def load_location(name: str) -> tzinfo:
    """The time zone of that name in the IANA database."""
    # A name is a part of a path where the database is a folder.
    if len(name) <= MAX_LOCATION_CHARACTERS and _LOCATION.fullmatch(name):
        try:
            return UTC if name == "UTC" else ZoneInfo(name)
        except (OSError, ValueError, LookupError):  # a folder, a file that is no zone, no file
            pass
    raise ValueError("write the name of a time zone in the IANA database, such as Europe/Berlin or UTC")


def _range(text: str, member: Callable[[str], int | None], form: str) -> Range:
    begin, colon, end = text.lower().partition(":")
    first = member(begin)
    last = member(end) if colon else first
    if first is None or last is None:
        raise ValueError(form)
    return first, last


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def _from_start(day: int, days: int) -> int:
    """A day of a month with so many days, counted from its first one."""
    return days + day + 1 if day < 0 else day


@dataclass(frozen=True, slots=True)
class TimeInterval:
    """Moments that recur. An empty field contains every moment."""

    times: tuple[Range, ...] = ()
    """Minutes since midnight; unlike in other ranges the last one is not included."""
    weekdays: tuple[Range, ...] = ()
    days_of_month: tuple[Range, ...] = ()
    months: tuple[Range, ...] = ()
    years: tuple[Range, ...] = ()
    zone: tzinfo = UTC

    def contains(self, moment: datetime) -> bool:
        """Whether a moment, with a time zone, is in it."""
        local = moment.astimezone(self.zone)
        return self._at(local.hour * 60 + local.minute) and self._on(local.date())

    def next_change(self, moment: datetime) -> datetime:
        """The first minute after a moment that may be in it where the moment is not, or the other way round; at most `DAYS_AHEAD` later."""
        day = moment.astimezone(self.zone).date()
        latest = day + DAYS_AHEAD * _DAY
        while day < latest:
            if not self._in_month_of(day):
                day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
                continue
            if self._on(day):
                found = next((one for one in self._changes_on(day) if one > moment), None)
                if found is not None:
                    return found
            day += _DAY
        return moment.replace(second=0, microsecond=0) + DAYS_AHEAD * _DAY

    def _changes_on(self, day: date) -> list[datetime]:
        """When it may begin or end on a local day that it contains, its end included, in order."""
        start, end = self._midnight(day), self._midnight(day + _DAY)
        minutes = {0, DAY_MINUTES, *(one for some in self.times for one in some)}
        if end - start == _DAY:
            return [start + one * _MINUTE for one in sorted(minutes)]
        # The clocks change: a local time may be there twice, or not at all, and then they jump over it.
        found = {start, end, self._clocks_change(start, end)}
        for one in minutes - {0, DAY_MINUTES}:
            local = datetime.combine(day, time(one // 60, one % 60), self.zone)
            found |= {local.replace(fold=fold).astimezone(UTC) for fold in (0, 1)}
        return sorted(one for one in found if start <= one <= end)

    def _clocks_change(self, start: datetime, end: datetime) -> datetime:
        """The minute between two moments with which the clocks change."""
        before = self._offset(start)
        minutes = range(1, (end - start) // _MINUTE)
        return start + (1 + bisect(minutes, False, key=lambda one: self._offset(start + one * _MINUTE) != before)) * _MINUTE

    def _offset(self, moment: datetime) -> timedelta | None:
        return moment.astimezone(self.zone).utcoffset()

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(), self.zone).astimezone(UTC)

    def _at(self, minute: int) -> bool:
        return not self.times or any(begin <= minute < end for begin, end in self.times)

    def _on(self, day: date) -> bool:
        return (
            self._in_month_of(day)
            and (not self.weekdays or _within(day.isoweekday() % 7, self.weekdays))
            and (not self.days_of_month or self._on_day_of_month(day))
        )

    def _in_month_of(self, day: date) -> bool:
        return (not self.years or _within(day.year, self.years)) and (not self.months or _within(day.month, self.months))

    def _on_day_of_month(self, day: date) -> bool:
        days = ((day.replace(day=28) + timedelta(days=4)).replace(day=1) - _DAY).day
        return any(_from_start(begin, days) <= day.day <= _from_start(end, days) for begin, end in self.days_of_month)


def _within(value: int, ranges: Sequence[Range]) -> bool:
    return any(first <= value <= last for first, last in ranges)


@dataclass(frozen=True, slots=True)
class Opening:
    """Whether alerts may be sent at a moment."""

    open: bool
    until: float | None
    """When that changes, seconds since the epoch; None: not within about a year, or only after very many other changes."""
    again: float
    """When to ask again: it stays as it is until then."""
    muted: bool = False
    """Whether it is closed by an interval in which nothing is sent, not because it is in none in which something is."""


class OpeningTimes:
    """When alerts may be sent: in one of the active intervals, or at any time where there are none, and in no mute interval."""

    def __init__(self, active: Sequence[TimeInterval], mute: Sequence[TimeInterval]) -> None:
        self._active = tuple(active)
        self._mute = tuple(mute)
        self._since = 0.0
        self._known: Opening | None = None
        self._changes: dict[TimeInterval, datetime] = {}
        """The next change of each interval after `_since`: to look for one that is far away takes long."""

    def when(self, now: float) -> Opening:
        """Whether they may be sent now, in seconds since the epoch, and until when that holds."""
        known = self._known
        if known is None or not self._since <= now < known.again:
            if now < self._since:  # somebody has set the clock
                self._changes.clear()
            self._known, self._since = known, _ = self._opening(now), now
        return known

    def _opening(self, now: float) -> Opening:
        moment = datetime.fromtimestamp(now, UTC)
        muted = self._is_muted(moment)
        is_open = self._is_active(moment) and not muted
        latest = moment + DAYS_AHEAD * _DAY
        for one in (*self._active, *self._mute):
            if (at := self._changes.get(one)) is None or at <= moment:
                self._changes[one] = one.next_change(moment)
        changes: Mapping[TimeInterval, datetime] = self._changes
        later = moment
        for _ in range(MAX_CHANGES):
            later = min(changes.values(), default=latest)
            if later >= latest:
                return Opening(is_open, None, latest.timestamp(), muted)
            if (self._is_active(later) and not self._is_muted(later)) is not is_open:
                return Opening(is_open, later.timestamp(), later.timestamp(), muted)
            changes = {one: at if at > later else one.next_change(later) for one, at in changes.items()}
        return Opening(is_open, None, later.timestamp(), muted)

    def _is_active(self, moment: datetime) -> bool:
        return not self._active or any(one.contains(moment) for one in self._active)

    def _is_muted(self, moment: datetime) -> bool:
        return any(one.contains(moment) for one in self._mute)
