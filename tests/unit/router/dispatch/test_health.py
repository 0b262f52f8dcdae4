"""What is reported of a sink joins what dispatch and matching know of it."""

from __future__ import annotations

import pytest

from eventsink.router.dispatch.health import RECOVERED, DeliveringState, SinkHealth, resumed, with_note, with_problem
from eventsink.router.queue.states import SinkReport

DELIVERED = SinkHealth(DeliveringState.TRUE, "Delivered", "the last message arrived", last_delivered=1.0, waiting=2)
FAILED = SinkHealth(DeliveringState.FALSE, "ConnectionRefused", "nobody listens")


@pytest.mark.parametrize(
    ("health", "gets_nothing", "expected"),
    [
        (DELIVERED, False, (DeliveringState.TRUE, "MatchingLimited", "too many")),
        (DELIVERED, True, (DeliveringState.FALSE, "MatchingLimited", "too many")),
        (FAILED, False, (DeliveringState.FALSE, "ConnectionRefused", "nobody listens; too many")),
    ],
)
def test_a_problem_of_matching_is_reported_behind_a_failure_of_delivery(
    health: SinkHealth, gets_nothing: bool, expected: tuple[DeliveringState, str, str]
) -> None:
    reported = with_problem(health, "MatchingLimited", "too many", gets_nothing=gets_nothing)
    assert (reported.state, reported.reason, reported.message) == expected
    assert (reported.last_delivered, reported.waiting) == (health.last_delivered, health.waiting)


def test_a_problem_that_is_reported_already_is_not_repeated() -> None:
    once = with_problem(FAILED, "MatchingLimited", "too many", gets_nothing=False)
    assert with_problem(once, "MatchingLimited", "too many", gets_nothing=False) == once


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        ("True", "Delivered", ("True", "Delivered")),
        ("True", "MatchingLimited", ("True", "Delivered")),
        ("False", "HTTP404", ("False", "HTTP404")),
        ("False", "Timeout", ("False", "Timeout")),
        # What the router finds out again, if it is still so.
        ("False", "Withdrawn", ("Unknown", "NothingSent")),
        ("False", "Unsupported", ("Unknown", "NothingSent")),
        ("False", "TenantShare", ("Unknown", "NothingSent")),
        ("False", "InFlightLimit", ("Unknown", "NothingSent")),
        ("False", "QueueUnreadable", ("Unknown", "NothingSent")),
        ("False", "MatchUnreadable", ("Unknown", "NothingSent")),
        ("Unknown", "Suspended", ("Unknown", "NothingSent")),
        ("Unknown", "NothingSent", ("Unknown", "NothingSent")),
        ("Unknown", "MatchingLimited", ("Unknown", "NothingSent")),
        ("", "", ("Unknown", "NothingSent")),
    ],
)
def test_after_a_restart_the_outcome_of_the_last_attempts_is_still_known(
    state: str, reason: str, expected: tuple[str, str]
) -> None:
    known = resumed(SinkReport("s", state, reason, "because"))
    assert (known.state.value, known.reason) == expected
    if known.state is DeliveringState.FALSE:
        assert known.message == "because"


def test_a_note_is_behind_the_message_while_nothing_fails() -> None:
    well = SinkHealth(DeliveringState.TRUE, "Delivered", RECOVERED.message)
    noted = with_note(well, "ended and to be removed: spec.mutes[0]")
    assert (noted.state, noted.reason) == (well.state, well.reason)
    assert noted.message.endswith("; ended and to be removed: spec.mutes[0]")
    report = SinkReport("u", "True", "Delivered", noted.message)
    assert resumed(report) == RECOVERED, "a restart takes nothing of it for another message"
    failing = SinkHealth(DeliveringState.FALSE, "HTTP503", "it is tried again")
    assert with_note(failing, "anything") == failing
