"""EventSink at work, step by step; every statement with a mark in front is checked.

    python -m demo [--cluster] [--keep]

Exit status 0 only if every check passed.
"""

from __future__ import annotations

import argparse
import base64
import json
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import standardwebhooks

from demo.draw import aside, check, message, paint, say, step
from demo.installation import ClusterInstallation, Installation, StandaloneInstallation
from tests.support.parts import alert, notification, request
from tests.support.receiver import Received, Receiver
from tests.support.slack import Slack
from tests.support.waiting import wait_until

PAYLOADS = Path(__file__).parent / "payloads"
COUNTED = 200
POSTERS = 8
POLL_SECONDS = 0.3
"""Between two polls for new messages, while the demo is kept running."""
CRASHING = "KubePodCrashLooping"


class Story:
    """The steps; `failed` holds the checks that did not pass."""

    def __init__(self, installation: Installation, slack: Slack, receiver: Receiver) -> None:
        self._installation = installation
        self._slack = slack
        self._receiver = receiver
        self._signing = f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
        self._steps = 0
        self.checks = 0
        self.failed: list[str] = []

    def run(self) -> None:
        """Every step, in order."""
        self.start()
        self.reject()
        self.fire()
        self.keep_tenants_apart()
        self.fail_twice()
        self.kill()
        self.resolve()

    def start(self) -> None:
        self._step("EventSink starts with four sinks of the tenant acme and one of globex")
        self._slack.add_workspace("T0DEMO", "Acme")
        self._slack.add_channel("T0DEMO", "incidents")
        self._installation.start(
            {
                "RECEIVER": self._receiver.url().rstrip("/"),
                "SIGNING_SECRET": self._signing,
                "SLACK_TOKEN": self._slack.issue_token("T0DEMO"),
            }
        )
        self._check("all sinks are ready", True)

    def reject(self) -> None:
        self._step("Somebody writes a manifest with a mistake")
        sentence = self._installation.reject()
        aside(sentence or "(no error)", "yellow")
        self._check("it is rejected, and the error says what to do", "set exactly one of slack and webhook" in sentence)

    def fire(self) -> None:
        self._step("Alertmanager sends a notification: three pods in the namespace payments are crash-looping")
        self._send("crash-loop")
        [posted] = self._slack.wait_for(1, channel="incidents")
        message(posted.body, "incidents")
        self._check("one Slack message shows all three", CRASHING in posted.text or CRASHING in json.dumps(posted.body))
        arrived = self._receiver.wait_for(3, path="/incidents")
        signed = all(map(self._verified, arrived))
        self._check(f"the webhook received {len(arrived)} CloudEvents, each with a valid signature", signed)
        event = json.loads(arrived[0].body)
        aside(f"webhook-id: {arrived[0].headers['webhook-id']}   type: {event['type']}   severity: {event['severity']}")

    def keep_tenants_apart(self) -> None:
        self._step("The same Alertmanager sends an alert of another tenant")
        before = len(self._receiver.requests("/incidents")), len(self._slack.messages("incidents"))
        self._send("other-tenant")
        arrived = self._receiver.wait_for(1, path="/globex")
        self._check("globex receives it", _names(arrived) == ["TargetDown"])
        after = len(self._receiver.requests("/incidents")), len(self._slack.messages("incidents"))
        self._check("acme, which has a sink for everything critical, does not", before == after)

    def fail_twice(self) -> None:
        self._step("A disk fills up while the receiver is failing: 503, 503, then 200")
        self._receiver.respond_with(503, 503, 200, path="/disks")
        self._send("disk")
        arrived = self._receiver.wait_for(3, path="/disks")
        for number, one in enumerate(arrived, 1):
            status = "200" if number == 3 else "503"
            aside(f"attempt {number} after {one.time - arrived[0].time:4.1f} s: {status}")
        ids = {one.headers["webhook-id"] for one in arrived}
        self._check("the third attempt is delivered, with the webhook-id of the first", len(ids) == 1 and len(arrived) == 3)

    def kill(self) -> None:
        self._step(f"kill -9 while {COUNTED} alerts wait for delivery")
        self._receiver.respond_with(503, path="/counted")
        with ThreadPoolExecutor(POSTERS) as posters:
            statuses = list(posters.map(self._count, range(COUNTED)))
        accepted = {number for number, status in enumerate(statuses) if status == 200}
        aside(f"{len(accepted)} requests got a 200; the receiver responds 503 meanwhile")
        self._installation.kill()
        aside("killed; restarted on the same queue; the receiver responds 200 again")
        self._receiver.respond_with(200, path="/counted")
        already = len(self._receiver.requests("/counted"))
        self._installation.restart()

        def missing() -> set[int]:
            seen = self._receiver.requests("/counted")[already:]
            return accepted - {int(json.loads(one.body)["data"]["labels"]["number"]) for one in seen}

        wait_until("all that was accepted", lambda: not missing(), deadline=60)
        self._check(f"all {len(accepted)} accepted alerts are delivered after the kill", len(accepted) == COUNTED)
        self._check("there are no dead letters", self._installation.deliveries("state=dead") == [])

    def resolve(self) -> None:
        self._step("The pods recover")
        before = len(self._slack.messages("incidents"))
        self._send("crash-loop-resolved")
        posted = self._slack.wait_for(before + 1, channel="incidents")[-1]
        message(posted.body, "incidents")
        arrived = self._receiver.wait_for(6, path="/incidents")[3:]
        types = {json.loads(one.body)["type"] for one in arrived}
        self._check("Slack and the webhook are notified that the alerts resolved", types == {"dev.eventsink.alert.resolved.v1"})

    def _count(self, number: int) -> int:
        one = notification(alert("Counted", namespace="shop", number=str(number)), group=f"counted-{number}")
        return request(self._installation.url, self._installation.token, json.dumps(one).encode())[0]

    def _send(self, name: str) -> None:
        body = (PAYLOADS / f"{name}.json").read_bytes()
        aside(f"POST {self._installation.url} < demo/payloads/{name}.json")
        status, response = request(self._installation.url, self._installation.token, body)
        self._check(f"{status} {json.dumps(response)}: it is in the queue on disk", status == 200)

    def _verified(self, one: Received) -> bool:
        try:
            standardwebhooks.Webhook(self._signing).verify(one.body, dict(one.headers))
        except standardwebhooks.WebhookVerificationError:
            return False
        return True

    def _step(self, title: str) -> None:
        self._steps += 1
        step(self._steps, title)

    def _check(self, text: str, passed: bool) -> None:
        self.checks += 1
        check(text, passed=passed)
        if not passed:
            self.failed.append(text)


