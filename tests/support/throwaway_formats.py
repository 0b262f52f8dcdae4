"""Two source formats that exist only in the tests, each registered with one line: what a new format needs, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from eventsink.alerts.alert import IncomingAlert, IncomingNotification, Links, Severity, Status, UnusablePayload
from eventsink.alerts.formats.format import Format, Repeats
from eventsink.alerts.formats.registry import FORMATS
from eventsink.alerts.severity import severity_of

SEVERITIES = {"red": Severity.CRITICAL, "green": Severity.LOW}


class _Reading(msgspec.Struct):
    """One line of what a beacon or a ticker sends."""

    name: str
    at: datetime
    colour: str = ""
    over: bool = False


_readings = msgspec.json.Decoder(list[_Reading])


def _parse(body: bytes, *, event: bool) -> IncomingNotification:
    try:
        readings = _readings.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnusablePayload("the body must be a JSON list of readings") from None
    if not readings or any(one.at.tzinfo is None for one in readings):
        raise UnusablePayload("there must be a reading, and each needs a time with a zone")
    return IncomingNotification(alerts=[_alert(one, event=event) for one in readings], rejected=[])


def _alert(reading: _Reading, *, event: bool) -> IncomingAlert:
    firing_or_resolved = Status.RESOLVED if reading.over else Status.FIRING
    return IncomingAlert(
        status=Status.EVENT if event else firing_or_resolved,
        severity=severity_of(reading.colour, SEVERITIES),
        name=reading.name,
        summary=f"{reading.name} was read",
        description="",
        namespace="",
        labels={"alertname": reading.name},
        annotations={},
        starts_at=reading.at.astimezone(UTC),
        ends_at=None,
        links=Links(),
        group=None,
    )


BEACON = Format(
    name="beacon",
    parse=lambda body: _parse(body, event=False),
    repeats=Repeats.HEARTBEAT,
    severities=SEVERITIES,
    url_suffixes=("/api/v2/alerts",),
)
"""Sends what fires again and again."""
TICKER = Format(name="ticker", parse=lambda body: _parse(body, event=True), repeats=Repeats.NEVER, severities=SEVERITIES)
"""Sends events."""


def register() -> None:
    """Register both, as `eventsink.alerts.formats.registry` registers its own."""
    FORMATS.update({one.name: one for one in (BEACON, TICKER)})


def readings(*names: str, at: str = "2026-01-01T12:00:00Z", **members: object) -> bytes:
    """What a beacon or a ticker sends."""
    return msgspec.json.encode([{"name": name, "at": at, **members} for name in names])
