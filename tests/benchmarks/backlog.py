"""The start of a router with much waiting for a sink that hangs, and the growth from a tenth of it; then that sink is deleted.

Measured are the time from the start of the process until the first delivery to a healthy sink, whose row is the last one, the memory at
most until then, and how long alerts for the healthy sink take while the other one is deleted.

    python -m tests.benchmarks.backlog [WAITING | full]
"""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import time
from pathlib import Path

from eventsink.router.queue.protocol import Batch, NewDelivery, Payload, PayloadKind
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from tests.support import router_process
from tests.support.load import Receivers, memory_peak, notification_of, post_at_rate, sink_address, size, until_arrived
from tests.support.router_process import start_router

AT_ONCE, RATE, SECONDS = 1000, 50, 10


def body(number: int, tenant: str) -> bytes:
    """An alert as it is stored."""
    alert = {"id": str(number), "fingerprint": str(number), "source": "alertmanager", "tenant": tenant, "status": "firing"}
    return json.dumps(
        alert | {"severity": "high", "startsAt": "", "name": f"A{number}", "description": "x" * 700}, separators=(",", ":")
    ).encode()


async def fill(path: Path, waiting: int, healthy: str, hanging: str) -> None:
    """Queue rows of a sink, and one of another."""
    queue = await SqliteQueue.open(QueueSettings(path=path, min_free_bytes=0, max_waiting=2 * waiting))
    for start in range(0, waiting, AT_ONCE):
        rows = range(start, min(start + AT_ONCE, waiting))
        payloads = [Payload(PayloadKind.ALERT, body(n, "t1"), f"A{n}") for n in rows]
        await queue.put(Batch(payloads, [NewDelivery(k, hanging, "t1", str(n), "firing", 1e6) for k, n in enumerate(rows)]))
    payload = Payload(PayloadKind.ALERT, body(0, "t0"), "A0")
    await queue.put(Batch([payload], [NewDelivery(0, healthy, "t0", "0", "firing", 1e6)]))
    await queue.close()


async def measure(waiting: int) -> tuple[float, float, float]:
    """Seconds, megabytes, and the longest wait in milliseconds."""
    receivers = Receivers()
    origin = await receivers.listen()
    addresses = [sink_address(f"{origin}/{kind}/0", number, 2) for number, kind in enumerate(("ok", "hang"))]
    with tempfile.TemporaryDirectory() as folder:
        uids = [router_process.sink(number, address).uid for number, address in enumerate(addresses)]
        await fill(Path(folder) / "queue.db", waiting, *uids)
        began = time.perf_counter()
        loop = asyncio.get_running_loop()
        context = start_router(Path(folder), *addresses, queue={"maxWaiting": 2 * waiting})
        router = await loop.run_in_executor(None, context.__enter__)
        try:
            await until_arrived(receivers, ["A0"])
            taken, peak = receivers.arrived["A0"] - began, memory_peak(router.running.pid) / 1e6
            bodies = [notification_of([2 * number], 2, 2) for number in range(1, SECONDS * RATE)]
            posting = asyncio.ensure_future(post_at_rate(router, bodies, RATE))
            await asyncio.sleep(1)
            router.running.send_signal(signal.SIGUSR1)
            sent = await posting
            await until_arrived(receivers, [f"A{2 * number}" for number in range(1, SECONDS * RATE)])
            longest = max(receivers.arrived[f"A{2 * n}"] - at for n, at in enumerate(sent, 1))
        finally:
            await loop.run_in_executor(None, context.__exit__, None, None, None)
            receivers.close()
        return taken, peak, longest * 1e3


def main(waiting: int) -> None:
    """Print a line for each."""
    few, many = asyncio.run(measure(waiting // 10)), asyncio.run(measure(waiting))
    for count, (taken, peak, longest) in ((waiting // 10, few), (waiting, many)):
        print(
            f"{count} waiting: first delivery to a healthy sink {taken:.1f} s after the start, {peak:.0f} MB at most; "
            f"while the other sink is deleted, an alert takes {longest:.0f} ms at most"
        )
    print(f"growth: {many[0] / few[0]:.1f} times the time and {many[1] / few[1]:.2f} times the memory")


if __name__ == "__main__":
    main(size(100_000, 1_000_000))
