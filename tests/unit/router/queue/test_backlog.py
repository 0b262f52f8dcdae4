"""A short version of the audit of a large backlog (tests/soak/queue.py)."""

from __future__ import annotations

from pathlib import Path

from tests.soak.queue import LONGEST_OPEN_SECONDS, fill, measure
from tests.unit.router.queue.test_sqlite import settings

ROWS = 16_000


async def test_a_large_backlog_opens_soon_and_the_deletion_of_its_largest_sink_lets_others_in_between(tmp_path: Path) -> None:
    bounds = settings(tmp_path)
    await fill(bounds, ROWS)
    figures = await measure(bounds, alone=0.1)
    assert figures.rows == ROWS
    assert figures.opened < LONGEST_OPEN_SECONDS
    assert len(figures.delays) > 5  # of 32 chunks
