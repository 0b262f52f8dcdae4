"""Sequences of notifications that nobody would think of, and every recording of real Alertmanagers, replayed to planning.

In the end each sink shows what the last notification said, whoever sent it, whatever happened to the sink and the router meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.support.parts import notification
from tests.support.sequences import START, Recorded, Recording, recordings
from tests.unit.router.planning.test_sequences import LONG_WINDOW, SCALED_WINDOW, Replay

NEVER = "0001-01-01T00:00:00Z"
MODES: tuple[dict[str, Any], ...] = (
    {"window": SCALED_WINDOW},
    {"window": LONG_WINDOW},
    {"window": SCALED_WINDOW, "killed": True},
    {"window": LONG_WINDOW, "killed": True},
)


def invented(seed: int) -> Recording:
    """Two halves say anything of two alerts in one or two groups: firing or ended, with any start and any end, every fourth with replicas."""
    draw = random.Random(seed)
    at, groups, replicas = 0.5, draw.choice((1, 1, 2)), seed % 4 == 3
    sent: list[Recorded] = []
    for _ in range(draw.randint(4, 9)):
        at = round(at + draw.choice((0.05, 0.2, 0.5, 1.0, 1.5, 3.0)), 3)
        alerts = [_alert(draw, at, instance, replicas) for instance in "12" if draw.random() < 0.75]
        if alerts:
            sent.append(Recorded(at, draw.choice("ab"), notification(*alerts, group=f"g{draw.randrange(groups)}")))
    return Recording(f"invented-{seed}", "", sent)


def _alert(draw: random.Random, at: float, instance: str, replicas: bool) -> dict[str, Any]:
    starts = draw.choice((0.0, -30.0, -1.0, at - 0.3))
    ends = max(starts + 0.001, draw.choice((at - 0.2, 0.3, at - 1.0)))
    fires = draw.random() < 2 / 3
    return {
        "status": "firing" if fires else "resolved",
        "labels": {"alertname": "X", "instance": instance, **({"replica": draw.choice("01")} if replicas else {})},
        "startsAt": _time(starts),
        "endsAt": NEVER if fires else _time(ends),
    }


def _time(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def missing_in(chosen: Iterable[Recording]) -> list[str]:
    """Replay each in every mode: what is missing in which."""
    found = []
    for recording in chosen:
        for mode in MODES:
            with tempfile.TemporaryDirectory() as folder:
                sentences = asyncio.run(Replay(Path(folder), recording, **mode).missing())
            found += [f"{recording.name} {mode}: {sentence}" for sentence in sentences]
    return found


def main(seconds: float | None = None) -> None:
    """Replay all recordings, then invented sequences until the time (absent: an hour) is over."""
    until = time.monotonic() + (seconds or 3600.0)
    first = seed = random.SystemRandom().randrange(2**32)
    print(f"seed {first}")
    found = missing_in(recordings())
    while not found and time.monotonic() < until:
        found = missing_in([invented(seed)])
        seed += 1
    assert not found, "\n".join(found)
    print(f"{len(recordings())} recordings and {seed - first} invented sequences, {len(MODES)} times each: nothing is missing")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else None)
