"""A Slack sink in its own words, in a running process: a template that fails costs no alert, and the status says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.slack import Slack
from tests.support.standalone import NAMESPACE, Standalone, secret, sink
from tests.support.waiting import wait_until


def slack_sink(**template: str) -> dict[str, Any]:
    slack = {"channel": "#alerts", "botTokenSecretRef": {"name": "slack", "key": "token"}, "template": template}
    document = sink("alerts", "", slack=slack)
    del document["spec"]["webhook"]
    return document


def delivered_again(log: str) -> bool:
    reasons = [line["reason"] for line in map(json.loads, log.splitlines()) if line["event"] == "delivery to a sink"]
    return reasons[-2:] == ["TemplateFailed", "Delivered"]


def test_a_template_that_fails_costs_no_alert_and_the_status_says_so_until_it_is_corrected(tmp_path: Path) -> None:
    standalone = Standalone(tmp_path)
    with Slack(message_seconds=0) as slack:
        slack.add_workspace("T1")
        slack.add_channel("T1", "alerts")
        standalone.put("secrets.yaml", NAMESPACE, secret("slack", token=slack.issue_token("T1")))
        standalone.put(
            "sinks.yaml", slack_sink(title="{{ name }} of {{ tenant }}, {{ 12 | divided_by: alert.labels.shards }} each")
        )
        process = standalone.start(slack={"apiUrl": slack.api_url})
        try:
            standalone.post_alert("First", shards="3")
            standalone.logged("delivery to a sink", reason="Delivered")
            standalone.post_alert("Second", shards="none")
            failed = standalone.logged("delivery to a sink", reason="TemplateFailed")
            assert failed["delivering"] == "True"
            assert "spec.slack.template.title: line 1, column 37: divided_by: it divides by 0" in failed["message"]
            standalone.put("sinks.yaml", slack_sink(title="{{ name }} of {{ tenant | nothing }}"))
            rejected = standalone.logged("a sink is not ready", field="spec.slack.template.title")
            assert rejected["message"].startswith("spec.slack.template.title: line 1, column 27: there is no filter nothing")
            standalone.put("sinks.yaml", slack_sink(title="{{ name }} of {{ tenant }}"))
            wait_until("delivery with the corrected template", lambda: delivered_again(process.log.read_text()))
            standalone.post_alert("Third")
            slack.wait_for(3, channel="alerts")
        finally:
            process.close()
        first, second, third = (posted.text for posted in slack.messages("alerts"))
    assert first.endswith("First of acme, 4 each")
    assert "Second" in second
    assert "each" not in second
    assert third.endswith("Third of acme")
