"""What happens to alerts and to the Alertmanagers that they pass through, played on real ones, whatever listens at their webhooks.

A scenario waits for what a webhook that is attached directly to the Alertmanagers was notified of, and goes on. Each has alert names of its
own, so that several can be played at once on the same Alertmanagers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.support.alertmanager_halves import (
    GROUP_INTERVAL_SECONDS,
    PEER_TIMEOUT_SECONDS,
    REPEAT_SECONDS,
    AlertmanagerHalves,
)
from tests.support.pictures import Statement
from tests.support.played_prometheus import VALID_SECONDS, PlayedPrometheus
from tests.support.waiting import wait_until

DEADLINE_SECONDS = 40.0
UNDISTURBED_SECONDS = 2 * GROUP_INTERVAL_SECONDS + 2 * PEER_TIMEOUT_SECONDS
"""In this time, Alertmanager has sent what it has to send."""


@dataclass
class Stage:
    """Where scenarios are played.

    Attributes
    ----------
    halves
        The Alertmanagers.
    prometheus
        Two servers with the same rules. Which Alertmanagers each is connected to is the scenario's.
    statements
        Returns what the webhook attached to the Alertmanagers was notified of so far.
    """

    halves: AlertmanagerHalves
    prometheus: Sequence[PlayedPrometheus]
    statements: Callable[[], Sequence[Statement]]

    def fire(self, name: str, *, by: Sequence[int] = (0,), starts_at: datetime | None = None, **labels: str) -> datetime:
        """An alert fires at these Prometheus servers, and the webhook is notified of it; returns since when it fires."""
        before = self.count(name, "firing", **labels)
        since = starts_at or datetime.now(UTC)
        for number in by:
            self.prometheus[number].fire(name, starts_at=since, **labels)
        self.wait(name, "firing", before + 1, **labels)
        return since

    def resolve(self, name: str, *, by: Sequence[int] = (0,), **labels: str) -> None:
        """It resolves at these Prometheus servers, and the webhook is notified of it."""
        before = self.count(name, "resolved", **labels)
        for number in by:
            self.prometheus[number].resolve(name, **labels)
        self.wait(name, "resolved", before + 1, **labels)

    def count(self, name: str, status: str, *, sender: str | None = None, **labels: str) -> int:
        """How often the webhook was notified of an alert of this name with (at least) these labels and this status."""
        wanted = {"alertname": name, **labels}.items()
        return sum(
            one.status == status and wanted <= dict(one.labels).items() and sender in (None, one.sender)
            for one in self.statements()
        )

    def wait(self, name: str, status: str, count: int, *, sender: str | None = None, **labels: str) -> None:
        """Wait until `count` says so much."""
        wait_until(
            f"{count} notifications from {sender or 'any half'} that {name} {labels} is {status}",
            lambda: self.count(name, status, sender=sender, **labels) >= count,
            deadline=DEADLINE_SECONDS,
            show=lambda: "\n".join(str(one) for one in self.statements() if dict(one.labels)["alertname"] == name),
        )

    def pass_time(self, seconds: float = UNDISTURBED_SECONDS) -> None:
        """Let time pass in which nothing changes: for what Alertmanager does then, or does not."""
        time.sleep(seconds)

    @property
    def names(self) -> list[str]:
        """Of the halves."""
        return list(self.halves.running)


Scenario = Callable[[Stage], None]


def join_and_leave(stage: Stage) -> None:
    """Alerts join a group and leave it, in the order in which they came, in another one, and all at once."""
    for instance in ("1", "2", "3"):
        stage.fire("Join", instance=instance)
    stage.resolve("Join", instance="2")
    stage.fire("Join", instance="4")
    for number in ("1", "3", "4"):
        stage.prometheus[0].resolve("Join", instance=number)
    for number in ("1", "3", "4"):
        stage.wait("Join", "resolved", 1, instance=number)


def flap(stage: Stage) -> None:
    """One alert of a group starts and ends again and again while the other one goes on."""
    stage.fire("Flap", instance="1")
    for _ in range(3):
        stage.fire("Flap", instance="2")
        stage.resolve("Flap", instance="2")
    stage.resolve("Flap", instance="1")


def refire_with_old_start(stage: Stage) -> None:
    """An alert ends, and fires again with the start that it had, twice; each end comes before any repeat."""
    since = stage.fire("Refire", instance="1")
    for _ in range(2):
        stage.resolve("Refire", instance="1")
        stage.fire("Refire", instance="1", starts_at=since)
    stage.resolve("Refire", instance="1")


def earlier_start(stage: Stage) -> None:
    """Of two Prometheus servers, the one that saw the alert first is heard of last: its start becomes earlier, then it ends."""
    now = stage.fire("Earlier", by=(0,), instance="1")
    stage.prometheus[1].fire("Earlier", starts_at=now - timedelta(seconds=30), instance="1")
    stage.pass_time()
    stage.fire("Earlier", by=(0, 1), instance="2")
    stage.resolve("Earlier", by=(0, 1), instance="1")
    stage.resolve("Earlier", by=(0, 1), instance="2")


def later_start(stage: Stage) -> None:
    """The Prometheus server that saw the alert first loses it: its start becomes later, then it ends."""
    now = datetime.now(UTC)
    stage.prometheus[1].fire("Later", starts_at=now, instance="1")
    stage.fire("Later", by=(0,), starts_at=now - timedelta(seconds=30), instance="1")
    stage.prometheus[0].resolve("Later", instance="1")
    stage.pass_time()
    stage.prometheus[1].resolve("Later", instance="1")
    stage.wait("Later", "resolved", 1, instance="1")


def silence(stage: Stage) -> None:
    """One alert of a group is silenced, the others are repeated without it, the silence ends: it is named again."""
    stage.fire("Silence", instance="1", repeat="often")
    stage.fire("Silence", instance="2", repeat="often")
    silenced = stage.halves.running[stage.names[0]].silence(alertname="Silence", instance="1")
    stage.pass_time()
    repeats, before = stage.count("Silence", "firing", instance="2"), stage.count("Silence", "firing", instance="1")
    stage.wait("Silence", "firing", repeats + 2, instance="2")
    stage.halves.running[stage.names[0]].unsilence(silenced)
    stage.wait("Silence", "firing", before + 1, instance="1")
    stage.resolve("Silence", instance="1", repeat="often")
    stage.resolve("Silence", instance="2", repeat="often")


def silenced_end(stage: Stage) -> None:
    """An alert ends while it is silenced, which nobody is notified of, and fires again after the silence: nobody needs to know."""
    stage.fire("SilencedEnd", instance="1")
    silenced = stage.halves.running[stage.names[0]].silence(alertname="SilencedEnd")
    stage.pass_time(GROUP_INTERVAL_SECONDS)
    stage.prometheus[0].resolve("SilencedEnd", instance="1")
    stage.pass_time()
    stage.halves.running[stage.names[0]].unsilence(silenced)
    stage.prometheus[0].fire("SilencedEnd", instance="1")
    stage.pass_time()
    stage.resolve("SilencedEnd", instance="1")


def inhibit(stage: Stage) -> None:
    """A critical alert inhibits the warning that was there first; the warning comes back."""
    stage.fire("Inhibit", instance="1", severity="warning")
    stage.fire("Inhibit", instance="2", severity="warning")
    stage.fire("Inhibit", instance="1", severity="critical")
    stage.resolve("Inhibit", instance="2", severity="warning")
    before = stage.count("Inhibit", "firing", instance="1", severity="warning")
    stage.resolve("Inhibit", instance="1", severity="critical")
    stage.wait("Inhibit", "firing", before + 1, instance="1", severity="warning")
    stage.resolve("Inhibit", instance="1", severity="warning")


def dead_mans_switch(stage: Stage) -> None:
    """An alert fires all the time and is repeated all the time: its receiver raises the alarm when it is not."""
    stage.fire("Watchdog", repeat="often")
    stage.wait("Watchdog", "firing", 5)


def each_alone(stage: Stage) -> None:
    """Each alert is a group of its own."""
    for instance in ("1", "2", "3"):
        stage.fire("Alone", instance=instance, grouping="alone")
    stage.resolve("Alone", instance="2", grouping="alone")
    stage.fire("Alone", instance="2", grouping="alone")
    for instance in ("3", "2", "1"):
        stage.resolve("Alone", instance=instance, grouping="alone")


def two_routes(stage: Stage) -> None:
    """Alerts are in two groups, both of which go to the same webhook."""
    stage.fire("Routes", instance="1", routes="two")
    stage.fire("Routes", instance="2", routes="two")
    stage.pass_time()
    stage.resolve("Routes", instance="1", routes="two")
    stage.fire("Routes", instance="1", routes="two")
    stage.resolve("Routes", instance="1", routes="two")
    stage.resolve("Routes", instance="2", routes="two")
    stage.pass_time()


def replicas(stage: Stage) -> None:
    """Two Prometheus servers with replica labels, each in a group of its own: one ends, then the other one."""
    for replica in ("0", "1"):
        stage.fire("Replicas", by=(int(replica),), instance="1", replica=replica)
    stage.resolve("Replicas", by=(0,), instance="1", replica="0")
    stage.pass_time()
    stage.fire("Replicas", by=(0,), instance="1", replica="0")
    stage.resolve("Replicas", by=(1,), instance="1", replica="1")
    stage.resolve("Replicas", by=(0,), instance="1", replica="0")
    stage.fire("Replicas", by=(1,), instance="1", replica="1")
    stage.resolve("Replicas", by=(1,), instance="1", replica="1")


def half_restarted(stage: Stage) -> None:
    """One half is killed while an alert fires and another one begins, and comes back."""
    first, _ = stage.names
    stage.fire("Restart", instance="1")
    stage.halves.running[first].kill9()
    stage.fire("Restart", instance="2")
    stage.resolve("Restart", instance="1")
    stage.halves.start(first)
    stage.halves.running[first].wait_up()
    stage.fire("Restart", instance="1")
    stage.pass_time()
    stage.resolve("Restart", instance="2")
    stage.resolve("Restart", instance="1")


def partitioned(stage: Stage) -> None:
    """The halves lose each other: both send everything; then they find each other again."""
    first, second = stage.names
    stage.fire("Partition", instance="1", repeat="often")
    before = stage.count("Partition", "firing", instance="1", sender=second)
    stage.halves.restart(second, alone=True)
    stage.wait("Partition", "firing", before + 1, instance="1", sender=second)
    since = stage.fire("Partition", instance="2", repeat="often")
    for half in (first, second):
        stage.wait("Partition", "firing", 1, instance="2", sender=half)
    stage.resolve("Partition", instance="2", repeat="often")
    stage.fire("Partition", instance="2", starts_at=since, repeat="often")
    stage.resolve("Partition", instance="2", repeat="often")
    stage.pass_time(REPEAT_SECONDS)
    stage.halves.restart(second)
    stage.pass_time()
    stage.resolve("Partition", instance="1", repeat="often")
    stage.pass_time()


def half_paused(stage: Stage) -> None:
    """One half hangs for a while, and then sends what it had not sent: of what has ended meanwhile too."""
    _, second = stage.names
    stage.fire("Pause", instance="1")
    before = stage.count("Pause", "firing", instance="1", sender=second)
    stage.halves.restart(second, alone=True)
    stage.wait("Pause", "firing", before + 1, instance="1", sender=second)
    stage.prometheus[0].fire("Pause", instance="2")
    stage.pass_time(GROUP_INTERVAL_SECONDS / 2)
    stage.halves.running[second].pause()
    stage.wait("Pause", "firing", 1, instance="2", sender=stage.names[0])
    stage.resolve("Pause", instance="2")
    stage.halves.running[second].resume()
    stage.pass_time()
    stage.resolve("Pause", instance="1")
    stage.pass_time()
    stage.halves.restart(second)


def half_without_prometheus(stage: Stage) -> None:
    """One half is cut off from its Prometheus while an alert fires: there it ends by itself, at the other half it goes on."""
    _, second = stage.names
    stage.fire("CutOff", instance="1")
    for one in stage.prometheus:
        one.disconnect(second)
    stage.pass_time(VALID_SECONDS)
    stage.wait("CutOff", "resolved", 1, instance="1")
    stage.wait("CutOff", "firing", 2, instance="1")
    stage.pass_time()
    stage.fire("CutOff", instance="2")
    connect(stage, second)
    stage.pass_time()
    stage.resolve("CutOff", instance="1")
    stage.resolve("CutOff", instance="2")
    stage.pass_time()


def partitioned_without_prometheus(stage: Stage) -> None:
    """The halves lose each other, and one its Prometheus, while an alert fires: it ends at one half only, and later at the other one."""
    _, second = stage.names
    stage.fire("Lost", instance="1")
    before = stage.count("Lost", "firing", instance="1", sender=second)
    stage.halves.restart(second, alone=True)
    stage.wait("Lost", "firing", before + 1, instance="1", sender=second)
    for one in stage.prometheus:
        one.disconnect(second)
    stage.wait("Lost", "resolved", 1, instance="1", sender=second)
    stage.fire("Lost", instance="2")
    stage.pass_time()
    stage.resolve("Lost", instance="1")
    stage.resolve("Lost", instance="2")
    connect(stage, second)
    stage.halves.restart(second)


def connect(stage: Stage, half: str) -> None:
    """Have both Prometheus servers send to a half."""
    for one in stage.prometheus:
        one.connect(half, lambda alerts: stage.halves.post(half, alerts))


OF_ANY: Sequence[Scenario] = (
    join_and_leave,
    flap,
    refire_with_old_start,
    earlier_start,
    later_start,
    silence,
    silenced_end,
    inhibit,
    dead_mans_switch,
    each_alone,
    two_routes,
    replicas,
)
"""Played on a single Alertmanager and on a pair; they leave the Alertmanagers alone."""
OF_A_PAIR: Sequence[Scenario] = (
    half_restarted,
    partitioned,
    half_paused,
    half_without_prometheus,
    partitioned_without_prometheus,
)
"""Played on a pair, one at a time."""
