"""The wall between tenants at length: random clusters, and a million alerts that each have to arrive at their tenant's sinks and nowhere else.

Prints what happened; the first alert that arrives at another tenant's sink, or that is missing, ends it, with the seed of its cluster.

    python -m tests.benchmarks.tenants [ALERTS] [SEED]
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import structlog

from tests.support import tenants_cluster
from tests.support.load import size
from tests.support.tenants import ALL, FORMS, KEYS, LABELS, LOOK_ALIKES, QUIET, SOURCES, SPACES, TENANTS
from tests.support.tenants_cluster import Cluster

ALERTS = 1_000_000
STEPS = 60
"""Of one cluster."""
DEADLINE_SECONDS = 300.0
"""For one step: a benchmark in the background waits long for its turn on a busy machine, and what is stuck stays so."""
AT_ONCE = 400
"""Alerts of one notification at most."""
VALUES = (*SPACES, *SPACES, *TENANTS, *LOOK_ALIKES, "")


async def cluster(seed: int, folder: Path) -> Counter[str]:
    """What happened in one cluster."""
    draw = random.Random(seed)
    there = Cluster(folder, allow_unowned=draw.random() < 0.3)
    await there.open()
    try:
        for namespace in SPACES:
            await there.do("own", namespace, draw.choice(("", *TENANTS, *TENANTS)))
            await there.do("create", (namespace, "a"), "", draw.choice(sorted(FORMS)))
        await there.do("mark", SPACES[-1], draw.random() < 0.7)
        await there.do("create", (SPACES[-1], "b"), ALL, draw.choice(sorted(FORMS)))
        for _ in range(STEPS):
            await there.do(*_move(draw))
    finally:
        await there.close()
    return there.world.counts


def _move(draw: random.Random) -> tuple[Any, ...]:
    """Something that may happen."""
    namespace, key, tenant = draw.choice(SPACES), draw.choice(KEYS), draw.choice(TENANTS)
    match draw.choices(tuple(MOVES), tuple(MOVES.values()))[0]:
        case "post":
            return "post", draw.choice(sorted(SOURCES)), [_labels(draw) for _ in range(draw.randint(1, AT_ONCE))]
        case "again":
            return "again", draw.randrange(100), {one for one in range(AT_ONCE) if draw.random() < 0.3}
        case "own":
            return "own", namespace, draw.choice(("", tenant))
        case "delete namespace":
            return "delete namespace", namespace
        case "create":
            return "create", key, draw.choice(("", "", tenant, ALL)), draw.choice(sorted(FORMS))
        case "hand over":
            return "hand over", key, tenant
        case "claim":
            return "claim", key, draw.choice(("", tenant, ALL))
        case "mark":
            return "mark", namespace, draw.random() < 0.5
        case "quiet":
            return "quiet", key, draw.choice((*QUIET, ""))
        case "rotate":
            return "rotate", draw.choice(sorted(SOURCES)), _labels(draw)
        case "rename":
            return "rename", key, draw.choice("xy")
        case "delete":
            return "delete", key
        case other:
            return (other,)


MOVES = {
    "post": 50,
    "again": 16,
    "own": 10,
    "create": 10,
    "claim": 4,
    "mark": 4,
    "hand over": 4,
    "quiet": 6,
    "an hour passes": 4,
    "rename": 2,
    "rotate": 4,
    "restart router": 3,
    "delete": 2,
    "delete namespace": 1,
}
"""What may happen, and how often."""


def _labels(draw: random.Random) -> dict[str, str]:
    chosen = {name: draw.choice(VALUES) for name in draw.sample(LABELS, draw.randint(0, 4))}
    return {"namespace": draw.choice(SPACES), "tenant": draw.choice(TENANTS), **chosen}


def main(alerts: int, seed: int) -> None:
    """Print a line."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    tenants_cluster.DEADLINE_SECONDS = DEADLINE_SECONDS
    counts: Counter[str] = Counter()
    began = time.perf_counter()
    while counts["alerts"] < alerts:
        try:
            with tempfile.TemporaryDirectory() as folder:
                counts += asyncio.run(cluster(seed, Path(folder)))
        except AssertionError:
            print(f"to see it again: python -m tests.benchmarks.tenants 1 {seed}")
            raise
        counts["clusters"] += 1
        seed += 1
    print(
        f"{counts['alerts']:,} alerts in {counts['clusters']:,} clusters with {counts['changes']:,} changes: {counts['arrivals']:,} arrivals in "
        f"{counts['messages']:,} messages, {counts['without a tenant']:,} alerts without a tenant were counted and shown; none arrived at "
        f"another tenant's sink, none is missing ({time.perf_counter() - began:.0f} s)"
    )


if __name__ == "__main__":
    main(size(ALERTS, ALERTS), int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32))
