"""A webhook with a body of its own, in a running process: what its template cannot write is a dead letter, and arrives once that is correct."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.receiver import CannedResponse, Receiver
from tests.support.standalone import NAMESPACE, Standalone, run, sink
from tests.support.waiting import wait_until

FAILS = '{% if alert.labels.load == "much" %}{{ alert.labels.load }}{% else %}{{ alert.labels.load | plus: 0 | json }}{% endif %}'
"""For some alerts."""
TAKEN, REFUSED = CannedResponse(200, body=b'{"ok": true}'), CannedResponse(200, body=b'{"ok": false}')


def webhook(url: str, load: str) -> dict[str, Any]:
    document = sink("alerts", url)
    template = '{"key": {{ alert.fingerprint | json }}, "name": {{ name | json }}, "load": ' + load + "}"
    document["spec"]["webhook"] |= {"method": "PUT", "template": template, "successWhen": {"pointer": "/ok", "equals": "true"}}
    return document


def reported(log: str) -> list[str]:
    """The reasons of the sink's statuses."""
    return [line["reason"] for line in map(json.loads, log.splitlines()) if line["event"] == "delivery to a sink"]


def test_what_a_template_cannot_write_is_a_dead_letter_and_arrives_once_it_is_correct(tmp_path: Path) -> None:
    standalone = Standalone(tmp_path)
    with Receiver() as receiver:
        receiver.respond_with(REFUSED, *[TAKEN] * 9)
        standalone.put("namespace.yaml", NAMESPACE)
        standalone.put("sinks.yaml", webhook(receiver.url("/hook"), FAILS))
        process = standalone.start()
        try:
            standalone.post_alert("First", load="1.5")
            standalone.logged("delivery to a sink", reason="Delivered")
            refused, taken = receiver.requests()
            assert (refused.method, refused.body, refused.headers["webhook-id"]) == (
                "PUT",
                taken.body,
                taken.headers["webhook-id"],
            )
            assert taken.json()["load"] == 1.5

            standalone.post_alert("Second", load="much")
            failed = standalone.logged("delivery to a sink", reason="TemplateFailed")
            assert (
                "some messages are dead letters, since the template failed: spec.webhook.template: it writes no valid"
                in failed["message"]
            )
            wait_until(
                "the dead letter", lambda: [one["reason"] for one in standalone.deliveries(state="dead")] == ["TemplateFailed"]
            )

            standalone.put("sinks.yaml", webhook(receiver.url("/hook"), '"{{ alert.labels.load }}"'))
            rejected = standalone.logged("a sink is not ready", field="spec.webhook.template")
            assert rejected["message"].startswith(
                "spec.webhook.template: for an alert with quotation marks and line breaks in its texts, "
            )

            standalone.put("sinks.yaml", webhook(receiver.url("/hook"), "{{ alert.labels.load | json }}"))
            wait_until("the corrected template", lambda: reported(process.log.read_text())[-1] == "Delivered")
            token = standalone.data / "admin-token"
            server = f"http://127.0.0.1:{process.port_of('admin')}"
            assert run("replay", "--server", server, "--token-file", token, "--all").returncode == 0
            wait_until("the replayed message", lambda: receiver.requests()[-1].json()["load"] == "much")
        finally:
            process.close()


def test_of_a_batch_only_the_alert_is_a_dead_letter_for_which_the_template_fails(tmp_path: Path) -> None:
    standalone = Standalone(tmp_path)
    with Receiver() as receiver:
        receiver.respond_with(500)
        document = sink("alerts", receiver.url("/hook"))
        load = FAILS.replace("alert.", "one.")
        template = "[{% for one in alerts %}" + load + "{% unless forloop.last %},{% endunless %}{% endfor %}]"
        document["spec"]["webhook"] |= {"batch": 10, "template": template}
        standalone.put("sinks.yaml", NAMESPACE, document)
        process = standalone.start()
        try:
            standalone.post_alert("First", load="1")
            receiver.wait_for(1)  # and the others wait behind it
            for name, text in (("Second", "2"), ("Third", "much"), ("Fourth", "4")):
                standalone.post_alert(name, load=text)
            receiver.respond_with(200)
            wait_until(
                "the dead letter", lambda: [one["reason"] for one in standalone.deliveries(state="dead")] == ["TemplateFailed"]
            )
            wait_until("nothing that waits", lambda: standalone.deliveries(state="waiting") == [])
            assert {load for one in receiver.requests() for load in one.json()} == {1, 2, 4}
        finally:
            process.close()
