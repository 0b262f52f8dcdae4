"""Which alerts a sink is notified of, as tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from eventsink.alerts.alert import Alert, Links, Severity, Status, epoch_micros
from eventsink.router.planning.notify import Notified, heartbeats_to_notify, to_notify

T0 = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = 60.0
NOW = 10_000.0
LONG_AGO, JUST_NOW = NOW - 4 * 3600, NOW - 5


def alert(fingerprint: str = "f", status: str = "firing", minutes: int = 0) -> Alert:
    starts_at = T0 + timedelta(minutes=minutes)
    return Alert(
        id=f"{fingerprint}-{status}-{minutes}",
        fingerprint=fingerprint,
        source="am",
        tenant="acme",
        status=Status(status),
        severity=Severity.HIGH,
        name="A",
        summary="",
        description="",
        namespace="",
        labels={},
        annotations={},
        starts_at=starts_at,
        ends_at=None,
        links=Links(),
    )


def notified(status: str = "firing", minutes: int = 0, at: float = LONG_AGO) -> Notified:
    return Notified(status, epoch_micros(T0 + timedelta(minutes=minutes)), at, at)


@pytest.mark.parametrize(
    ("why", "alerts", "last", "expected"),
    [
        ("a firing alert that the sink was never notified of is new", [alert()], [None], [0]),
        ("a resolution is new to a sink that was notified of the firing", [alert(status="resolved")], [notified()], [0]),
        ("a resolution is not new to a sink that was not notified of the firing", [alert(status="resolved")], [None], []),
        ("a resolution that the sink was notified of is not new", [alert(status="resolved")], [notified("resolved")], []),
        ("a newer start is new", [alert(minutes=5)], [notified()], [0]),
        ("a newer start after a resolution is new", [alert(minutes=5)], [notified("resolved", at=JUST_NOW)], [0]),
        ("the resolution of a newer episode is new", [alert(status="resolved", minutes=5)], [notified()], [0]),
        ("the late resolution of an older episode is not", [alert(status="resolved")], [notified(minutes=5, at=JUST_NOW)], []),
        (
            "but it is, when it is no duplicate: the pair may disagree on the start",
            [alert(status="resolved")],
            [notified(minutes=5)],
            [0],
        ),
        ("a late duplicate of the firing after the resolution is not", [alert()], [notified("resolved", at=JUST_NOW)], []),
        ("the same start long after the resolution is a new episode", [alert()], [notified("resolved")], [0]),
        (
            "an older start of a firing alert is not",
            [alert(), alert("g")],
            [notified(minutes=5, at=JUST_NOW), notified(at=JUST_NOW)],
            [],
        ),
        (
            "nothing new in the group: Alertmanager's repeat, all that fires",
            [alert(), alert("g")],
            [notified(), notified()],
            [0, 1],
        ),
        ("a repeat leaves out what resolved", [alert(), alert("g", "resolved")], [notified(), notified("resolved")], [0]),
        (
            "the same group again within the window is a duplicate from the other half",
            [alert(), alert("g")],
            [notified(at=JUST_NOW), notified(at=JUST_NOW)],
            [],
        ),
        ("with something new in the group, only that is notified", [alert(), alert("g")], [notified(), None], [1]),
        (
            "a new alert and a resolution in one group are both notified",
            [alert(), alert("g", "resolved")],
            [None, notified()],
            [0, 1],
        ),
        ("a group of known resolutions alone is no repeat", [alert(status="resolved")], [notified("resolved")], []),
        (
            "a group of which half was seen a moment ago is a repeat",
            [alert(), alert("g")],
            [notified(at=JUST_NOW), notified()],
            [0, 1],
        ),
        ("an empty group is nothing", [], [], []),
    ],
)
def test_which_alerts_a_sink_is_notified_of(
    why: str, alerts: list[Alert], last: list[Notified | None], expected: list[int]
) -> None:
    assert to_notify(alerts, last, now=NOW, ha_window=WINDOW, repeat=True) == expected, why


@pytest.mark.parametrize(
    ("why", "alerts", "last", "expected"),
    [
        ("a firing alert is not repeated because something else in the group is new", [alert()], [notified()], []),
        ("what is new is notified all the same", [alert(), alert("g")], [notified(), None], [1]),
        ("and so is a resolution", [alert(), alert("g", "resolved")], [notified(), notified()], [1]),
    ],
)
def test_only_changes_of_a_notification_that_is_not_a_repeat_are_notified(
    why: str, alerts: list[Alert], last: list[Notified | None], expected: list[int]
) -> None:
    assert to_notify(alerts, last, now=NOW, ha_window=WINDOW, repeat=False) == expected, why


@pytest.mark.parametrize(
    ("why", "alerts", "last", "interval", "expected"),
    [
        ("what is new is notified", [alert(), alert("g")], [None, notified()], None, [0]),
        ("a firing alert that did not change is not", [alert()], [notified()], None, []),
        ("but it is after the sink's repeat interval", [alert()], [notified(at=NOW - 3600)], 3600.0, [0]),
        ("and not a moment earlier", [alert()], [notified(at=NOW - 3599)], 3600.0, []),
        ("each alert for itself", [alert(), alert("g")], [notified(), notified(at=JUST_NOW)], 3600.0, [0]),
        ("a new episode is notified", [alert(minutes=5)], [notified(at=JUST_NOW)], 3600.0, [0]),
        ("so is a resolution", [alert(status="resolved")], [notified(at=JUST_NOW)], 3600.0, [0]),
        ("a resolution is never repeated", [alert(status="resolved")], [notified("resolved")], 3600.0, []),
        ("nor is the firing that it resolved", [alert()], [notified("resolved", at=JUST_NOW)], 3.0, []),
    ],
)
def test_which_alerts_of_a_heartbeat_a_sink_is_notified_of(
    why: str, alerts: list[Alert], last: list[Notified | None], interval: float | None, expected: list[int]
) -> None:
    assert heartbeats_to_notify(alerts, last, now=NOW, ha_window=WINDOW, repeat_interval=interval) == expected, why
