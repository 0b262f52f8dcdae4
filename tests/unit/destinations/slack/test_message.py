"""Slack messages read well on a phone, are within every limit, and show whatever an alert says as text.

EVENTSINK_WRITE_GOLDEN=1 writes the golden files; review the difference before you commit it.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from eventsink.alerts.alert import Alert, Group, Links, Severity, Status
from eventsink.destinations.slack.blocks import MAX_LINES
from eventsink.destinations.slack.message import SlackMessage, render
from eventsink.destinations.slack.text import cut, escaped, one_line, prose, some_lines
from tests.support.slack_limits import problems
from tests.unit.destinations.slack.messages_made import (
    BEGAN,
    HOSTILE,
    LINKS,
    LOOKUP,
    alert,
    elements_of,
    lines_of,
    made,
    pods,
    resolved,
    text_of,
)

GOLDEN = Path(__file__).parent / "messages"


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


FORM: dict[str, Any] = {
    "fields": [{"label": "team"}, {"annotation": "value", "title": "Current value"}],
    "buttons": [{"text": "Logs", "urlAnnotation": "logs_url"}],
    "mentions": [
        {"minSeverity": "high", "groups": ["S0123456789"]},
        {"minSeverity": "critical", "users": ["U0123456789"], "here": True},
    ],
}


def annotated(number: int, **members: Any) -> Alert:
    annotations = {"value": f"9{number} % of https://x.example.com/q", "logs_url": f"https://logs.example.com/api-{number}"}
    return alert(labels={"pod": f"api-{number}", "team": "payments"}, annotations=annotations, **members)


CASES |= {
    "form": [annotated(1)],
    "form-as-text": [annotated(1)],
    "form-group": [annotated(1), annotated(2), alert(labels={"pod": "api-3", "team": "payments"})],
    "form-names": [annotated(1), annotated(2, name="HighLatency"), alert("Other", labels={"team": "payments"}, links=Links())],
    "form-resolved": [annotated(1, status=Status.RESOLVED, ends_at=BEGAN)],
}
FORMS = {name: FORM for name in CASES if name.startswith("form")}
FORMS["form-as-text"] = FORM | {"links": "text"}


def case(name: str) -> SlackMessage:
    return made(CASES[name], **FORMS.get(name, {}))


@pytest.mark.parametrize("name", CASES)
def test_a_message_looks_like_its_golden_file(name: str) -> None:
    body = case(name).body()
    file = GOLDEN / f"{name}.json"
    if os.environ.get("EVENTSINK_WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n")
    assert body == json.loads(file.read_text()), "if it is meant: EVENTSINK_WRITE_GOLDEN=1"


def test_of_a_thousand_alerts_of_one_name_the_worst_have_a_line_and_all_are_counted() -> None:
    alerts = [alert(labels={"pod": f"p-{n}"}, severity=Severity.LOW) for n in range(999)]
    worst = alert(labels={"pod": "worst"}, severity=Severity.CRITICAL)
    lines = lines_of(made([*alerts, worst]))
    assert "worst" in lines[0]
    assert "and 975 more" in lines[-1]


def test_every_golden_file_has_its_case() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("webhook", [False, True])
def test_a_message_is_within_every_limit_and_deterministic(name: str, webhook: bool) -> None:
    body = case(name).body()
    assert problems(body, webhook=webhook, may_mention="mentions" in FORMS.get(name, {})) == []
    assert case(name).body() == body


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


@pytest.mark.parametrize("name", CASES)
def test_a_message_as_text_alone_says_the_same_within_the_limits(name: str) -> None:
    body = case(name).plain_body()
    assert problems(body, may_mention="mentions" in FORMS.get(name, {})) == []
    assert body["text"].startswith(case(name).text)


def test_a_long_message_as_text_alone_is_cut_between_characters() -> None:
    for start in range(6):
        text = made([alert(f"N{n}", summary="x" * start + "&<>" * 50) for n in range(10)]).plain_body()["text"]
        assert 3890 <= len(text) <= 3900
        assert text.endswith("…")
        assert not re.search("&(?!amp;|lt;|gt;)", text)


def test_what_fires_comes_before_what_has_ended_and_the_most_severe_first() -> None:
    severities = {"ended": Severity.FATAL, "low": Severity.LOW, "high": Severity.HIGH}
    alike = [alert(labels={"pod": name}, severity=severity) for name, severity in severities.items()]
    alike[0] = structs.replace(alike[0], status=Status.RESOLVED, ends_at=BEGAN)
    assert lines_of(made(alike)) == ["🟠 payments/high", "🔵 payments/low", "✅ payments/ended"]
    named = [structs.replace(one, name=one.labels["pod"], links=Links()) for one in alike]
    assert [line.split(" · ")[0] for line in lines_of(made(named))] == ["🟠 high", "🔵 low", "✅ ended"]


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
    assert made([fired, ended]).text.startswith("✅ Resolved after 42 min · KubePodCrashLooping")
    assert "from <!date" in text_of(made([fired, ended]))
    assert made([fired, ended, fired]) == made([fired])
    assert made([fired, *pods(2), ended]).text.startswith("🔴 1 of 3 resolved")


def test_a_digest_counts_by_name_the_most_severe_first_and_says_how_to_find_the_rest() -> None:
    message = made(storm())
    assert message.text.startswith("🚨 10,000 firing · 50 names")
    lines = lines_of(message, 1)
    assert len(lines) == MAX_LINES + 1
    assert lines[0].startswith("🚨 200 × Name")
    assert lines[-1] == "and 25 more names, 5,000 alerts"
    signs = [line[0] for line in lines[:-1]]
    assert signs == sorted(signs, key="🚨🔴🟠🟡🔵⚪".index)
    assert LOOKUP in text_of(message)


def test_alerts_of_a_group_that_do_not_fit_are_counted_with_a_command_to_find_them() -> None:
    lines = lines_of(made(pods(200)))
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


def test_a_time_of_another_zone_is_the_same_time() -> None:
    elsewhere = BEGAN.astimezone(timezone(timedelta(hours=5)))
    assert made([alert(starts_at=elsewhere)]) == made([alert(starts_at=BEGAN)])


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


def test_a_pod_of_an_exporters_service_is_not_shown() -> None:
    labels = {"deployment": "a", "job": "my-exporter", "service": "metrics", "pod": "metrics-1"}
    assert "metrics-1" not in text_of(made([alert(labels=labels)]))


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
    [line] = lines_of(made([alert(description="d" * 9000)]))
    assert line.endswith("d…")
    assert len(line) == 1200
    assert "Source" in text_of(made([alert()]))


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("abe\u0301d", 4, "ab…"), ("👩‍👩‍👧x", 4, "…"), ("a b c", 4, "a b…")],
)
def test_truncation_splits_no_character(text: str, most: int, expected: str) -> None:
    assert cut(text, most) == expected


def test_lines_are_joined_and_invisible_characters_removed() -> None:
    assert one_line("a\rb", 100) == "a b"
    assert one_line(" a\n\tb\u202e\x00 c ", 100) == "a b c"
    assert some_lines("a \n\n\n\nb\r\nc\x07", 100) == "a\n\nb\nc"


def test_indentation_and_columns_are_kept_in_one_width() -> None:
    assert some_lines("\n  a\nb\n", 100) == "  a\nb"
    table = "NAME     READY\n  api-0  0/1\n\tb"
    assert some_lines(table, 100) == "NAME     READY\n  api-0  0/1\n        b"
    assert prose(some_lines(table, 100))["elements"][0]["type"] == "rich_text_preformatted"
    assert prose("One. Two.\nThree.")["elements"][0]["type"] == "rich_text_section"


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[31mred\x1b[0m",
        "\x1b[1;38;5;9mred\x1b[m",
        "\x9b31mred",
        "\x1b]8;;https://x.example.com\x07red\x1b]8;;\x1b\\",
        "\x1b(Bred",
    ],
)
def test_ansi_sequences_are_removed_completely(text: str) -> None:
    assert one_line(text, 100) == "red"


@pytest.mark.parametrize("text", ["می\u200cخواهم", "क्\u200dष", "👩‍👩‍👧", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🇳🇱"])
def test_joiners_that_languages_and_flags_need_are_kept(text: str) -> None:
    assert one_line(text, 100) == text


@pytest.mark.parametrize("text", ["api\u200d-0", "\u200ca", "a\U000e0041b", "a\u2060b", "a\u200bb"])
def test_nothing_invisible_is_in_a_name_that_people_copy(text: str) -> None:
    assert one_line(text, 100).isascii()


@pytest.mark.parametrize("name", CASES)
def test_nothing_invisible_is_in_a_message(name: str) -> None:
    assert not re.search("[\u2060\u200b\ufeff]", text_of(made(CASES[name])))


def test_urls_in_a_description_are_links_that_show_all_of_the_url() -> None:
    text = "See https://x.example.com/a?b=c&d, or (HTTP://y.example.com). Not https://, ftp://z or <b>."
    elements = prose(text)["elements"][0]["elements"]
    links = [one for one in elements if one["type"] == "link"]
    assert links == [{"type": "link", "url": "https://x.example.com/a?b=c&d"}, {"type": "link", "url": "HTTP://y.example.com"}]
    assert "".join(one.get("text") or one["url"] for one in elements) == text


UNSEEN = "é\u200b" * 90


@pytest.mark.parametrize(
    "alerts",
    [
        [alert(labels={f"label{n}": f"{UNSEEN}{number}" for n in range(60)}) for number in range(300)],
        [alert(labels={"uid": str(n)}, summary="", description=UNSEEN * 300 + str(n)) for n in range(100)],
    ],
    ids=["labels", "descriptions"],
)
def test_long_texts_that_hold_what_is_not_seen_do_not_keep_the_event_loop_for_long(alerts: list[Alert]) -> None:
    began = time.thread_time()
    made(alerts)
    # Several times what it takes, and half of what it would take to look at each character, or at less.
    assert time.thread_time() - began < 0.25


@pytest.mark.parametrize("count", [1, 2, 12])
def test_a_url_is_a_link_wherever_a_message_says_what_the_alert_is_about(count: int) -> None:
    url = "https://wiki.example.com/disk?full=1"
    alerts = [
        alert(f"Disk{n % 5}" if count > 2 else "Disk", summary="", description=f"See {url}/{n}, now.") for n in range(count)
    ]
    links = elements_of(made(alerts).body(), "link")
    assert [one for one in links if one["url"].startswith(url)] == [
        {"type": "link", "url": f"{url}/{n}"} for n in range(min(count, 3))
    ]


def test_a_url_that_is_cut_or_too_long_is_no_link() -> None:
    url = "https://x.example.com/" + "a" * 100
    assert "link" not in {one["type"] for one in prose(some_lines(f"See {url}", 80))["elements"][0]["elements"]}
    assert "link" in {one["type"] for one in prose(some_lines(f"See {url} …", 200))["elements"][0]["elements"]}
    assert "link" not in {one["type"] for one in prose(f"{url}… · team: a")["elements"][0]["elements"]}
    assert "link" not in {one["type"] for one in prose(url + "a" * 3000)["elements"][0]["elements"]}


@pytest.mark.parametrize(
    "text", ["<!channel>", "@here", "<https://x.example.com|y>", "*b*", "https://x.example.com", "> q", ":fire:"]
)
def test_markup_mentions_and_emoji_in_alerts_are_text(text: str) -> None:
    message = made([alert(text, summary="s", description=f"{text} {text}", labels={"a": text})])
    assert message.text.split(" · ")[1] == escaped(text)
    body = message.body()
    assert (body["mrkdwn"], body["parse"]) == (False, "none")
    [first] = body["blocks"]
    if "https" in text:
        assert "".join(one.get("text") or one["url"] for one in first["elements"][0]["elements"]) == message.headline
    else:
        assert first["text"] == {"type": "plain_text", "text": message.headline, "emoji": False}
    assert problems(body) == []
    assert [one["text"] for one in elements_of(body, "mrkdwn")] == [
        "since <!date^1772357400^{date_short_pretty} {time}|2026-03-01 09:30 UTC>"
    ]


@pytest.mark.parametrize(
    ("labels", "lines"),
    [
        ([{"deployment": "a"}, {"deployment": "b"}], ["🔴 payments/a", "🔴 payments/b"]),
        (
            [{"pod": "a", "cluster": "eu"}, {"pod": "a", "cluster": "us"}],
            ["🔴 payments/a cluster=eu", "🔴 payments/a cluster=us"],
        ),
        (
            [{"job": "node-exporter", "instance": "n:9100", "mountpoint": mount} for mount in ("/", "/var")],
            ["🔴 n:9100 /", "🔴 n:9100 /var"],
        ),
        (
            [{"persistentvolumeclaim": f"data-{n}", "job": "kubelet", "instance": f"10.0.0.{n}:10250"} for n in (1, 2)],
            ["🔴 payments/data-1", "🔴 payments/data-2"],
        ),
        (
            [{"deployment": "a", "severity": one, "replica": one, "prometheus": one, "zone": one} for one in ("x", "y")],
            ["🔴 payments/a zone=x", "🔴 payments/a zone=y"],
        ),
        (
            [{"deployment": "a", "job": "kube-state-metrics", "instance": instance} for instance in ("x", "y")],
            ["🔴 payments/a instance=x", "🔴 payments/a instance=y"],
        ),
        (
            [{"deployment": "a", "job": "kube-state-metrics", "instance": one, "cluster": one} for one in ("x", "y")],
            ["🔴 payments/a cluster=x", "🔴 payments/a cluster=y"],
        ),
    ],
)
def test_alerts_of_one_name_have_a_line_each_with_what_distinguishes_it(labels: list[dict[str, str]], lines: list[str]) -> None:
    assert lines_of(made([alert(labels=one) for one in labels])) == lines


def test_alerts_that_differ_in_no_label_are_told_apart_by_their_descriptions() -> None:
    alerts = [alert(labels={}, description=text) for text in ("Disk a is full.", "Disk b is full.")]
    assert lines_of(made(alerts)) == ["🔴 payments: Disk a is full.", "🔴 payments: Disk b is full."]


def test_a_description_that_alerts_of_one_name_share_is_shown_once_and_no_text_twice() -> None:
    alerts = [alert(labels={"pod": name}, description="The image is missing.") for name in "ab"]
    message = made(alerts)
    assert lines_of(message) == ["🔴 payments/a", "🔴 payments/b"]
    assert lines_of(message, 1) == ["The image is missing."]
    repeated = [alert(labels={}, summary="Disk full", description=text) for text in ("Disk full.", "Disk /var is full.")]
    assert lines_of(made(repeated)) == ["🔴 payments", "🔴 payments: Disk /var is full."]
    assert (
        text_of(made([alert(labels={"pod": name}, description="The pod is crash looping") for name in "ab"])).count("looping")
        == 3
    )


def test_links_and_silence_of_several_alerts_are_what_they_have_in_common() -> None:
    group = Group(key="g", external_url="https://am.example.com")
    alerts = [
        alert(
            labels={"pod": f"api-{n}", "replica": "a"},
            group=group,
            links=Links(source=f"https://p.example.com/{n}", runbook=LINKS.runbook),
        )
        for n in range(2)
    ]
    urls = [one["url"] for one in elements_of(made(alerts).body(), "button")]
    silence = (
        "https://am.example.com/#/silences/new?filter=%7Balertname%3D%22KubePodCrashLooping%22%2Cseverity%3D%22critical%22%7D"
    )
    assert urls == [LINKS.runbook, silence]
    ended = [structs.replace(one, status=Status.RESOLVED, ends_at=BEGAN) for one in alerts]
    assert [one["url"] for one in elements_of(made(ended).body(), "button")] == [LINKS.runbook]
    assert [one["url"] for one in elements_of(made([alerts[0], ended[1]]).body(), "button")] == [LINKS.runbook, silence]
    unlike = [structs.replace(one, labels={f"pod-{n}": "a"}) for n, one in enumerate(alerts)]
    assert [one["url"] for one in elements_of(made(unlike).body(), "button")] == [LINKS.runbook]  # and no silence of everything
    elsewhere = structs.replace(alerts[1], group=Group(key="g", external_url="https://other.example.com"))
    assert [one["url"] for one in elements_of(made([alerts[0], elsewhere]).body(), "button")] == [LINKS.runbook]


def test_up_to_ten_alerts_of_several_names_have_a_line_each_with_where_summary_and_runbook() -> None:
    message = made(CASES["two-names"])
    assert lines_of(message) == [
        "🔴 KubePodCrashLooping · payments/api-0 · The pod is crash looping. · Runbook",
        "🟡 HighLatency · payments/api-0 · p99 above 2 s · Runbook",
    ]
    assert [one["url"] for one in elements_of(message.body(), "link")] == [LINKS.runbook] * 2
    assert len(lines_of(made([alert(f"Name{n}") for n in range(10)]))) == 10
    assert lines_of(made([alert(f"Name{n}") for n in range(11)]), 1)[0] == "🔴 1 × Name0 · payments"


def test_a_digest_shows_the_worst_alerts_in_full() -> None:
    alerts = [alert(f"Name{n}", severity=Severity.LOW) for n in range(20)]
    alerts.append(alert("DatabaseDown", severity=Severity.FATAL, summary="No primary.", description="db-0 lost its lease."))
    assert lines_of(made(alerts))[:2] == ["🚨 DatabaseDown · payments/api-0 · No primary. · Runbook", "db-0 lost its lease."]


def test_a_digest_shows_three_of_those_that_fire_and_counts_by_severity_and_number() -> None:
    alerts = [alert("Many", labels={}), alert("Many", labels={}), *(alert(f"Few{n}", labels={}) for n in range(2))]
    alerts += [resolved(name="Many", severity=Severity.FATAL) for _ in range(4)]
    alerts += [alert("Low", severity=Severity.LOW) for _ in range(5)]
    message = made(alerts)
    assert [line.split(" · ")[0] for line in lines_of(message)[::3]] == ["🔴 Many", "🔴 Many", "🔴 Few0"]
    counts = ["🔴 2 × Many, 4 resolved · payments", "🔴 1 × Few0 · payments", "🔴 1 × Few1 · payments", "🔵 5 × Low · payments"]
    assert lines_of(message, 1) == counts
    ended = made([resolved(name=f"N{n % 2}") for n in range(12)])
    assert lines_of(ended) == ["✅ 6 × N0 resolved · payments", "✅ 6 × N1 resolved · payments"]


def test_an_alert_that_says_nothing_has_a_line_all_the_same() -> None:
    nothing = alert("", labels={}, namespace="", summary="", description="", links=Links())
    assert lines_of(made([nothing, alert("A", labels={}, links=Links(), summary="")])) == ["🔴 without a name", "🔴 A · payments"]
    assert lines_of(made([nothing, structs.replace(nothing, fingerprint="other")])) == ["🔴 without a name (2 times)"]


@pytest.mark.parametrize(
    ("texts", "headline", "description"),
    [
        ({"summary": "Disk full", "description": "Disk full."}, "🔴 Critical · A · payments · Disk full", False),
        ({"summary": "a", "description": "A"}, "🔴 Critical · A · payments", False),
        ({"summary": "x" * 200, "description": "x" * 200}, f"🔴 Critical · A · payments · {'x' * 159}…", True),
    ],
)
def test_no_text_appears_twice(texts: dict[str, str], headline: str, description: bool) -> None:
    message = made([alert("A", labels={}, **texts)])
    assert message.headline == headline
    assert (message.attachments[0]["blocks"][0]["type"] == "rich_text") == description


def test_without_a_name_there_are_no_dangling_separators() -> None:
    nameless = alert("", labels={}, namespace="", summary="Disk full", description="")
    assert made([nameless]).headline == "🔴 Critical · Disk full"
    described = structs.replace(nameless, summary="", description="Disk full")
    assert made([described]).headline == "🔴 Critical · Disk full"
    assert text_of(made([described])) == text_of(made([nameless]))
    assert made([nameless, alert("", labels={}, namespace="", summary="", description="")]).headline == "🔴 2 firing"
    several = made([nameless, *(alert(f"Name{n}") for n in range(11))])
    assert "🔴 1 × Disk full" in lines_of(several, 1)


@pytest.mark.parametrize(
    ("tenants", "last"),
    [
        (["globex"], "ops/all · tenant globex"),
        (["globex", "acme", "globex"], "ops/all · tenants globex, acme"),
        (["a", "b", "c", "d"], "ops/all · tenants a, b, c +1"),
    ],
)
def test_a_message_of_a_sink_of_all_tenants_says_whose_its_alerts_are(tenants: list[str], last: str) -> None:
    alerts = [alert(tenant=tenant, id=f"id-{index}", fingerprint=f"f-{index}") for index, tenant in enumerate(tenants)]
    message = render(alerts, sink="ops/all", tenant="*")
    assert message.attachments[0]["blocks"][-1]["elements"][0]["text"] == last
