"""Waits double up to a bound, and their random part keeps to its share."""

from __future__ import annotations

import pytest

from eventsink.runtime.backoff import Backoff


@pytest.mark.parametrize(
    ("jitter", "chance", "waits"),
    [
        (0.0, 0.0, [0.5, 1, 2, 4, 8, 16, 30, 30]),
        (0.5, 1.0, [0.5, 1, 2, 4, 8, 16, 30, 30]),
        (0.5, 0.0, [0.25, 0.5, 1, 2, 4, 8, 15, 15]),
        (1.0, 1.0, [0.5, 1, 2, 4, 8, 16, 30, 30]),
        (1.0, 0.5, [0.25, 0.5, 1, 2, 4, 8, 15, 15]),
        (1.0, 0.0, [0] * 8),
    ],
)
def test_waits_double_up_to_the_longest(jitter: float, chance: float, waits: list[float]) -> None:
    backoff = Backoff(first=0.5, longest=30.0, jitter=jitter)
    assert [backoff.wait(failures, lambda: chance) for failures in range(1, 9)] == waits


@pytest.mark.parametrize("failures", [-1, 0, 1])
def test_the_wait_is_the_first_until_a_second_failure(failures: int) -> None:
    assert Backoff(first=2.0, longest=30.0).wait(failures) == 2.0


def test_no_wait_is_longer_than_the_longest() -> None:
    assert Backoff(first=0.5, longest=30.0).wait(10**9) == 30.0
    assert Backoff(first=5.0, longest=1.0).wait(1) == 1.0


def test_jitter_is_random_by_default() -> None:
    assert len({Backoff(first=1.0, longest=30.0, jitter=0.5).wait(3) for _ in range(20)}) > 1
