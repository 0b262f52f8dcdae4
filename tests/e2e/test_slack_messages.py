"""What people read in Slack, from the bytes that Alertmanager posts and a sink's own document to the messages that the stand-in accepts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pytest

from tests.support.parts import alert, notification, request
from tests.support.slack import Slack
from tests.support.slack_state import Posted
from tests.support.standalone import NAMESPACE, Standalone, secret, sink

TEAM = "T1"
TOKEN = {"name": "slack", "key": "token"}


@dataclass
class Running:
    """EventSink with one sink, and the stand-in."""

    standalone: Standalone
    slack: Slack

    def send(self, *alerts: dict[str, Any], **members: Any) -> Posted:
        """Post a notification whose first alert has a name of its own; returns the message that has that name."""
        name = alerts[0]["labels"]["alertname"]
        url = f"http://127.0.0.1:{self.standalone.running.port_of('intake')}/v1/alerts/alertmanager"
        token = (self.standalone.data / "alertmanager-token").read_text().strip()
        status, response = request(url, token, json.dumps(notification(*alerts, group=name, **members)).encode())
        assert (status, response["accepted"]) == (200, len(alerts))
        found: list[Posted] = []

        def posted(seen: list[Posted]) -> bool:
            found[:] = [one for one in seen if name in one.text]
            return bool(found)

        self.slack.wait_for(posted)
        return found[0]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Slack() as slack:
        slack.add_workspace(TEAM, "Acme")
        slack.add_channel(TEAM, "alerts")
        standalone = Standalone(tmp_path_factory.mktemp("slack-messages"))
        document = sink(
            "alerts",
            "",
            slack={
                "channel": "#alerts",
                "botTokenSecretRef": TOKEN,
                "fields": [{"label": "team", "title": "Owner"}, {"annotation": "value"}],
                "buttons": [{"text": "Logs", "urlAnnotation": "logs_url"}],
                "mentions": [{"minSeverity": "fatal", "groups": ["S0123456789"]}],
            },
        )
        del document["spec"]["webhook"]
        standalone.put("sinks.yaml", NAMESPACE, secret("slack", token=slack.issue_token(TEAM)), document)
        process = standalone.start(slack={"apiUrl": slack.api_url, "hookUrls": [slack.url]})
        yield Running(standalone, slack)
        process.close()


def fired(name: str, annotations: dict[str, str] | None = None, **labels: str) -> dict[str, Any]:
    one = alert(name, namespace="acme", **labels)
    return {**one, "annotations": {**one["annotations"], **(annotations or {})}}


def buttons(posted: Posted) -> dict[str, str]:
    """Text of each button -> what it opens."""
    blocks = [block for one in posted.body["attachments"] for block in one["blocks"] if block["type"] == "actions"]
    return {one["text"]["text"]: one["url"] for block in blocks for one in block["elements"]}


def lines(posted: Posted) -> list[str]:
    """The lines of the message's first list."""
    [section] = posted.body["attachments"][0]["blocks"][0]["elements"]
    return "".join(one.get("text") or one["url"] for one in section["elements"]).split("\n")


def test_a_deployment_is_named_and_not_the_exporter_that_reported_it(running: Running) -> None:
    labels = {"deployment": "checkout", "job": "kube-state-metrics", "pod": "kps-kube-state-metrics-6d9f7-abcde"}
    posted = running.send(fired("KubeDeploymentReplicasMismatch", None, **labels))
    assert "KubeDeploymentReplicasMismatch · acme/checkout" in posted.text
    assert "kps-kube-state-metrics" not in posted.text


def test_the_silence_link_selects_exactly_the_alert_whatever_its_labels_say(running: Running) -> None:
    hostile = {"path": 'C:\\a "b"', "host.name": "db-0", "prometheus_replica": "a"}
    posted = running.send(fired("Silenced", None, **hostile), externalURL="https://am.example.com/alerts?org=1#/status")
    url = buttons(posted)["Silence"]
    assert url.startswith("https://am.example.com/alerts/?org=1#/silences/new?filter=")
    said = unquote(url.split("filter=", 1)[1])
    assert '"host.name"="db-0"' in said
    assert r'path="C:\\a \"b\""' in said


@pytest.mark.parametrize("garbage", ["http://", "see the wiki", "https://exa mple.com/x", "javascript:alert(1)"])
def test_a_runbook_that_is_no_link_is_text_and_the_message_arrives(running: Running, garbage: str) -> None:
    before = running.slack.calls("chat.postMessage")
    posted = running.send(fired(f"Garbage{len(garbage)}", {"runbook_url": garbage}))
    assert "Runbook" not in buttons(posted)
    assert f"Runbook: {garbage}" in json.dumps(posted.body)
    assert running.slack.calls("chat.postMessage") == before + 1


def test_alerts_of_several_names_have_a_line_each(running: Running) -> None:
    posted = running.send(fired("SeveralA", pod="a-0"), fired("SeveralB", pod="b-0", severity="warning"))
    assert lines(posted) == ["🔴 SeveralA · acme/a-0 · SeveralA happened", "🟡 SeveralB · acme/b-0 · SeveralB happened"]


def test_many_alerts_are_a_digest_with_the_worst_in_full(running: Running) -> None:
    worst = fired("DigestWorst", {"description": "No primary since 9:30."}, severity="fatal", pod="db-0")
    others = [fired(f"Digest{number}", severity="low") for number in range(40)]
    posted = running.send(worst, *others)
    assert posted.text.startswith("🚨 41 firing · 41 names · DigestWorst")
    assert lines(posted)[:2] == ["🚨 DigestWorst · acme/db-0 · DigestWorst happened", "No primary since 9:30."]
    message = json.dumps(posted.body).split("eventsink deliveries --message ", 1)[1].split('"', 1)[0]
    assert len(running.standalone.deliveries(message=message)) == 41


def test_what_the_sink_adds_is_shown_and_only_the_sink_mentions(running: Running) -> None:
    annotations = {"value": "3.1%", "logs_url": "https://logs.example.com/db", "description": "<!channel> <@U1> @here"}
    posted = running.send(fired("Added", annotations, severity="fatal", team="core"))
    said = json.dumps(posted.body)
    assert '"usergroup_id": "S0123456789"' in said
    assert {"Owner", "core", "3.1%"} <= {text.strip(': "') for text in said.replace("{", "}").split('"')}
    assert buttons(posted)["Logs"] == "https://logs.example.com/db"
    assert '"user_id"' not in said
    assert '"broadcast"' not in said


def test_a_message_whose_blocks_slack_rejects_arrives_as_text_alone(running: Running) -> None:
    running.slack.fail("chat.postMessage", "invalid_blocks", channel="alerts")
    posted = running.send(fired("Rejected", {"description": "All of it is said."}))
    assert "blocks" not in posted.body
    assert "attachments" not in posted.body
    assert "All of it is said." in posted.text
    assert running.standalone.deliveries(state="dead") == []
