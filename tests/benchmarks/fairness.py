"""How long the alerts of nine tenants take while a tenth sends 50 times as much as each of them, against the same without it.

Both in turns on the same router, so that whatever else the machine does hits both: from the moment at which an alert was due to be sent to
its arrival. All together they send a sixth of what the router delivers at most on this machine, which is measured first. What the noisy tenant
sends comes from a process of its own, which also receives it; it takes the place of other machines, so it gets what nobody else wants of
this one.

    python -m tests.benchmarks.fairness [ROUNDS | full] [VARIANT...]
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.support.load import Posting, Receivers, percentile, post_at_rate, sink_address, size, until_arrived
from tests.support.parts import Router, alert, notification
from tests.support.router_process import start_router

QUIET, TIMES = 9, 50
"""Quiet tenants, and how many times as many alerts as each of them the noisy one sends."""
LOAD = 1 / 6
"""What all send, of the highest rate of single alerts."""
LEAST_SECONDS = 8.0
"""Of one turn, which is longer where the noisy tenant would not send one whole notification and its end in it."""
MEASURED = 1500
"""Alerts in which the highest rate is measured."""
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
    quota: float = 0.0
    """Its quota, in shares."""


VARIANTS = (
    Variant("notifications of 50 alerts"),
    Variant("single alerts", at_once=1),
    Variant("notifications of 1,000 alerts", at_once=1000),
    Variant("20 sinks whose receivers hang", behaviour="hang", sinks=20),
    Variant("100 sinks that all want the same", sinks=100, at_once=1),
    Variant("1,000 sinks that all want the same", sinks=1000, at_once=1),
    Variant("sinks with expensive expressions", sinks=20, matchers=8),
    Variant("notifications of 50 alerts, and a quota of 5 times its share", quota=5),
)


class Noise:
    """The noisy tenant's sender and receivers, in a process of their own."""

    def __init__(self) -> None:
        self._port, there = Pipe()
        self._process = Process(target=_make_noise, args=(there,), daemon=True)
        self._process.start()
        self.origin: str = self._port.recv()

    def begin(self, router: Router, bodies: list[bytes], seconds: float) -> None:
        """Post bodies, evenly within so many seconds."""
        self._port.send((router.url, router.token, bodies, len(bodies) / seconds))

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
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    async def serve() -> None:
        port.send(await Receivers().listen())
        while True:
            url, token, bodies, rate = await asyncio.to_thread(port.recv)
            await post_at_rate(Posting(url, token), bodies, rate)
            port.send(None)

    asyncio.run(serve())


def noises_of(variant: Variant, share: float, turn: int) -> tuple[list[bytes], float]:
    """What the noisy tenant posts in a turn, and the turn's seconds: notifications of alerts, each followed by one of their ends."""
    rate = share * TIMES / variant.sinks / 2  # so many deliveries, whatever the number of sinks
    count = math.ceil(LEAST_SECONDS * rate)
    bodies = [
        json.dumps(
            notification(
                *[noise(f"N{turn}-{number}", status) for number in range(first, min(first + variant.at_once, count))],
                group=f"noise-{turn}-{first}",
            )
        ).encode()
        for first in range(0, count, variant.at_once)
        for status in ("firing", "resolved")
    ]
    return bodies, count / rate


def noise(name: str, status: str) -> dict[str, Any]:
    """An alert of the noisy tenant."""
    return alert(name, status=status, namespace=NOISY, description="x" * 200, path="/".join(["a"] * 100))


def quiet_bodies(numbers: range) -> list[bytes]:
    """What the quiet tenants post, one alert after the other."""
    return [
        json.dumps(notification(alert(f"A{n}", namespace=f"t{n % QUIET}", team=str(n % QUIET)), group=str(n))).encode()
        for n in numbers
    ]


async def highest_share(receivers: Receivers, folder: Path, sinks: list[str]) -> float:
    """Alerts a second of each quiet tenant at which all together send `LOAD`."""
    numbers = range(MEASURED)
    with start_router(folder, *sinks) as router:
        began = time.perf_counter()
        await post_at_rate(router, quiet_bodies(numbers), 0)
        await until_arrived(receivers, [f"A{number}" for number in numbers])
        highest = MEASURED / (time.perf_counter() - began)
    receivers.arrived.clear()
    return LOAD * highest / (QUIET + TIMES)


async def measure(
    router: Router, receivers: Receivers, share: float, turn: int, seconds: float, noises: list[bytes], noise: Noise
) -> list[float]:
    """Milliseconds that the alerts of the quiet tenants took."""
    numbers = range(turn * 100_000, turn * 100_000 + int(seconds * share * QUIET))
    if noises:
        noise.begin(router, noises, seconds)
    sent = await post_at_rate(router, quiet_bodies(numbers), share * QUIET)
    await until_arrived(receivers, [f"A{number}" for number in numbers])
    if noises:
        await noise.end()
    return [(receivers.arrived[f"A{number}"] - sent[index]) * 1e3 for index, number in enumerate(numbers)]


async def compare(variant: Variant, rounds: int) -> tuple[float, list[float], list[float]]:
    """A quiet tenant's alerts a second, and the times without and with the noisy tenant."""
    receivers = Receivers()
    origin = await receivers.listen()
    quiet = [sink_address(f"{origin}/ok/{number}", number, QUIET) for number in range(QUIET)]
    matcher = "&matcher=path%3D~%22(a%2F)%7B40%7D.*(b%7Cc).*%22" * variant.matchers
    found: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as folder, closing(Noise()) as noise:
        share = await highest_share(receivers, Path(one), quiet)
        rate = math.ceil(variant.quota * share)
        quotas = {"tenants": {NOISY: {"rate": rate, "burst": rate} if rate else {}}}
        loud = [f"{noise.origin}/{variant.behaviour}/{n}#tenant={NOISY}&batch=50{matcher}" for n in range(variant.sinks)]
        with start_router(Path(folder), *quiet, *loud, quotas=quotas) as router:
            for turn in range(2 * rounds + 1):
                noises, seconds = noises_of(variant, share, turn)
                noisy = turn % 2 == 0 and turn > 0
                times = await measure(router, receivers, share, turn, seconds, noises if noisy else [], noise)
                if turn:  # the first one warms up
                    found[noisy].extend(times)
                await asyncio.sleep(1.0)
    receivers.close()
    return share, *found


def main(rounds: int, names: list[str]) -> None:
    """Print a line for each variant."""
    for variant in VARIANTS:
        if names and not any(name in variant.name for name in names):
            continue
        began = time.perf_counter()
        share, without, with_noise = asyncio.run(compare(variant, rounds))
        p50, p99 = ([percentile(times, percent) for times in (without, with_noise)] for percent in (50, 99))
        print(
            f"{variant.name}: p50 {p50[1]:.1f} ms, p99 {p99[1]:.1f} ms (without {p50[0]:.1f} and {p99[0]:.1f} ms): {p50[1] / p50[0]:.2f} and "
            f"{p99[1] / p99[0]:.2f} times (a share: {share:.1f} alerts a second; {time.perf_counter() - began:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main(size(2, 10), sys.argv[2:])
