"""A queue with a million deliveries waiting: how long it takes to open, and whom the deletion of its largest sink delays.

python -m tests.soak.queue [SECONDS]: about a minute for the million of a run by hand; fewer rows where there is less time.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventsink.router.queue.delivery_log import DeliveryFilter
from eventsink.router.queue.protocol import Batch, NewDelivery, Payload, PayloadKind
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue

ROWS = 1_000_000
ROWS_PER_SECOND = 15_000
"""What is put, deleted and evicted again."""
BODY = b'{"name":"' + b"x" * 890 + b'"}'
BATCH = 500
SINKS = 100
"""Sinks that share half of the deliveries; one has the other half."""
LARGEST = "sink-largest"
LONGEST_OPEN_SECONDS = 5.0
LONGEST_DELAY_SECONDS = 0.05


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    rows: int
    opened: float
    """Seconds until the queue was open, and a window of a sink read from it."""
    megabytes: float
    """What the process has grown by, at most."""
    deleted: float
    """Seconds in which the deliveries of the largest sink became dead letters."""
    delays: list[float]
    """Seconds of each commit of an alert for another sink meanwhile, sorted."""
    alone: list[float]
    """The same while nothing else happened."""

    def percentile(self, part: float) -> float:
        return self.delays[min(len(self.delays) - 1, int(len(self.delays) * part))]

    def __str__(self) -> str:
        return (
            f"{self.rows} waiting: open in {self.opened:.2f} s with {self.megabytes:.0f} MB more; largest sink deleted in "
            f"{self.deleted:.1f} s; another alert was committed in p50 {self.percentile(0.5) * 1e3:.1f}, "
            f"p99 {self.percentile(0.99) * 1e3:.1f}, at most {self.delays[-1] * 1e3:.1f} ms "
            f"(nothing else: p50 {self.alone[len(self.alone) // 2] * 1e3:.1f}, at most {self.alone[-1] * 1e3:.1f} ms)"
        )


async def fill(settings: QueueSettings, rows: int) -> None:
    """Put so many deliveries, half of them for one sink."""
    queue = await SqliteQueue.open(settings)
    for first in range(0, rows, BATCH * 16):
        await asyncio.gather(*(queue.put(_batch(first + n * BATCH)) for n in range(min(16, (rows - first) // BATCH))))
    await queue.close()


async def measure(settings: QueueSettings, *, alone: float = 2.0) -> Figures:
    """Open the queue, and delete its largest sink while alerts for another one are put; before, put some for so many seconds."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    queue = await SqliteQueue.open(settings)
    assert len(await queue.take("sink-1", after=0, limit=1)) == 1
    opened = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    rows = queue.depth().waiting
    undisturbed = await _commits(queue, asyncio.ensure_future(asyncio.sleep(alone)))
    began = time.perf_counter()
    deletion = asyncio.ensure_future(queue.dead_letter_sink(LARGEST, reason="SinkDeleted", detail="the EventSink was deleted"))
    delays = await _commits(queue, deletion)
    deleted = time.perf_counter() - began
    assert await deletion >= rows // 2
    assert LARGEST not in await queue.sinks_waiting()
    assert await queue.look_up(DeliveryFilter(sink=LARGEST), limit=1)
    await queue.close()
    return Figures(rows, opened, grown, deleted, delays, undisturbed)


async def _commits(queue: SqliteQueue, until: asyncio.Future[Any]) -> list[float]:
    """Seconds of each commit of an alert for a sink of its own, one after the other, until something is done."""
    taken = []
    while not until.done():
        began = time.perf_counter()
        await queue.put(Batch([Payload(PayloadKind.ALERT, BODY, "A")], [NewDelivery(0, "other", "acme", "k", "firing", 1e6)]))
        taken.append(time.perf_counter() - began)
        await asyncio.sleep(0.002)
    return sorted(taken)


def _batch(first: int) -> Batch:
    payloads = [Payload(PayloadKind.ALERT, BODY, "A")] * BATCH
    sinks = [LARGEST if n % 2 else f"sink-{n // 2 % SINKS}" for n in range(first, first + BATCH)]
    return Batch(payloads, [NewDelivery(n, sink, "acme", str(first + n), "firing", 1e6) for n, sink in enumerate(sinks)])


def main(seconds: float | None = None) -> None:
    """Print the figures; raises where a promise is broken."""
    rows = ROWS if seconds is None else min(ROWS, max(10 * BATCH, int(seconds * ROWS_PER_SECOND) // BATCH * BATCH))
    with tempfile.TemporaryDirectory() as folder:
        settings = QueueSettings(path=Path(folder) / "queue.db", min_free_bytes=0, max_waiting=2 * ROWS)
        asyncio.run(fill(settings, rows))
        figures = asyncio.run(measure(settings))
    print(figures)
    assert figures.opened < LONGEST_OPEN_SECONDS, figures.opened
    # A disk that is slow by itself is not what this is about.
    assert figures.percentile(0.99) < LONGEST_DELAY_SECONDS + figures.alone[-1], figures


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else None)
