"""What is sent of a report, and that the router makes the same alerts of it as of the whole one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eventsink.alerts.alert import IncomingAlert, Status
from eventsink.alerts.formats.policy_report import MAX_ALERTS, parse
from eventsink.events.remembered import RESULT_BYTES, Remembered
from eventsink.events.report import ITEM_ALERTS, RESOURCES, Report, passed, report_of
from tests.unit.events.reports_made import CLUSTER, NAMESPACED, OPEN_NAMESPACED, about, report, result

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
RECORDED = Path(__file__).parents[2] / "data" / "policy_report"
BY_KIND = {one.kind: one for both in RESOURCES.values() for one in both}


def alerts(items: Any) -> list[IncomingAlert]:
    return [alert for one in items for alert in parse(b'{"items":[' + one.body + b"]}", NOW).alerts]


def labels(found: list[IncomingAlert]) -> list[dict[str, str]]:
    return [one.labels for one in found]


@pytest.mark.parametrize("file", ["openreports.json", "wgpolicy.json"])
def test_of_what_is_sent_the_same_alerts_are_made_as_of_the_recorded_reports(file: str) -> None:
    recorded = json.loads((RECORDED / file).read_text())
    for document in recorded.get("items", [recorded]):
        whole = [one for one in parse(json.dumps(document).encode(), NOW).alerts if one.status is Status.FIRING]
        read = report_of(BY_KIND[document["kind"]], document)
        assert alerts(read.items) == whole
        assert sum(one.alerts for one in read.items) == len(whole) == len(read.failing)


@pytest.mark.parametrize(
    "document",
    [
        report("a", result("p"), result("q", source="falco")),
        report("a", result("p", resources=[about("x"), about("y", namespace="other", kind="Deployment")]), scope=None),
        report("a", result("p", rule=None, severity=None, source=None), scope=None),
        report("o", result("p"), result("q", source="falco"), resource=OPEN_NAMESPACED),
        report("c", result("p", resources=[about("x"), {"kind": "Node", "name": "n"}]), resource=CLUSTER, scope=None),
        report("c", result("p"), resource=CLUSTER, scope={"kind": "Namespace", "name": "shop"}),
    ],
)
def test_what_is_gone_ends_the_very_alerts_that_were_sent(document: dict[str, Any]) -> None:
    resource = BY_KIND[document["kind"]]
    read = report_of(resource, document)
    metadata = document["metadata"]
    ended = alerts(passed(resource, metadata.get("namespace", ""), metadata["name"], read.failing))
    assert labels(ended) == labels(alerts(read.items))
    assert {one.status for one in ended} == {Status.RESOLVED}
    assert [one.severity for one in ended] == [one.severity for one in alerts(read.items)]
    assert not any(one.start_given for one in ended)


@pytest.mark.parametrize(
    ("outcome", "sent"),
    [("fail", True), ("warn", True), ("Error", True), ("", True), ("pass", False), ("Skip", False)],
)
def test_only_results_that_somebody_has_to_know_of_are_sent(outcome: str, sent: bool) -> None:
    assert len(report_of(NAMESPACED, report("a", result("p", outcome))).failing) == sent


@pytest.mark.parametrize(
    "results", [None, 5, [None, "x", {}, {"policy": 7, "result": "fail"}, {"policy": "p", "result": "pass"}]]
)
def test_what_is_no_result_is_left_out(results: Any) -> None:
    assert report_of(NAMESPACED, {"metadata": {"namespace": "shop", "name": "a"}, "results": results})[:2] == ({}, [])


def test_who_manages_a_report_and_the_uids_of_objects_are_not_sent() -> None:
    [item] = report_of(NAMESPACED, report("a", result("p", resources=[about("x")]))).items
    assert b"managedFields" not in item.body
    assert b"uid" not in item.body


def test_a_large_report_is_sent_in_items_up_to_what_the_router_makes_alerts_of() -> None:
    objects = [about(f"pod-{number}") for number in range(MAX_ALERTS)]
    read = report_of(NAMESPACED, report("a", result("p"), result("q", resources=objects), result("more"), result("still")))
    assert [one.alerts for one in read.items[:2]] == [1, ITEM_ALERTS]
    assert max(one.alerts for one in read.items) == ITEM_ALERTS
    assert (sum(one.alerts for one in read.items), read.left_out) == (MAX_ALERTS + 1, 2)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"timestamp": {"seconds": 5}}, True),
        ({"message": "other"}, False),
        ({"severity": "low"}, False),
        ({"resources": [about("y")]}, False),
    ],
)
def test_a_report_is_the_same_unless_more_than_the_times_of_its_results_changed(change: dict[str, Any], same: bool) -> None:
    before = report_of(NAMESPACED, report("a", result("p", timestamp={"seconds": 1})))
    after = report_of(NAMESPACED, report("a", {**result("p"), **change}))
    remembered = Remembered()
    assert not remembered.is_same("a", before)
    remembered.replace("a", before)
    assert remembered.is_same("a", after) is same


def failing(*policies: str) -> Report:
    return report_of(NAMESPACED, report("a", *(result(one) for one in policies)))


def names(gone: Any) -> list[str]:
    return [one.policy for one in gone]


def test_what_a_report_does_not_have_any_more_is_gone_unless_another_one_has_it() -> None:
    remembered = Remembered()
    assert remembered.replace("a", failing("p", "q")) == {}
    assert names(remembered.replace("a", failing("q"))) == ["p"]
    remembered.replace("b", failing("q"))
    assert names(remembered.replace("a", None)) == []
    assert names(remembered.replace("b", None)) == ["q"]
    assert (len(remembered), remembered.replace("b", None)) == (0, {})


def test_the_report_that_changed_longest_ago_makes_room() -> None:
    remembered = Remembered(max_bytes=3 * RESULT_BYTES)
    remembered.replace("a", failing("p"))
    remembered.replace("b", failing("q"))
    remembered.replace("a", failing("p"))
    remembered.replace("c", failing("s"))
    assert len(remembered) == 2
    assert names(remembered.replace("b", None)) == []
    assert names(remembered.replace("a", None)) == ["p"]
