"""Which status is written, and in which order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eventsink.router.dispatch import health as conditions
from eventsink.router.dispatch.health import DeliveringState, SinkHealth, with_note
from eventsink.router.queue.states import SinkReport
from eventsink.router.reports.order import (
    FLAPPING_SECONDS,
    REFRESHED_SECONDS,
    REPEATED_SECONDS,
    Allowance,
    Flapping,
    ReportLine,
    Urgency,
    urgency,
)

NOW = 1_000_000.0
TRUE, FALSE, UNKNOWN = DeliveringState.TRUE, DeliveringState.FALSE, DeliveringState.UNKNOWN
ARRIVED = SinkHealth(TRUE, "Delivered", "", last_delivered=5.0)
HELD = SinkHealth(FALSE, "HTTP404", "https://x responded with 404", last_error="HTTP404: x")
NOTHING = SinkHealth(UNKNOWN, "NothingSent", "")
SUSPENDED = SinkHealth(UNKNOWN, "Suspended", "")
WITHDRAWN = SinkHealth(FALSE, "Withdrawn", "the sink may not send at present (TenantNotOwned)")
LATE = SinkHealth(FALSE, "ConnectTimeout", "https://x: connecting took too long: after 10 s")
MUTED, ENDED = "alerts that match spec.mutes[0] are muted until 2026-11-27T18:00:00Z", "ended and to be removed: spec.mutes[0]"
LIMITED = SinkHealth(TRUE, "MatchingLimited", "", last_delivered=5.0)


def written(health: SinkHealth, ago: float = 0.0, **changed: object) -> SinkReport:
    """The report of that health."""
    said = {"message": health.message, "last_delivered": health.last_delivered, "last_error": health.last_error, **changed}
    return SinkReport("u", health.state.value, health.reason, at=NOW - ago, **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("health", "before", "expected"),
    [
        # A new sink.
        (NOTHING, None, Urgency.NEW),
        (SUSPENDED, None, Urgency.CHANGE),
        (ARRIVED, None, Urgency.CHANGE),
        (HELD, None, Urgency.FAILURE),
        # One of which an earlier version recorded that the status may say anything.
        (NOTHING, SinkReport("u"), Urgency.NEW),
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
        # The message alone.
        (WITHDRAWN, written(WITHDRAWN, message="the sink may not send at present (URLNotAllowed)"), Urgency.CHANGE),
        (HELD, written(HELD, message="https://other.example.com responded with 404"), Urgency.CHANGE),
        (LATE, written(LATE, message="https://x: connecting took too long: after 9.98 s"), None),
        (NOTHING, written(NOTHING, message="nothing was sent since the sink was changed"), None),
        (ARRIVED, written(ARRIVED, message="in the words of another version"), None),
        (replace(HELD, given_up=3), written(HELD), None),
        # What is said beside it, of mutes.
        (with_note(ARRIVED, MUTED), written(ARRIVED), Urgency.CHANGE),
        (with_note(NOTHING, MUTED), written(NOTHING), Urgency.CHANGE),
        (with_note(SUSPENDED, ENDED), written(with_note(SUSPENDED, MUTED)), Urgency.CHANGE),
        (with_note(LIMITED, ENDED), written(with_note(LIMITED, MUTED)), Urgency.CHANGE),
        (with_note(ARRIVED, ENDED), written(with_note(ARRIVED, MUTED)), Urgency.CHANGE),
        (with_note(ARRIVED, ENDED), written(with_note(ARRIVED, f"{MUTED}; {ENDED}")), Urgency.CHANGE),
        (ARRIVED, written(with_note(ARRIVED, ENDED)), Urgency.CHANGE),
        (with_note(ARRIVED, ENDED), written(with_note(ARRIVED, ENDED)), None),
        (
            with_note(ARRIVED, ENDED),
            written(with_note(ARRIVED, ENDED), message=f"in the words of another version; {ENDED}"),
            None,
        ),
        (with_note(HELD, ENDED), written(with_note(HELD, MUTED)), None),
    ],
)
def test_what_is_new_decides_whether_a_status_is_written_and_how_soon(
    health: SinkHealth, before: SinkReport | None, expected: Urgency | None
) -> None:
    assert urgency(health, before, NOW) is expected


def test_what_is_said_beside_a_general_message_can_be_told_from_it() -> None:
    known = [one for one in vars(conditions).values() if isinstance(one, conditions.DeliveringCondition)]
    general = [one.message for one in known if one.reason in ("NothingSent", "Delivered")]
    assert len(general) == 5
    for message in general:
        assert conditions.notes_of(message) == ""
        assert (
            conditions.notes_of(with_note(replace(ARRIVED, message=message), f"{MUTED}; {ENDED}").message) == f"{MUTED}; {ENDED}"
        )


@pytest.mark.parametrize(
    ("health", "before", "expected"),
    [
        (HELD, written(ARRIVED), Urgency.AGAIN),
        (ARRIVED, written(HELD), Urgency.AGAIN),
        (WITHDRAWN, written(WITHDRAWN, message="another"), Urgency.AGAIN),
        (ARRIVED, written(ARRIVED), None),
        (ARRIVED, written(ARRIVED, REPEATED_SECONDS), Urgency.REFRESH),
    ],
)
def test_what_changes_of_a_sink_that_flaps_may_wait(health: SinkHealth, before: SinkReport, expected: Urgency | None) -> None:
    assert urgency(health, before, NOW, flaps=True) is expected


def test_a_sink_that_changed_twice_in_a_minute_flaps_until_it_has_been_quiet() -> None:
    flapping = Flapping()
    flapping.changed("once", 0.0)
    for now in (0.0, 30.0):
        flapping.changed("often", now)
    assert [flapping.flaps(uid, 59.0) for uid in ("once", "often", "never")] == [False, True, False]
    assert not flapping.flaps("often", FLAPPING_SECONDS)
    flapping.changed("often", 89.0)
    assert flapping.flaps("often", 89.0)


def drained(line: ReportLine, *, refreshes: bool = True, most: int = 1000) -> list[str]:
    """Those in the line, in order."""
    found: list[str] = []
    while len(found) < most and (taken := line.take(refreshes=refreshes)) is not None:
        found.append(taken[0])
    return found


def test_what_is_urgent_goes_first_and_whoever_waited_longest() -> None:
    line = ReportLine()
    for uid in ("refresh", "new", "again", "failure"):
        line.put(uid, "acme", Urgency[uid.upper()])
    line.put("later", "acme", Urgency.FAILURE)
    assert [line.waiting(one) for one in Urgency] == [2, 0, 1, 1, 1]
    assert drained(line) == ["failure", "later", "again", "new", "refresh"]


def test_nobody_waits_for_ever_whatever_fails() -> None:
    line = ReportLine()
    for one in Urgency:
        for number in range(1000):
            line.put(f"{one.name} {number}", "acme", one)
    first = drained(line, most=80)
    shares = [sum(uid.startswith(one.name) for uid in first) for one in Urgency]
    assert shares == [40, 10, 10, 10, 10]


def test_a_turn_that_nobody_needs_is_for_what_is_most_urgent() -> None:
    line = ReportLine()
    for number in range(100):
        line.put(f"f{number}", "acme", Urgency.FAILURE)
        line.put(f"c{number}", "acme", Urgency.CHANGE)
    assert sum(uid.startswith("f") for uid in drained(line, most=80)) == 70


def test_tenants_take_turns() -> None:
    line = ReportLine()
    for number in range(1000):
        line.put(f"a{number}", "acme", Urgency.FAILURE)
    line.put("b0", "beta", Urgency.FAILURE)
    line.put("b1", "beta", Urgency.FAILURE)
    line.put("c0", "gamma", Urgency.FAILURE)
    assert drained(line, most=6) == ["a0", "b0", "c0", "a1", "b1", "a2"]


def test_a_sink_keeps_its_place_until_it_is_about_something_else() -> None:
    line = ReportLine()
    for uid in "abc":
        line.put(uid, "acme", Urgency.CHANGE)
    line.put("a", "acme", Urgency.CHANGE)
    line.put("b", "acme", Urgency.FAILURE)
    line.put("c", "acme", None)
    line.drop("unknown")
    assert drained(line) == ["b", "a"]
    assert not any(line.waiting(one) for one in Urgency)


def test_refreshes_wait_where_they_may_not_go() -> None:
    line = ReportLine()
    line.put("r", "acme", Urgency.REFRESH)
    line.put("c", "acme", Urgency.CHANGE)
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
