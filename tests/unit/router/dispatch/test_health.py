"""What is reported of a sink joins what dispatch and matching know of it."""

from __future__ import annotations

import pytest

from eventsink.router.dispatch.health import DeliveringState, SinkHealth, with_problem

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
