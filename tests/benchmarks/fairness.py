"""How long the alerts of nine tenants take while a tenth sends 50 times as much as each of them, against the same without it.

Both in turns on the same router, so that whatever else the machine does hits both: from the moment at which an alert was due to be sent to
its arrival. What the noisy tenant sends comes from a process of its own, which also receives it; it stands for other machines, so what it needs
of this one it gets last.

    python -m tests.benchmarks.fairness [ROUNDS | full] [VARIANT...]
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path

from tests.support.load import Posting, Receivers, percentile, post_at_rate, sink_address, size, until_arrived
from tests.support.parts import Router, alert, notification
from tests.support.router_process import start_router

QUIET, RATE, TIMES = 9, 20, 50
"""Quiet tenants, alerts a second of each of them, and how many times as many the noisy one sends."""
SECONDS = 4.0
"""Of one turn."""
DEADLINE_SECONDS = 120.0
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


class Noise:
    """The noisy tenant's sender and receivers, in a process of their own."""

    def __init__(self) -> None:
        self._port, there = Pipe()
        self._process = Process(target=_make_noise, args=(there,), daemon=True)
        self._process.start()
        self.origin: str = self._port.recv()

    def begin(self, router: Router, bodies: list[bytes]) -> None:
        """Post bodies, evenly within a turn."""
        self._port.send((router.url, router.token, bodies))

    async def end(self) -> None:
        """Wait until they are posted."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not self._port.poll():
                await asyncio.sleep(0.05)
        self._port.recv()

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def _make_noise(port: Connection) -> None:
    os.nice(19)

    async def serve() -> None:
        port.send(await Receivers().listen())
        while True:
            url, token, bodies = await asyncio.to_thread(port.recv)
            await post_at_rate(Posting(url, token), bodies, len(bodies) / SECONDS)
            port.send(None)

    asyncio.run(serve())


def noises_of(variant: Variant, turn: int) -> list[bytes]:
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


async def measure(router: Router, receivers: Receivers, turn: int, noises: list[bytes], noise: Noise) -> list[float]:
    """Milliseconds that the alerts of the quiet tenants took."""
    numbers = range(turn * 100_000, turn * 100_000 + int(SECONDS * RATE * QUIET))
    bodies = [
        json.dumps(notification(alert(f"A{n}", namespace=f"t{n % QUIET}", team=str(n % QUIET)), group=str(n))).encode()
        for n in numbers
    ]
    if noises:
        noise.begin(router, noises)
    sent = await post_at_rate(router, bodies, RATE * QUIET)
    await until_arrived(receivers, [f"A{number}" for number in numbers])
    if noises:
        await noise.end()
    return [(receivers.arrived[f"A{number}"] - sent[index]) * 1e3 for index, number in enumerate(numbers)]


async def compare(variant: Variant, rounds: int) -> tuple[list[float], list[float]]:
    """The times without and with the noisy tenant."""
    receivers = Receivers()
    origin = await receivers.listen()
    quiet = [sink_address(f"{origin}/ok/{number}", number, QUIET) for number in range(QUIET)]
    matcher = "&matcher=path%3D~%22(a%2F)%7B40%7D.*(b%7Cc).*%22" * variant.matchers
    found: tuple[list[float], list[float]] = ([], [])
    quotas = {"tenants": {NOISY: variant.quota}}
    with tempfile.TemporaryDirectory() as folder, closing(Noise()) as noise:
        loud = [f"{noise.origin}/{variant.behaviour}/{n}#tenant={NOISY}&batch=50{matcher}" for n in range(variant.sinks)]
        with start_router(Path(folder), *quiet, *loud, quotas=quotas) as router:
            for turn in range(2 * rounds + 1):
                noises = noises_of(variant, turn) if turn % 2 == 0 and turn > 0 else []
                times = await measure(router, receivers, turn, noises, noise)
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
