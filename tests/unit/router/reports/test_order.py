"""Which status is written, and in which order."""

from __future__ import annotations

import pytest

from eventsink.router.dispatch.health import DeliveringState, SinkHealth
from eventsink.router.queue.states import SinkReport
from eventsink.router.reports.order import REFRESHED_SECONDS, REPEATED_SECONDS, Allowance, ReportLine, Urgency, urgency

NOW = 1_000_000.0
TRUE, FALSE, UNKNOWN = DeliveringState.TRUE, DeliveringState.FALSE, DeliveringState.UNKNOWN
ARRIVED = SinkHealth(TRUE, "Delivered", "", last_delivered=5.0)
HELD = SinkHealth(FALSE, "HTTP404", "", last_error="HTTP404: x")
NOTHING = SinkHealth(UNKNOWN, "NothingSent", "")
SUSPENDED = SinkHealth(UNKNOWN, "Suspended", "")
LIMITED = SinkHealth(TRUE, "MatchingLimited", "", last_delivered=5.0)


def written(health: SinkHealth, ago: float = 0.0, **changed: object) -> SinkReport:
    """The report of that health."""
    said = {"last_delivered": health.last_delivered, "last_error": health.last_error, **changed}
    return SinkReport("u", health.state.value, health.reason, "", at=NOW - ago, **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("health", "before", "expected"),
    [
        # A new sink.
        (NOTHING, None, Urgency.REFRESH),
        (SUSPENDED, None, Urgency.CHANGE),
        (ARRIVED, None, Urgency.CHANGE),
        (HELD, None, Urgency.FAILURE),
        # One of which the status may say anything: the queue is new, or older than the record.
        (NOTHING, SinkReport("u"), None),
        (SUSPENDED, SinkReport("u"), Urgency.CHANGE),
        (ARRIVED, SinkReport("u"), Urgency.CHANGE),
        (HELD, SinkReport("u"), Urgency.FAILURE),
        # Nothing is new.
        (NOTHING, written(NOTHING), None),
        (ARRIVED, written(ARRIVED, REFRESHED_SECONDS), None),
        (HELD, written(HELD, REFRESHED_SECONDS), None),
        (ARRIVED, written(ARRIVED, REPEATED_SECONDS), Urgency.REFRESH),
        # What is beside the condition.
        (ARRIVED, written(ARRIVED, REFRESHED_SECONDS - 1, last_delivered=4.0), None),
        (ARRIVED, written(ARRIVED, REFRESHED_SECONDS, last_delivered=4.0), Urgency.REFRESH),
        (HELD, written(HELD, REFRESHED_SECONDS, last_error=""), Urgency.REFRESH),
        # The condition.
        (ARRIVED, written(HELD), Urgency.FAILURE),
        (HELD, written(ARRIVED), Urgency.FAILURE),
        (HELD, written(NOTHING), Urgency.FAILURE),
        (HELD, written(SinkHealth(FALSE, "HTTP401", "")), Urgency.FAILURE),
        (NOTHING, written(SinkHealth(FALSE, "Withdrawn", "")), Urgency.FAILURE),
        (NOTHING, written(SUSPENDED), Urgency.CHANGE),
        (ARRIVED, written(NOTHING), Urgency.CHANGE),
        (LIMITED, written(ARRIVED), Urgency.CHANGE),
    ],
)
def test_what_is_new_decides_whether_a_status_is_written_and_how_soon(
    health: SinkHealth, before: SinkReport | None, expected: Urgency | None
) -> None:
    assert urgency(health, before, NOW) is expected


def drained(line: ReportLine, *, refreshes: bool = True) -> list[str]:
    """All that are in the line, in order."""
    found = []
    while (first := line.first(refreshes=refreshes)) is not None:
        found.append(first[0])
        line.put(first[0], None)
    return found


def test_failures_go_before_other_changes_and_those_before_refreshes_and_whoever_waited_longest_goes_first() -> None:
    line = ReportLine()
    for uid, about in (("r", Urgency.REFRESH), ("c", Urgency.CHANGE), ("f", Urgency.FAILURE), ("g", Urgency.FAILURE)):
        line.put(uid, about)
    assert [line.waiting(one) for one in Urgency] == [2, 1, 1]
    assert drained(line) == ["f", "g", "c", "r"]


def test_a_sink_keeps_its_place_until_it_is_about_something_else() -> None:
    line = ReportLine()
    for uid in "abc":
        line.put(uid, Urgency.CHANGE)
    line.put("a", Urgency.CHANGE)
    line.put("b", Urgency.FAILURE)
    line.put("c", None)
    line.put("unknown", None)
    assert drained(line) == ["b", "a"]


def test_refreshes_wait_where_they_may_not_go() -> None:
    line = ReportLine()
    line.put("r", Urgency.REFRESH)
    line.put("c", Urgency.CHANGE)
    assert drained(line, refreshes=False) == ["c"]
    assert drained(line) == ["r"]


def test_an_allowance_is_used_at_once_and_then_at_its_rate() -> None:
    allowance, now = Allowance(10.0, saved=0.5), 50.0
    for _ in range(5):
        assert allowance.wait(now) == 0
        allowance.use()
    assert allowance.wait(now) == pytest.approx(0.1)
    assert allowance.wait(now + 0.1) == 0
    allowance.use()
    assert allowance.wait(now + 0.1) == pytest.approx(0.1)
    used = 0
    while allowance.wait(now + 100) == 0:
        allowance.use()
        used += 1
    assert used == 5, "what was not used for long is not kept"


def test_an_allowance_below_one_a_second_still_allows_one() -> None:
    allowance = Allowance(0.1, saved=1.0)
    assert allowance.wait(0.0) == 0
    allowance.use()
    assert allowance.wait(0.0) == pytest.approx(10.0)
