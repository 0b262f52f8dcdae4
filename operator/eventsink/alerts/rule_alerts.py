"""What alerts of Prometheus rules have in common, whichever program sends them: their annotations, their times, what is said of one that
cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec

from eventsink.alerts.alert import IncomingAlert, OversizedPayload, Rejection, UnusablePayload
from eventsink.alerts.limits import is_small, may_be_made_of, size_made_of
from eventsink.alerts.links import DASHBOARDS, RUNBOOKS
from eventsink.alerts.peer_json import members_of, time_of
from eventsink.runtime.turns import Steps

SUMMARIES = ("summary", "title", "message", "description")
"""Annotations that the summary is taken from, the first that there is."""
DESCRIPTIONS = ("description", "message")
LINKED = frozenset(RUNBOOKS + DASHBOARDS)
"""Annotations that hold links."""
NO_TIME = "time must be a time with a zone, such as 2026-01-01T12:00:00Z"
NO_START = "startsAt must be a time with a zone, such as 2026-01-01T12:00:00Z"
_NEVER = 1
"""The year of the times that mean 'not yet': Go's zero time."""


def utc(time: datetime) -> datetime | None:
    """A time of an alert; None: it has no zone, or means 'not yet'."""
    if time.tzinfo is None or time.year <= _NEVER:
        return None
    return time.astimezone(UTC)


def time_of_event(raw: msgspec.Raw | None) -> datetime | None:
    """When an event happened; None: it does not say; ValueError if what it says is no time."""
    try:
        given = time_of(raw)
    except msgspec.ValidationError:
        raise ValueError(NO_TIME) from None
    if given is None:
        return None
    if (time := utc(given)) is None:
        raise ValueError(NO_TIME)
    return time


def time_if_any(raw: msgspec.Raw | None) -> datetime | None:
    """A time, where one that cannot be read is as good as none."""
    try:
        given = time_of(raw)
    except msgspec.ValidationError:
        return None
    return utc(given) if given is not None else None


def is_unset(time: datetime) -> bool:
    """Whether it is Go's zero time, which means that there is none."""
    return time.year <= _NEVER


def rejection_reason(error: Exception) -> str:
    """What is wrong with one alert, without its values."""
    if isinstance(error, msgspec.ValidationError):
        return str(error).replace(" - at `$.", ", at ").rstrip("`")
    if isinstance(error, msgspec.DecodeError | UnicodeDecodeError | RecursionError):
        return "is not valid JSON"
    return str(error) if type(error) is ValueError else "holds a value that is out of range"


def not_json(body: bytes) -> UnusablePayload:
    """What is said of a body that is not JSON."""
    begins = body[:3]
    if not body.strip():
        return UnusablePayload("the body is empty")
    if begins[:2] == b"\x1f\x8b":
        return UnusablePayload("the body is not JSON: it is compressed, and the header Content-Encoding does not say so")
    if begins == b"\xef\xbb\xbf" or begins[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return UnusablePayload("the body is not JSON: it begins with a byte order mark; send UTF-8 without one")
    return UnusablePayload("the body is not JSON")


def one_object(body: bytes, sentence: str) -> dict[str, msgspec.Raw]:
    """The members of a body that is one JSON object; UnusablePayload with this sentence if it is other JSON."""
    try:
        return members_of(body)
    except msgspec.ValidationError:
        raise UnusablePayload(sentence) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise not_json(body) from None


def check_usable(alerts: list[IncomingAlert], rejected: list[Rejection], none: str) -> None:
    """Raise UnusablePayload if no alert of a notification can be used; `none` says that it holds none."""
    if alerts:
        return
    if rejected:
        raise UnusablePayload(
            f"none of the {len(rejected)} alerts can be used; alerts[{rejected[0].index}]: {rejected[0].reason}"
        )
    raise UnusablePayload(none)


def read_each(
    raws: Iterable[msgspec.Raw], read: Callable[[msgspec.Raw], IncomingAlert], other: str = ""
) -> Steps[tuple[list[IncomingAlert], list[Rejection], frozenset[int]]]:
    """The alerts of a list that can be used, what is wrong with each of the others, and the indexes of those that are null; a step for each.

    Parameters
    ----------
    other
        What is said of one that is of another shape; absent: what the decoder says.
    """
    alerts: list[IncomingAlert] = []
    rejected: list[Rejection] = []
    absent: set[int] = set()
    for index, raw in enumerate(raws):
        if bytes(raw) == b"null":
            absent.add(index)
            continue
        try:
            alerts.append(read(raw))
        except (ValueError, OverflowError, RecursionError) as error:
            reason = other if other and isinstance(error, msgspec.ValidationError) else rejection_reason(error)
            rejected.append(Rejection(index, reason))
        yield
    return alerts, rejected, frozenset(absent)


def check_size(body: bytes, why: str, advice: str, alerts: int = 0, group: int = 0) -> None:
    """Raise OversizedPayload if too much would be made of a notification (`limits.size_made_of`); `why` and `advice` say what to do."""
    if not is_small(body, alerts) and size_made_of(body, alerts, group) > (most := may_be_made_of(body)):
        raise OversizedPayload(f"more than {most // 1024**2} MiB would be made of this request: {why}; {advice}")
