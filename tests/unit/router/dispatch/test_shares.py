"""The capacity is shared out: nobody takes all of it, and whoever comes next finds something free."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.router.dispatch.shares import InFlight, ShareLimit, Usage, WaitingLine, limit_reached

FREE = None
ALL = ShareLimit.ALL
TENANT = ShareLimit.TENANT


@pytest.mark.parametrize(
    ("total", "of_tenant", "of_sink", "expected"),
    [
        (0, 0, 0, FREE),
        (89, 0, 0, FREE),
        (90, 0, 0, ALL),
        (95, 40, 5, ALL),
        (59, 59, 5, TENANT),  # two thirds of 90, less room for a sink that has nothing
        (59, 59, 0, FREE),
        (60, 60, 0, TENANT),
        (60, 0, 0, FREE),
        (35, 35, 35, FREE),
        (51, 51, 51, TENANT),  # one sink alone gets four sevenths
        (51, 51, 5, FREE),
        (69, 34, 1, FREE),  # two tenants get two fifths each
        (72, 36, 0, TENANT),
    ],
)
def test_what_a_sink_may_take_of_90(total: int, of_tenant: int, of_sink: int, expected: ShareLimit | None) -> None:
    assert limit_reached(90, total, of_tenant, of_sink, 1) is expected


@pytest.mark.parametrize("capacity", [1, 2, 3, 9, 100])
def test_something_can_always_be_sent_when_nothing_is_in_flight(capacity: int) -> None:
    assert limit_reached(capacity, 0, 0, 0, capacity * 10) is FREE


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 9), st.integers(1, 1000)), max_size=300))
def test_a_tenant_with_nothing_in_flight_waits_only_when_everything_is_taken(takes: list[tuple[str, int, int]]) -> None:
    in_flight: InFlight[str] = InFlight(200, 20_000)
    sinks: dict[tuple[str, int], Usage] = {}
    for tenant, number, size in takes:
        sink = sinks.setdefault((tenant, number), Usage())
        if in_flight.limit_reached(tenant, sink, size) is FREE:
            in_flight.take(tenant, sink, size)
        assert in_flight.total.messages <= 200
        assert in_flight.total.bytes < 20_000 + 1000
        if in_flight.total.messages < 200 and in_flight.total.bytes < 20_000:
            assert in_flight.limit_reached("another", Usage(), 1000) is FREE
    for tenant in "ab":
        held = sum(usage.messages for (one, _), usage in sinks.items() if one == tenant)
        assert held <= 2 * 200 / 3


def test_many_slow_sinks_of_one_tenant_leave_room_for_its_other_sinks_and_for_other_tenants() -> None:
    in_flight: InFlight[str] = InFlight(2048, 10**9)
    slow = [Usage() for _ in range(400)]
    for _ in range(8):
        for sink in slow:
            if in_flight.limit_reached("acme", sink, 1000) is FREE:
                in_flight.take("acme", sink, 1000)
    assert 1300 <= in_flight.total.messages <= 1365
    assert in_flight.limit_reached("acme", slow[0], 1000) is TENANT
    assert in_flight.limit_reached("acme", Usage(), 1000) is FREE
    others = Usage()
    for _ in range(8):
        assert in_flight.limit_reached("globex", others, 1000) is FREE
        in_flight.take("globex", others, 1000)


def test_what_landed_is_free_again() -> None:
    in_flight: InFlight[str] = InFlight(1, 100)
    sink = Usage()
    in_flight.take("acme", sink, 70)
    assert in_flight.limit_reached("globex", Usage(), 1) is ALL
    in_flight.give_back("acme", sink, 70)
    assert (in_flight.total.messages, in_flight.total.bytes, sink.messages, sink.bytes) == (0, 0, 0, 0)
    assert in_flight.limit_reached("globex", Usage(), 1) is FREE


def turns(line: WaitingLine[str]) -> list[str]:
    """All that wait, in the order of their turns."""
    found = []
    while (who := line.first()) is not None:
        found.append(who)
        line.leave(who[0], who)
        if who[0] in line:
            line.used(who[0], len([one for one in found if one[0] == who[0]]))
    return found


def test_tenants_take_turns_and_within_a_tenant_whoever_waits_longest_comes_first() -> None:
    line: WaitingLine[str] = WaitingLine()
    for who in ("a1", "a2", "a3", "b1", "c1"):
        line.join(who[0], who, 0)
    line.join("a", "a1", 0)  # keeps the place
    line.leave("c", "c1")
    assert sorted(line.everyone()) == ["a1", "a2", "a3", "b1"]
    assert turns(line) == ["a1", "b1", "a2", "a3"]
    assert not line


def test_the_tenant_with_the_least_in_flight_comes_first_and_whoever_is_refused_lets_others_go_first() -> None:
    line: WaitingLine[str] = WaitingLine()
    for who, use in (("a1", 5), ("a2", 5), ("b1", 3), ("c1", 4)):
        line.join(who[0], who, use)
    assert line.first() == "b1"
    line.used("b", 6)
    assert line.first() == "c1"
    line.defer("c", "c1")
    line.defer("a", "a1")
    assert line.first() == "b1"
    line.used("a", 5)
    assert turns(line) == ["a2", "a1", "b1", "c1"]


def test_many_large_messages_count_as_much_as_the_part_of_the_capacity_that_they_take() -> None:
    in_flight: InFlight[str] = InFlight(100, 1000)
    small, large = Usage(), Usage()
    for _ in range(3):
        in_flight.take("acme", small, 1)
    in_flight.take("globex", large, 400)
    in_flight.wait("globex", "large")
    in_flight.wait("acme", "small")
    assert in_flight.line.first() == "small"
    in_flight.give_back("globex", large, 400)
    assert in_flight.line.first() == "large"
