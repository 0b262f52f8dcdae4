"""A source that sends everything that fires in a round: what it has left out has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from eventsink.alerts.alert import UnusablePayload
from eventsink.router.planning.timeouts import ALERTS_AT_ONCE
from eventsink.router.queue.protocol import QueueUnavailable
from eventsink.router.queue.sqlite.store import Store
from tests.unit.router.planning.planning import PlanningUnderTest, Start
from tests.unit.router.sinks import sink, source

REPORTS: Mapping[str, Any] = {"source": source(format="policy-report")}
FIRING, RESOLVED = [("s", "firing")], [("s", "resolved")]


def report(name: str, *policies: str, result: str = "fail") -> bytes:
    results = [{"policy": one, "result": result} for one in policies]
    metadata = {"name": name, "namespace": "acme", "creationTimestamp": "2026-01-01T12:00:00Z"}
    return json.dumps(
        {"apiVersion": "openreports.io/v1alpha1", "kind": "Report", "metadata": metadata, "results": results}
    ).encode()


async def begin(planning: PlanningUnderTest, name: str) -> list[tuple[str, str]]:
    return await planning.send(json.dumps({"round": name}).encode())


async def end(planning: PlanningUnderTest, name: str) -> list[tuple[str, str]]:
    return await planning.send(json.dumps({"round": name, "ends": True}).encode())


async def test_what_a_round_leaves_out_has_ended_and_what_is_in_it_fires_on(start: Start) -> None:
    planning = await start(sink("s"), **REPORTS)
    assert await planning.send(report("a", "left-out", "kept")) == 2 * FIRING
    planning.later(60)
    assert await begin(planning, "one") == []
    assert await planning.send(report("a", "kept")) == []
    assert await planning.send(report("b", "new")) == FIRING
    assert await end(planning, "one") == RESOLVED
    assert planning.states.firing == 2
    # It is an alert like any other: it may fire again.
    assert await planning.send(report("a", "left-out", "kept")) == FIRING


async def test_what_a_round_leaves_out_has_ended_also_after_a_restart_and_at_once(start: Start) -> None:
    planning = await start(sink("s"), **REPORTS)
    await planning.send(report("a", *(f"p{number}" for number in range(ALERTS_AT_ONCE + 50))))
    planning = await start(sink("s"), **REPORTS, resolve_grace=300)
    await begin(planning, "one")
    await planning.send(report("a", "p7"))
    assert await end(planning, "one") == (ALERTS_AT_ONCE + 49) * RESOLVED
    assert planning.states.firing == 1
    planning = await start(sink("s"), **REPORTS)
    assert planning.states.firing == 1


async def test_what_begins_a_round_and_arrives_once_more_ends_nothing_of_the_round(start: Start) -> None:
    planning = await start(sink("s"), **REPORTS)
    await begin(planning, "one")
    planning.later(60)
    await planning.send(report("a", "kept"))
    planning.later(60)
    await begin(planning, "one")
    assert await end(planning, "one") == []
    assert planning.states.firing == 1


async def test_alerts_of_other_sources_do_not_end_with_a_round(start: Start) -> None:
    planning = await start(sink("s"), **REPORTS)
    others = source(name="others", format="policy-report")
    await planning.acceptor.accept_bytes(others, report("a", "p"), "10.0.0.3")
    await begin(planning, "one")
    assert await end(planning, "one") == []
    assert planning.states.firing == 1


@pytest.mark.parametrize("why", ["it was not begun", "another one was begun", "it has ended", "the router has started since"])
async def test_a_round_that_is_not_known_ends_nothing(start: Start, why: str) -> None:
    planning = await start(sink("s"), **REPORTS)
    await planning.send(report("a", "p"))
    planning.later(60)
    if why != "it was not begun":
        await begin(planning, "one")
        await planning.send(report("a", "p"))
    if why == "another one was begun":
        await begin(planning, "two")
    if why == "it has ended":
        await end(planning, "one")
    if why == "the router has started since":
        planning = await start(sink("s"), **REPORTS)
    with pytest.raises(UnusablePayload, match="begin again"):
        await end(planning, "one")
    assert planning.states.firing == 1


async def test_an_end_that_could_not_be_stored_comes_when_it_is_said_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    planning = await start(sink("s"), **REPORTS)
    await planning.send(report("a", "p"))
    planning.later(60)
    await begin(planning, "one")
    with monkeypatch.context() as patched:
        patched.setattr(Store, "commit", _fail)
        with pytest.raises(QueueUnavailable):
            await end(planning, "one")
    assert planning.states.firing == 1
    assert await end(planning, "one") == RESOLVED


def _fail(*_: object, **__: object) -> None:
    raise OSError("no disk")
