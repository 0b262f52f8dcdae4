"""`eventsink preview` shows what sinks would be sent, by the router's own code, and sends nothing."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from eventsink.cli import main
from eventsink.standalone.preview import NoPreview, read_notification
from tests.unit.standalone.test_validate import SLACK, secret, sink

CRASHING = ["KubePodCrashLooping", "severity=critical", "namespace=shop", "pod=api-0"]
CANARY = "canary7"


def preview(*arguments: str, documents: list[dict[str, Any]] | None = None, text: str = "", colour: bool = False) -> Result:
    """Run it, the sinks of `documents` (or else what `text` says) being standard input."""
    if documents is not None:
        arguments, text = (*arguments, "--sink", "-"), yaml.safe_dump_all(documents)
    return CliRunner().invoke(main, ["preview", *arguments], input=text, color=colour)


def group(*alerts: dict[str, Any], **members: Any) -> str:
    return json.dumps({"version": "4", "groupKey": "g", "status": "firing", "alerts": alerts, **members})


def raised(name: str, **labels: str) -> dict[str, Any]:
    return {"status": "firing", "labels": {"alertname": name, **labels}, "startsAt": "2026-03-01T09:30:00Z"}


def test_an_alert_made_of_labels_needs_no_file_and_no_sink() -> None:
    ended = preview(*CRASHING, "--annotation", "summary=It is crash-looping.")
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout.startswith(
        "default/preview -> Slack #alerts\n\n🔴 Critical · KubePodCrashLooping · shop/api-0 · It is crash-looping.\n▌ since "
    )
    assert "▌ [ Silence ]  https://alertmanager.example.com/#/silences/new?filter=" in ended.stdout


def test_the_first_label_may_be_written_whole() -> None:
    whole = preview("alertname=KubePodCrashLooping", *CRASHING[1:])
    assert whole.stdout == preview(*CRASHING).stdout


def test_json_is_what_slack_would_be_sent() -> None:
    body = json.loads(preview(*CRASHING, "-o", "json").stdout)
    assert body["blocks"][0]["text"]["text"] == "🔴 Critical · KubePodCrashLooping · shop/api-0"
    assert body["attachments"][0]["color"] == "#d32f2f"


def test_the_end_is_shown_on_request() -> None:
    ended = preview(*CRASHING, "--resolved")
    assert "✅ Resolved after 5 min · KubePodCrashLooping" in ended.stdout
    assert "Silence" not in ended.stdout
    of_file = preview("-", "--resolved", text=group(raised("A"), raised("B")))
    assert "✅ 2 resolved" in of_file.stdout


@pytest.mark.parametrize(
    "text",
    [
        group(raised("A", severity="high"), raised("B", severity="low")),
        json.dumps([raised("A", severity="high"), {"labels": {"alertname": "B", "severity": "low"}}]),
    ],
    ids=["what Alertmanager posts", "a list of alerts"],
)
def test_a_file_holds_what_a_source_posts(text: str, tmp_path: Path) -> None:
    file = tmp_path / "alerts.json"
    file.write_text(text)
    ended = preview(str(file))
    assert ended.stdout == preview("-", text=text).stdout
    assert "🟠 2 firing · 2 names · A, B" in ended.stdout


def test_each_sink_of_the_file_is_shown_and_says_which_alerts_it_does_not_match() -> None:
    match = {"minSeverity": "high", "namespaces": ["pay-*"], "sources": ["am"], "matchers": ["team=core", "a=b"]}
    match["expression"] = 'alert.labels.team == "core"'
    strict = sink("strict", match=match)
    ended = preview("Disk", "severity=low", "namespace=shop", "a=b", documents=[strict, sink("all", slack=SLACK)])
    assert ended.exit_code == 0
    assert ended.stdout.startswith("acme/all -> Slack #alerts\n\n🔵 Low · Disk · shop\n")
    assert ended.stderr == (
        "acme/strict: Disk (severity low, namespace shop, source alertmanager): does not match: spec.match.minSeverity: high; "
        "spec.match.sources: am; spec.match.namespaces: pay-*; spec.match.matchers[0]: team=core; "
        'spec.match.expression: alert.labels.team == "core"\n'
    )


def test_nothing_to_show_is_exit_status_1() -> None:
    ended = preview("Disk", "severity=low", documents=[sink(match={"minSeverity": "high"})])
    assert (ended.exit_code, ended.stdout) == (1, "")
    silent = preview("alertname=Disk", "--resolved", documents=[sink(delivery={"sendResolved": False})])
    assert silent.exit_code == 1
    assert "is not sent: spec.delivery.sendResolved is false" in silent.stderr


def test_the_source_can_be_named() -> None:
    documents = [sink(match={"sources": ["falco"]})]
    assert preview("alertname=A", documents=documents).exit_code == 1
    assert preview("alertname=A", "--source", "falco", documents=documents).exit_code == 0


def test_a_suspended_sink_is_shown_and_said_to_be_suspended() -> None:
    ended = preview("alertname=A", documents=[sink(suspend=True)])
    assert ended.exit_code == 0
    assert "spec.suspend" in ended.stderr


def test_what_a_slack_sink_adds_is_shown() -> None:
    slack = {
        **SLACK,
        "fields": [{"label": "team", "title": "Owner"}],
        "buttons": [{"text": "Logs", "urlAnnotation": "logs_url"}],
        "mentions": [{"minSeverity": "critical", "groups": ["S0123456789"], "here": True}],
        "links": "text",
    }
    logs = "logs_url=https://logs.example.com/shop"
    ended = preview(*CRASHING, "team=checkout", "--annotation", logs, documents=[sink(slack=slack)])
    assert ended.exit_code == 0
    assert {"Owner", "checkout", "@S0123456789", "@here", "Logs"} <= set(re.findall(r"[@\w]+", ended.stdout))
    assert "https://logs.example.com/shop" in ended.stdout


def test_a_template_is_shown_and_one_that_fails_is_named() -> None:
    def shown(body: str) -> Result:
        return preview(*CRASHING, documents=[sink(slack={**SLACK, "template": {"title": "{{ alert.where }}!", "body": body}})])

    ended = shown("*{{ severity }}* in {{ alert.namespace }}")
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert "🔴 shop/api-0!\n▌ critical in shop\n" in ended.stdout
    failed = shown("{{ 1 | divided_by: 0 }}")
    assert failed.exit_code == 0
    assert "the message is the built-in one: spec.slack.template.body: " in failed.stderr
    assert "🔴 Critical · KubePodCrashLooping" in failed.stdout


HEADERS = [
    {"name": "X-Team", "value": CANARY},
    {"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
]


def test_a_webhook_is_shown_with_headers_and_body_but_without_credentials() -> None:
    webhook = {"url": f"https://example.com/{CANARY}", "headers": HEADERS, "signingSecretRefs": [{"name": "s", "key": "k"}]}
    ended = preview("alertname=Disk", documents=[sink(webhook=webhook), secret(k=CANARY * 8)])
    assert (ended.exit_code, ended.stderr) == (0, "")
    lines = ended.stdout.split("\n")
    assert lines[0] == "acme/alerts -> webhook https://example.com"
    assert {
        "X-Team: (the value in the spec)",
        "Authorization: (from the Secret s, key k)",
        "Content-Type: application/cloudevents+json",
        "webhook-signature: (of id, timestamp and body: v1,...)",
        '  "type": "dev.eventsink.alert.firing.v1",',
    } <= set(lines)
    assert CANARY not in ended.output


def test_a_webhook_with_a_template_is_shown_what_that_writes() -> None:
    own = {
        "url": "https://example.com",
        "method": "PUT",
        "template": '{"text": {{ alert.where | json }}, "from": {{ sink | json }}}',
    }
    ended = preview(*CRASHING, documents=[sink(webhook=own)])
    lines = ended.stdout.split("\n")
    assert lines[0] == "acme/alerts -> webhook https://example.com"
    assert {"PUT", "Content-Type: application/json", '  "text": "shop/api-0",', '  "from": "acme/alerts"'} <= set(lines)
    plain = {"url": "https://example.com", "contentType": "text/plain", "template": "{{ alert.where }}: {{ alert.summary }}"}
    ended = preview(*CRASHING, "--annotation", "summary=\x1b[31mred", documents=[sink(webhook=plain)])
    assert "\nshop/api-0: \ufffd[31mred\n" in ended.stdout
    ended = preview(*CRASHING, "-o", "json", documents=[sink(webhook=plain)])
    assert json.loads(ended.stdout) == "shop/api-0: KubePodCrashLooping"


def test_a_template_of_a_webhook_that_fails_is_said_to_make_a_dead_letter() -> None:
    own = {"url": "https://example.com", "template": "{% if alert.labels.more == 'x' %}x{% else %}1{% endif %}"}
    ended = preview(*CRASHING, "more=x", documents=[sink(webhook=own)])
    assert "the message becomes a dead letter: spec.webhook.template: it writes no valid JSON" in ended.output


@pytest.mark.parametrize(
    ("webhook", "messages"), [({}, [["A"], ["B"], ["C"]]), ({"batch": 2}, [["A", "B"], ["C"]])], ids=["one by one", "batches"]
)
def test_a_webhook_gets_as_many_messages_as_its_batch_makes(
    webhook: dict[str, Any], messages: list[list[str]], tmp_path: Path
) -> None:
    file = tmp_path / "alerts.json"
    file.write_text(group(raised("A"), raised("B"), raised("C")))
    ended = preview(str(file), "-o", "json", documents=[sink(webhook={"url": "https://example.com", **webhook})])
    decoder, found, rest = json.JSONDecoder(), [], ended.stdout
    while rest.strip():
        body, end = decoder.raw_decode(rest)
        found.append([one["data"]["name"] for one in (body if isinstance(body, list) else [body])])
        rest = rest[end:].lstrip()
    assert found == messages


def test_a_sink_of_groups_gets_the_group_as_received(tmp_path: Path) -> None:
    file = tmp_path / "alerts.json"
    file.write_text(group(raised("A"), raised("B"), externalURL="https://am.example.com", other=7))
    ended = preview(str(file), "-o", "json", documents=[sink(webhook={"url": "https://example.com", "format": "alertmanager"})])
    assert json.loads(ended.stdout) == json.loads(file.read_text())


def test_a_sink_of_groups_gets_the_part_of_the_group_that_it_matches(tmp_path: Path) -> None:
    file = tmp_path / "alerts.json"
    file.write_text(group(raised("A", severity="high"), raised("B", severity="low")))
    webhook = {"url": "https://example.com", "format": "alertmanager"}
    ended = preview(str(file), "-o", "json", documents=[sink(match={"minSeverity": "high"}, webhook=webhook)])
    assert [one["labels"]["alertname"] for one in json.loads(ended.stdout)["alerts"]] == ["A"]
    assert "B (severity low, source alertmanager): does not match: spec.match.minSeverity: high" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        (
            ["absent.json"],
            "",
            "absent.json: there is no such file; an alert is written as alertname=absent.json severity=critical",
        ),
        (["A", "severity"], "", "the label 'severity': write NAME=VALUE, such as severity=critical"),
        (["A", "a=b", "--annotation", "x"], "", "--annotation 'x': write NAME=VALUE"),
        (["-", "--annotation", "a=b"], "[]", "--annotation: only of an alert that is made of labels"),
        (["-"], "nonsense", "the body is not JSON"),
        (["-"], "[]", 'the notification holds no alert: "alerts" is empty'),
        (["-"], '[{"labels": 7}]', "none of the 1 alerts can be used; alerts[0]"),
        (["-", "--sink", "-"], "", "- is standard input, and holds either the alerts or the sink"),
        (["A=b", "--format", "x"], "", "--format x: is not one of alertmanager"),
        (
            ["A=b", "--sink", "-"],
            yaml.safe_dump(sink(severity="x")),
            "standard input:8: spec.severity: this version of the operator",
        ),
        (["A=b", "--sink", "-"], yaml.safe_dump(secret(k="v")), "--sink -: has no EventSink"),
        (["A=b", "--sink", "absent.yaml"], "", "absent.yaml: cannot be read: No such file"),
    ],
)
def test_what_cannot_be_shown_is_exit_status_1_and_a_sentence(arguments: list[str], text: str, said: str) -> None:
    ended = preview(*arguments, text=text)
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"Error: {said}")


def test_no_depth_of_what_a_file_holds_raises() -> None:
    for depth in range(1, sys.getrecursionlimit()):  # one of them is just what can be read, and one too deep to be written again
        with pytest.raises(NoPreview):
            read_notification(b"[" * depth + b"]" * depth, format="alertmanager", resolved=False, now=datetime.now(UTC))


def test_a_part_of_the_alerts_that_cannot_be_used_is_named() -> None:
    ended = preview("-", text=json.dumps([raised("A"), 7]))
    assert ended.exit_code == 0
    assert "alerts[1]: cannot be used: " in ended.stderr


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1m🔴" in preview(*CRASHING, colour=True).stdout
    assert "\x1b" not in preview(*CRASHING).stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in preview(*CRASHING, colour=True).stdout


def test_an_alert_moves_no_terminal() -> None:
    hostile = "\x1b[2J\x9b2J\u202e\x07"
    ended = preview(hostile + "A", f"namespace={hostile}", f"a={hostile}", documents=[sink(), sink("s", slack=SLACK)])
    refused = preview(hostile + "A", "b=c", documents=[sink(match={"minSeverity": "high", "matchers": ["b=d"]})])
    assert refused.exit_code == 1
    assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(ended.output + refused.output)
