"""CloudEvents become alerts of the status event, in each of their forms; what the official SDK writes is read."""

from __future__ import annotations

import base64
import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cloudevents.core.formats.json as cloudevents_json
import msgspec
import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from eventsink.alerts.alert import IncomingAlert, Links, OversizedPayload, Severity, Status, UnusablePayload
from eventsink.alerts.formats.cloudevents import FORMAT, enveloped, parse
from eventsink.alerts.limits import MAX_ANNOTATION_CHARACTERS
from eventsink.destinations.webhook.cloudevents import event as cloudevent
from eventsink.runtime.headers import is_among
from tests.unit.alerts.formats.format_contract import FormatContract

TIME = datetime(2026, 1, 1, 12, tzinfo=UTC)
FIRING = IncomingAlert(
    status=Status.FIRING,
    severity=Severity.HIGH,
    name="DiskFull",
    summary="The disk is full",
    description="of db-0",
    namespace="acme",
    labels={"alertname": "DiskFull", "namespace": "acme", "tenant": "globex", "event_source": "x", "severity": "page"},
    annotations={"a": "b"},
    starts_at=TIME,
    ends_at=None,
    links=Links(source="https://example.com/s", runbook="https://example.com/r"),
    group=None,
)


def of_a_router(alert: IncomingAlert) -> bytes:
    """The event in which a router sends an alert of the tenant acme."""
    return cloudevent(msgspec.json.encode(alert.identify(source="alertmanager", tenant="acme", cluster="production")))


def event(**members: Any) -> dict[str, Any]:
    given = {"specversion": "1.0", "id": "1", "source": "/ci", "type": "com.example.failed", "time": TIME.isoformat(), **members}
    return {name: value for name, value in given.items() if value is not ...}


def only(**members: Any) -> IncomingAlert:
    [found] = parse(json.dumps(event(**members)).encode()).alerts
    return found


def read(headers: dict[str, str], body: bytes | str) -> list[IncomingAlert]:
    """What the intake reads of a request."""
    lower = {name.lower().encode(): value.encode() for name, value in headers.items()}
    kept = {name: value for name, value in lower.items() if is_among(name, FORMAT.headers)}
    return parse(enveloped(kept, body if isinstance(body, bytes) else body.encode())).alerts


def recorded(file: str) -> bytes:
    return (Path(__file__).parents[3] / "data" / "cloudevents" / file).read_bytes()


def in_headers(message: bytes) -> bytes:
    """The event whose attributes are in the headers of a message."""
    head, _, body = message.partition(b"\r\n\r\n")
    headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n"))
    return enveloped({name: value for name, value in headers.items() if is_among(name, FORMAT.headers)}, body)


RECORDED = {
    "structured": recorded("structured.json"),
    "binary": in_headers(recorded("binary.http")),
    "batch": recorded("batch.json"),
}


def test_half_a_character_in_data_in_a_body_of_its_own_or_in_base64_costs_no_event() -> None:
    data = rb'{"message": "cut \ud83d", "severity": "high"}'
    headers = {
        b"ce-specversion": b"1.0",
        b"ce-id": b"1",
        b"ce-source": b"/ci",
        b"ce-type": b"t",
        b"content-type": b"application/json",
    }
    in_base64 = json.dumps(event(data_base64=base64.b64encode(data).decode())).encode()
    for body in (enveloped(headers, data), in_base64):
        [found] = FORMAT.read(body).alerts
        assert (found.annotations["message"], found.severity) == ("cut \ufffd", Severity.HIGH)


class TestCloudEventsFormat(FormatContract):
    format = FORMAT

    def sample(self, severity: str = "") -> bytes:
        return json.dumps(event(data={"severity": severity, "message": "m", "nested": {"a": [1]}})).encode()

    def payloads(self) -> list[bytes]:
        return [*RECORDED.values(), of_a_router(FIRING)]


