"""Falco's events become alerts of the status event, whose fields are labels."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eventsink.alerts.alert import IncomingAlert, OversizedPayload, Severity, Status, UnusablePayload
from eventsink.alerts.formats.falco import FORMAT, parse
from tests.unit.alerts.formats.format_contract import FormatContract

DATA = Path(__file__).parents[3] / "data" / "falco"
FALCO, FALCOSIDEKICK = [(DATA / f"{name}.json").read_bytes() for name in ("falco", "falcosidekick")]


def event(**members: Any) -> bytes:
    given = {"rule": "R", "priority": "Warning", "output": "it happened", "time": "2026-01-01T12:00:00.5Z", **members}
    return json.dumps({name: value for name, value in given.items() if value is not ...}).encode()


def only(**members: Any) -> IncomingAlert:
    [found] = parse(event(**members)).alerts
    return found


def identity(**members: Any) -> str:
    return only(**members).identify(source="s", tenant="t").identity


class TestFalcoFormat(FormatContract):
    format = FORMAT

    def sample(self, severity: str = "") -> bytes:
        return event(priority=severity or None, output_fields={"k8s.ns.name": "acme", "evt.time": 1})


def test_an_event_of_falco_is_parsed_completely() -> None:
    [found] = parse(FALCO).alerts
    assert (found.status, found.severity, found.name) == (Status.EVENT, Severity.MEDIUM, "Read sensitive file untrusted")
    assert found.starts_at == datetime(2026, 11, 2, 12, 46, 22, 123457, UTC)
    assert found.namespace == "acme"
    assert found.summary == "Sensitive file opened for reading by non-trusted program"
    assert found.description.startswith("Sensitive file opened for reading by non-trusted program (file=/etc/shadow")
    assert found.labels == {
        "alertname": "Read sensitive file untrusted",
        "priority": "Warning",
        "hostname": "node-1",
        "source": "syscall",
        "tags": "T1555,container,filesystem,host,maturity_stable,mitre_credential_access",
        "namespace": "acme",
        "pod": "api-7d9c5b6f4-x2x7k",
        "container": "api",
        "container_id": "6a1b2c3d4e5f",
        "container_image_repository": "registry.example.com/api",
        "evt_type": "openat",
        "fd_name": "/etc/shadow",
        "proc_cmdline": "cat /etc/shadow",
        "proc_name": "cat",
        "proc_tty": "34816",
        "user_loginuid": "-1",
        "user_name": "root",
    }


def test_an_event_that_falcosidekick_forwards_is_the_same_with_its_id() -> None:
    [found] = parse(FALCOSIDEKICK).alerts
    assert (found.name, found.severity) == ("Terminal shell in container", Severity.LOW)
    assert found.summary == "A shell was spawned in a container with an attached terminal"
    assert found.annotations == {"uuid": "0a1b2c3d-0000-4000-8000-000000000000"}


def test_an_event_that_is_posted_twice_is_one_and_another_one_is_another() -> None:
    assert identity() == identity()
    for other in ({"time": "2026-01-01T12:00:00.6Z"}, {"hostname": "node-2"}, {"output_fields": {"proc.pid": 7}}, {"rule": "S"}):
        assert identity(**other) != identity(), other


def test_no_field_of_another_name_takes_the_place_of_the_namespace_or_the_rule() -> None:
    fields = {
        "namespace": "globex",
        "k8s_ns_name": "globex",
        "k8s.ns.name": "acme",
        "alertname": "X",
        "priority": "X",
        "hostname": "X",
    }
    found = only(output_fields=fields, hostname="node-1")
    assert (found.namespace, found.labels["namespace"]) == ("acme", "acme")
    assert (found.labels["alertname"], found.labels["priority"], found.labels["hostname"]) == ("R", "Warning", "node-1")


@pytest.mark.parametrize(
    ("members", "labels"),
    [
        ({"output_fields": {"k8s.ns.name": "<NA>", "k8s.pod.name": None, "proc.aname[2]": "sh", "ka.target.namespace": "acme"}},
         {"proc_aname_2": "sh", "namespace": "acme"}),
        ({"output_fields": None, "tags": None, "hostname": None}, {}),
        ({"output_fields": [], "tags": "one", "source": 5}, {"tags": "one", "source": "5"}),
        ({"tags": ["a", 1]}, {"tags": "a,1"}),
        ({"output_fields": {"...": "x", "": "y"}}, {}),
    ],
)  # fmt: skip
def test_members_that_are_absent_or_of_another_type_are_read_as_what_they_mean(
    members: dict[str, Any], labels: dict[str, str]
) -> None:
    assert only(**members).labels == {"alertname": "R", "priority": "Warning", **labels}


def test_an_event_without_a_time_happened_now() -> None:
    assert datetime.now(UTC) - only(time=...).starts_at < timedelta(seconds=10)


@pytest.mark.parametrize("output", ["it happened", "12:00:00.1: Warning it happened", "12:00:00.1: Warning it happened | a=b"])
def test_the_summary_is_what_the_rule_says(output: str) -> None:
    assert only(output=output).summary == "it happened"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b"12:00:00.1: Warning it happened", "json_output: true"),
        (b"[]", "one JSON object"),
        (b"{", "not JSON"),
        (b"{}", '"rule" is absent'),
        (event(rule=None), '"rule" is absent'),
        (event(time="noon"), "time must be a time with a zone"),
        (event(time="2026-01-01T12:00:00"), "time must be a time with a zone"),
    ],
)
def test_a_body_that_cannot_be_used_says_what_is_wrong(body: bytes, words: str) -> None:
    with pytest.raises(UnusablePayload, match=words):
        parse(body)


def test_of_an_event_with_too_many_fields_nothing_is_made() -> None:
    with pytest.raises(OversizedPayload, match="too many fields"):
        parse(b'{"output_fields": {' + b",".join(b'"%d":""' % number for number in range(900_000)) + b"}}")
