"""Statuses are written when something is new, in a good order, at a bounded rate, and through whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Literal

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from eventsink.kube.api import ApiError, Conflict, Forbidden, Invalid, NotFound, Object, Resource, Unavailable
from eventsink.kube.local import LocalApi
from eventsink.resources.names import EVENTSINKS
from eventsink.resources.status import DELIVERS_AGAIN
from eventsink.router.directory import SinkDirectory
from eventsink.router.dispatch.health import DeliveringState, SinkHealth, resumed
from eventsink.router.metrics import ReportMetrics
from eventsink.router.queue.protocol import QueueUnavailable
from eventsink.router.queue.states import SinkReport
from eventsink.router.reports import order, reporter
from eventsink.router.reports.log import ReportLog
from eventsink.router.reports.reporter import WRITES_AT_ONCE, StatusReporter
from eventsink.router.reports.settings import ReportSettings
from eventsink.sinks.sink import Tenancy
from tests.unit.router.sinks import sink, uid

DEADLINE_SECONDS = 30.0
NOTHING = SinkHealth(DeliveringState.UNKNOWN, "NothingSent", "nothing was sent yet")
ARRIVED = SinkHealth(DeliveringState.TRUE, "Delivered", "the last message arrived", last_delivered=1_800_000_000.0)
HELD = SinkHealth(DeliveringState.FALSE, "HTTP404", "https://x responded with 404", last_error="HTTP404: 404")


class StatusApi(LocalApi):
    """An API server that a test has fail."""

    def __init__(self) -> None:
        super().__init__((EVENTSINKS,))
        self.wrote: list[tuple[str, str]] = []
        """Name and reason of each status written."""
        self.errors: Callable[[str], ApiError | None] = lambda _name: None
        """Name of the object -> what its next write ends with."""
        self.attempts = 0
        self.in_flight = self.most_in_flight = 0
        self.response = asyncio.Event()
        """Until it is set, no write ends."""
        self.response.set()

    async def apply(self, resource: Resource, obj: Object, *, manager: str, subresource: Literal["", "status"] = "") -> Object:
        self.attempts += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.response.wait()
            if (error := self.errors(obj["metadata"]["name"])) is not None:
                raise error
            applied = await super().apply(resource, obj, manager=manager, subresource=subresource)
        finally:
            self.in_flight -= 1
        if "status" in obj:
            self.wrote.append((obj["metadata"]["name"], obj["status"]["conditions"][0]["reason"]))
        return applied

    def status(self, name: str) -> Any:
        """What the status of a sink says."""
        return next(one for one in self.objects(EVENTSINKS) if one["metadata"]["name"] == name).get("status")


class KeptReports:
    """What the queue keeps, beside the queue."""

    def __init__(self) -> None:
        self.kept: dict[str, SinkReport] = {}
        self.fails = False

    def clock(self) -> float:
        return 1000.0

    async def sink_reports(self) -> AsyncIterator[SinkReport]:
        for one in list(self.kept.values()):
            yield one

    def are_statuses_known(self) -> bool:
        return True

    async def report(self, reports: Sequence[SinkReport], *, removed: Sequence[str] = ()) -> None:
        if self.fails:
            raise QueueUnavailable("the disk is full")
        self.kept |= {one.uid: one for one in reports}
        for one in removed:
            self.kept.pop(one, None)


class ReporterUnderTest:
    """A reporter over sinks whose health a test sets; run again, it goes on with what was kept."""

    def __init__(self, *names: str, **settings: object) -> None:
        self.settings = ReportSettings.model_validate({"perSecond": 5000, **settings})
        self.api = StatusApi()
        self.kept = KeptReports()
        self.health: dict[str, SinkHealth] = {}
        self.judged: set[str] = set()
        self.registry = CollectorRegistry()
        self.directory = SinkDirectory()
        self.directory.set_tenancy(Tenancy())
        self.reporter: StatusReporter
        self.log: ReportLog
        for name in names:
            self.add(name)

    def add(self, name: str, health: SinkHealth = NOTHING, *, tenant: str = "acme") -> None:
        """An EventSink of that name, and the router knows it."""
        self.create(name, uid(name))
        self.health[uid(name)] = health
        self.directory.put(sink(name, tenant=tenant))

    def create(self, name: str, identity: str) -> None:
        """An EventSink, of which the router knows nothing."""
        self.api.put(EVENTSINKS, {"metadata": {"namespace": "acme", "name": name, "uid": identity}})

    def now(self, name: str, health: SinkHealth) -> None:
        """How it goes with a sink from now on."""
        self.health[uid(name)] = health
        self.reporter.changed(sink(name), health)

    def _look(self, identity: str) -> SinkHealth | None:
        self.judged.add(identity)
        return self.health.get(identity)

    def _resume(self, report: SinkReport) -> None:
        found = resumed(report)
        self.health[report.uid] = SinkHealth(found.state, found.reason, found.message, report.last_delivered, report.last_error)

    @asynccontextmanager
    async def running(self, *, kept: bool = True) -> AsyncIterator[None]:
        """The reporter in a new process."""
        self.judged.clear()
        self.api.wrote.clear()
        self.registry = CollectorRegistry()
        self.log = ReportLog(self.kept)
        await self.log.load()
        if not kept:
            self.log.lose_statuses()
        self.reporter = StatusReporter(
            self.settings,
            self.api,
            self.directory,
            self.log,
            self._look,
            ReportMetrics(self.registry),
            resume=self._resume,
            queue_clock=self.kept.clock,
        )
        task = asyncio.ensure_future(self.reporter.run())
        try:
            await self.until(lambda: self.judged >= self.directory.sinks.keys())
            yield
            assert not task.done()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self.log.save()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                await asyncio.sleep(0.001)

    async def until_written(self, *expected: tuple[str, str]) -> None:
        await self.until(lambda: set(expected) <= set(self.api.wrote))

    async def until_all_is_written(self) -> list[tuple[str, str]]:
        """What was written before a new sink, for which nobody waits."""
        marker = f"marker-{len(self.directory.sinks)}"
        self.add(marker)
        await self.until_written((marker, "NothingSent"))
        return [one for one in self.api.wrote if one[0] != marker]

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"eventsink_router_{name}", labels) or 0.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks around, and rests, in milliseconds."""
    for name, seconds in (
        ("ROUND_SECONDS", 0.06),
        ("SAVE_SECONDS", 0.005),
        ("REST_SECONDS", 0.02),
        ("FAILED_REST_SECONDS", 0.03),
    ):
        monkeypatch.setattr(reporter, name, seconds)


