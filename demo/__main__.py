"""The story, told while it happens.

    python -m demo [--cluster] [--keep]

Exit status 0 only if everything that it tells of really happened.
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

from demo.draw import aside, fact, message, paint, say, step
from demo.installation import Cluster, Installation, Standalone
from tests.support.parts import alert, notification, request
from tests.support.receiver import Received, Receiver
from tests.support.slack import Slack
from tests.support.waiting import wait_until

PAYLOADS = Path(__file__).parent / "payloads"
COUNTED = 200
POSTERS = 8
LOOK_SECONDS = 0.3
"""Between two looks at what arrived, while it is kept running."""
CRASHING = "KubePodCrashLooping"


class Story:
    """What happens, step by step; `failed` holds what did not."""

    def __init__(self, installation: Installation, slack: Slack, receiver: Receiver) -> None:
        self._installation = installation
        self._slack = slack
        self._receiver = receiver
        self._signing = f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
        self._steps = 0
        self.facts = 0
        self.failed: list[str] = []

    def tell(self) -> None:
        """The whole story."""
        self.start()
        self.refuse()
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
        self._fact("all sinks are ready", True)

    def refuse(self) -> None:
        self._step("Somebody writes a manifest that cannot work")
        sentence = self._installation.refuse()
        say(f"   {paint(sentence or 'nothing was said', 'yellow')}")
        self._fact("it is refused, with what to do", "set exactly one of slack and webhook" in sentence)

    def fire(self) -> None:
        self._step("Alertmanager notifies: three pods of payments crash")
        self._send("crash-loop")
        [posted] = self._slack.wait_for(1, channel="incidents")
        message(posted.body, "incidents")
        self._fact("one Slack message tells of all three", CRASHING in posted.text or CRASHING in json.dumps(posted.body))
        arrived = self._receiver.wait_for(3, path="/incidents")
        self._fact(f"the webhook got {len(arrived)} CloudEvents, each with a valid signature", all(map(self._verified, arrived)))
        event = json.loads(arrived[0].body)
        aside(f"webhook-id: {arrived[0].headers['webhook-id']}   type: {event['type']}   severity: {event['severity']}")

    def keep_tenants_apart(self) -> None:
        self._step("An alert of another tenant comes from the same Alertmanager")
        before = len(self._receiver.requests("/incidents")), len(self._slack.messages("incidents"))
        self._send("other-tenant")
        arrived = self._receiver.wait_for(1, path="/globex")
        self._fact("globex got it", _names(arrived) == ["TargetDown"])
        after = len(self._receiver.requests("/incidents")), len(self._slack.messages("incidents"))
        self._fact("acme, which asked for all that is critical, did not", before == after)

    def fail_twice(self) -> None:
        self._step("A disk fills up, and the receiver is broken: 503, 503, then well again")
        self._receiver.answer(503, 503, 200, path="/disks")
        self._send("disk")
        arrived = self._receiver.wait_for(3, path="/disks")
        for number, one in enumerate(arrived, 1):
            said = "200" if number == 3 else "503"
            aside(f"attempt {number} after {one.time - arrived[0].time:4.1f} s: answered {said}")
        ids = {one.headers["webhook-id"] for one in arrived}
        self._fact("the third attempt arrived, under the same id as the first", len(ids) == 1 and len(arrived) == 3)

    def kill(self) -> None:
        self._step(f"kill -9 while {COUNTED} alerts are on their way")
        self._receiver.answer(503, path="/counted")
        with ThreadPoolExecutor(POSTERS) as posters:
            answers = list(posters.map(self._count, range(COUNTED)))
        accepted = {number for number, status in enumerate(answers) if status == 200}
        aside(f"{len(accepted)} were answered 200; the receiver answers 503 meanwhile")
        self._installation.kill()
        aside("killed; started again on the same queue; the receiver is well")
        self._receiver.answer(200, path="/counted")
        already = len(self._receiver.requests("/counted"))
        self._installation.restart()

        def missing() -> set[int]:
            seen = self._receiver.requests("/counted")[already:]
            return accepted - {int(json.loads(one.body)["data"]["labels"]["number"]) for one in seen}

        wait_until("all that was accepted", lambda: not missing(), deadline=60)
        self._fact(f"all {len(accepted)} that were answered 200 arrived after the kill", len(accepted) == COUNTED)
        self._fact("nothing became a dead letter", self._installation.deliveries("state=dead") == [])

    def resolve(self) -> None:
        self._step("The pods are well again")
        before = len(self._slack.messages("incidents"))
        self._send("crash-loop-resolved")
        posted = self._slack.wait_for(before + 1, channel="incidents")[-1]
        message(posted.body, "incidents")
        arrived = self._receiver.wait_for(6, path="/incidents")[3:]
        types = {json.loads(one.body)["type"] for one in arrived}
        self._fact("Slack and the webhook heard of the end, after the beginning", types == {"dev.eventsink.alert.resolved.v1"})

    def _count(self, number: int) -> int:
        one = notification(alert("Counted", namespace="shop", number=str(number)), group=f"counted-{number}")
        return request(self._installation.url, self._installation.token, json.dumps(one).encode())[0]

    def _send(self, name: str) -> None:
        body = (PAYLOADS / f"{name}.json").read_bytes()
        aside(f"POST {self._installation.url} < demo/payloads/{name}.json")
        status, answer = request(self._installation.url, self._installation.token, body)
        self._fact(f"answered {status} {json.dumps(answer)}: from now on it is in the queue on the disk", status == 200)

    def _verified(self, one: Received) -> bool:
        try:
            standardwebhooks.Webhook(self._signing).verify(one.body, dict(one.headers))
        except standardwebhooks.WebhookVerificationError:
            return False
        return True

    def _step(self, title: str) -> None:
        self._steps += 1
        step(self._steps, title)

    def _fact(self, text: str, fine: bool) -> None:
        self.facts += 1
        fact(text, fine=fine)
        if not fine:
            self.failed.append(text)


def _names(arrived: Sequence[Received]) -> list[str]:
    return [str(json.loads(one.body)["data"]["name"]) for one in arrived]


def play(installation: Installation, slack: Slack, receiver: Receiver) -> None:
    """What can be tried while it is kept running, and what arrives meanwhile, until somebody ends it."""
    say()
    say(paint("It goes on running. Ctrl-C ends it. Try, in another terminal:", "bold"))
    say()
    say(f"  curl -H 'Authorization: Bearer {installation.token}' -d @demo/payloads/crash-loop.json {installation.url}")
    say(f"  curl -H 'Authorization: Bearer {installation.token}' -d @demo/payloads/disk.json {installation.url}")
    say(f"  curl -H 'Authorization: Bearer wrong' -d @demo/payloads/disk.json {installation.url}")
    say(f"  curl -H 'Authorization: Bearer {installation.token}' -d '{{}}' {installation.url}")
    say()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    told, arrived = len(slack.messages()), len(receiver.requests())
    while not ended.wait(LOOK_SECONDS):
        for posted in slack.messages()[told:]:
            told += 1
            message(posted.body, posted.channel_name)
        for one in receiver.requests()[arrived:]:
            arrived += 1
            event = json.loads(one.body)
            fact(
                f"{one.path}: {event['type']} {event['data']['name']} of {event['tenant']}, webhook-id {one.headers['webhook-id']}"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="demo", description="Shows EventSink at work on this machine.")
    parser.add_argument("--cluster", action="store_true", help="on a real API server, with kubectl, instead of a folder")
    parser.add_argument("--keep", action="store_true", help="leave it running at the end, to play with")
    given: Any = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="eventsink-demo-") as name, Slack() as slack, Receiver() as receiver:
        folder = Path(name)
        installation: Installation = Cluster(folder, slack) if given.cluster else Standalone(folder, slack)
        story = Story(installation, slack, receiver)
        try:
            story.tell()
            say()
            if story.failed:
                say(paint(f"{len(story.failed)} of {story.facts} did not happen:", "bold", "red"))
                for text in story.failed:
                    say(f"   {text}")
            else:
                say(
                    paint(
                        f"All {story.facts} happened, in {time.monotonic() - began:.0f} seconds. Next: README.md", "bold", "green"
                    )
                )
            if given.keep:
                play(installation, slack, receiver)
        finally:
            installation.close()
    return 1 if story.failed else 0


if __name__ == "__main__":
    sys.exit(main())
