"""What Prometheus posts to Alertmanager's API becomes alerts: which of them fire, and what cannot be used is reported by index."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eventsink.alerts.alert import IncomingAlert, OversizedPayload, Severity, Status, UnusablePayload
from eventsink.alerts.formats.prometheus import FORMAT, parse
from eventsink.alerts.limits import MAX_URL_CHARACTERS
from tests.unit.alerts.formats.format_contract import FormatContract

RECORDED = Path(__file__).parents[3] / "data" / "prometheus"
NOW = datetime(2026, 11, 26, 12, 8, 10, tzinfo=UTC)
LATER, BEFORE = "2026-11-26T12:12:10Z", "2026-11-26T12:08:00Z"


def posted(*alerts: object) -> bytes:
    return json.dumps(alerts).encode()


def alert(**members: Any) -> dict[str, Any]:
    return {"labels": {"alertname": "A"}, "startsAt": BEFORE, **members}


def only(**members: Any) -> IncomingAlert:
    [found] = parse(posted(alert(**members)), NOW).alerts
    return found


class TestPrometheusFormat(FormatContract):
    format = FORMAT

    def sample(self, severity: str = "") -> bytes:
        return posted(alert(labels={"alertname": "A", "severity": severity or None}))


def test_a_recorded_alert_that_fires_is_parsed_completely() -> None:
    [found] = parse((RECORDED / "firing.json").read_bytes(), NOW).alerts
    assert (found.status, found.severity, found.name) == (Status.FIRING, Severity.MEDIUM, "KubePodCrashLooping")
    assert (found.namespace, found.summary) == ("payments", "Pod is crash looping.")
    assert found.description.startswith("Pod payments/api")
    assert found.starts_at == datetime(2026, 11, 26, 12, 8, 3, 328000, UTC)
    assert found.ends_at is None
    assert found.valid_for == pytest.approx(1.328)
    assert found.links.source.startswith("http://vm:54103/graph?")
    assert found.links.runbook == "https://runbooks.example.com/KubePodCrashLooping"
    assert found.links.silence == ""


def test_a_recorded_end_is_an_end_and_what_is_sent_with_it_fires() -> None:
    ended, other = parse((RECORDED / "resolved.json").read_bytes(), NOW).alerts
    assert (ended.status, ended.ends_at) == (Status.RESOLVED, datetime(2026, 11, 26, 12, 8, 8, 328000, UTC))
    assert (other.status, other.name, other.annotations) == (Status.FIRING, "Watchdog", {})


def test_what_vmalert_posts_fires_and_ends() -> None:
    firing, resolved = [(RECORDED / f"vmalert_{name}.json").read_bytes() for name in ("firing", "resolved")]
    [before] = parse(firing, datetime(2026, 11, 26, 16, 30, 48, tzinfo=UTC)).alerts
    [after] = parse(resolved, datetime(2026, 11, 26, 16, 31, 10, tzinfo=UTC)).alerts
    assert (before.status, before.severity, before.summary) == (Status.FIRING, Severity.CRITICAL, "The disk of db-0 is 97 % full")
    assert before.valid_for == pytest.approx(8.67, abs=0.01)
    assert before.links.source.startswith("http://vmalert.example.com/vmalert/alert?group_id=")
    assert (after.status, after.ends_at) == (Status.RESOLVED, datetime(2026, 11, 26, 16, 30, 26, tzinfo=UTC))
    assert (after.labels, after.starts_at) == (before.labels, before.starts_at)


def test_what_vmalert_documents_is_parsed() -> None:
    full, bare = parse((RECORDED / "vmalert.json").read_bytes(), datetime(2026, 11, 2, 8, 20, tzinfo=UTC)).alerts
    assert (full.status, full.severity, full.summary) == (Status.FIRING, Severity.CRITICAL, "sda is full")
    assert full.links.source == "http://vmalert.example.com/vmalert/alert?group_id=1&alert_id=2"
    assert (bare.status, bare.valid_for, bare.links.source) == (Status.FIRING, None, "")


def test_what_amtool_adds_fires_since_now_for_as_long_as_the_router_says() -> None:
    [found] = parse((RECORDED / "amtool.json").read_bytes(), NOW).alerts
    assert (found.status, found.starts_at, found.start_given, found.valid_for) == (Status.FIRING, NOW, False, None)


@pytest.mark.parametrize(
    ("times", "status", "starts_at", "valid_for"),
    [
        ({"endsAt": LATER}, Status.FIRING, BEFORE, 240),
        ({"endsAt": BEFORE}, Status.RESOLVED, BEFORE, None),
        ({"endsAt": NOW.isoformat()}, Status.RESOLVED, BEFORE, None),
        ({"endsAt": None}, Status.FIRING, BEFORE, None),
        ({"endsAt": ""}, Status.FIRING, BEFORE, None),
        ({"endsAt": "0001-01-01T00:00:00Z"}, Status.FIRING, BEFORE, None),
        ({"endsAt": LATER.replace("Z", "+02:00")}, Status.RESOLVED, BEFORE, None),
        ({"startsAt": None}, Status.FIRING, NOW.isoformat(), None),
        ({"startsAt": None, "endsAt": BEFORE}, Status.RESOLVED, BEFORE, None),
        ({"startsAt": None, "endsAt": LATER}, Status.FIRING, NOW.isoformat(), 240),
        ({"startsAt": NOW.timestamp() - 10, "endsAt": NOW.timestamp() + 60}, Status.FIRING, BEFORE, 60),
    ],
)
def test_an_alert_fires_until_its_end_has_passed(times: Any, status: Status, starts_at: str, valid_for: float | None) -> None:
    found = only(**times)
    assert (found.status, found.starts_at, found.valid_for) == (status, datetime.fromisoformat(starts_at), valid_for)
    assert found.start_given is bool(times.get("startsAt", True))


def test_members_of_another_type_are_read_as_what_they_mean() -> None:
    found = only(
        labels={"alertname": "A", "shard": 7, "up": True, "absent": None, "empty": ""},
        annotations=None,
        generatorURL=None,
        unknown={"member": 1},
    )
    assert found.labels == {"alertname": "A", "shard": "7", "up": "true"}
    assert (found.annotations, found.links.source) == ({}, "")


def test_what_cannot_be_used_is_reported_by_index_and_the_rest_is_accepted() -> None:
    found = parse(
        posted(alert(), {"labels": {}}, alert(startsAt="soon"), None, alert(endsAt="2026-11-26 noon"), "text", alert()), NOW
    )
    assert found.positions() == [0, 6]
    assert [one.index for one in found.rejected] == [1, 2, 4, 5]
    assert [one.reason.split()[0] for one in found.rejected][:3] == ["an", "startsAt", "endsAt"]
    assert not any("soon" in one.reason or "noon" in one.reason for one in found.rejected)


def test_a_link_that_is_too_long_is_left_out_and_marked() -> None:
    found = only(generatorURL="https://prometheus.example.com/" + "x" * MAX_URL_CHARACTERS)
    assert (found.links.source, found.truncated) == ("", ("links.source",))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b"labels=1", "not JSON"),
        (b"[]", "no alert"),
        (b"[null]", "no alert"),
        (b'{"labels": {}}', "a JSON list"),
        (b'{"version": "4", "alerts": []}', "the format alertmanager"),
        (b'[{"labels": {}}]', r"none of the 1 alerts can be used; alerts\[0\]: an alert needs labels"),
    ],
)
def test_a_body_of_which_nothing_can_be_used_says_what_is_wrong(body: bytes, words: str) -> None:
    with pytest.raises(UnusablePayload, match=words):
        parse(body, NOW)


def test_of_which_too_much_would_be_made_nothing_is_made() -> None:
    with pytest.raises(OversizedPayload, match="too many members"):
        parse(b"[" + b'"",' * 1_000_000 + b'""]', NOW)


def test_the_wall_clock_decides_without_another_one() -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=4)).isoformat()
    [found] = parse(posted(alert(endsAt=soon))).alerts
    assert found.status is Status.FIRING
    assert found.valid_for is not None
    assert 200 < found.valid_for <= 240
