"""A sink's own templates decide what its messages say; whatever they do, every alert has a message within Slack's limits."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import Mock

import pytest

from eventsink.alerts.alert import Alert, IncomingNotification, Severity
from eventsink.destinations.preview import PreviewedAlerts, preview
from eventsink.destinations.slack.form import ButtonForm, FieldForm, MentionForm, SlackForm, TemplateForm
from eventsink.destinations.slack.message import SlackMessage, render
from eventsink.resources.eventsink import read_eventsink
from tests.support.slack_limits import problems
from tests.support.templates import alert, resolved

HOSTILE = "<!channel> <@U123> <!subteam^S1> *bold* _it_ `code` ``` <https://evil.example.com|click> :fire: &amp; \u202ex\x1b[31m"


def message(*alerts: Alert, title: str | None = None, body: str | None = None, **form: Any) -> SlackMessage:
    template = TemplateForm(title=title, body=body)
    shown = render(
        alerts or [alert()], SlackForm(template=template, **form), sink="shop/pager", tenant="acme", lookup="eventsink x"
    )
    assert set(problems(shown.body())) <= {f"it mentions {who}" for who in (["<!here>"] if form.get("mentions") else [])}
    return shown


def blocks(shown: SlackMessage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shown.attachments[0]["blocks"]
    return found


def texts(shown: SlackMessage) -> str:
    return str(shown.plain_body()["text"])


def test_a_title_replaces_the_words_of_the_headline_and_the_rest_stays() -> None:
    shown = message(title="{{ alert.labels.team }}:\n{{ alert.where }}")
    assert shown.headline == shown.text == "🟠 checkout: shop/api-0"
    assert "was restarted 7 times" in texts(shown)


def test_a_body_replaces_what_is_below_and_the_headline_stays() -> None:
    shown = message(body="*{{ alert.where }}* at {{ alert.annotations.value }}\n")
    assert shown.headline == "🟠 High · KubePodCrashLooping · shop/api-0 · api-0 restarts again and again."
    assert blocks(shown)[0]["elements"][0]["elements"] == [
        {"type": "text", "text": "shop/api-0", "style": {"bold": True}},
        {"type": "text", "text": " at 0.953"},
    ]
    assert "was restarted 7 times" not in texts(shown)
    assert texts(shown).endswith("shop/pager · tenant acme")


def test_fields_buttons_mentions_and_colour_stay_around_a_body() -> None:
    shown = message(
        alert(annotations={"logs": "https://logs.example.com"}),
        title="T",
        body="B",
        fields=(FieldForm(label="team"),),
        buttons=(ButtonForm(text="Logs", url_annotation="logs"),),
        mentions=(MentionForm(here=True),),
    )
    plain = texts(shown)
    assert "<!here>" in plain
    for line in ("🟠 T", "B", "team: checkout", "Logs: https://logs.example.com", "Runbook: https://runbooks.example.com/crash"):
        assert line in plain
    assert shown.attachments[0]["color"] == "#f57c00"


def test_of_several_alerts_fields_and_links_are_those_that_all_have() -> None:
    several = [alert(pod="api-0"), alert("KubeJobFailed", pod="job-1", severity=Severity.CRITICAL)]
    body = "{% for a in alerts %}{{ a.where }}\n{% endfor %}"
    shown = message(
        *several, title="{{ count }} of {{ tenant }}", body=body, fields=(FieldForm(label="team"), FieldForm(label="pod"))
    )
    plain = texts(shown)
    assert shown.headline == "🔴 2 of acme"
    assert "shop/job-1\nshop/api-0" in plain
    assert "team: checkout" in plain
    assert "pod:" not in plain


def test_what_ended_is_rendered_by_the_same_templates_in_green() -> None:
    shown = message(resolved(alert()), title="{{ status }} after {{ alert.duration }}", body="{{ alert.endsAt }}")
    assert shown.headline == "✅ resolved after 42m"
    assert shown.attachments[0]["color"] == "#2e7d32"


def test_an_alert_mentions_and_formats_nothing_through_any_template() -> None:
    hostile = alert(HOSTILE, summary=HOSTILE, description=HOSTILE, labels={"team": HOSTILE, "pod": HOSTILE})
    members = ("name", "summary", "description", "where", "labels.team", "labels | json", "labels.team | upcase")
    body = " ".join(f"*{{{{ alert.{name} }}}}*" for name in members) + "{% capture x %}{{ name }}{% endcapture %}{{ x }}"
    shown = message(hostile, title="{{ alert.summary }} {{ name }}", body=body)
    sent = shown.body()
    assert "<" not in sent["text"]
    kinds = {
        part["type"]
        for block in blocks(shown)
        if block["type"] == "rich_text"
        for e in block["elements"]
        for part in e["elements"]
    }
    assert kinds <= {"text", "link"}
    assert "mrkdwn" not in json.dumps(sent["attachments"][0]["blocks"][0])
    links = [
        p for b in blocks(shown) if b["type"] == "rich_text" for e in b["elements"] for p in e["elements"] if p["type"] == "link"
    ]
    assert all("text" not in one for one in links)
    assert not {"\u202e", "\x1b"} & set(json.dumps(sent, ensure_ascii=False))
    assert "<" not in texts(shown)


@pytest.mark.parametrize(
    ("templates", "says"),
    [
        (
            {"title": "{{ 1 | divided_by: 0 }}", "body": "B"},
            "spec.slack.template.title: line 1, column 8: divided_by: it divides by 0",
        ),
        (
            {"title": "T", "body": "{{ 1 | divided_by: 0 }}"},
            "spec.slack.template.body: line 1, column 8: divided_by: it divides by 0",
        ),
        (
            {"title": "T", "body": "{% for i in (1..99999999) %}{% endfor %}"},
            "spec.slack.template.body: it takes more than 20,000 steps",
        ),
        ({"title": "{{ alert.labels.nothing }}", "body": "B"}, "spec.slack.template.title: it writes nothing"),
        ({"title": "T", "body": " \n{{ alert.labels.nothing }}"}, "spec.slack.template.body: it writes nothing"),
        ({"title": "{{ newer_variable }}", "body": "B"}, "spec.slack.template.title: line 1, column 4: there is no variable"),
        ({"title": "{% newer %}", "body": "B"}, "spec.slack.template.title: line 1, column 4: there is no tag newer"),
    ],
)
def test_a_template_that_fails_leaves_the_built_in_message_and_says_why(templates: dict[str, str], says: str) -> None:
    shown = message(**templates)
    built_in = render([alert()], sink="shop/pager", tenant="acme", lookup="eventsink x")
    assert shown.template_problem.startswith(says)
    assert shown.body() == built_in.body()


def test_a_template_that_works_has_no_problem() -> None:
    assert message(title="T", body="B").template_problem == ""


@pytest.mark.parametrize(
    "body",
    [
        "{{ alert.description }}",
        "{% for i in (1..900) %}*a* _b_ {% endfor %}",
        "{% for i in (1..300) %}<https://wiki.example.com/{{ i }}|{{ i }}> {% endfor %}",
        "{% for a in alerts %}{{ a.description }}\n{% endfor %}",
        "{% for i in (1..3000) %}\n{{ i }}{% endfor %}",
    ],
)
def test_a_long_body_is_cut_within_slacks_limits(body: str) -> None:
    many = [alert(f"Name{n}", pod=f"api-{n}", description="long words " * 800) for n in range(120)]
    shown = message(*many, title="{{ alert.description }}", body=body)
    assert shown.template_problem == ""
    assert shown.headline.endswith("…")
    assert len(texts(shown)) <= 4000


def test_the_same_alerts_make_the_same_message() -> None:
    several = [alert(pod=f"api-{n}") for n in range(30)]
    body = "{% for a in alerts %}{{ forloop.index }} {{ a.where }}\n{% endfor %}"
    assert message(*several, body=body).body() == message(*several, body=body).body()


def test_the_preview_of_a_template_that_fails_says_so() -> None:
    manifest = {
        "apiVersion": "eventsink.dev/v1alpha1",
        "kind": "EventSink",
        "metadata": {"name": "pager", "namespace": "shop"},
        "spec": {"tenant": "acme", "name": "Pager", "slack": {"channel": "#a", "template": {"title": "{{ 1 | modulo: 0 }}"}}},
    }
    sent = PreviewedAlerts(IncomingNotification(alerts=[], rejected=[]), [(Mock(), alert())])
    (shown,) = preview(read_eventsink(manifest), sent, width=80)
    assert list(shown.notes) == [
        "the message is the built-in one: spec.slack.template.title: line 1, column 8: modulo: it divides by 0"
    ]
