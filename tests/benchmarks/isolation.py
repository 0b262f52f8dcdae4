"""From accept to arrival at healthy sinks while others misbehave, against all healthy; and at half of the highest rate.

Of 100 sinks of 10 tenants, 10 hang, 10 fail with 503, 10 reject with 400 and one drips its response; each on a host of its own, then all
of them on the host and port of the healthy ones. Times count from the moment at which an alert was due to be sent.

    python -m tests.benchmarks.isolation [SECONDS | full]
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from tests.support.load import Receivers, notification_of, percentile, post_at_rate, sink_address, size, until_arrived
from tests.support.router_process import start_router

SINKS, TENANTS, RATE = 100, 10, 200
BROKEN = {number: kind for start, kind in ((0, "hang"), (10, "fail"), (20, "reject")) for number in range(start, start + 10)}
BROKEN[30] = "drip"
ROUNDS = 2
"""Of each, in turns: a disturbance hits both."""


async def latencies(seconds: int, *, broken: bool, one_host: bool) -> list[float]:
    """Milliseconds to the healthy sinks."""
    receivers = Receivers()
    origins = [
        await receivers.listen("127.0.0.1" if one_host else f"127.0.1.{n}") for n in range(1, 2 if one_host else SINKS + 1)
    ]
    addresses = [
        sink_address(f"{origins[n % len(origins)]}/{BROKEN.get(n, 'ok') if broken else 'ok'}/{n}", n, TENANTS)
        for n in range(SINKS)
    ]
    with tempfile.TemporaryDirectory() as folder, start_router(Path(folder), *addresses) as router:
        bodies = [notification_of([number], SINKS, TENANTS) for number in range(seconds * RATE)]
        sent = await post_at_rate(router, bodies, RATE)
        healthy = [number for number in range(len(bodies)) if number % SINKS not in BROKEN]
        await until_arrived(receivers, [f"A{number}" for number in healthy])
        receivers.close()
        return [(receivers.arrived[f"A{number}"] - sent[number]) * 1e3 for number in healthy]


async def at_half_of_the_rate(alerts: int, batch: int) -> tuple[float, float]:
    """The highest rate of deliveries a second, and p99 in milliseconds at half of it."""
    receivers = Receivers()
    origin = await receivers.listen()
    addresses = [sink_address(f"{origin}/ok/{n}", n, TENANTS) for n in range(SINKS)]
    with tempfile.TemporaryDirectory() as folder, start_router(Path(folder), *addresses) as router:
        halves = []
        for start in (0, alerts):
            numbers = range(start, start + alerts, batch)
            halves.append(
                [notification_of(range(first, min(first + batch, start + alerts)), SINKS, TENANTS) for first in numbers]
            )
        began = time.perf_counter()
        await post_at_rate(router, halves[0], 0)
        await until_arrived(receivers, [f"A{number}" for number in range(alerts)])
        highest = alerts / (time.perf_counter() - began)
        sent = await post_at_rate(router, halves[1], highest / 2 / batch)
        await until_arrived(receivers, [f"A{number}" for number in range(alerts, 2 * alerts)])
        receivers.close()
        waits = [
            (receivers.arrived[f"A{number}"] - sent[(number - alerts) // batch]) * 1e3 for number in range(alerts, 2 * alerts)
        ]
        return highest, percentile(waits, 99)


def main(seconds: int) -> None:
    """Print a line for each."""
    for one_host in (False, True):
        found: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(ROUNDS):
            for broken in (False, True):
                found[broken] += asyncio.run(latencies(seconds, broken=broken, one_host=one_host))
        p50, p99 = ([percentile(found[broken], percent) for broken in (False, True)] for percent in (50, 99))
        print(
            f"{'on the healthy host and port' if one_host else 'on hosts of their own'}: p50 {p50[1]:.1f} ms, p99 {p99[1]:.1f} ms "
            f"(all healthy {p50[0]:.1f} and {p99[0]:.1f} ms): {p50[1] / p50[0]:.2f} and {p99[1] / p99[0]:.2f} times"
        )
    for batch in (1, 64):
        highest, p99_ms = asyncio.run(at_half_of_the_rate(seconds * 500, batch))
        print(f"{batch:2} alerts a notification: {highest:.0f} deliveries/s at most; p99 at half of that {p99_ms:.1f} ms")


if __name__ == "__main__":
    main(size(10, 60))
