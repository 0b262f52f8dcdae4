"""Planning over a queue on disk; how fast the machine is decides nothing in these tests."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import pytest

from eventsink.router.planning import parts
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from tests.support.clock import ManualClock
from tests.unit.router.planning.planning import PlanningUnderTest, Start
from tests.unit.router.sinks import directory


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts planning over these sinks; called again, it is a restart with other sinks, after which nothing but the disk is known."""
    clock = ManualClock()
    running: list[PlanningUnderTest] = []

    async def stop() -> None:
        for one in running:
            await one.stop()
            await one.queue.close()
        running.clear()

    async def started(
        *sinks: Any,
        queue: dict[str, Any] | None = None,
        withheld: Collection[str] = (),
        caught_up: bool = True,
        **settings: Any,
    ) -> PlanningUnderTest:
        await stop()
        bounds = QueueSettings(path=tmp_path / "q.db", min_free_bytes=0, **(queue or {}))
        opened = await SqliteQueue.open(bounds, monotonic=clock)
        known = directory(*sinks)
        known.withheld.update(withheld)
        running.append(PlanningUnderTest(opened, clock, known, **settings))
        await running[-1].start(caught_up=caught_up)
        return running[-1]

    yield started
    await stop()


@pytest.fixture(autouse=True)
def _turns_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "TURN_SECONDS", math.inf)
