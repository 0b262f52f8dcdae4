"""Which ends count: of a source that repeats by itself all, of one that sends what fires all the time those of the episode that goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eventsink.alerts.alert import Alert
from eventsink.alerts.formats import alertmanager
from eventsink.alerts.formats.format import Repeats
from eventsink.router.planning.episodes import Effect, step
from tests.support.parts import alert, notification


def received(**members: Any) -> Alert:
    body = json.dumps(notification(alert("A", **members))).encode()
    return alertmanager.parse(body).alerts[0].identify(source="s", tenant="acme")


@pytest.mark.parametrize(
    ("repeats", "starts_at", "effect"),
    [
        (Repeats.BY_SOURCE, "2026-01-01T12:30:00Z", Effect.ENDED),
        (Repeats.BY_SOURCE, "2026-01-01T14:00:00Z", Effect.ENDED),
        (Repeats.HEARTBEAT, "2026-01-01T12:30:00Z", Effect.ENDED),
        (Repeats.HEARTBEAT, "2026-01-01T14:00:00Z", Effect.STALE_END),
    ],
)
def test_an_end_at_13_o_clock_of_what_fires_since(repeats: Repeats, starts_at: str, effect: Effect) -> None:
    _, state = step(None, received(starts_at=starts_at), sender="a", now=0, ha_window=60, repeats=repeats)
    end = received(status="resolved", starts_at="2026-01-01T12:00:00Z", ends_at="2026-01-01T13:00:00Z")
    assert step(state, end, sender="b", now=10, ha_window=60, repeats=repeats)[0] is effect
