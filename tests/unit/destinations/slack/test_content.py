"""What a sink's owner wants shown is shown, and whom they name is mentioned; nothing that an alert says does either."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from eventsink.alerts.alert import Alert, Links, Severity, Status
from eventsink.destinations.slack.form import SlackForm
from eventsink.destinations.slack.message import SlackMessage
from eventsink.destinations.slack.spec import SlackSpec
from tests.support.slack_limits import mentioned, problems
from tests.unit.destinations.slack.messages_made import (
    BEGAN,
    HOSTILE,
    LINKS,
    alert,
    elements_of,
    lines_of,
    made,
    pods,
    resolved,
    text_of,
)

TEAM, VALUE = {"label": "team"}, {"annotation": "value", "title": "Current value"}
LOGS = {"text": "Logs", "urlAnnotation": "logs_url"}


def buttons(message: SlackMessage) -> list[tuple[str, str]]:
    return [(one["text"]["text"], one["url"]) for one in elements_of(message.body(), "button")]


def links(message: SlackMessage) -> list[tuple[str, str]]:
    return [(one.get("text", ""), one["url"]) for one in elements_of(message.body(), "link")]


def small_lines(message: SlackMessage) -> list[str]:
    return [one["text"] for block in elements_of(message.body(), "context") for one in block["elements"]]


def test_the_form_that_a_spec_asks_for_is_the_one_that_messages_have() -> None:
    written = {
        "channel": "#a",
        "fields": [TEAM, VALUE],
        "buttons": [LOGS],
        "mentions": [{"minSeverity": "high", "users": ["U012"], "groups": ["S012"], "here": True}],
        "links": "text",
    }
    form = SlackForm.of(SlackSpec.model_validate(written))
    assert form == SlackForm.model_validate({name: value for name, value in written.items() if name != "channel"})
    assert SlackForm.of(SlackSpec(channel="#a")) == SlackForm()


# ---- fields


def test_fields_are_shown_in_their_order_with_their_titles_and_those_that_an_alert_lacks_are_left_out() -> None:
    one = alert(labels={"pod": "a", "team": "core"}, annotations={"value": "97 %"}, description="")
    assert lines_of(made([one], fields=[VALUE, {"label": "absent"}, TEAM])) == ["Current value: 97 %", "team: core"]
    assert made([alert()], fields=[TEAM, VALUE]) == made([alert()])
    assert [part["text"] for part in elements_of(made([one], fields=[TEAM]).body(), "text") if part.get("style")] == ["team: "]


def test_titles_and_texts_of_which_nothing_is_seen_are_replaced() -> None:
    one = alert(annotations={"value": "7", "\u200b": "8", "logs_url": "https://l.example.com/"}, description="", links=Links())
    message = made([one], fields=[VALUE | {"title": "\u200b"}, {"annotation": "\u200b"}], buttons=[LOGS | {"text": "\u2060"}])
    assert lines_of(message) == ["value: 7", "–: 8"]
    assert buttons(message) == [("–", "https://l.example.com/")]
    assert problems(message.body()) == []


def test_a_label_that_is_a_field_is_not_shown_among_the_labels_too() -> None:
    one = alert(labels={"pod": "a", "team": "core", "zone": "b"})
    assert small_lines(made([one]))[1] == "team=core zone=b"
    assert small_lines(made([one], fields=[TEAM]))[1] == "zone=b"
    assert small_lines(made([one, one], fields=[TEAM]))[1] == "zone=b"


def test_the_lines_of_a_field_are_kept_and_its_urls_are_links() -> None:
    one = alert(annotations={"value": "a  1\nb  https://x.example.com/b"}, description="")
    assert lines_of(made([one], fields=[VALUE])) == ["Current value: ", "a  1", "b  https://x.example.com/b"]
    assert ("", "https://x.example.com/b") in links(made([one], fields=[VALUE]))


def test_fields_that_several_alerts_have_in_common_are_shown_once_and_others_in_the_line_of_each() -> None:
    alerts = [alert(labels={"pod": f"a-{n}", "team": "core"}, annotations={"value": f"{n} %"}, description="") for n in range(2)]
    message = made(alerts, fields=[TEAM, VALUE])
    assert lines_of(message) == ["🔴 payments/a-0 · Current value: 0 %", "🔴 payments/a-1 · Current value: 1 %"]
    assert lines_of(message, 1) == ["team: core"]
    names = [
        alert(f"N{n}", labels={"team": "core"}, summary="", annotations={"value": f"{n} %"}, links=Links()) for n in range(2)
    ]
    assert lines_of(made(names, fields=[TEAM, VALUE])) == [
        "🔴 N0 · payments · Current value: 0 %",
        "🔴 N1 · payments · Current value: 1 %",
    ]
    assert lines_of(made(names, fields=[TEAM, VALUE]), 1) == ["team: core"]
    partly = [alert(labels={"pod": "a", "team": "core"}), alert(labels={"pod": "b"})]
    assert lines_of(made(partly, fields=[TEAM])) == ["🔴 payments/a · team: core", "🔴 payments/b"]


def test_a_digest_shows_the_fields_of_its_worst_alerts_and_those_that_all_have() -> None:
    alerts = [alert(f"N{n}", labels={"team": "core"}, annotations={"value": str(n)}, severity=Severity.LOW) for n in range(11)]
    alerts.append(alert("Worst", labels={"team": "core"}, annotations={"value": "all"}, severity=Severity.FATAL))
    message = made(alerts, fields=[TEAM, VALUE])
    assert "· Current value: all" in lines_of(message)[0]
    assert lines_of(message, 2) == ["team: core"]


def test_alerts_that_differ_in_nothing_but_a_field_have_a_line_each() -> None:
    alerts = [alert(labels={"pod": "a"}, annotations={"value": f"{n} %"}) for n in (1, 1, 2)]
    assert lines_of(made(alerts, fields=[VALUE])) == [
        "🔴 payments/a · Current value: 1 % (2 times)",
        "🔴 payments/a · Current value: 2 %",
    ]


# ---- links


def test_a_button_opens_the_url_in_its_annotation_and_is_absent_where_the_alert_has_none() -> None:
    one = alert(annotations={"logs_url": " https://logs.example.com/a "}, links=Links(runbook=LINKS.runbook))
    assert buttons(made([one], buttons=[LOGS])) == [("Runbook", LINKS.runbook), ("Logs", "https://logs.example.com/a")]
    assert buttons(made([alert(links=Links())], buttons=[LOGS])) == []


@pytest.mark.parametrize(
    "target",
    [
        "javascript:alert(1)",
        "data:text/html,<script>",
        "https://a b.example.com",
        "https://",
        "https://x.example.com/" + "a" * 10_000,
        "file:///etc/passwd",
        "slack://user?team=T1",
        "//x.example.com",
        "https://x.example.com/\u202egnp",
        "<!here>",
    ],
)
def test_what_is_no_url_in_an_annotation_of_a_button_is_text_that_does_nothing(target: str) -> None:
    one = alert(annotations={"logs_url": target}, links=Links(), description="")
    for links_as in ("buttons", "text"):
        message = made([one], buttons=[LOGS], links=links_as)
        assert buttons(message) + links(message) == []
        [said] = [line for line in small_lines(message) if line.startswith("Logs: ")]
        assert said[6:20] in target
        assert len(said) <= 206
        assert problems(message.body()) == []


def test_a_source_whose_url_is_too_long_for_a_button_is_shown_as_text() -> None:
    one = alert(links=Links(source="https://p.example.com/graph?g0.expr=" + "x" * 3000), description="")
    assert buttons(made([one])) == []
    assert any(line.startswith("Source: https://p.example.com/graph") for line in small_lines(made([one])))


def test_several_alerts_have_the_button_that_all_share_and_otherwise_a_link_in_the_line_of_each() -> None:
    same = [alert(labels={"pod": f"a-{n}"}, annotations={"logs_url": "https://l.example.com/"}, links=Links()) for n in range(2)]
    assert buttons(made(same, buttons=[LOGS])) == [("Logs", "https://l.example.com/")]
    assert links(made(same, buttons=[LOGS])) == []
    differing = [alert(labels={"pod": f"a-{n}"}, annotations={"logs_url": f"https://l/{n}"}, links=Links()) for n in range(2)]
    assert buttons(made(differing, buttons=[LOGS])) == []
    assert links(made(differing, buttons=[LOGS])) == [("Logs", "https://l/0"), ("Logs", "https://l/1")]
    names = [alert(f"N{n}", annotations={"logs_url": "see the wiki"}, links=Links()) for n in range(2)]
    assert all(line.endswith(" · Logs: see the wiki") for line in lines_of(made(names, buttons=[LOGS])))


def test_long_links_of_an_alert_leave_room_for_the_lines_of_others() -> None:
    names = [alert(f"N{n}", annotations={"logs_url": f"https://l/{'a' * 500}"}, summary="") for n in range(2)]
    long = [structs.replace(one, links=Links(runbook=f"https://r/{'b' * 500}")) for one in names]
    assert [text for text, _ in links(made(names, buttons=[LOGS]))] == ["Runbook", "Logs"] * 2
    assert [text for text, _ in links(made(long, buttons=[LOGS]))] == ["Runbook"] * 2


def test_a_runbook_that_is_no_url_is_text_in_the_line_of_its_alert() -> None:
    alerts = [alert(f"N{n}", annotations={"runbook_url": f"wiki, page {n}"}, links=Links(), summary="") for n in range(2)]
    assert lines_of(made(alerts)) == [f"🔴 N{n} · payments/api-0 · Runbook: wiki, page {n}" for n in range(2)]


def test_links_as_text_are_in_the_text_and_there_is_no_button() -> None:
    one = alert(annotations={"logs_url": "https://logs.example.com/a"}, description="")
    message = made([one], buttons=[LOGS], links="text")
    assert buttons(message) == []
    assert links(message) == [
        ("Runbook", LINKS.runbook),
        ("Dashboard", LINKS.dashboard),
        ("Silence", LINKS.silence),
        ("Source", LINKS.source),
        ("Logs", "https://logs.example.com/a"),
    ]
    assert problems(message.body()) == []
    assert "Silence" not in text_of(made([resolved()], links="text"))
    assert buttons(made(pods(3), links="text")) == []


def test_links_that_would_make_the_message_too_long_are_text() -> None:
    long = {name: f"https://{name}.example.com/{'a' * 2900}" for name in ("source", "runbook", "dashboard", "silence")}
    message = made([alert(links=Links(**long))])
    assert problems(message.body()) == []
    assert 1 <= len(buttons(message)) < 4
    assert any(
        line.startswith("Source: https://source.example.com/aaa") for small in small_lines(message) for line in small.split("\n")
    )


# ---- mentions

MENTIONS = [
    {"minSeverity": "critical", "users": ["U012", "W034"], "here": True},
    {"minSeverity": "high", "groups": ["S012"], "users": ["U012"]},
]


@pytest.mark.parametrize(
    ("alerts", "who"),
    [
        ([alert(severity=Severity.CRITICAL)], ["<@U012>", "<@W034>", "<!subteam^S012>", "<!here>"]),
        ([alert(severity=Severity.FATAL)], ["<@U012>", "<@W034>", "<!subteam^S012>", "<!here>"]),
        ([alert(severity=Severity.HIGH)], ["<@U012>", "<!subteam^S012>"]),
        ([alert(severity=Severity.MEDIUM)], []),
        ([alert(severity=Severity.UNKNOWN)], ["<@U012>", "<@W034>", "<!subteam^S012>", "<!here>"]),
        ([alert(severity=Severity.HIGH, status=Status.EVENT)], ["<@U012>", "<!subteam^S012>"]),
        ([resolved(severity=Severity.FATAL)], []),
        ([alert(severity=Severity.LOW), alert(severity=Severity.HIGH)], ["<@U012>", "<!subteam^S012>"]),
        ([alert("B", severity=Severity.HIGH), resolved(severity=Severity.FATAL)], ["<@U012>", "<!subteam^S012>"]),
        ([alert(fingerprint="same", severity=Severity.FATAL), resolved(fingerprint="same", severity=Severity.FATAL)], []),
    ],
    ids=["critical", "fatal", "high", "medium", "unknown", "event", "resolved", "the worst", "the worst that fires", "has ended"],
)
def test_a_message_mentions_whom_the_owner_named_for_what_fires_in_it_in_blocks_and_in_text(
    alerts: list[Alert], who: list[str]
) -> None:
    message = made(alerts, mentions=MENTIONS)
    assert mentioned(message.body()) == who
    assert mentioned(message.plain_body()) == who
    assert problems(message.body(), may_mention=True) == problems(message.plain_body(), may_mention=True) == []
    if not who:
        assert message == made(alerts)


def test_without_a_severity_everything_that_fires_mentions() -> None:
    assert mentioned(made([alert(severity=Severity.INFORMATIONAL)], mentions=[{"here": True}]).body()) == ["<!here>"]
    assert mentioned(made([resolved()], mentions=[{"here": True}]).body()) == []


def test_the_notification_of_a_message_that_mentions_has_the_headline_alone() -> None:
    one = alert()
    assert made([one], mentions=MENTIONS).text == made([one]).text
    assert made([one], mentions=MENTIONS).attachments == made([one]).attachments


# ---- hostile alerts

PLACES: dict[str, dict[str, Any]] = {
    "name": {"name": HOSTILE},
    "summary": {"summary": HOSTILE},
    "description": {"description": HOSTILE},
    "namespace": {"namespace": HOSTILE},
    "label": {"labels": {"team": HOSTILE, HOSTILE: "x", "pod": HOSTILE}},
    "annotation": {"annotations": {"value": HOSTILE, "logs_url": HOSTILE, "runbook_url": HOSTILE}},
    "links": {
        "links": Links(runbook=HOSTILE, dashboard=f"https://x.example.com/{HOSTILE}", source="http://<!here>/", silence=HOSTILE)
    },
    "mark": {"truncated": (f"annotations.{HOSTILE}",)},
}


@pytest.mark.parametrize("links_as", ["buttons", "text"])
@pytest.mark.parametrize("where", PLACES)
def test_nothing_in_an_alert_mentions_formats_or_hides_wherever_it_is(where: str, links_as: str) -> None:
    members = PLACES[where]
    one = alert(**members)
    form = {"fields": [TEAM, VALUE], "buttons": [LOGS], "links": links_as}
    others = [alert(**{**members, "name": f"{members.get('name', 'N')} {n}"}) for n in range(12)]
    for alerts in ([one], [one, alert(**members)], others[:2], others, [alert(**members, status=Status.RESOLVED, ends_at=BEGAN)]):
        message = made(alerts, **form)
        assert problems(message.body()) == problems(message.plain_body()) == []
        assert mentioned(message.body()) == mentioned(message.plain_body()) == []
        markup = [one["text"] for one in elements_of(message.body(), "mrkdwn")]
        assert all("<!date^" in text and HOSTILE[:5] not in text for text in markup)
        assert not any(
            part["url"].startswith("https://evil") and part.get("text") for part in elements_of(message.body(), "link")
        )


TEXTS = st.text(max_size=100) | st.sampled_from([HOSTILE, "", " ", "\n", "x" * 4000, "https://x.example.com/" + "a" * 2900])
NAMES = st.sampled_from(["a", "b", "c", "d"])
ANNOTATED = st.builds(
    alert,
    st.sampled_from(["A", "B", "N" * 300]),
    summary=TEXTS,
    description=TEXTS,
    labels=st.dictionaries(NAMES, TEXTS),
    annotations=st.dictionaries(NAMES, TEXTS),
    severity=st.sampled_from(Severity),
    status=st.sampled_from(Status),
    links=st.builds(Links, source=TEXTS, runbook=TEXTS, dashboard=TEXTS, silence=TEXTS),
)
IDS = [f"U{n:020}" for n in range(50)]
FULL: dict[str, Any] = {
    "fields": [{kind: name, "title": "T" * 75} for kind in ("label", "annotation") for name in "abcd"],
    "buttons": [{"text": "T" * 75, "urlAnnotation": name} for name in "abcda"],
    "mentions": [
        {"users": IDS[n : n + 10], "groups": [one.replace("U", "S") for one in IDS[n : n + 10]]} for n in range(0, 50, 10)
    ],
}


@given(st.lists(ANNOTATED, min_size=1, max_size=30), st.sampled_from(["buttons", "text"]))
def test_the_largest_form_makes_a_message_that_slack_accepts_of_any_alerts(alerts: list[Alert], links_as: str) -> None:
    message = made(alerts, **FULL, links=links_as)
    assert problems(message.body(), may_mention=True) == []
    assert problems(message.plain_body(), may_mention=True) == []


def test_whatever_takes_room_in_a_message_leaves_less_for_links() -> None:
    long = {name: f"https://{name}.example.com/{'a' * 1950}" for name in "abcd"}
    brief = alert(description="", labels={}, annotations=long, links=Links())
    wordy = structs.replace(brief, description="d " * 1000)
    nobody, no_fields = FULL | {"mentions": [], "fields": []}, FULL | {"fields": []}
    messages = [made([brief], **nobody), made([brief], **no_fields), made([wordy], **no_fields), made([wordy], **FULL)]
    assert [len(buttons(message)) for message in messages] == [4, 2, 1, 0]
    as_text = made([brief], **nobody, links="text")
    assert len(links(as_text)) == 1
    assert [problems(message.body(), may_mention=True) for message in (*messages, as_text)] == [[]] * 5


def test_the_text_of_a_message_without_blocks_has_fields_links_and_times() -> None:
    one = alert(labels={"team": "core"}, annotations={"logs_url": "https://l.example.com/", "value": "97 %"}, links=Links())
    for links_as in ("buttons", "text"):
        lines = made([one], fields=[TEAM, VALUE], buttons=[LOGS], links=links_as).plain_body()["text"].split("\n")
        assert lines[2:6] == ["team: core", "Current value: 97 %", "since 2026-03-01 09:30 UTC", "Logs: https://l.example.com/"]
