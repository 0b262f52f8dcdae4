"""Sources that post reports, whenever they like: who is notified when, and what ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from tests.support.clock import ManualClock
from tests.unit.router.planning.planning import HALF_A, HALF_B, PlanningUnderTest
from tests.unit.router.sinks import directory, sink, source

DATA = Path(__file__).parents[3] / "data"
HOUR = 3600.0
FIRING, RESOLVED = [("s", "firing")], [("s", "resolved")]
Start = Callable[..., Awaitable[PlanningUnderTest]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts planning over these sinks with a source of a format."""
    running: list[PlanningUnderTest] = []

    async def started(source_format: str, *sinks: Any) -> PlanningUnderTest:
        clock = ManualClock()
        opened = await SqliteQueue.open(QueueSettings(path=tmp_path / "q.db", min_free_bytes=0), monotonic=clock)
        planning = PlanningUnderTest(opened, clock, directory(*sinks), source=source(format=source_format), resolve_grace=0.0)
        running.append(planning)
        await planning.start()
        return planning

    yield started
    for one in running:
        await one.stop()
        await one.queue.close()


def scanned(*severities: str) -> bytes:
    """A report of the Trivy operator."""
    metadata = {
        "name": "r",
        "namespace": "acme",
        "annotations": {"trivy-operator.aquasecurity.github.io/report-ttl": "24h0m0s"},
    }
    found = [{"vulnerabilityID": f"CVE-{number}", "severity": one} for number, one in enumerate(severities)]
    return json.dumps({"kind": "VulnerabilityReport", "metadata": metadata, "report": {"vulnerabilities": found}}).encode()


def judged(*results: str, **members: Any) -> bytes:
    """A PolicyReport, with a result for each of some policies."""
    listed = [{"policy": f"p{number}", "result": one} for number, one in enumerate(results)]
    report = {"apiVersion": "openreports.io/v1alpha1", "kind": "Report", "metadata": {"name": "r", "namespace": "acme"}}
    return json.dumps({"object": {**report, "results": listed}, **members}).encode()


async def test_a_report_that_is_posted_again_notifies_nobody_and_one_with_another_severity_does(start: Start) -> None:
    planning = await start("trivy-operator", sink("s"))
    assert await planning.send(scanned("HIGH")) == FIRING
    assert await planning.send(scanned("HIGH", "HIGH")) == []
    assert await planning.send(scanned("CRITICAL", "HIGH")) == FIRING
    assert await planning.send(scanned("HIGH")) == RESOLVED


async def test_what_is_still_found_after_the_sinks_repeat_interval_is_notified_again(start: Start) -> None:
    planning = await start("trivy-operator", sink("s", delivery={"repeat_interval": 8 * HOUR}))
    assert await planning.send(scanned("HIGH")) == FIRING
    assert await planning.pass_time(9 * HOUR) == []
    assert await planning.send(scanned("HIGH")) == FIRING


async def test_an_alert_whose_report_is_not_made_again_ends_by_itself(start: Start) -> None:
    planning = await start("trivy-operator", sink("s"))
    assert await planning.send(scanned("HIGH")) == FIRING
    assert await planning.pass_time(30 * HOUR) == []
    assert await planning.send(scanned("HIGH")) == []
    assert await planning.pass_time(35 * HOUR) == []
    assert await planning.pass_time(2 * HOUR) == RESOLVED


async def test_what_a_restarted_sender_with_another_address_says_has_ended_has_ended(start: Start) -> None:
    planning = await start("trivy-operator", sink("s"))
    assert await planning.send(scanned("HIGH"), HALF_A) == FIRING
    assert await planning.send(scanned("HIGH"), HALF_B) == []
    assert await planning.send(scanned(), HALF_B) == []  # it has neither findings nor a summary: it says nothing
    no_findings = json.loads(scanned()) | {"report": {"summary": {"highCount": 0}, "vulnerabilities": []}}
    assert await planning.send(json.dumps(no_findings).encode(), HALF_B) == RESOLVED


async def test_what_is_said_of_a_deleted_report_resolves_nothing(start: Start) -> None:
    planning = await start("trivy-operator", sink("s"))
    folder = DATA / "trivy_operator"
    assert len(await planning.send((folder / "update.json").read_bytes())) == 3
    assert await planning.send((folder / "delete_of_another_report.json").read_bytes()) == []


async def test_a_policy_that_passes_again_or_whose_report_is_deleted_has_ended(start: Start) -> None:
    planning = await start("policy-report", sink("s"))
    assert await planning.send(judged("fail", "pass", "warn")) == [*FIRING, *FIRING]
    assert await planning.send(judged("fail", "fail", "warn"), HALF_B) == FIRING
    assert await planning.send(judged("pass", "fail", "skip"), HALF_B) == [*RESOLVED, *RESOLVED]
    assert await planning.send(judged("pass", "fail", "skip", type="DELETED")) == RESOLVED
    assert await planning.send(judged()) == []
