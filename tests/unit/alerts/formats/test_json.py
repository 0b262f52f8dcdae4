"""JSON of any program becomes alerts as its source's mapping says; what a mapping does not find is absent, and no alert is lost for it."""

from __future__ import annotations

import gc
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from eventsink.alerts.alert import IncomingAlert, Severity, Status, UnusablePayload
from eventsink.alerts.formats.format import Repeats
from eventsink.alerts.formats.json import FORMAT, MAX_ITEMS, mapped_by
from eventsink.alerts.json_mapping import JsonMapping
from eventsink.router.sources import SourceSettings, format_of
from tests.unit.alerts.formats.format_contract import FormatContract
from tests.unit.docs.pages import blocks, page

CHECKS = JsonMapping(
    items="body.checks",
    name="item.check.name",
    status='item.state != "UP"',
    severity='item.state == "DOWN" ? "critical" : "low"',
    summary='item.check.name + " is " + item.state',
    namespace='item.check.tags.filter(tag, tag.startsWith("ns-"))[0]',
    labels={"host": "item.check.host", "region": "body.region", "port": "item.check.port", "count": "int(item.count)"},
    annotations={"tags": "item.check.tags"},
    starts_at="item.since",
    url="item.link",
)


def mapped(item: Any, mapping: JsonMapping = CHECKS, **body: Any) -> IncomingAlert:
    [alert] = mapped_by(mapping).parse(json.dumps({"checks": [item], "region": "eu", **body}).encode()).alerts
    return alert


class TestJsonFormat(FormatContract):
    format = FORMAT

    def sample(self, severity: str = "") -> bytes:
        members = {"name": "Backup", "id": "7", "summary": "It failed", "description": "On two hosts", "namespace": "shop"}
        return json.dumps(
            {**members, "severity": severity, "url": "https://b.example.com/7", "startsAt": "2026-01-02T03:04:05Z"}
        ).encode()


def test_an_alert_is_what_the_mapping_says() -> None:
    check = {"name": "api", "host": "a.example.com", "port": 443, "tags": ["prod", "ns-shop"]}
    alert = mapped({"check": check, "state": "DOWN", "since": 1767225600, "link": "https://up.example.com/1", "count": "3"})
    assert (alert.name, alert.summary, alert.status, alert.severity) == ("api", "api is DOWN", Status.FIRING, Severity.CRITICAL)
    assert alert.namespace == "ns-shop"
    assert alert.labels == {
        "alertname": "api",
        "namespace": "ns-shop",
        "severity": "critical",
        "host": "a.example.com",
        "region": "eu",
        "port": "443",
        "count": "3",
    }
    assert alert.annotations == {"tags": '["prod","ns-shop"]'}
    assert (alert.starts_at, alert.start_given, alert.ends_at) == (datetime(2026, 1, 1, tzinfo=UTC), True, None)
    assert alert.links.source == "https://up.example.com/1"


def documented(name: str) -> JsonMapping:
    [found] = [
        one["mapping"]
        for document in (yaml.safe_load(block) for block in blocks(page("sources.md"), "yaml"))
        for one in document.get("sources", ())
        if one["name"] == name
    ]
    return JsonMapping.model_validate(found)


def test_the_examples_of_the_page_map_what_their_senders_send() -> None:
    monitor = {"id": 7, "name": "Shop", "url": "https://shop.example.com", "type": "http", "hostname": None}
    heartbeat = {"monitorID": 7, "status": 0, "time": "2026-01-01 12:00:00.500", "msg": "timeout", "important": True}
    down, up = [
        mapped_by(documented("uptime"))
        .parse(json.dumps({"heartbeat": {**heartbeat, "status": status}, "monitor": monitor}).encode())
        .alerts[0]
        for status in (0, 1)
    ]
    assert (down.status, up.status, down.labels == up.labels) == (Status.FIRING, Status.RESOLVED, True)
    assert (down.summary, up.summary, down.labels["id"]) == ("Shop is down", "Shop is up", "7")
    assert (down.starts_at, down.links.source) == (
        datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC),
        "https://shop.example.com",
    )
    assert "mapping_errors" not in down.annotations
    finding = {
        "rule": "OpenPort",
        "fingerprint": "a",
        "score": 7,
        "resource": {"namespace": "shop", "kind": "Pod", "name": "api"},
    }
    report = {
        "cluster": "eu",
        "created": "2026-01-01T00:00:00Z",
        "findings": [finding, {**finding, "score": 9.5, "resource": None}],
    }
    high, critical = mapped_by(documented("scanner")).parse(json.dumps({"report": report}).encode()).alerts
    assert (high.severity, high.namespace, high.labels["cluster"]) == (Severity.HIGH, "shop", "eu")
    assert (critical.severity, critical.namespace, critical.annotations) == (Severity.CRITICAL, "", {})


