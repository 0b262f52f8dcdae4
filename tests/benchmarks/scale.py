"""CPU of a delivery with many sinks, and with many known alerts, against 10 sinks and none, in one run.

python -m tests.benchmarks.scale [SINKS | full]
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.benchmarks.pipeline import Counter, measure, post_all
from tests.support.load import notification_of, sink_address, size
from tests.support.router_process import start_router

FEW, ALERTS, BATCH = 10, 10_000, 64


def cost(sinks: int, tenants: int, known: int = 0) -> tuple[float, float]:
    """CPU microseconds of a delivery, and deliveries a second, once each sink had one and `known` alerts are firing."""
    receiver = Counter()
    addresses = [sink_address(f"http://127.0.0.1:{receiver.port}/{n}", n, tenants) for n in range(sinks)]
    with tempfile.TemporaryDirectory() as folder, start_router(Path(folder), *addresses) as router:
        first = max(sinks, known, ALERTS // 10)
        url, token = router.url, router.token

        def deliver(numbers: range) -> tuple[float, float]:
            bodies = [notification_of(numbers[n : n + BATCH], sinks, tenants) for n in range(0, len(numbers), BATCH)]
            return measure(router.running, receiver, len(numbers), lambda: asyncio.run(post_all(url, token, bodies)))

        deliver(range(first))
        rate, cpu = deliver(range(first, first + ALERTS))
        return cpu, rate


def main(sinks: int) -> None:
    """Print a line for each."""
    base, rate = cost(FEW, 1)
    print(f"{FEW} sinks, few known alerts: {base:.0f} us of CPU a delivery, {rate:.0f}/s")
    for name, arguments in (
        (f"{sinks} sinks of 100 tenants", (sinks, 100)),
        (f"{sinks} sinks of one tenant", (sinks, 1)),
        (f"{FEW} sinks, {sinks * 10} known alerts", (FEW, 1, sinks * 10)),
    ):
        cpu, rate = cost(*arguments)
        print(f"{name}: {cpu:.0f} us, {rate:.0f}/s: {cpu / base:.2f} times the CPU")


if __name__ == "__main__":
    main(size(1_000, 10_000))
