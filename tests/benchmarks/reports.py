"""Statuses written to a real API server: the rate beside bare requests, when a change is visible, and what looking around costs.

python -m tests.benchmarks.reports [SINKS | full]
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry

from eventsink.kube.api import Api
from eventsink.kube.http import HttpApi, connect
from eventsink.kube.settings import KubernetesSettings
from eventsink.resources.names import EVENTSINKS
from eventsink.router.directory import SinkDirectory
from eventsink.router.dispatch.health import DeliveringState, SinkHealth
from eventsink.router.metrics import ReportMetrics
from eventsink.router.queue.states import SinkReport
from eventsink.router.reports.log import ReportLog
from eventsink.router.reports.reporter import WRITES_AT_ONCE, StatusReporter, status_body
from eventsink.router.reports.settings import ReportSettings
from eventsink.sinks.sink import CompiledFrom, Sink
from tests.controlplane import ControlPlane
from tests.support.cluster import install, install_crd
from tests.support.kubectl import Kubectl
from tests.support.load import size
from tests.support.sinks import event_sink

NAMESPACE = "acme"
IDLE_SECONDS = 10.0
FAST = 10_000
"""A second: no bound."""
MOST_COMPARED = 1_000
"""Statuses whose rate is measured."""
NOTHING = SinkHealth(DeliveringState.UNKNOWN, "NothingSent", "nothing was sent yet")
ARRIVED = SinkHealth(DeliveringState.TRUE, "Delivered", "the last message arrived", last_delivered=1_800_000_000.0)
HELD = SinkHealth(DeliveringState.FALSE, "HTTP404", "https://example.com responded with 404", last_error="HTTP404: it did")


class NotKept:
    """A store of reports that forgets them: the queue has a benchmark of its own."""

    def clock(self) -> float:
        return time.monotonic()

    async def sink_reports(self) -> AsyncIterator[SinkReport]:
        for one in list[SinkReport]():
            yield one

    def are_statuses_known(self) -> bool:
        return True

    async def report(self, reports: Sequence[SinkReport], *, removed: Sequence[str] = ()) -> None:
        pass


class Reports:
    """A reporter of sinks that exist, with a health that the benchmark sets."""

    def __init__(self, api: Api, sinks: Iterable[Sink], per_second: int) -> None:
        self.directory = SinkDirectory()
        for one in sinks:
            self.directory.put(one)
        self.health: dict[str, SinkHealth] = {}
        self.log = ReportLog(NotKept())
        self.reporter = StatusReporter(
            ReportSettings(per_second=per_second),
            api,
            self.directory,
            self.log,
            lambda uid: self.health.get(uid, NOTHING),
            ReportMetrics(CollectorRegistry()),
            resume=lambda report: None,
            queue_clock=time.monotonic,
        )

    def now(self, sinks: Iterable[Sink], health: SinkHealth) -> None:
        """How it goes with these from now on."""
        for one in sinks:
            self.health[one.uid] = health
            self.reporter.changed(one, health)

    def written(self, one: Sink) -> bool:
        """Whether the status says so."""
        report = self.log.written(one.uid)
        return report is not None and report.reason == self.health[one.uid].reason

    async def until_written(self, sinks: Sequence[Sink]) -> float:
        """Seconds until the API server has it all."""
        began = time.monotonic()
        while not all(self.written(one) for one in sinks):
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.reporter.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def each(work: Iterator[Callable[[], object]]) -> None:
    """Do all of it, as many at a time as the reporter."""

    async def some() -> None:
        for one in work:
            await one()  # type: ignore[misc]

    await asyncio.gather(*(some() for _ in range(WRITES_AT_ONCE)))


async def create(api: HttpApi, count: int) -> list[Sink]:
    """EventSinks, and what they are compiled to as far as a status needs it."""
    found: list[Sink] = []

    async def one(number: int) -> None:
        manifest = event_sink(NAMESPACE, f"s{number}", tenant=NAMESPACE, webhook={"url": "https://example.com/"})
        made = await api.create(EVENTSINKS, manifest)
        found.append(
            Sink(
                uid=made["metadata"]["uid"],
                namespace=NAMESPACE,
                name=f"s{number}",
                display_name="",
                tenant=NAMESPACE,
                compiled_from=CompiledFrom(generation=1),
                destination="",
            )
        )

    await each(lambda number=number: one(number) for number in range(count))  # type: ignore[misc]
    return found


async def bare_rate(api: HttpApi, sinks: Sequence[Sink]) -> float:
    """Statuses a second of requests alone."""
    began = time.monotonic()
    bodies = [status_body(one, HELD, "2026-01-01T00:00:00Z") for one in sinks]
    await each(
        lambda body=body: api.apply(EVENTSINKS, body, manager="eventsink-router", subresource="status")  # type: ignore[misc]
        for body in bodies
    )
    return len(sinks) / (time.monotonic() - began)


async def measure(admin: Path, router: Path, count: int) -> None:
    """Print a line for each figure."""
    creator = await connect(KubernetesSettings(kubeconfig=admin), "benchmark")
    api = await connect(KubernetesSettings(kubeconfig=router), "router")
    sinks = await create(creator, count)
    await creator.close()

    compared = sinks[:MOST_COMPARED]
    bare = await bare_rate(api, compared)
    fast = Reports(api, sinks, FAST)
    async with fast.running():
        fast.now(compared, ARRIVED)
        rate = len(compared) / await fast.until_written(compared)
    print(
        f"{count} sinks: {rate:.0f} statuses/s without a bound, {rate / bare:.2f} times the rate of bare requests ({bare:.0f}/s)"
    )

    reports = Reports(api, sinks, ReportSettings().per_second)
    some, single = sinks[: min(count - 1, 300)], sinks[-1]
    async with reports.running():
        reports.now([single], HELD)
        print(f"one change: written after {await reports.until_written([single]):.2f} s")
        reports.now(some, HELD)
        took = await reports.until_written(some)
        alone = len(some) / await bare_rate(api, some)
        print(f"{len(some)} at once: the last after {took:.1f} s, where requests alone take {alone:.1f} s")
        others = sinks[len(some) : -1]
        reports.now(others, ARRIVED)
        await asyncio.sleep(1.0)
        reports.now([single], ARRIVED)
        print(f"one recovers while {len(others)} deliver for the first time: {await reports.until_written([single]):.2f} s")
        print(f"those {len(others)}, at {ReportSettings().per_second}/s: {await reports.until_written(others) + 1.0:.0f} s")
        began = time.process_time()
        await asyncio.sleep(IDLE_SECONDS)
        share = (time.process_time() - began) / IDLE_SECONDS
        print(f"nothing changes: {share:.2%} of a processor")
    await api.close()


def main(count: int) -> None:
    """Start a control plane, and measure."""
    with ControlPlane() as plane:
        admin = Kubectl(plane.admin_kubeconfig)
        install_crd(admin)
        installed = install(plane, admin)
        admin.run("create", "namespace", NAMESPACE)
        asyncio.run(measure(plane.admin_kubeconfig, installed.router, count))


if __name__ == "__main__":
    main(size(500, 10_000))