@pytest.mark.parametrize(("form", "number"), [("structured", 7), ("binary", 8), ("batch", 9)])
def test_a_recorded_event_is_read_completely_in_each_form(form: str, number: int) -> None:
    found = parse(RECORDED[form]).alerts[0]
    assert (found.name, found.severity, found.namespace) == ("com.example.build.failed", Severity.HIGH, "acme")
    assert (found.summary, found.description) == (f"Build {number} failed", "Two of 310 tests failed.")
    assert (found.labels["subject"], found.labels["event_source"]) == (f"büild {number}", "https://ci.example.com/projects/shop")
    assert found.labels["team"] == "payments"
    assert found.links == Links(source=f"https://ci.example.com/builds/{number}", runbook="https://wiki.example.com/builds")
    assert found.annotations["try"] == "2"
    assert datetime.now(UTC) > found.starts_at > datetime(2026, 11, 27, tzinfo=UTC)


def test_bytes_in_a_recorded_batch_are_what_the_alert_says() -> None:
    found = parse(RECORDED["batch"]).alerts[1]
    assert (found.name, found.severity, found.description) == (
        "com.example.build.log",
        Severity.LOW,
        "Two of 310 tests failed.",
    )


@pytest.fixture
def of_the_sdk() -> CloudEvent:
    attributes = {
        "id": "7",
        "source": "https://ci.example.com/builds/7",
        "type": "com.example.failed",
        "time": TIME,
        "subject": "büild 7",
        "severity": "critical",
        "namespace": "acme",
    }
    return CloudEvent(attributes=attributes, data={"summary": "the build failed", "url": "https://ci.example.com/7", "try": 2})


@pytest.mark.parametrize("form", ["structured", "binary"])
def test_what_the_official_sdk_writes_is_read_in_each_form(of_the_sdk: CloudEvent, form: str) -> None:
    message = (to_structured_event if form == "structured" else to_binary_event)(of_the_sdk)
    [found] = read(dict(message.headers), message.body)
    assert (found.status, found.severity, found.name) == (Status.EVENT, Severity.CRITICAL, "com.example.failed")
    assert (found.namespace, found.summary, found.starts_at) == ("acme", "the build failed", TIME)
    assert found.labels == {
        "alertname": "com.example.failed",
        "event_source": "https://ci.example.com/builds/7",
        "event_id": "7",
        "subject": "büild 7",
        "severity": "critical",
        "namespace": "acme",
    }
    assert found.annotations == {"summary": "the build failed", "url": "https://ci.example.com/7", "try": "2"}
    assert found.links.source == "https://ci.example.com/7"


def test_a_batch_of_the_official_sdks_events_is_read_with_what_cannot_be_used_by_index(of_the_sdk: CloudEvent) -> None:
    one = json.loads(cloudevents_json.JSONFormat().write(of_the_sdk))
    batch = [one, {**one, "id": "8"}, {**one, "id": ""}, 5, {**one, "specversion": "0.3"}, {**one, "time": "noon"}]
    found = parse(json.dumps(batch).encode())
    assert [alert.labels["event_id"] for alert in found.alerts] == ["7", "8"]
    assert [(one.index, one.reason.split()[0]) for one in found.rejected] == [
        (2, "id"),
        (3, "is"),
        (4, "specversion"),
        (5, "time"),
    ]


def test_an_event_that_is_sent_twice_is_one_and_another_one_is_another() -> None:
    def identity(**members: Any) -> str:
        return only(**members).identify(source="s", tenant="t").identity

    assert identity() == identity()
    assert identity(time=...) == identity(time=...)
    assert len({identity(), identity(id="2"), identity(source="/cd"), identity(type="other")}) == 4