async def test_a_change_is_written_and_what_is_written_is_not_written_again() -> None:
    under_test = ReporterUnderTest()
    async with under_test.running():
        under_test.add("a")
        await under_test.until_written(("a", "NothingSent"))
        under_test.now("a", ARRIVED)
        await under_test.until_written(("a", "Delivered"))
        assert await under_test.until_all_is_written() == [("a", "NothingSent"), ("a", "Delivered")]
        assert under_test.metric("status_writes_total", about="change") == 1
    status = under_test.api.status("a")
    assert [(one["type"], one["status"], one["reason"]) for one in status["conditions"]] == [("Delivering", "True", "Delivered")]
    assert status["delivery"] == {"lastDeliveredTime": "2027-01-15T08:00:00Z"}


async def test_a_restart_writes_nothing_and_what_changes_after_it_keeps_its_time() -> None:
    names = [f"s{n}" for n in range(20)]
    under_test = ReporterUnderTest(*names)
    async with under_test.running():
        for name in names:
            under_test.now(name, HELD)
        await under_test.until_written(*((name, "HTTP404") for name in names))
    since = under_test.api.status("s0")["conditions"][0]["lastTransitionTime"]
    async with under_test.running():
        assert await under_test.until_all_is_written() == []
        under_test.now("s0", SinkHealth(DeliveringState.FALSE, "HTTP401", "401"))
        await under_test.until_written(("s0", "HTTP401"))
    assert under_test.api.status("s0")["conditions"][0]["lastTransitionTime"] == since


async def test_sinks_that_are_older_than_the_router_say_at_once_that_nothing_was_sent() -> None:
    under_test = ReporterUnderTest("a", "b")
    async with under_test.running():
        await under_test.until_written(("a", "NothingSent"), ("b", "NothingSent"))
    async with under_test.running():
        assert await under_test.until_all_is_written() == []


@pytest.mark.parametrize(
    "health", [ARRIVED, HELD, SinkHealth(DeliveringState.TRUE, "Delivered", DELIVERS_AGAIN, 1_800_000_000.0)]
)
async def test_with_a_new_queue_the_router_goes_on_with_what_the_status_says(health: SinkHealth) -> None:
    under_test = ReporterUnderTest("a")
    async with under_test.running():
        under_test.now("a", health)
        await under_test.until_written(("a", health.reason))
    before, found = under_test.api.status("a"), under_test.kept.kept[uid("a")]
    under_test.kept.kept.clear()
    under_test.health[uid("a")] = NOTHING
    async with under_test.running():
        await under_test.until(lambda: under_test.log.written(uid("a")))
        assert under_test.health[uid("a")] == health
        assert await under_test.until_all_is_written() == []
        assert under_test.api.status("a") == before
    assert msgspec.structs.replace(under_test.kept.kept[uid("a")], at=0) == msgspec.structs.replace(found, at=0)


