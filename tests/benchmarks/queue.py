"""The queue's group commits against one commit a row, both with synchronous=FULL on the same disk, in one run.

python -m tests.benchmarks.queue [ROWS | full]
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path

from eventsink.router.queue.protocol import Batch, Delivery, NewDelivery, Payload, PayloadKind
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from tests.support.load import size

BODY = b'{"name":"' + b"x" * 700 + b'"}'
BATCHES = (1, 8, 64)
AT_ONCE = 256
"""Requests that wait for their commit at the same time."""


def one_commit_a_row(folder: Path, rows: int) -> float:
    """Rows a second of the plain way."""
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, sink TEXT, body BLOB)")
    began = time.perf_counter()
    for number in range(rows):
        connection.execute("INSERT INTO rows VALUES (?, ?, ?)", (number, "sink", BODY))
    taken = time.perf_counter() - began
    connection.close()
    return rows / taken


async def queue(folder: Path, rows: int, batch: int) -> tuple[float, float]:
    """Deliveries a second that are put, passed to the listener and settled; and CPU microseconds of each."""
    opened = await SqliteQueue.open(QueueSettings(path=folder / f"queue-{batch}.db", min_free_bytes=0))
    settled = 0
    running: list[asyncio.Future[None]] = []

    def settle(deliveries: list[Delivery]) -> None:
        nonlocal settled
        settled += len(deliveries)
        running.append(asyncio.ensure_future(opened.settle([one.seq for one in deliveries])))

    opened.subscribe(settle)  # type: ignore[arg-type]
    gate = asyncio.Semaphore(AT_ONCE)

    async def put() -> None:
        async with gate:
            payloads = [Payload(PayloadKind.ALERT, BODY, "A")] * batch
            await opened.put(Batch(payloads, [NewDelivery(n, "sink", "acme", str(n), "firing", 1e6) for n in range(batch)]))

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(put() for _ in range(rows // batch)))
    await opened.flush()
    taken, used = time.perf_counter() - began, time.process_time() - cpu
    await opened.close()
    return settled / taken, used / settled * 1e6


def main(rows: int) -> None:
    """Print one line for each size of batch."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = one_commit_a_row(folder, min(rows, 2000))
        print(f"one commit a row: {plain:8.0f} rows/s")
        for batch in BATCHES:
            rate, cpu = asyncio.run(queue(folder, rows, batch))
            print(
                f"queue, {batch:3} a request: {rate:8.0f} deliveries/s, {cpu:5.0f} us CPU each, {rate / plain:5.1f} times the plain way"
            )


if __name__ == "__main__":
    main(size(20_000, 100_000))