@pytest.mark.parametrize(
    ("members", "labels", "annotations"),
    [
        ({"data": {"namespace": "acme", "cluster": None, "more": 1}}, {"namespace": "acme"}, {"more": "1"}),
        ({"namespace": "mine", "data": {"namespace": "theirs"}}, {"namespace": "mine"}, {}),
        ({"alertname": "X", "event_id": "X", "team": 5}, {"team": "5"}, {}),
        ({"data": None, "subject": None, "dataschema": "https://x"}, {}, {}),
        ({"data": [1, 2]}, {}, {}),
    ],
)
def test_attributes_are_labels_and_data_is_annotations(members: Any, labels: dict[str, str], annotations: dict[str, str]) -> None:
    found = only(**members)
    assert found.labels == {"alertname": "com.example.failed", "event_source": "/ci", "event_id": "1", **labels}
    assert found.annotations == annotations


@pytest.mark.parametrize("in_headers", [False, True])
def test_an_event_of_falcosidekick_has_the_severity_of_its_priority(in_headers: bool) -> None:
    # The attributes that it sets; its library sends them in headers, of which a listener keeps only those with a meaning.
    attributes = {
        "type": "falco.rule.output.v1",
        "source": "https://falco.org",
        "priority": "Notice",
        "rule": "r",
        "eventsource": "syscall",
    }
    data = {"priority": "Notice", "rule": "r", "output": "o", "output_fields": {"evt.type": "openat"}, "source": "syscall"}
    if in_headers:
        headers = {f"ce-{name}": str(value) for name, value in event(**attributes).items()}
        [found] = read({"content-type": "application/json", **headers}, json.dumps(data))
    else:
        found = only(**attributes, data=data)
    assert found.severity is Severity.LOW


@pytest.mark.parametrize(
    ("members", "severity"),
    [
        ({"data": {"priority": "Emergency"}}, Severity.FATAL),
        ({"data": {"priority": "Notice", "severity": "high"}}, Severity.HIGH),
        ({"priority": "Critical", "data": {"severity": "no such word"}}, Severity.UNKNOWN),
        ({"data": {"priority": 1}}, Severity.UNKNOWN),
        ({"data": {"priority": "high"}}, Severity.UNKNOWN),
    ],
)
def test_a_priority_in_falcos_words_counts_where_no_severity_is_given(members: Any, severity: Severity) -> None:
    assert only(**members).severity is severity


def test_data_that_is_a_text_is_what_the_alert_says() -> None:
    binary = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "content-type": "text/plain"}
    assert [one.description for one in [only(data="it failed"), *read(binary, "it failed")]] == ["it failed", "it failed"]
    [bytes_] = read(binary, b"\xff\xfe")
    assert (bytes_.summary, bytes_.annotations, bytes_.truncated) == ("t", {}, ("data",))
    [without_data] = read(binary, b"")
    assert (without_data.summary, without_data.truncated) == ("t", ())


def test_headers_that_no_attribute_can_have_say_nothing_of_the_data() -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-data": "x", "ce-data_base64": "eA=="}
    [found] = read(headers, b"")
    assert (found.description, found.labels) == ("", {"alertname": "t", "event_source": "/s", "event_id": "1"})


@pytest.mark.parametrize("value", ["a%20%22b%22%20100%25", '"a \\"b\\" 100%25"', 'a%20"b" 100%25'])
def test_an_attribute_in_a_header_may_be_percent_encoded_or_in_double_quotes(value: str) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-subject": value}
    [found] = read(headers, b"")
    assert found.labels["subject"] == 'a "b" 100%'


def test_an_event_without_a_time_happened_now() -> None:
    assert datetime.now(UTC) - only(time=...).starts_at < timedelta(seconds=10)


