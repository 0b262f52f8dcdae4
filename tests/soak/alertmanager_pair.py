"""A router between a real pair of Alertmanagers and its sinks, killed all the time, against a webhook attached directly to the pair.

Played are the scenarios of tests/support/scenarios.py. No sink may miss anything that the router acknowledged, or show something else in the
end, and the router must acknowledge whatever comes while it runs. By hand, with both versions and every scenario, until the time is over.

What the webhook, which is never killed, shows in the end may be something else. When the router is killed, one half may send an older word again
after the other half has sent the last one, and then leave its own last word out since that was sent.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.controlplane.alertmanager import find_or_build_alertmanager
from tests.support.alertmanager_halves import GROUP_INTERVAL_SECONDS, HALVES
from tests.support.debian import find_or_fetch
from tests.support.monitoring import AlertmanagerProgram
from tests.support.pictures import Delivered, Phase, Statement, Wanted, differing, missing
from tests.support.ports import free_port
from tests.support.receiver import Received, Receiver
from tests.support.relay import SENDER_HEADER, Relay
from tests.support.scenarios import OF_A_PAIR, OF_ANY, Scenario, Stage
from tests.support.sequences import stage_of
from tests.support.slack import Slack
from tests.support.standalone import NAMESPACE, Standalone, secret, sink
from tests.support.waiting import wait_until

TOKEN = "the-token-of-the-source"
WINDOW_SECONDS = 0.9
"""Shorter than the group interval of the pair, as it is by default."""
LATE_SECONDS = 10.0
"""What Alertmanager could not send while the router was killed, it sends with a later flush of the group."""
SLACK_SECONDS = 10.0
"""In which something may arrive late while the router runs: it is killed, started again, and looks at its queue."""
BETWEEN_KILLS_SECONDS = (1.0, 4.0)
REPLICA = frozenset({"replica"})
ONLY_1 = {"matchers": ('instance="1"',)}


@dataclass
class LiveSink:
    """A sink of the running router, and the forms that it took."""

    name: str
    send_resolved: bool = True
    phases: list[Phase] = field(default_factory=lambda: [Phase()])

    @property
    def path(self) -> str:
        return f"/{self.name}"


class LiveRouter:
    """`eventsink run` that is killed at random moments; its sinks are changed by their documents."""

    def __init__(self, folder: Path, receiver: Receiver, slack: Slack, seed: int) -> None:
        folder.mkdir()
        self._standalone = Standalone(folder)
        self._receiver = receiver
        self._slack = slack
        self._random = random.Random(seed)
        self._forwarding = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._kill_again_and_again, name="killer", daemon=True)
        self._failure: BaseException | None = None
        self._port = free_port()
        self.start = time.monotonic()
        self.sinks: dict[str, LiveSink] = {}
        self.downs: list[tuple[float, float]] = []
        """From when to when it did not run, in seconds since `start`."""

    @property
    def url(self) -> str:
        """Where the Alertmanagers' alerts go."""
        return f"http://127.0.0.1:{self._port}/v1/alerts/alertmanager"

    def forwarding(self) -> None:
        """A request is about to be sent to it."""
        self._forwarding.set()

    def put(self, name: str, *, path: str | None = None, send_resolved: bool = True, **spec: Any) -> None:
        """Create or change a sink; from now on it wants this."""
        one = self.sinks.setdefault(name, LiveSink(name, send_resolved, []))
        webhook = {"url": self._receiver.url(path or one.path), **spec.pop("webhook", {})}
        document = sink(name, "", webhook=webhook, delivery={"sendResolved": send_resolved}, **spec)
        if not one.phases and self._standalone.process is not None:
            one.phases.append(Phase(active=False))
        wants = instance_1 if "match" in spec else anything
        again = bool(one.phases) and not (self._standalone.documents / f"{name}.yaml").exists()
        one.phases.append(Phase(self._now(), not spec.get("suspend", False), wants, fresh=again))
        self._standalone.put(f"{name}.yaml", document)

    def remove(self, name: str) -> None:
        """Delete a sink."""
        self.sinks[name].phases.append(Phase(self._now(), active=False))
        (self._standalone.documents / f"{name}.yaml").unlink()

    def _now(self) -> float:
        return time.monotonic() - self.start if self._standalone.process is not None else 0.0

    def run(self) -> None:
        """Start it, ready."""
        (self._standalone.root / "token").write_text(TOKEN)
        self._slack.add_channel("T1", "alerts")
        document = sink("slack", "", slack={"channel": "#alerts", "botTokenSecretRef": {"name": "slack", "key": "token"}})
        del document["spec"]["webhook"]
        self._standalone.put("namespace.yaml", NAMESPACE, secret("slack", token=self._slack.issue_token("T1")), document)
        self._start()

    def _start(self) -> None:
        source = {
            "name": "alertmanager",
            "tokenFiles": [str(self._standalone.root / "token")],
            "tenant": {"fixed": "acme"},
            "dropLabels": sorted(REPLICA),
        }
        self._standalone.start(
            sources=[source],
            intake={"address": f"127.0.0.1:{self._port}", "senderHeader": SENDER_HEADER},
            state={"haWindow": WINDOW_SECONDS},
            slack={"apiUrl": self._slack.api_url, "hookUrls": [self._slack.url]},
        )

    @contextmanager
    def killed(self) -> Iterator[None]:
        """Within this it is killed and started, between requests and while it has one."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
        if self._failure is not None:
            raise self._failure
        self._restart()  # it would end with the thread that started it

    def _restart(self) -> None:
        killed = self._now()
        self._standalone.running.kill9()
        self._start()
        self.downs.append((killed, self._now()))

    def _kill_again_and_again(self) -> None:
        try:
            while not self._stop.wait(self._random.uniform(*BETWEEN_KILLS_SECONDS)):
                if self._random.random() < 0.5:
                    self._forwarding.clear()
                    self._forwarding.wait(BETWEEN_KILLS_SECONDS[1])
                    time.sleep(self._random.uniform(0, 0.02))
                self._restart()
        except BaseException as error:
            self._failure = error

    def wait_delivered(self) -> None:
        """Wait until nothing waits any more and what was held is released."""
        time.sleep(WINDOW_SECONDS + GROUP_INTERVAL_SECONDS)
        running = self._standalone.running
        wait_until("empty queue", lambda: "\neventsink_router_deliveries_waiting 0.0\n" in running.metrics(), show=running.tail)

    def close(self) -> None:
        """End it."""
        if self._standalone.process is not None:
            self._standalone.process.close()

    def got(self, one: LiveSink) -> list[Delivered]:
        """What a sink got."""
        paths = (one.path, f"{one.path}-elsewhere")
        return [
            delivered
            for request in self._receiver.requests()
            if request.path in paths
            for delivered in delivered_in(request, request.time - self.start)
        ]


def delivered_in(request: Received, at: float) -> list[Delivered]:
    """What a sink gets with a message."""
    document = request.json()
    alerts = document["alerts"] if "alerts" in document else [document["data"]]
    return [Delivered(at, frozenset(one["labels"].items()), one["status"]) for one in alerts]


def instance_1(labels: Mapping[str, str]) -> bool:
    return labels.get("instance") == "1"


def anything(labels: Mapping[str, str]) -> bool:
    return True


def play(program: AlertmanagerProgram, together: Sequence[Scenario], alone: Sequence[Scenario], folder: Path, seed: int) -> str:
    """Play scenarios on a pair, some of them side by side, the others one after another, while the router is killed and sinks change.

    Raises
    ------
    AssertionError
        A sink missed something: the text is a sentence for each.

    Returns
    -------
    str
        Figures.
    """
    with ExitStack() as stack:
        receiver, slack = stack.enter_context(Receiver()), stack.enter_context(Slack(message_seconds=0))
        slack.add_workspace("T1")
        router = LiveRouter(folder / "router", receiver, slack, seed)
        stack.callback(router.close)
        router.put("events")
        router.put("groups", webhook={"format": "alertmanager"})
        router.put("no-ends", send_resolved=False)
        router.put("some", match=ONLY_1)
        for name in ("suspended", "moved", "rematched", "deleted"):
            router.put(name)
        router.run()
        relay = stack.enter_context(Relay(router.url, TOKEN, forwarding=router.forwarding))
        webhook = {"url": relay.url("{half}"), "send_resolved": True}
        stage, direct = stack.enter_context(stage_of(program, HALVES, folder / "pair", webhook))
        with router.killed(), ThreadPoolExecutor(len(together) + 1) as pool:
            changes = pool.submit(change_sinks, router, stage)
            for done in [pool.submit(scenario, stage) for scenario in together]:
                done.result()
            for scenario in alone:
                scenario(stage)
            changes.result()
        until = time.monotonic() + LATE_SECONDS
        while True:
            stage.pass_time()
            router.wait_delivered()
            acknowledged = relay.acknowledged(router.start)
            differ, missed = compare(router, acknowledged, stage.statements())
            if not (differ or missed) or time.monotonic() >= until:
                break
        missed += not_acknowledged(relay.failed(router.start), router.downs)
        messages = len(slack.messages("alerts"))
        if not messages:
            missed.append("slack: no message arrived")
        assert not missed, "\n".join([f"seed {seed}, {len(router.downs)} kills", *missed])
        return (
            f"{len(router.downs)} kills, {len(direct.requests())} notifications to the webhook, {len(acknowledged)} alerts acknowledged, "
            f"{len(receiver.requests())} messages to {len(router.sinks)} webhooks, {messages} to Slack: nothing is missing; "
            f"{differ} last words to the webhook did not reach the router"
        )


def compare(router: LiveRouter, acknowledged: Sequence[Statement], webhook: Sequence[Statement]) -> tuple[int, list[str]]:
    """Where sinks show something else in the end than the webhook, and what they miss of what the router acknowledged."""
    differ = 0
    missed: list[str] = []
    for one in router.sinks.values():
        got = router.got(one)
        wanted = Wanted(WINDOW_SECONDS, SLACK_SECONDS, one.send_resolved, REPLICA, tuple(one.phases), tuple(router.downs))
        missed += [f"{one.name}: {sentence}" for sentence in missing(acknowledged, got, wanted)]
        differ += len(differing(webhook, got, wanted))
    return differ, missed


def not_acknowledged(failed: Sequence[tuple[float, int]], downs: Sequence[tuple[float, float]]) -> list[str]:
    """Requests that the router refused, or that failed while it ran: a sentence for each.

    Parameters
    ----------
    failed
        When each was sent, and its status; 503 stands for no response, too.
    downs
        From when to when the router did not run.
    """
    last_start = max((started for _, started in downs), default=0.0)
    return [
        f"the router responded with {status} at {at:.2f} s"
        for at, status in failed
        if status != HTTPStatus.SERVICE_UNAVAILABLE or at > last_start
    ]


def change_sinks(router: LiveRouter, stage: Stage) -> None:
    """Create, suspend, move, re-match and delete sinks while alerts come and go."""
    steps: Sequence[Callable[[], object]] = (
        lambda: router.put("created"),
        lambda: router.put("suspended", suspend=True),
        lambda: router.put("moved", path="/moved-elsewhere"),
        lambda: router.put("rematched", match=ONLY_1),
        lambda: router.remove("deleted"),
        lambda: router.put("created-for-groups", webhook={"format": "alertmanager"}),
        lambda: router.put("suspended"),
        lambda: router.put("moved"),
        lambda: router.put("rematched"),
        lambda: router.put("deleted"),
    )
    for step in steps:
        stage.pass_time(1.5)
        step()


def main(seconds: float | None = None) -> None:
    """Play everything with both versions, again and again until the time (absent: an hour) is over."""
    until = time.monotonic() + (seconds or 3600.0)
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    while True:
        for program in (find_or_build_alertmanager(), find_or_fetch()):
            with tempfile.TemporaryDirectory() as folder:
                print(play(program, OF_ANY, OF_A_PAIR, Path(folder), seed), flush=True)
            seed += 1
            if time.monotonic() >= until:
                return


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else None)
