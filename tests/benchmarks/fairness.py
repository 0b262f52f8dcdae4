"""How long the alerts of nine tenants take while a tenth sends 50 times as much as each of them, against the same without it.

Both in turns on the same router, so that whatever else the machine does hits both: from the moment at which an alert was due to be sent to
its arrival. What the noisy tenant sends is received by a process of its own.

    python -m tests.benchmarks.fairness [ROUNDS | full] [VARIANT...]
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path

from tests.support.load import Receivers, percentile, post_at_rate, sink_address, size, until_arrived
from tests.support.parts import Router, alert, notification
from tests.support.router_process import start_router

QUIET, RATE, TIMES = 9, 20, 50
"""Quiet tenants, alerts a second of each of them, and how many times as many the noisy one sends."""
SECONDS = 4.0
"""Of one turn."""
NOISY = "noisy"


@dataclass(frozen=True)
class Variant:
    """How the noisy tenant is noisy."""

    name: str
    at_once: int = 50
    """Alerts in one of its notifications."""
    sinks: int = 1
    behaviour: str = "ok"
    """Of its receivers."""
    matchers: int = 0
    """Expensive ones, of each of its sinks."""
    quota: dict[str, int] = field(default_factory=dict)


VARIANTS = (
    Variant("notifications of 50 alerts"),
    Variant("single alerts", at_once=1),
    Variant("one notification of 1,000 alerts a second", at_once=1000),
    Variant("20 sinks whose receivers hang", behaviour="hang", sinks=20),
    Variant("1,000 sinks that all want the same", sinks=1000, at_once=1),
    Variant("sinks with expensive expressions", sinks=20, matchers=8),
    Variant("notifications of 50 alerts, and a quota of 5 times its share", quota={"rate": 5 * RATE, "burst": 5 * RATE}),
)


def _receive(port: Connection) -> None:
    async def serve() -> None:
        port.send(await Receivers().listen())
        await asyncio.Event().wait()

    asyncio.run(serve())


@contextmanager
def receiver_process() -> Iterator[str]:
    """Origin of receivers in a process of their own."""
    here, there = Pipe()
    process = Process(target=_receive, args=(there,), daemon=True)
    process.start()
    yield here.recv()
    process.kill()
    process.join()


def noise(variant: Variant, turn: int) -> list[bytes]:
    """What the noisy tenant posts in a turn."""
    count = int(SECONDS * RATE * TIMES / variant.sinks)  # so many deliveries, whatever the number of sinks
    numbers = range(0, count, variant.at_once)
    return [
        json.dumps(
            notification(
                *[
                    alert(f"N{turn}-{one}", namespace=NOISY, description="x" * 200, path="/".join(["a"] * 100))
                    for one in range(first, min(first + variant.at_once, count))
                ],
                group=f"noise-{turn}-{first}",
            )
        ).encode()
        for first in numbers
    ]


async def measure(router: Router, receivers: Receivers, variant: Variant, turn: int, noisy: bool) -> list[float]:
    """Milliseconds that the alerts of the quiet tenants took."""
    numbers = range(turn * 100_000, turn * 100_000 + int(SECONDS * RATE * QUIET))
    bodies = [
        json.dumps(notification(alert(f"A{n}", namespace=f"t{n % QUIET}", team=str(n % QUIET)), group=str(n))).encode()
        for n in numbers
    ]
    noises = noise(variant, turn) if noisy else []
    other = asyncio.create_task(post_at_rate(router, noises, len(noises) / SECONDS)) if noises else None
    sent = await post_at_rate(router, bodies, RATE * QUIET)
    await until_arrived(receivers, [f"A{number}" for number in numbers])
    if other is not None:
        await other
    return [(receivers.arrived[f"A{number}"] - sent[index]) * 1e3 for index, number in enumerate(numbers)]


async def compare(variant: Variant, rounds: int) -> tuple[list[float], list[float]]:
    """The times without and with the noisy tenant."""
    receivers = Receivers()
    origin = await receivers.listen()
    quiet = [sink_address(f"{origin}/ok/{number}", number, QUIET) for number in range(QUIET)]
    matcher = "&matcher=path%3D~%22(a%2F)%7B40%7D.*(b%7Cc).*%22" * variant.matchers
    found: tuple[list[float], list[float]] = ([], [])
    quotas = {"tenants": {NOISY: variant.quota}}
    with tempfile.TemporaryDirectory() as folder, receiver_process() as other:
        loud = [f"{other}/{variant.behaviour}/{n}#tenant={NOISY}&batch=50{matcher}" for n in range(variant.sinks)]
        with start_router(Path(folder), *quiet, *loud, quotas=quotas) as router:
            for turn in range(2 * rounds + 1):
                times = await measure(router, receivers, variant, turn, noisy=turn % 2 == 0 and turn > 0)
                if turn:  # the first one warms up
                    found[turn % 2 == 0].extend(times)
                await asyncio.sleep(1.0)
    receivers.close()
    return found


def main(rounds: int, names: list[str]) -> None:
    """Print a line for each variant."""
    for variant in VARIANTS:
        if names and not any(name in variant.name for name in names):
            continue
        began = time.perf_counter()
        without, with_noise = asyncio.run(compare(variant, rounds))
        p50, p99 = ([percentile(times, percent) for times in (without, with_noise)] for percent in (50, 99))
        print(
            f"{variant.name}: p50 {p50[1]:.1f} ms, p99 {p99[1]:.1f} ms (without {p50[0]:.1f} and {p99[0]:.1f} ms): {p50[1] / p50[0]:.2f} and "
            f"{p99[1] / p99[0]:.2f} times ({time.perf_counter() - began:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main(size(3, 10), sys.argv[2:])