async def test_a_status_that_cannot_be_read_is_read_again() -> None:
    under_test = ReporterUnderTest("a")
    under_test.api.errors = lambda _name: Forbidden(403, "Forbidden", "no") if under_test.api.attempts < 3 else None
    async with under_test.running():
        await under_test.until_written(("a", "NothingSent"))


async def test_a_thousand_that_fail_and_recover_keep_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "REST_SECONDS", 0.0)
    monkeypatch.setattr(reporter, "FLAPPING_REST_SECONDS", 0.0)
    names = [f"s{n}" for n in range(1000)]
    under_test = ReporterUnderTest(*names, perSecond=100)
    under_test.add("other", tenant="beta")
    under_test.add("quiet")
    async with under_test.running():
        for _ in range(5):
            for name in names:
                under_test.now(name, HELD if under_test.health[uid(name)] is not HELD else ARRIVED)
            await asyncio.sleep(0.02)
        for name in ("other", "quiet"):
            written = len(under_test.api.wrote)
            under_test.now(name, ARRIVED)
            await under_test.until_written((name, "Delivered"))
            assert len(under_test.api.wrote) - written < 100, "within a second"


async def test_a_sink_that_flaps_says_so_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "FLAPPING_REST_SECONDS", 3600.0)
    under_test = ReporterUnderTest("a")
    async with under_test.running():
        for health in (HELD, ARRIVED, HELD):
            under_test.now("a", health)
            await under_test.until_written(("a", health.reason))
            under_test.api.wrote.clear()
        under_test.now("a", ARRIVED)
        assert await under_test.until_all_is_written() == []
        assert under_test.metric("status_writes_total", about="again") == 1


async def test_a_message_that_changes_alone_is_written() -> None:
    under_test = ReporterUnderTest("a")
    async with under_test.running():
        under_test.now("a", HELD)
        await under_test.until_written(("a", "HTTP404"))
        under_test.health[uid("a")] = replace(HELD, message="https://y responded with 404")
        await under_test.until(lambda: under_test.api.status("a")["conditions"][0]["message"] == "https://y responded with 404")


async def test_a_sink_that_was_made_while_the_router_was_down_is_new() -> None:
    under_test = ReporterUnderTest("before")
    async with under_test.running():
        pass
    under_test.add("meanwhile")
    async with under_test.running():
        await under_test.until_written(("meanwhile", "NothingSent"))
        assert await under_test.until_all_is_written() == [("meanwhile", "NothingSent")]


async def test_where_statuses_do_not_survive_a_restart_what_is_known_is_written_again() -> None:
    under_test = ReporterUnderTest("a")
    async with under_test.running():
        under_test.now("a", ARRIVED)
        await under_test.until_written(("a", "Delivered"))
    async with under_test.running(kept=False):
        await under_test.until_written(("a", "Delivered"))


async def test_a_failure_overtakes_a_thousand_first_deliveries() -> None:
    names = [f"s{n}" for n in range(1000)]
    under_test = ReporterUnderTest(*names, "failing", perSecond=20)
    async with under_test.running():
        for name in names:
            under_test.now(name, ARRIVED)
        await under_test.until(lambda: under_test.api.wrote)
        under_test.now("failing", HELD)
        await under_test.until_written(("failing", "HTTP404"))
        assert under_test.metric("status_changes_waiting") > 800
        assert len(under_test.api.wrote) < 200, "what was saved of the rate, and what was in flight"


async def test_refreshes_take_a_third_of_the_rate_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "REFRESHED_SECONDS", 0.0)
    names = [f"s{n}" for n in range(20)]
    under_test = ReporterUnderTest(*names, perSecond=30)
    for name in names:
        under_test.health[uid(name)] = replace(ARRIVED, last_delivered=1_800_000_001.0)
        under_test.kept.kept[uid(name)] = SinkReport(uid(name), "True", "Delivered", ARRIVED.message, "2026-01-01T00:00:00Z")
    async with under_test.running():
        loop = asyncio.get_running_loop()
        began = loop.time()
        await under_test.until(lambda: len(under_test.api.wrote) == 20)
        assert loop.time() - began >= 0.9  # ten at once, and ten a second


async def test_no_more_than_a_few_writes_are_in_flight() -> None:
    names = [f"s{n}" for n in range(100)]
    under_test = ReporterUnderTest(*names)
    under_test.api.response.clear()
    async with under_test.running():
        for name in names:
            under_test.now(name, ARRIVED)
        await under_test.until(lambda: under_test.api.in_flight == WRITES_AT_ONCE)
        under_test.api.response.set()
        await under_test.until_written(*((name, "Delivered") for name in names))
        assert under_test.api.most_in_flight == WRITES_AT_ONCE


