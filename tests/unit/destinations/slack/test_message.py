"""Slack messages read well on a phone, are within every limit, and show whatever an alert says as text.

EVENTSINK_WRITE_GOLDEN=1 writes the golden files; review the difference before you commit it.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.alerts.alert import Alert, Group, Links, Severity, Status
from eventsink.destinations.slack.message import MAX_LINES, SlackMessage, render
from eventsink.destinations.slack.text import cut, inert, one_line, some_lines
from tests.support.slack_limits import problems

GOLDEN = Path(__file__).parent / "messages"
BEGAN = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
FINGERPRINTS = itertools.count()
LOOKUP = "eventsink deliveries --message 3f9c01aa2b4d-1f.40"
LINKS = Links(
    source="https://prometheus.example.com/graph?g0.expr=up",
    runbook="https://runbooks.example.com/KubePodCrashLooping",
    dashboard="https://grafana.example.com/d/pods",
    silence="https://alertmanager.example.com/#/silences/new?filter=%7B%7D",
)
HOSTILE = (
    "<!channel> @here @everyone <@U123> <!subteam^S1> *bold* _it_ ~no~ `code` > quote &amp; <https://evil.example.com|click> "
    "https://evil.example.com www.evil.example.com :fire: \u202egnp.exe\u202c \x00\x07\x1b[31m"
)


def alert(name: str = "KubePodCrashLooping", **members: Any) -> Alert:
    labels = {"alertname": name, "severity": "critical", **members.pop("labels", {"pod": "api-0", "cluster": "production"})}
    values: dict[str, Any] = {
        "id": "a",
        "fingerprint": f"f{next(FINGERPRINTS)}",
        "source": "alertmanager",
        "tenant": "acme",
        "status": Status.FIRING,
        "severity": Severity.CRITICAL,
        "name": name,
        "summary": "The pod is crash looping.",
        "description": "Pod payments/api-0 was restarted 7 times in ten minutes.",
        "namespace": "payments",
        "labels": labels,
        "annotations": {},
        "starts_at": BEGAN,
        "ends_at": None,
        "links": LINKS,
        "group": Group(key="{}:{}"),
    }
    return Alert(**(values | members))


def resolved(**members: Any) -> Alert:
    return alert(status=Status.RESOLVED, ends_at=BEGAN + timedelta(minutes=42), **members)


def pods(count: int, **members: Any) -> list[Alert]:
    return [alert(labels={"pod": f"api-{n}", "cluster": "production"}, **members) for n in range(count)]


def storm() -> list[Alert]:
    severities = [one for one in Severity if one is not Severity.UNKNOWN]
    return [
        alert(
            f"Name{n % 50:02}", severity=severities[n % 50 % 6], namespace=f"ns-{n % 7}", starts_at=BEGAN + timedelta(seconds=n)
        )
        for n in range(10_000)
    ]


CASES: dict[str, Sequence[Alert]] = {
    "one": [alert()],
    "minimal": [
        alert(
            "Watchdog", summary="", description="", namespace="", labels={}, links=Links(), severity=Severity.UNKNOWN, group=None
        )
    ],
    "event": [alert("Deployed", status=Status.EVENT, severity=Severity.INFORMATIONAL, summary="Version 7 is out", links=Links())],
    "resolved": [resolved()],
    "group": pods(5),
    "group-mixed": [*pods(2), resolved(labels={"pod": "api-9", "cluster": "production"})],
    "group-resolved": [resolved(labels={"pod": f"api-{n}"}) for n in range(3)],
    "group-alike": [alert(labels={}) for _ in range(40)],
    "group-large": pods(200),
    "two-names": [alert(), alert("HighLatency", severity=Severity.MEDIUM, summary="p99 above 2 s")],
    "storm": storm(),
    "hostile": [
        alert(
            HOSTILE,
            summary=HOSTILE,
            description=f"{HOSTILE}\n\n\n\n> {HOSTILE}",
            namespace=HOSTILE,
            labels={"pod": HOSTILE, "a": HOSTILE},
        )
    ],
    "long": [
        alert(
            "N" * 500,
            summary="s" * 5000,
            description="d " * 9000,
            namespace="n" * 300,
            labels={f"l{n}": "v" * 200 for n in range(60)},
        )
    ],
    "long-group": [alert("N" * 500, summary=f"{n}" * 900, labels={"pod": "p" * 300 + str(n)}) for n in range(300)],
}


def made(alerts: Sequence[Alert]) -> SlackMessage:
    return render(alerts, sink="acme/security-alerts", tenant="acme", lookup=LOOKUP)


@pytest.mark.parametrize("name", CASES)
def test_a_message_looks_like_its_golden_file(name: str) -> None:
    body = made(CASES[name]).body()
    file = GOLDEN / f"{name}.json"
    if os.environ.get("EVENTSINK_WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n")
    assert body == json.loads(file.read_text()), "if it is meant: EVENTSINK_WRITE_GOLDEN=1"


def test_every_golden_file_has_its_case() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("webhook", [False, True])
def test_a_message_is_within_every_limit_and_deterministic(name: str, webhook: bool) -> None:
    body = made(CASES[name]).body()
    assert problems(body, webhook=webhook) == []
    assert made(CASES[name]).body() == body


TEXTS = st.text(max_size=200) | st.sampled_from([HOSTILE, "", " ", "\n", "x" * 4000, "é" * 3000, "👩‍👩‍👧" * 500])
ALERTS = st.builds(
    alert,
    TEXTS.filter(bool),
    summary=TEXTS,
    description=TEXTS,
    namespace=TEXTS,
    labels=st.dictionaries(TEXTS, TEXTS, max_size=5),
    severity=st.sampled_from(Severity),
    status=st.sampled_from(Status),
    ends_at=st.none() | st.just(BEGAN),
    links=st.builds(Links, source=TEXTS, runbook=st.sampled_from(["", "javascript:alert(1)", "https://x.example.com/"])),
)


@given(st.lists(ALERTS, min_size=1, max_size=40))
def test_any_alerts_make_a_message_that_slack_accepts(alerts: list[Alert]) -> None:
    assert problems(made(alerts).body()) == []


def text_of(message: SlackMessage) -> str:
    return json.dumps(message.body(), ensure_ascii=False).replace("\u2060", "")


def test_the_headline_has_severity_name_and_namespace() -> None:
    assert made(CASES["one"]).text == "🔴 Critical · KubePodCrashLooping · payments/api-0 · The pod is crash looping."


@pytest.mark.parametrize(
    ("name", "sign", "colour"),
    [
        ("one", "🔴", "#d32f2f"),
        ("event", "⚪", "#90a4ae"),
        ("resolved", "✅", "#2e7d32"),
        ("group-mixed", "🔴", "#d32f2f"),
        ("storm", "🚨", "#7b1fa2"),
    ],
)
def test_emoji_and_colour_are_those_of_the_most_severe_firing_alert(name: str, sign: str, colour: str) -> None:
    message = made(CASES[name])
    assert message.text.startswith(f"{sign} ")
    assert message.attachments[0]["color"] == colour


def test_an_alert_that_fired_and_ended_is_shown_once_as_resolved_with_its_start_and_end() -> None:
    fired, ended = alert(fingerprint="same"), resolved(fingerprint="same")
    assert made([fired, ended]) == made([ended])
    assert made([fired, ended]).text.startswith("✅ Resolved · KubePodCrashLooping")
    assert "from <!date" in text_of(made([fired, ended]))
    assert made([fired, ended, fired]) == made([fired])
    assert made([fired, *pods(2), ended]).text.startswith("🔴 2 firing, 1 resolved")


def test_a_digest_counts_by_name_the_most_severe_first_and_says_how_to_find_the_rest() -> None:
    message = made(storm())
    assert message.text.startswith("🚨 10,000 firing · 50 names")
    lines = message.attachments[0]["blocks"][0]["text"]["text"].split("\n")
    assert len(lines) == MAX_LINES + 1
    assert lines[0].startswith("🚨 200 × Name")
    assert lines[-1] == "and 25 more names, 5,000 alerts"
    signs = [line[0] for line in lines[:-1]]
    assert signs == sorted(signs, key="🚨🔴🟠🟡🔵⚪".index)
    assert LOOKUP in text_of(message)


def test_alerts_of_a_group_that_do_not_fit_are_counted_with_a_command_to_find_them() -> None:
    lines = made(pods(200)).attachments[0]["blocks"][0]["text"]["text"].split("\n")
    assert lines[-1] == f"and 175 more, found with: {LOOKUP}"


def test_a_label_is_left_out_only_where_the_namespace_line_has_its_value() -> None:
    text = text_of(made([alert(labels={"pod": "api-0", "shard": "0", "app": "api"})]))
    assert "app=api shard=0" in text
    assert "pod=api-0" not in text


@pytest.mark.parametrize(
    ("alerts", "line"),
    [
        ([alert()], ""),
        ([alert(truncated=("labels",))], "Too long, and therefore cut: labels."),
        (
            [alert(truncated=("annotations.a", "annotations.b")), alert(truncated=("annotations.a", "c", "d"))],
            "Too long, and therefore cut: annotations.a, annotations.b, c +1.",
        ),
        ([alert(group=Group(key="g", truncated=1))], "1 more alert was left out by the source."),
        (
            [
                alert(group=Group(key="g", truncated=1000)),
                alert(group=Group(key="g", truncated=1000)),
                alert("B", group=Group(key="h", truncated=500), truncated=("labels",)),
            ],
            "1,500 more alerts were left out by the source. Too long, and therefore cut: labels.",
        ),
    ],
)
def test_a_message_says_what_is_not_in_it(alerts: list[Alert], line: str) -> None:
    texts = [block["elements"][0]["text"] for block in made(alerts).attachments[0]["blocks"] if block["type"] == "context"]
    assert [text for text in texts if "left out" in text or "cut" in text] == ([line] if line else [])


def test_a_time_before_1970_is_written_as_text() -> None:
    message = made([alert(starts_at=datetime(1, 1, 1, tzinfo=UTC))])
    assert problems(message.body()) == []
    assert "since 0001-01-01 00:00 UTC" in text_of(message)
    assert "<!date" not in text_of(message)


def test_only_web_links_become_buttons() -> None:
    links = Links(source="https://x.example.com/" + "a" * 3000, runbook="javascript:alert(1)", dashboard="https://g.example.com/")
    [actions] = [block for block in made([alert(links=links)]).attachments[0]["blocks"] if block["type"] == "actions"]
    assert [one["url"] for one in actions["elements"]] == ["https://g.example.com/"]


def buttons_of(one: Alert) -> list[str]:
    blocks = made([one]).attachments[0]["blocks"]
    return [button["url"] for block in blocks if block["type"] == "actions" for button in block["elements"]]


@pytest.mark.parametrize(
    ("runbook", "shown"),
    [
        ("http://", "Runbook: http://"),
        ("https://{{ host }}/x", "Runbook: https://{{ host }}/x"),
        ("see the wiki, page 12", "Runbook: see the wiki, page 12"),
        ("https://x.example.com/" + "a" * 3000, "Runbook: https://x.example.com/aaa"),
    ],
)
def test_what_is_no_url_of_a_button_is_text(runbook: str, shown: str) -> None:
    [one] = [alert(annotations={"runbook_url": runbook}, links=Links(runbook=runbook))]
    assert buttons_of(one) == []
    assert shown in text_of(made([one]))
    assert problems(made([one]).body()) == []


def test_a_resolved_alert_has_no_silence_button() -> None:
    assert LINKS.silence in buttons_of(alert())
    assert LINKS.silence not in buttons_of(resolved())


def test_labels_of_the_exporter_are_not_shown() -> None:
    labels = {
        "deployment": "checkout",
        "cluster": "eu",
        "job": "kube-state-metrics",
        "pod": "kps-kube-state-metrics-1",
        "namespace": "shop",
    }
    message = made([alert("KubeDeploymentReplicasMismatch", namespace="shop", labels=labels)])
    assert "· shop/checkout ·" in message.text
    assert "kube-state-metrics" not in text_of(message)
    assert "cluster=eu" in text_of(message)


def test_a_long_description_is_cut_and_the_source_linked_by_a_button() -> None:
    blocks = made([alert(description="d" * 9000)]).attachments[0]["blocks"]
    assert blocks[0]["text"]["text"].endswith("d…")
    assert len(blocks[0]["text"]["text"]) == 1200
    assert "Source" in text_of(made([alert()]))


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("abe\u0301d", 4, "ab…"), ("👩‍👩‍👧x", 4, "…"), ("a b c", 4, "a b…")],
)
def test_truncation_splits_no_character(text: str, most: int, expected: str) -> None:
    assert cut(text, most) == expected


def test_lines_are_joined_and_invisible_characters_removed() -> None:
    assert one_line(" a\n\tb\u202e\x00 c ", 100) == "a b c"
    assert some_lines("a \n\n\n\nb\r\nc\x07", 100) == "a\n\nb\nc"


@pytest.mark.parametrize(
    "text", ["<!channel>", "@here", "@channel", "<https://x.example.com|y>", "*b*", "`c`", "https://x.example.com", "> q"]
)
def test_formatting_and_mentions_in_alerts_are_made_inert(text: str) -> None:
    assert problems({"text": inert(text)}) == []
    assert problems({"text": text}) != [] or text in ("*b*", "`c`")