def _names(arrived: Sequence[Received]) -> list[str]:
    return [str(json.loads(one.body)["data"]["name"]) for one in arrived]


def play(installation: Installation, slack: Slack, receiver: Receiver) -> None:
    """Commands to try while it is kept running, and what arrives meanwhile, until SIGINT or SIGTERM."""
    say()
    say(paint("It keeps running until you press Ctrl-C. Try, in another terminal:", "bold"))
    say()
    say(f"  curl -H 'Authorization: Bearer {installation.token}' -d @demo/payloads/crash-loop.json {installation.url}")
    say(f"  curl -H 'Authorization: Bearer {installation.token}' -d @demo/payloads/disk.json {installation.url}")
    say(f"  curl -H 'Authorization: Bearer wrong' -d @demo/payloads/disk.json {installation.url}")
    say(f"  curl -H 'Authorization: Bearer {installation.token}' -d '{{}}' {installation.url}")
    say()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    shown, arrived = len(slack.messages()), len(receiver.requests())
    while not ended.wait(POLL_SECONDS):
        for posted in slack.messages()[shown:]:
            shown += 1
            message(posted.body, posted.channel_name)
        for one in receiver.requests()[arrived:]:
            arrived += 1
            event = json.loads(one.body)
            check(
                f"{one.path}: {event['type']} {event['data']['name']} of {event['tenant']}, webhook-id {one.headers['webhook-id']}"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="demo", description="Shows EventSink at work on this machine.")
    parser.add_argument("--cluster", action="store_true", help="on a real API server, with kubectl, instead of a folder")
    parser.add_argument("--keep", action="store_true", help="keep it running at the end, to play with")
    given: Any = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="eventsink-demo-") as name, Slack() as slack, Receiver() as receiver:
        folder = Path(name)
        installation: Installation = (
            ClusterInstallation(folder, slack) if given.cluster else StandaloneInstallation(folder, slack)
        )
        story = Story(installation, slack, receiver)
        try:
            story.run()
            say()
            if story.failed:
                say(paint(f"{len(story.failed)} of {story.checks} checks failed:", "bold", "red"))
                for text in story.failed:
                    say(f"   {text}")
            else:
                seconds = f"{time.monotonic() - began:.0f}"
                say(paint(f"All {story.checks} checks passed in {seconds} seconds. Next: README.md", "bold", "green"))
            if given.keep:
                play(installation, slack, receiver)
        finally:
            installation.close()
    return 1 if story.failed else 0


if __name__ == "__main__":
    sys.exit(main())
