"""A router that is killed again and again with a backlog, also while it starts, loses nothing and keeps the order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.kills import audit, problems_of


def test_what_was_acknowledged_arrives_in_order_after_many_kills_with_a_backlog(tmp_path: Path) -> None:
    figures = audit(tmp_path, kills=6, waiting=5000, seed=10)
    assert figures.problems == []
    assert figures.kills == 6
    assert figures.arrived >= figures.acknowledged > 5000


@pytest.mark.parametrize(
    ("arrived", "problem"),
    [
        ({("A", "firing"): 1, ("A", "resolved"): 2}, None),
        ({("A", "firing"): 1}, "/p: A resolved never arrived"),
        ({("A", "firing"): 2, ("A", "resolved"): 1}, "/p: A arrived as resolved before it arrived as firing"),
        ({("A", "resolved"): 1}, "/p: A firing never arrived"),
    ],
)
def test_the_audit_finds_what_is_lost_and_what_is_out_of_order(arrived: dict[tuple[str, str], int], problem: str | None) -> None:
    found = problems_of("/p", [("A", "firing"), ("A", "resolved")], arrived)
    assert (problem in found) if problem is not None else found == []
