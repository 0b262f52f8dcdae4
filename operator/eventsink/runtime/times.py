"""Times as text: RFC 3339, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def format_time(moment: datetime | float) -> str:
    """A moment as the API server writes it: RFC 3339, UTC, whole seconds.

    Parameters
    ----------
    moment
        With a time zone, or seconds since 1970.

    Raises
    ------
    ValueError
        `moment` has no time zone.
    """
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    if moment.tzinfo is None:
        raise ValueError("a moment needs a time zone")
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def parse_time(text: str) -> datetime:
    """The moment of a text in RFC 3339, in UTC.

    Raises
    ------
    ValueError
        Not such a text, or one without a time zone.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("write a time with its zone, such as 2026-01-01T12:00:00Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("write a time from year 1 to 9999 in UTC") from None
