"""Work on the queue that is repeated goes on after a failure of the queue, and ends with any other."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from eventsink.router.queue.protocol import QueueUnavailable
from eventsink.router.queue.repeat import repeat


async def test_a_failure_of_the_queue_delays_the_work_and_any_other_ends_it() -> None:
    outcomes: list[Exception | None] = [None, QueueUnavailable("disk"), None, ValueError("a defect")]
    done: list[Exception | None] = []

    async def work() -> None:
        outcome = outcomes[len(done)]
        done.append(outcome)
        if outcome is not None:
            raise outcome

    with pytest.raises(ValueError, match="a defect"):
        await repeat(work, interval=0.0, failed="could not be done")
    assert done == outcomes


async def test_a_queue_that_fails_for_long_does_not_fill_the_log() -> None:
    outcomes = iter([*[QueueUnavailable("disk")] * 100, ValueError("the end")])

    async def work() -> None:
        raise next(outcomes)

    with capture_logs() as logs, pytest.raises(ValueError, match="the end"):
        await repeat(work, interval=0.0, failed="could not be done")
    assert [(one["event"], one["reason"]) for one in logs] == [("could not be done", "disk")]