@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        ({}, b"", "the body is empty"),
        ({}, b"<event/>", "not JSON"),
        ({}, json.dumps(event(data_base64="%")).encode(), "data_base64 is not in base64"),
        ({}, b"{}", "specversion is absent"),
        ({}, b"5", "not an object"),
        ({"content-type": "application/cloudevents+avro"}, b"{}", "events in JSON"),
        ({"content-type": "application/json", "ce-specversion": "1.0"}, b"<", "not JSON"),
        ({"content-type": "application/json", "ce-specversion": "1.0"}, b'1, "id": "2"', "not JSON"),
        ({"content-type": "application/json", "ce-specversion": "1.0"}, b"{}", "id is absent"),
    ],
)
def test_a_request_of_which_nothing_can_be_used_says_what_is_wrong(headers: dict[str, str], body: bytes, words: str) -> None:
    with pytest.raises(UnusablePayload, match=words):
        read(headers, body)


def test_of_which_too_much_would_be_made_nothing_is_made() -> None:
    with pytest.raises(OversizedPayload, match="too many members"):
        parse(b"[" + b'"",' * 1_000_000 + b'""]')


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", b"[" + b"[]," * 300_000 + b"[]]"), ("text/plain", b"\x01" * 900_000), ("image/png", b"\xff" * 900_000)],
)
def test_little_is_made_of_the_data_of_a_binary_event_before_it_is_known_how_much_that_would_be(
    content_type: str, body: bytes
) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "content-type": content_type}
    lower = {name.encode(): value.encode() for name, value in headers.items()}
    tracemalloc.start()
    try:
        event = enveloped(lower, body)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(body)
    finally:
        tracemalloc.stop()
    assert len(event) < len(body) + 1000


def test_a_text_that_is_too_long_is_cut_as_any_is() -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "content-type": "text/plain"}
    [found] = read(headers, "x" * 200_000)
    assert found.identify(source="s", tenant="t").description == "x" * (MAX_ANNOTATION_CHARACTERS - 1) + "…"


def test_in_an_empty_batch_there_is_no_alert() -> None:
    assert parse(b"[]").alerts == []


@pytest.mark.parametrize(
    ("data", "read_as"),
    [
        (b'{"summary": "it failed", "try": 2}', ("it failed", {"summary": "it failed", "try": "2"})),
        (b"it failed", ("it failed", {})),
        (b"\xff\xfe", ("com.example.failed", {})),
        (b"", ("com.example.failed", {})),
    ],
)
def test_data_in_base64_is_read_like_any(data: bytes, read_as: tuple[str, dict[str, str]]) -> None:
    found = only(data_base64=base64.b64encode(data).decode())
    assert (found.summary, found.annotations) == read_as


def test_bytes_that_the_official_sdk_writes_are_read() -> None:
    attributes = {
        "id": "7",
        "source": "/ci",
        "type": "com.example.failed",
        "time": TIME,
        "datacontenttype": "application/octet-stream",
    }
    message = to_structured_event(CloudEvent(attributes=attributes, data=b"it failed"))
    [found] = read(dict(message.headers), message.body)
    assert found.description == "it failed"


@pytest.mark.parametrize("status", Status)
def test_an_alert_of_another_router_is_that_alert(status: Status) -> None:
    sent = msgspec.structs.replace(
        FIRING, status=status, ends_at=TIME + timedelta(hours=1) if status is Status.RESOLVED else None
    )
    [found] = parse(of_a_router(sent)).alerts
    own = {"tenant": "acme", "cluster": "production", "event_source": "/eventsink/production/alertmanager"}
    assert found == msgspec.structs.replace(sent, labels={**sent.labels, **own})


def test_an_alert_of_another_router_is_of_the_tenant_that_the_router_says() -> None:
    members = {**json.loads(of_a_router(FIRING)), "tenant": None}
    [found] = parse(json.dumps(members).encode()).alerts
    assert FIRING.labels["tenant"] == "globex"
    assert "tenant" not in found.labels


def test_an_alert_of_another_router_without_a_start_is_rejected() -> None:
    with pytest.raises(UnusablePayload, match="startsAt must be"):
        parse(json.dumps(event(type="dev.eventsink.alert.firing.v1", data={"labels": {}})).encode())
