"""Recordings of what real Alertmanagers sent to a webhook: tests/data/alertmanager/sequences/.

    python -m tests.support.sequences [SCENARIO...]

records the scenarios (absent: all) again, on a single Alertmanager and on a pair, of each version that the tests have.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from tests.controlplane.alertmanager import find_or_build_alertmanager
from tests.support.alertmanager_halves import HALVES, AlertmanagerHalves, configuration
from tests.support.debian import find_or_fetch
from tests.support.monitoring import AlertmanagerProgram
from tests.support.pictures import Statement, statements_of
from tests.support.played_prometheus import PlayedPrometheus
from tests.support.receiver import Received, Receiver
from tests.support.scenarios import OF_A_PAIR, OF_ANY, Scenario, Stage, connect

FOLDER = Path(__file__).parents[1] / "data" / "alertmanager" / "sequences"
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""When each recording begins: its times are moved to there."""
AT_ONCE = 4


@dataclass(frozen=True)
class Recorded:
    """A notification as it arrived: after how many seconds, from which half, and what it said."""

    at: float
    sender: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Recording:
    """What a webhook was notified of during a scenario."""

    name: str
    alertmanager: str
    """Version."""
    notifications: Sequence[Recorded]

    def statements(self) -> list[Statement]:
        """What the webhook was notified of, alert by alert."""
        return [
            one
            for number, recorded in enumerate(self.notifications)
            for one in statements_of(recorded.body, at=recorded.at, sender=recorded.sender, notification=number)
        ]


def read(file: Path) -> Recording:
    """Read a recording."""
    document = json.loads(file.read_text())
    return Recording(file.stem, document["alertmanager"], [Recorded(**one) for one in document["notifications"]])


@cache
def recordings() -> Sequence[Recording]:
    """All of them, by name."""
    return [read(file) for file in sorted(FOLDER.glob("*.json"))]


@contextmanager
def stage_of(
    program: AlertmanagerProgram, halves: Sequence[str], folder: Path, *webhooks: Mapping[str, Any]
) -> Iterator[tuple[Stage, Receiver]]:
    """Alertmanagers with two Prometheus servers before them, and the receiver of the webhook that is attached directly to them.

    Parameters
    ----------
    webhooks
        More webhook_configs of each half; in their texts, `{half}` stands for its name.
    """
    with Receiver() as receiver, ExitStack() as stack:

        def configuration_of(half: str) -> dict[str, Any]:
            more = json.loads(json.dumps(webhooks).replace("{half}", half))
            return configuration([{"url": receiver.url(f"/{half}"), "send_resolved": True}, *more])

        running = stack.enter_context(AlertmanagerHalves(program, halves, configuration_of, folder))
        servers = [stack.enter_context(PlayedPrometheus()) for _ in range(2)]
        start = time.monotonic()
        stage = Stage(running, servers, lambda: _statements(receiver.requests(), start))
        for half in halves:
            connect(stage, half)
        yield stage, receiver


def _statements(requests: Sequence[Received], start: float) -> list[Statement]:
    return [
        one
        for number, request in enumerate(requests)
        for one in statements_of(request.json(), at=request.time - start, sender=request.path[1:], notification=number)
    ]


def record(scenario: Scenario, program: AlertmanagerProgram, halves: Sequence[str], folder: Path) -> list[Recorded]:
    """Play a scenario and return what the webhook was notified of, with all times moved to START."""
    with stage_of(program, halves, folder) as (stage, receiver):
        began, start = datetime.now(UTC), time.monotonic()
        scenario(stage)
        stage.pass_time()
        requests = receiver.requests()
    return [Recorded(round(one.time - start, 3), one.path[1:], _moved(one.json(), START - began)) for one in requests]


def _moved(body: dict[str, Any], by: timedelta) -> dict[str, Any]:
    for alert in body["alerts"]:
        for name in ("startsAt", "endsAt"):
            time = datetime.fromisoformat(alert[name])
            if time.year > 1:
                alert[name] = (time + by).isoformat().replace("+00:00", "Z")
    return body


def version_of(program: AlertmanagerProgram) -> str:
    """Of an Alertmanager."""
    said = subprocess.run([*program.alertmanager_command(), "--version"], capture_output=True, text=True, timeout=60, check=True)
    match = re.search(r"version (\d+\.\d+\.\d+)", said.stdout + said.stderr)
    assert match is not None
    return match[1]


def write(name: str, version: str, halves: Sequence[str], notifications: Sequence[Recorded]) -> None:
    """Write a recording, one notification a line."""
    route = {key: value for key, value in configuration([]).items() if key != "receivers"}
    head = {"alertmanager": version, "halves": len(halves), "configuration": route}
    lines = ",\n".join("  " + json.dumps(one.__dict__, separators=(",", ":")) for one in notifications)
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = json.dumps(head, separators=(",", ":"))[:-1]
    (FOLDER / f"{name}.json").write_text(f'{text},\n "notifications":[\n{lines}\n]}}\n')


def main(names: Sequence[str]) -> int:
    """Record; exit status 0 or 1 (a scenario did not get to its end)."""
    programs: list[AlertmanagerProgram] = [find_or_fetch(), find_or_build_alertmanager()]
    todo = [
        (scenario, program, version_of(program), halves)
        for program in programs
        for scenario in (*OF_ANY, *OF_A_PAIR)
        for halves in ((HALVES[:1], HALVES) if scenario in OF_ANY else (HALVES,))
        if not names or scenario.__name__ in names
    ]

    def run(task: tuple[Scenario, AlertmanagerProgram, str, Sequence[str]]) -> bool:
        scenario, program, version, halves = task
        name = f"{scenario.__name__}-{'pair' if len(halves) > 1 else 'single'}-{version}"
        with tempfile.TemporaryDirectory() as folder:
            try:
                notifications = record(scenario, program, halves, Path(folder))
            except (AssertionError, OSError, TimeoutError) as error:
                print(f"{name}: {error}", file=sys.stderr)
                return False
        write(name, version, halves, notifications)
        print(f"{name}: {len(notifications)} notifications")
        return True

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return 0 if all(list(pool.map(run, todo))) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
