"""A router whose sinks come and go keeps nothing of those that are gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.sinks import Look, audit, problems_of


def test_sinks_that_come_and_go_leave_neither_descriptors_nor_metrics_behind(tmp_path: Path) -> None:
    looks, arrived = audit(tmp_path, seconds=5, sinks=60)
    assert problems_of(looks) == []
    assert arrived > 10


@pytest.mark.parametrize(
    ("last", "problems"),
    [
        (Look(110, 10, 5), []),
        (Look(100 + 2**25, 10, 5), ["memory grew from 100 to 33554532 bytes"]),
        (Look(100 + 2**25, 10, 5, waiting=10_000), []),
        (Look(100, 300, 5), ["descriptors grew from 10 to 300"]),
        (Look(100, 10, 100), ["metrics grew from 5 to 100 lines"]),
    ],
)
def test_the_audit_finds_what_grows(last: Look, problems: list[str]) -> None:
    assert problems_of([Look(1, 1, 1), Look(100, 10, 5), last]) == problems
    assert problems_of([Look(1, 1, 1)] * 3) == []
