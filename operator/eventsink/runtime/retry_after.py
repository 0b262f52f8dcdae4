"""The header Retry-After (RFC 9110 section 10.2.3)."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_SECONDS = 3600.0
"""A server may ask for so much patience at most."""


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait, bounded; None where there is no such header, or its value is neither seconds nor a date.

    Parameters
    ----------
    value
        Of the header.
    now
        Seconds since 1970: what a date is compared with.
    """
    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:12]), MAX_RETRY_AFTER_SECONDS)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return min(max(date.timestamp() - now, 0.0), MAX_RETRY_AFTER_SECONDS)


def format_retry_after(seconds: float) -> str:
    """The header's value: whole seconds, at least one."""
    return str(max(1, round(seconds)))