async def test_what_changes_while_it_is_written_is_written_afterwards() -> None:
    under_test = ReporterUnderTest("a")
    under_test.api.response.clear()
    async with under_test.running():
        under_test.now("a", ARRIVED)
        await under_test.until(lambda: under_test.api.in_flight)
        under_test.now("a", HELD)
        under_test.api.response.set()
        await under_test.until_written(("a", "HTTP404"))


async def test_a_sink_that_changes_all_the_time_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "REST_SECONDS", 3600.0)
    under_test = ReporterUnderTest("a", "b")
    async with under_test.running():
        under_test.now("a", HELD)
        await under_test.until_written(("a", "HTTP404"))
        for health in (ARRIVED, HELD) * 10:
            under_test.now("a", health)
            await asyncio.sleep(0)
        under_test.now("b", ARRIVED)
        await under_test.until_written(("b", "Delivered"))
        changes = [one for one in under_test.api.wrote if one[1] != "NothingSent"]
        assert changes == [("a", "HTTP404"), ("b", "Delivered")]


@pytest.mark.parametrize(
    "error",
    [
        Invalid(422, "Invalid", "status is invalid"),
        Forbidden(403, "Forbidden", "not in this namespace"),
        Conflict(409, "Conflict", "changed"),
        NotFound(404, "NotFound", "gone"),
        ApiError(405, "MethodNotAllowed", "no"),
    ],
)
async def test_a_status_that_cannot_be_written_keeps_back_no_other_and_is_tried_again(error: ApiError) -> None:
    others = [f"s{n}" for n in range(50)]
    under_test = ReporterUnderTest("a-bad-one", *others)
    under_test.api.errors = lambda name: error if name == "a-bad-one" else None
    async with under_test.running():
        for name in ("a-bad-one", *others):
            under_test.now(name, ARRIVED)
        await under_test.until_written(*((name, "Delivered") for name in others))
        under_test.api.errors = lambda _name: None
        await under_test.until_written(("a-bad-one", "Delivered"))


@pytest.mark.parametrize("error", [Unavailable(503, "ServiceUnavailable", "no"), Forbidden(403, "Forbidden", "no")])
async def test_an_api_server_that_takes_nothing_is_left_alone_for_longer_and_longer(
    error: ApiError, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []

    class Waits:
        def wait(self, failures: int) -> float:
            waits.append(failures)
            return 0.02

    monkeypatch.setattr(reporter, "BACKOFF", Waits())
    names = [f"s{n}" for n in range(100)]
    under_test = ReporterUnderTest(*names)
    under_test.api.errors = lambda _name: error
    async with under_test.running():
        for name in names:
            under_test.now(name, ARRIVED)
        await under_test.until(lambda: len(waits) >= 3)
        assert waits[:3] == [1, 2, 3]
        assert under_test.metric("status_write_failures_total") >= 3
        under_test.api.errors = lambda _name: None
        await under_test.until_written(*((name, "Delivered") for name in names))


async def test_a_sink_that_was_made_again_does_not_get_the_status_of_the_one_before() -> None:
    under_test = ReporterUnderTest("a")
    async with under_test.running():
        under_test.create("a", uid("another"))
        under_test.now("a", HELD)
        await under_test.until_written(("a", "HTTP404"), ("a", "NothingSent"))
        assert under_test.api.status("a")["conditions"][0]["reason"] == "NothingSent"
        assert "delivery" not in under_test.api.status("a")


async def test_a_report_that_could_not_be_kept_is_kept_as_soon_as_the_queue_can_be_written() -> None:
    under_test = ReporterUnderTest("a")
    under_test.kept.fails = True
    async with under_test.running():
        under_test.now("a", ARRIVED)
        await under_test.until_written(("a", "Delivered"))
        await asyncio.sleep(0.02)
        under_test.kept.fails = False
        await under_test.until(lambda: under_test.kept.kept.get(uid("a")))


async def test_what_is_kept_of_a_deleted_sink_goes_with_it() -> None:
    under_test = ReporterUnderTest("a", "b")
    async with under_test.running():
        for name in "ab":
            under_test.now(name, ARRIVED)
        await under_test.until_written(("a", "Delivered"), ("b", "Delivered"))
        under_test.directory.remove(uid("a"))
        await under_test.log.prune(under_test.directory.sinks.keys())
    assert _names(under_test.kept.kept.values()) == {uid("b")}


def _names(reports: Iterable[SinkReport]) -> set[str]:
    return {one.uid for one in reports}
