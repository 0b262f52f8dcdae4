"""Sinks that come and go leave nothing behind: neither memory nor descriptors of the router grow, however long that goes on.

A thousand sinks get alerts, one in three of them fails and one in three cannot be reached; all the time the oldest is deleted and a new one
comes. Memory, descriptors and metrics at the end are compared with those after half of the time: until then, memory fills with what is
bounded. How many deliveries wait in memory depends on how fast the machine is at each moment, and what the most of them took stays with the
process: so memory may grow with that number, and with nothing else.

    python -m tests.soak.sinks [SECONDS]
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from eventsink.router.config import RouterSettings
from eventsink.router.process import Router
from eventsink.runtime.process import Process, run_command
from eventsink.runtime.settings import load_settings
from eventsink.sinks.sink import Tenancy
from tests.soak.kills import Recorder
from tests.support.parts import Router as RouterUnderTest
from tests.support.parts import alert, notification
from tests.support.ports import free_port
from tests.support.processes import RunningProcess
from tests.support.router_process import sink, start_router

SECONDS = 600.0
SINKS = 1000
CHANGE_SECONDS = 0.02
"""Between two sinks that go and come."""
BUCKETS = 50
"""A sink gets the alerts of one of them."""
ALERTS = 500
"""That fire and end, again and again."""
POST_SECONDS = 0.02
LOOK_SECONDS = 10.0
MAY_GROW_BYTES = 16 * 1024**2
"""About a kilobyte for each sink that goes in the second half."""
BYTES_OF_A_DELIVERY = 3 * 1024
"""In memory while it waits; 2.3 KiB were measured."""
MAY_GROW_DESCRIPTORS = 200
"""Connections to the receivers come and go with what is sent."""
MAY_GROW_METRICS = 40
"""Lines: a reason that is counted for the first time adds some."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the router uses at one moment."""

    bytes: int
    descriptors: int
    metrics: int
    """Lines of them."""
    waiting: int = 0
    """Deliveries."""


def looked_at(process: RunningProcess) -> Look:
    """What a router uses now."""
    proc = Path(f"/proc/{process.pid}")
    resident = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    metrics = process.metrics()
    waiting = next(line for line in metrics.splitlines() if line.startswith("eventsink_router_deliveries_waiting "))
    return Look(resident, len(list((proc / "fd").iterdir())), metrics.count("\n"), int(float(waiting.split()[1])))


def problems_of(looks: Sequence[Look]) -> list[str]:
    """What has grown since half of the time: a sentence for each."""
    later = looks[len(looks) // 2 :]
    first, last = later[0], later[-1]
    found = []
    more_waiting = max(one.waiting for one in looks) - max(one.waiting for one in looks[: len(looks) // 2 + 1])
    if last.bytes - first.bytes > MAY_GROW_BYTES + more_waiting * BYTES_OF_A_DELIVERY:
        found.append(f"memory grew from {first.bytes} to {last.bytes} bytes")
    if last.descriptors - first.descriptors > MAY_GROW_DESCRIPTORS:
        found.append(f"descriptors grew from {first.descriptors} to {last.descriptors}")
    if last.metrics - first.metrics > MAY_GROW_METRICS:
        found.append(f"metrics grew from {first.metrics} to {last.metrics} lines")
    return found


def load(router: RouterUnderTest, seconds: float) -> list[Look]:
    """Post alerts and their ends for so long, and look at the router meanwhile."""
    looks: list[Look] = []
    began = time.monotonic()
    every = min(LOOK_SECONDS, seconds / 9)
    for number in itertools.count():
        status = "firing" if number // ALERTS % 2 == 0 else "resolved"
        name = f"A{number % ALERTS}"
        posted = alert(name, status=status, namespace="acme", bucket=str(number % BUCKETS))
        router.post_bytes(json.dumps(notification(posted, group=name)).encode())
        time.sleep(POST_SECONDS)
        now = time.monotonic() - began
        if now > every * (len(looks) + 1):
            looks.append(looked_at(router.running))
        if now > seconds:
            return looks
    raise AssertionError


def audit(folder: Path, *, seconds: float, sinks: int) -> tuple[list[Look], int]:
    """A router with so many sinks that come and go for so long: what it used, and how many messages arrived."""
    recorder = Recorder()
    recorder.status["/failing"] = 503
    addresses = [f"http://127.0.0.1:{recorder.port}{path}" for path in ("/well", "/failing")]
    addresses.append(f"http://127.0.0.1:{free_port()}/unreachable")
    with start_router(
        folder, str(sinks), *addresses, module="tests.soak.sinks", queue={"maxDead": 1000}, log="router.log"
    ) as router:
        looks = load(router, seconds)
        assert router.running.terminate() == 0
    return looks, recorder.count


async def serve(settings: RouterSettings, sinks: int, addresses: Sequence[str], stop: asyncio.Event) -> None:
    """The router, whose sinks come and go."""

    async def come_and_go() -> None:
        while True:
            await asyncio.sleep(CHANGE_SECONDS)
            router.directory.remove(known.popleft())
            come()

    def come() -> None:
        number = next(numbers)
        matcher = quote(f'bucket="{number % BUCKETS}"')
        one = sink(number, f"{addresses[number % len(addresses)]}#matcher={matcher}")
        router.directory.put(one)
        known.append(one.uid)

    async with Process("router", settings.monitor, stop) as process:
        router = await Router.open(settings, process)
        numbers, known = itertools.count(1), deque[str]()
        router.directory.set_tenancy(Tenancy(owners={"acme": "acme"}))
        for _ in range(sinks):
            come()
        router.directory.mark_loaded()
        process.start("sinks", come_and_go())
        await process.until_stopped()


def main(seconds: float | None = None) -> None:
    """Run the audit and print its figures."""
    with tempfile.TemporaryDirectory() as name:
        looks, arrived = audit(Path(name), seconds=seconds or SECONDS, sinks=SINKS)
    for look in looks:
        print(
            f"{look.bytes / 1024**2:6.1f} MiB, {look.descriptors} descriptors, {look.metrics} lines of metrics, {look.waiting} waiting"
        )
    print(f"{SINKS} sinks, {(seconds or SECONDS) / CHANGE_SECONDS:.0f} came and went, {arrived} messages arrived")
    if problems := problems_of(looks):
        raise AssertionError("\n".join(problems))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        config, number, *urls = sys.argv[1:]
        sys.exit(
            run_command(
                "router",
                lambda: load_settings(RouterSettings, part="router", path=Path(config)),
                lambda settings, stop: serve(settings, int(number), urls, stop),
            )
        )
    main(float(sys.argv[1]) if len(sys.argv) > 1 else None)
