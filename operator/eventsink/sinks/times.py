"""When messages are sent to a sink: reads the times of a compiled sink."""

from __future__ import annotations

from functools import lru_cache

from eventsink.runtime.time_intervals import (
    OpeningTimes,
    TimeInterval,
    load_location,
    parse_days_of_month,
    parse_months,
    parse_time_of_day,
    parse_weekdays,
    parse_years,
)
from eventsink.sinks.sink import SinkTimeInterval, SinkTimes

SHARED_TIMES = 1000
"""Different ones that are kept: sinks with the same, such as office hours, share what is found out about them."""


@lru_cache(SHARED_TIMES)
def opening_times(times: SinkTimes) -> OpeningTimes:
    """When alerts may be sent to the sink.

    Raises
    ------
    ValueError
        The operator has accepted something that this version cannot read, such as the name of a new time zone.
    """
    return OpeningTimes([_interval(one) for one in times.active], [_interval(one) for one in times.mute])


def _interval(written: SinkTimeInterval) -> TimeInterval:
    return TimeInterval(
        times=tuple((parse_time_of_day(start), parse_time_of_day(end)) for start, end in written.times),
        weekdays=tuple(map(parse_weekdays, written.weekdays)),
        days_of_month=tuple(map(parse_days_of_month, written.days_of_month)),
        months=tuple(map(parse_months, written.months)),
        years=tuple(map(parse_years, written.years)),
        **({"zone": load_location(written.location)} if written.location is not None else {}),
    )
