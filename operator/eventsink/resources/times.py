"""Recurring intervals of time in a spec, as Alertmanager's time intervals: when a sink sends, and when it does not."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eventsink.runtime import time_intervals

from .model import SpecModel
from .rule import Readable, Rule, form

MAX_INTERVALS = 8
"""Of each of activeTimes and muteTimes."""
MAX_TIMES = 4
MAX_RANGES = 4

TIME_OF_DAY = form("^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", "write a time of day as HH:MM, from 00:00 to 24:00, in quotes")
TIMES_IN_ORDER = Rule(
    message="endTime must be after startTime; write a range that goes over midnight as two, such as 22:00 to 24:00 and 00:00 to 06:00",
    cel="self.startTime < self.endTime",
    holds=lambda times: times.start_time < times.end_time,
    field="endTime",
)
_DAY = "(sunday|monday|tuesday|wednesday|thursday|friday|saturday)"
WEEKDAYS = form(
    f"^(?i){_DAY}(:{_DAY})?$",
    "write a weekday or a range of them in full, such as saturday or monday:friday",
)
DAYS_OF_MONTH = form(
    "^-?[0-9]{1,2}(:-?[0-9]{1,2})?$",
    "write a day of the month from 1 to 31, or from -31 to -1 counted from its end, or a range of them, such as 1:7 or -3:-1",
)
_MONTH = f"({'|'.join(time_intervals.MONTHS)}|[0-9]{{1,2}})"
MONTHS = form(f"^(?i){_MONTH}(:{_MONTH})?$", "write a month or a range of them, by name or number, such as december or 1:3")
YEARS = form("^[0-9]{1,4}(:[0-9]{1,4})?$", "write a year or a range of them, such as 2027 or 2027:2029")
LOCATION = form(
    "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$",
    "write the name of a time zone in the IANA database, such as Europe/Berlin or UTC",
)


class TimeRangeSpec(SpecModel):
    """Times of a day."""

    RULES = (TIMES_IN_ORDER,)

    start_time: Annotated[str, Field(max_length=5), TIME_OF_DAY] = Field(description="HH:MM.")
    end_time: Annotated[str, Field(max_length=5), TIME_OF_DAY] = Field(description="HH:MM, not included; up to 24:00.")


class TimeIntervalSpec(SpecModel):
    """An interval of time that recurs; a moment is in it if it is in every field that is given."""

    times: Annotated[list[TimeRangeSpec], Field(min_length=1, max_length=MAX_TIMES)] | None = Field(
        default=None, description="Times of the day. Default: all day."
    )
    weekdays: (
        Annotated[
            list[Annotated[str, Field(max_length=32), WEEKDAYS, Readable(time_intervals.parse_weekdays)]],
            Field(min_length=1, max_length=MAX_RANGES),
        ]
        | None
    ) = Field(default=None, description="Such as monday:friday; the week begins with Sunday. Default: every day.")
    days_of_month: (
        Annotated[
            list[Annotated[str, Field(max_length=16), DAYS_OF_MONTH, Readable(time_intervals.parse_days_of_month)]],
            Field(min_length=1, max_length=MAX_RANGES),
        ]
        | None
    ) = Field(default=None, description="Such as 1:7, or -3:-1 for the last three days. Default: every day.")
    months: (
        Annotated[
            list[Annotated[str, Field(max_length=32), MONTHS, Readable(time_intervals.parse_months)]],
            Field(min_length=1, max_length=MAX_RANGES),
        ]
        | None
    ) = Field(default=None, description="Such as december or 1:3. Default: every month.")
    years: (
        Annotated[
            list[Annotated[str, Field(max_length=16), YEARS, Readable(time_intervals.parse_years)]],
            Field(min_length=1, max_length=MAX_RANGES),
        ]
        | None
    ) = Field(default=None, description="Such as 2027 or 2027:2029. Default: every year.")
    location: (
        Annotated[
            str,
            Field(max_length=time_intervals.MAX_LOCATION_CHARACTERS),
            LOCATION,
            Readable(time_intervals.load_location),
        ]
        | None
    ) = Field(default=None, description="The time zone of all this, by its name in the IANA database. Default: UTC.")