def test_an_alert_ends_when_its_status_says_so() -> None:
    ended = mapped({"check": {"name": "api"}, "state": "UP"})
    assert ended.status is Status.RESOLVED
    assert ended.ends_at is not None
    assert mapped_by(CHECKS).repeats is Repeats.BY_SOURCE
    assert mapped_by(JsonMapping()).repeats is Repeats.NEVER


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ('"firing"', Status.FIRING),
        ('"resolved"', Status.RESOLVED),
        ('"event"', Status.EVENT),
        ("item.up", Status.FIRING),
        ('"gone"', Status.FIRING),
    ],
)
def test_an_alert_of_which_it_is_not_known_whether_it_fires_does(status: str, expected: Status) -> None:
    alert = mapped({"name": "a"}, JsonMapping(items="body.checks", status=status))
    assert alert.status is expected
    assert ("status: " in alert.annotations.get("mapping_errors", "")) is (status in ("item.up", '"gone"'))


def test_what_cannot_be_evaluated_is_absent_and_the_alert_says_so() -> None:
    alert = mapped({"check": {"name": "api", "tags": []}, "state": "DOWN", "since": "yesterday", "count": "many"})
    assert "count" not in alert.labels
    assert not alert.start_given
    assert alert.annotations["mapping_errors"].split("; ") == [
        "namespace: it reads an entry that a list does not have",
        "labels.count: a text is not what it is converted to",
        "startsAt: it is no time with a zone, such as 2026-01-01T12:00:00Z",
    ]


def test_what_has_no_name_is_rejected_by_its_index_and_the_others_are_accepted() -> None:
    body = json.dumps([{"name": "a"}, {"title": "b"}, 5, None, {"name": ""}, {"name": 7}]).encode()
    notification = FORMAT.parse(body)
    assert [one.name for one in notification.alerts] == ["a", "7"]
    assert [(one.index, one.reason) for one in notification.rejected] == [
        (1, "name: it is absent or empty"),
        (2, "name: a value is of another type than it needs"),
        (3, "name: a value is of another type than it needs"),
        (4, "name: it is absent or empty"),
    ]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"x", "the body is not JSON"),
        (b"5", "no alerts were found in the body by the source's mapping.items: it is neither a list nor an object"),
        (b'[{"title": "a"}]', "none of the 1 alerts can be used; alerts[0]: name: it is absent or empty"),
    ],
)
def test_a_body_of_which_nothing_can_be_used_is_rejected(body: bytes, sentence: str) -> None:
    with pytest.raises(UnusablePayload) as error:
        FORMAT.parse(body)
    assert sentence in str(error.value)


def test_alerts_that_the_mapping_does_not_find_are_no_empty_list() -> None:
    with pytest.raises(UnusablePayload, match="it reads a member that is not there"):
        mapped_by(CHECKS).parse(b'{"results": []}')
    assert mapped_by(CHECKS).parse(b'{"checks": []}').alerts == []


@pytest.mark.parametrize("more", [0, 7])
def test_of_a_request_with_very_many_alerts_the_first_are_accepted_in_bounded_time_and_the_others_are_reported(more: int) -> None:
    began = time.process_time()
    found = FORMAT.parse(json.dumps([{"name": str(number)} for number in range(MAX_ITEMS + more)]).encode())
    assert time.process_time() - began < 60
    assert [one.name for one in found.alerts] == [str(number) for number in range(MAX_ITEMS)]
    assert found.alerts[0].truncated == (("items",) if more else ())
    assert [(one.index, f"{more} in all" in one.reason) for one in found.rejected] == ([(MAX_ITEMS, True)] if more else [])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1767225600, datetime(2026, 1, 1, tzinfo=UTC)),
        (1767225600000, datetime(2026, 1, 1, tzinfo=UTC)),
        ("1767225600", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T01:00:00+01:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T01:00:00", None),
        (1e300, None),
        (True, None),
        ([], None),
    ],
)
def test_a_time_is_a_text_or_seconds_or_milliseconds(value: object, expected: datetime | None) -> None:
    alert = mapped({"name": "a", "startsAt": value}, JsonMapping(items="body.checks"))
    assert (alert.starts_at if alert.start_given else None) == expected


