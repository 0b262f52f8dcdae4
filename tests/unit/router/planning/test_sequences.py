"""What real Alertmanagers sent, replayed: each sink gets all that a webhook attached directly to them got, except for what it does not want."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventsink.router.queue.protocol import Delivery, PayloadKind
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from eventsink.sinks.sink import Sink
from tests.controlplane.alertmanager import VERSION
from tests.support.clock import ManualClock
from tests.support.pictures import Delivered, Phase, Wanted, missing
from tests.support.scenarios import OF_A_PAIR, OF_ANY
from tests.support.sequences import Recording, recordings
from tests.unit.router.planning.planning import PlanningUnderTest
from tests.unit.router.sinks import directory, sink, slack_sink, source

START = 1000.0
SETTLING_SECONDS = 1.0
REPLICA = frozenset({"replica"})
SCALED_WINDOW = 0.9
"""What the window of a minute is to the usual group interval of five minutes: less than the interval of the recordings."""
LONG_WINDOW = 60.0
"""Longer than whole recordings: everything is within the window."""


def instance_1(labels: Mapping[str, str]) -> bool:
    return labels.get("instance") == "1"


def anything(labels: Mapping[str, str]) -> bool:
    return True


@dataclass
class Played:
    """A sink of a replay.

    Attributes
    ----------
    changes
        After how many notifications it becomes what; None: it is deleted.
    """

    changes: Mapping[int, Sink | None]
    send_resolved: bool = True
    got: list[Delivered] = field(default_factory=list)


ONLY_1 = {"matchers": ('instance="1"',)}
GROUPS = {"format": "alertmanager"}
ELSEWHERE = "https://elsewhere.example.com/"


def cast(notifications: int) -> dict[str, Played]:
    """A sink of each kind, and for each moment one that is created, suspended, pointed elsewhere, re-matched, and deleted then."""
    played = {
        "events": Played({0: sink("events")}),
        "groups": Played({0: sink("groups", webhook=GROUPS)}),
        "slack": Played({0: slack_sink("slack")}),
        "no ends": Played({0: sink("no ends", delivery={"send_resolved": False})}, send_resolved=False),
        "no ends in groups": Played(
            {0: sink("no ends in groups", webhook=GROUPS, delivery={"send_resolved": False})}, send_resolved=False
        ),
        "some": Played({0: sink("some", match=ONLY_1)}),
    }
    for at in range(1, notifications):
        later = at + 2
        kinds: Mapping[str, Mapping[int, Mapping[str, Any] | None]] = {
            "created": {at: {}},
            "created for groups": {at: {"webhook": GROUPS}},
            "suspended": {0: {}, at: {"suspend": True}, later: {}},
            "pointed elsewhere and back": {0: {}, at: {"url": ELSEWHERE}, later: {}},
            "of another format": {0: {}, at: {"webhook": GROUPS}},
            "matching more": {0: {"match": ONLY_1}, at: {}},
            "matching less": {0: {}, at: {"match": ONLY_1}, later: {}},
            "deleted": {0: {}, at: None, later: {}},
        }
        for name, changes in kinds.items():
            full = f"{name} after {at}"
            played[full] = Played(
                {after: None if one is None else sink(full, **one) for after, one in changes.items() if after <= notifications}
            )
    return played


class Replay:
    """A recording, played to the planning of a router.

    Parameters
    ----------
    window
        Of duplicates, in seconds.
    killed
        The router is killed after each notification: what it knows is what was on disk.
    """

    def __init__(self, folder: Path, recording: Recording, *, window: float, killed: bool = False) -> None:
        self._folder = folder
        self._recording = recording
        self._window = window
        self._killed = killed
        self._starts = 0
        self._clock = ManualClock(START)
        self._played = cast(len(recording.notifications))
        self._directory = directory(*(one.changes[0] for one in self._played.values() if one.changes.get(0) is not None))  # type: ignore[arg-type]
        self._names = {sink.uid: name for name, one in self._played.items() for sink in one.changes.values() if sink is not None}

    async def missing(self) -> list[str]:
        """Play it: what each sink did not get."""
        planning = await self._start()
        for number, one in enumerate(self._recording.notifications, start=1):
            await self._pass_time(planning, one.at)
            body = json.dumps(one.body).encode()
            await planning.send(body, sender=one.sender)
            await self._take(planning)
            if self._killed:
                planning = await self._kill(planning)
            self._clock.now += 0.001
            await self._change(planning, number)
        await self._pass_time(planning, self._clock.now - START + self._window + SETTLING_SECONDS)
        await self._stop(planning)
        return [
            f"{name}: {sentence}"
            for name, one in self._played.items()
            for sentence in missing(self._recording.statements(), one.got, self._wanted(one))
        ]

    def got(self, name: str) -> list[Delivered]:
        """What a sink got."""
        return self._played[name].got

    def _wanted(self, played: Played) -> Wanted:
        phases: list[Phase] = []
        for after, one in played.changes.items():
            since = 0.0 if after == 0 else self._recording.notifications[after - 1].at + 0.0005
            wants = instance_1 if one is not None and one.match.matchers else anything
            phases.append(Phase(since, one is not None and not one.suspend, wants, fresh=one is None))
        if 0 not in played.changes:
            phases.insert(0, Phase(active=False))
        return Wanted(self._window, 0.002, played.send_resolved, REPLICA, tuple(phases))

    async def _start(self) -> PlanningUnderTest:
        self._starts += 1
        file = self._folder / str(self._starts) / "q.db"
        file.parent.mkdir(exist_ok=True)
        queue = await SqliteQueue.open(QueueSettings(path=file, min_free_bytes=0), monotonic=self._clock)
        planning = PlanningUnderTest(queue, self._clock, self._directory, ha_window=self._window)
        planning.names.update(self._names)
        planning.source = source(dropLabels=list(REPLICA), tenant={"fixed": "acme"})
        await planning.start()
        await self._take(planning)
        return planning

    async def _stop(self, planning: PlanningUnderTest) -> None:
        await planning.stop()
        await planning.queue.close()

    async def _kill(self, planning: PlanningUnderTest) -> PlanningUnderTest:
        """Go on with a copy of what is on disk now."""
        folder = self._folder / str(self._starts + 1)
        shutil.copytree(self._folder / str(self._starts), folder)
        await self._stop(planning)
        self._directory = directory(*self._directory.sinks.values())
        return await self._start()

    async def _pass_time(self, planning: PlanningUnderTest, until: float) -> None:
        """Let the clock go on; what was held is released when its time comes."""
        while (release := planning.states.next_release()) is not None and release < planning.queue.clock() + until - self._now:
            planning.later(max(0.0, release - planning.queue.clock()) + 1e-6)
            await planning.settled()
            await self._take(planning)
        planning.later(until - self._now)
        await planning.settled()
        await self._take(planning)

    @property
    def _now(self) -> float:
        return self._clock.now - START

    async def _change(self, planning: PlanningUnderTest, after: int) -> None:
        for one in self._played.values():
            if after not in one.changes:
                continue
            changed = one.changes[after]
            if changed is None:
                planning.directory.remove(one.changes[0].uid)  # type: ignore[union-attr]
            else:
                planning.directory.put(changed)
        await planning.settled()
        await self._take(planning)

    async def _take(self, planning: PlanningUnderTest) -> None:
        """Deliver what is queued."""
        queued = [*planning.queued]
        planning.queued.clear()
        for one in queued:
            self._played[self._names[one.sink]].got += delivered(one, self._now)
        if queued:
            await planning.queue.settle([one.seq for one in queued])
            await planning.queue.flush()


def delivered(delivery: Delivery, at: float) -> list[Delivered]:
    """What a sink gets with a delivery."""
    document = json.loads(delivery.body)
    alerts = document["alerts"] if delivery.kind is PayloadKind.GROUP else [document]
    return [Delivered(at, frozenset(one["labels"].items()), one["status"]) for one in alerts]


async def missing_in(folder: Path, chosen: Iterable[Recording], **how: Any) -> list[str]:
    """Replay recordings side by side: what is missing in which."""

    async def replayed(recording: Recording) -> list[str]:
        below = folder / recording.name
        below.mkdir()
        return [f"{recording.name}: {sentence}" for sentence in await Replay(below, recording, **how).missing()]

    found = await asyncio.gather(*(replayed(one) for one in chosen))
    return [sentence for sentences in found for sentence in sentences]


def of_current_pairs() -> list[Recording]:
    """Where most goes wrong."""
    return [one for one in recordings() if one.alertmanager == VERSION and "-pair-" in one.name]


async def test_no_sink_misses_what_a_webhook_attached_to_alertmanager_got(tmp_path: Path) -> None:
    chosen = [one for one in recordings() if one.alertmanager == VERSION or "-pair-" in one.name]
    assert await missing_in(tmp_path, chosen, window=SCALED_WINDOW) == []


async def test_no_sink_misses_anything_where_everything_is_within_the_window(tmp_path: Path) -> None:
    assert await missing_in(tmp_path, of_current_pairs(), window=LONG_WINDOW) == []


async def test_no_sink_misses_anything_when_the_router_is_killed_after_each_notification(tmp_path: Path) -> None:
    assert await missing_in(tmp_path, of_current_pairs(), window=SCALED_WINDOW, killed=True) == []


async def test_a_sink_of_groups_gets_them_as_they_were_received(tmp_path: Path) -> None:
    [joining] = [one for one in recordings() if one.name == f"join_and_leave-single-{VERSION}"]
    replay = Replay(tmp_path, joining, window=SCALED_WINDOW)
    assert await replay.missing() == []
    received = [(frozenset(one.labels), one.status) for one in joining.statements()]
    assert [(frozenset(one.labels), one.status) for one in replay.got("groups")] == received


async def test_whatever_is_left_out_is_noticed(tmp_path: Path) -> None:
    [flapping] = [one for one in recordings() if one.name == f"flap-single-{VERSION}"]
    replay = Replay(tmp_path, flapping, window=SCALED_WINDOW)
    assert await replay.missing() == []
    got, wanted = replay.got("events"), Wanted(SCALED_WINDOW)
    assert len(got) == 8
    for left_out in range(len(got)):
        assert missing(flapping.statements(), got[:left_out] + got[left_out + 1 :], wanted) != []


def test_each_scenario_was_recorded_with_both_versions() -> None:
    recorded = {one.name for one in recordings()}
    assert len({one.alertmanager for one in recordings()}) == 2
    for version in {one.alertmanager for one in recordings()}:
        expected = {f"{one.__name__}-{kind}-{version}" for one in OF_ANY for kind in ("single", "pair")}
        expected |= {f"{one.__name__}-pair-{version}" for one in OF_A_PAIR}
        assert expected == {name for name in recorded if name.endswith(version)}
