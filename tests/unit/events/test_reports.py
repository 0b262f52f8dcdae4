"""Reports are posted when they change, and all of them in rounds; what is gone is posted as passed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest
from prometheus_client import CollectorRegistry

from eventsink.events import reports as module
from eventsink.events.config import EventsSettings
from eventsink.events.metrics import ReportsMetrics
from eventsink.events.posts import Item
from eventsink.events.reports import AT_ONCE, Reports
from eventsink.kube.api import Forbidden, Key, Object, Resource, Unavailable
from eventsink.kube.local import LocalApi
from eventsink.runtime.backoff import Backoff
from tests.unit.events.reports_made import CLUSTER, NAMESPACED, OPEN_NAMESPACED, report, result

DEADLINE_SECONDS = 30.0
BEGINS, ENDS = "begins", "ends"


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF", Backoff(first=0.001, longest=0.001))
    monkeypatch.setattr(module, "ROUND_BACKOFF", Backoff(first=0.001, longest=0.001))
    monkeypatch.setattr(module, "ABSENT_SECONDS", 0.01)


class Router:
    """Takes what is posted, and says whether it knows the round that ends."""

    problem = None

    def __init__(self) -> None:
        self.posted: list[str] = []
        self.knows_rounds = True
        self.gate = asyncio.Event()
        self.gate.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def say(self, body: bytes) -> bool:
        ends = bool(json.loads(body).get("ends"))
        self.posted.append(ENDS if ends else BEGINS)
        return self.knows_rounds or not ends

    async def send(self, items: Sequence[Item]) -> None:
        for one in items:
            document = json.loads(one.body)
            self.posted += [f"{document['metadata']['name']} {each['policy']} {each['result']}" for each in document["results"]]
        await self.gate.wait()


class FailingApi(LocalApi):
    """Fails as often as a test wants to read a report."""

    def __init__(self, *resources: Resource) -> None:
        super().__init__(resources)
        self.failures: list[Exception] = []
        self.unreadable = ""

    async def get(self, resource: Resource, key: Key) -> Object:
        if self.failures:
            raise self.failures.pop()
        if key[1] == self.unreadable:
            raise Unavailable(500, "InternalError", "it cannot be decoded")
        return await super().get(resource, key)


class Following:
    def __init__(self, api: LocalApi, *, groups: Sequence[str] = ("wgpolicyk8s.io",), **settings: Any) -> None:
        self.api = api
        self.passed = 0.0
        self.router = Router()
        self.metrics = ReportsMetrics(CollectorRegistry())
        given = EventsSettings.model_validate({"policyReports": {"groups": groups, **settings}})
        self.reports = Reports(api, given, self.router, self.metrics, clock=lambda: time.monotonic() + self.passed)  # type: ignore[arg-type]

    @property
    def posted(self) -> list[str]:
        return self.router.posted

    def count(self, name: str) -> float:
        value: float = getattr(self.metrics, name).collect()[0].samples[0].value
        return value

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                await asyncio.sleep(0.001)

    async def until_posted(self, *expected: str) -> None:
        """Wait for exactly this, and forget it."""
        try:
            await self.until(lambda: len(self.posted) >= len(expected))
        except TimeoutError:
            pass
        assert self.posted == list(expected)
        self.posted.clear()


@asynccontextmanager
async def following(api: LocalApi, **settings: Any) -> AsyncIterator[Following]:
    found = Following(api, **settings)
    tasks = [asyncio.create_task(work) for _, work in found.reports.works()]
    try:
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def api_with(*reports: dict[str, Any]) -> FailingApi:
    api = FailingApi(NAMESPACED, CLUSTER, OPEN_NAMESPACED)
    for one in reports:
        api.put(NAMESPACED, one)
    return api


async def test_at_the_start_everything_that_fails_is_posted_in_a_round() -> None:
    async with following(api_with(report("a", result("p"), result("q", "pass")), report("b", result("p", "pass")))) as found:
        await found.until_posted(BEGINS, "a p fail", ENDS)
        assert found.count("known") == 2
        assert found.count("rounds") == 1


async def test_in_a_cluster_without_reports_a_round_ends_what_there_was() -> None:
    async with following(api_with()) as found:
        await found.until_posted(BEGINS, ENDS)


async def test_a_report_that_changes_is_posted_with_what_does_not_fail_in_it_any_more() -> None:
    api = api_with(report("a", result("p"), result("q")))
    async with following(api) as found:
        await found.until_posted(BEGINS, "a p fail", "a q fail", ENDS)
        api.put(NAMESPACED, report("a", result("q"), result("s")))
        await found.until_posted("a p pass", "a q fail", "a s fail")
        api.put(NAMESPACED, report("a", result("q", "pass"), result("s")))
        await found.until_posted("a q pass", "a s fail")


async def test_a_report_of_which_nothing_but_times_changed_is_not_posted() -> None:
    api = api_with(report("a", result("p", timestamp={"seconds": 1})))
    async with following(api) as found:
        await found.until_posted(BEGINS, "a p fail", ENDS)
        api.put(NAMESPACED, report("a", result("p", timestamp={"seconds": 2})))
        await found.until(lambda: found.count("unchanged") == 1)
        api.put(NAMESPACED, report("b", result("p")))
        await found.until_posted("b p fail")


async def test_of_a_deleted_report_everything_has_passed() -> None:
    api = api_with(report("a", result("p"), result("q")))
    async with following(api) as found:
        await found.until_posted(BEGINS, "a p fail", "a q fail", ENDS)
        api.drop(NAMESPACED, ("shop", "a"))
        await found.until_posted("a p pass", "a q pass")
        assert found.count("known") == 0


async def test_of_changes_while_the_router_does_not_respond_the_newest_is_posted() -> None:
    api = api_with(report("a", result("p1")), report("b", result("p")))
    async with following(api) as found:
        await found.until_posted(BEGINS, "a p1 fail", "b p fail", ENDS)
        found.router.gate.clear()
        api.put(NAMESPACED, report("a", result("p2")))
        await found.until_posted("a p1 pass", "a p2 fail")
        for number in range(3, 50):
            api.put(NAMESPACED, report("a", result(f"p{number}")))
        await found.until(lambda: found.count("waiting") == 1)
        await api.caught_up()
        found.router.gate.set()
        await found.until_posted("a p2 pass", "a p49 fail")


async def test_all_reports_are_posted_again_when_the_time_has_come() -> None:
    api = api_with(report("a", result("p")))
    async with following(api, roundInterval="6h") as found:
        await found.until_posted(BEGINS, "a p fail", ENDS)
        found.passed += 6 * 3600
        api.put(NAMESPACED, report("b", result("q")))
        await found.until(lambda: len(found.posted) == 4)
        assert sorted(found.posted) == sorted([BEGINS, "a p fail", "b q fail", ENDS])


async def test_a_round_whose_end_the_router_does_not_know_is_repeated() -> None:
    async with following(api_with(report("a", result("p")))) as found:
        found.router.knows_rounds = False
        await found.until(lambda: found.posted.count(ENDS) == 2)
        found.router.knows_rounds = True
        await found.until(lambda: found.count("rounds") == 1)
        assert found.posted == [BEGINS, "a p fail", ENDS] * found.posted.count(ENDS)


async def test_no_round_begins_while_some_reports_cannot_be_listed() -> None:
    api = api_with(report("a", result("p")))
    listed = api.list

    async def denied(collection: Any, **more: Any) -> Any:
        if collection.resource is CLUSTER:
            raise Forbidden(403, "Forbidden", "no")
        return await listed(collection, **more)

    api.list = denied  # type: ignore[method-assign]
    async with following(api) as found:
        await found.until(lambda: "policyReports.groups" in (found.reports.problem or ""))
        await found.until(lambda: found.count("known") == 1)
        assert found.posted == []


async def test_a_kind_that_the_api_server_does_not_have_is_waited_for_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    api = api_with(report("a", result("p")))
    async with following(api, groups=["wgpolicyk8s.io", "openreports.io"]) as found:  # of which it has no ClusterReports
        await found.until_posted(BEGINS, "a p fail", ENDS)
        api.put(OPEN_NAMESPACED, report("o", result("p"), resource=OPEN_NAMESPACED))
        await found.until_posted("o p fail")
    assert capfd.readouterr().err == ""


async def test_reports_that_cannot_be_read_now_are_read_later() -> None:
    api = api_with(report("a", result("p")), report("b", result("p")))
    api.failures = [Unavailable(0, "Unavailable", "no response"), Unavailable(503, "Unavailable", "later")]
    async with following(api) as found:
        await found.until(lambda: len(found.posted) >= 4)
        assert found.posted in ([BEGINS, "a p fail", "b p fail", ENDS], [BEGINS, "b p fail", "a p fail", ENDS])


async def test_a_report_that_can_never_be_read_keeps_back_no_other_and_ends_no_round() -> None:
    api = api_with(*(report(f"r{number}", result("p")) for number in range(AT_ONCE + 5)))
    api.unreadable = "r1"
    async with following(api) as found:
        expected = {f"r{number} p fail" for number in range(AT_ONCE + 5) if number != 1}
        await found.until(lambda: set(found.posted) == {BEGINS, *expected})
        api.put(NAMESPACED, report("r2", result("q")))
        await found.until(lambda: "r2 q fail" in found.posted)
        assert ENDS not in found.posted
        api.unreadable = ""
        await found.until(lambda: found.posted[-1] == ENDS)
        assert "r1 p fail" in found.posted


async def test_of_listed_namespaces_only_their_reports_are_followed() -> None:
    api = api_with(report("a", result("p")))
    api.put(CLUSTER, report("c", result("p"), resource=CLUSTER))
    other = report("b", result("p"))
    other["metadata"]["namespace"] = "other"
    api.put(NAMESPACED, other)
    found = Following(api)
    given = EventsSettings.model_validate({"policyReports": {"groups": ["wgpolicyk8s.io"]}, "namespaces": ["shop"]})
    found.reports = Reports(api, given, found.router, ReportsMetrics(CollectorRegistry()))  # type: ignore[arg-type]
    tasks = [asyncio.create_task(work) for _, work in found.reports.works()]
    try:
        await found.until_posted(BEGINS, "a p fail", ENDS)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