def test_a_mapping_that_cannot_be_read_is_named_at_the_start() -> None:
    source = {"name": "a", "format": "json", "tenant": {"fixed": "acme"}}
    for mapping, named in [
        ({"severity": "item.level ="}, "mapping.severity"),
        ({"labels": {"host": "itm.host"}}, "mapping.labels.host"),
    ]:
        with pytest.raises(ValidationError) as error:
            SourceSettings.model_validate({**source, "mapping": mapping})
        [found] = error.value.errors()
        assert ".".join(map(str, found["loc"])) == named
        assert "line 1, column " in found["msg"]
    with pytest.raises(ValidationError, match="mapping is for the format json only"):
        SourceSettings.model_validate({**source, "format": "falco", "mapping": {}})
    assert format_of(SourceSettings.model_validate(source)) is FORMAT
    assert format_of(SourceSettings.model_validate({**source, "mapping": {"status": "true"}})).repeats is Repeats.BY_SOURCE


def test_a_large_body_costs_no_more_for_having_many_items() -> None:
    mapping = JsonMapping(
        items="body.items", summary="body.title", labels={"region": "body.region", "of": 'item.name + "@" + body.region'}
    )
    items = [{"name": f"alert {number}"} for number in range(300)]
    body = json.dumps({"items": items, "title": "a", "region": "eu", "rest": [{"a": "b"}] * 20_000}).encode()
    began = time.process_time()
    alerts = mapped_by(mapping).parse(body).alerts
    assert time.process_time() - began < 2.0
    assert {(one.summary, one.labels["region"], one.labels["of"] == f"{one.name}@eu") for one in alerts} == {("a", "eu", True)}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("body['region'] + item['name']", "eux"),
        ("has(body.none) ? body.none : item.name", "x"),
        ("'region' in body ? item.`name` : ''", "x"),
        ("size(body) > 1 && size(item) == 1 ? 'whole' : ''", "whole"),
        ("[body].exists(one, one.region == 'eu') ? .item.name : ''", "x"),
        ("body.items.filter(item, item.name == 'x')[0].name", "x"),
    ],
)
def test_an_expression_gets_all_that_it_names(expression: str, expected: str) -> None:
    body = json.dumps({"items": [{"name": "x"}], "region": "eu"}).encode()
    [alert] = mapped_by(JsonMapping(items="body.items", summary=expression)).parse(body).alerts
    assert (alert.summary, alert.annotations) == (expected, {})


def test_a_number_that_is_too_large_keeps_no_alert_away() -> None:
    body = b'{"items": [{"name": "x", "id": 99999999999999999999999999}, {"name": "y", "id": -9223372036854775809}]}'
    alerts = mapped_by(JsonMapping(items="body.items")).parse(body).alerts
    assert [one.labels["id"] for one in alerts] == ["99999999999999999999999999", "-9223372036854775809"]


def test_what_has_no_value_in_the_body_is_said_of_each_alert() -> None:
    mapping = JsonMapping(items="body.items", labels={"number": "string(int(body.word))"})
    alerts = mapped_by(mapping).parse(b'{"items": [{"name": "x"}, {"name": "y"}], "word": "many"}').alerts
    said = "labels.number: a text is not what it is converted to"
    assert [one.annotations["mapping_errors"] for one in alerts] == [said, said]


def test_nulls_however_many_leave_none_with_its_references() -> None:
    mapping = JsonMapping.model_validate(
        {"items": "[{'name': body.name, 'of': null}]", "name": "[item.name, null][0]", "url": "null"}
    )
    body = json.dumps({"name": "A", "rows": [[None, {"a": [None]}]] * 500}).encode()
    gc.collect()
    before = sys.getrefcount(None)
    for _ in range(20):
        (alert,) = FORMAT.parse(body).alerts
        assert alert.name == "A"
    for _ in range(1000):
        assert mapped_by(mapping).parse(b'{"name": "A"}').alerts[0].name == "A"
    assert sys.getrefcount(None) > before - 10_000  # it lost 22,000, and the process aborts at 0
