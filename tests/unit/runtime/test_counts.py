"""Our own counters are written out as those of the library."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from eventsink.runtime.counts import Counts, Durations

BUCKETS = (0.001, 0.25, 1, 10)


def lines(registry: CollectorRegistry) -> list[str]:
    """What is written out, without the times of creation."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_counts_and_durations_are_written_as_those_of_the_library() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counts, durations = (
        Counts("x_requests", "Requests.", ["source", "code"], ours),
        Durations("x_seconds", "Time.", BUCKETS, ours),
    )
    counter = Counter("x_requests", "Requests.", ["source", "code"], registry=theirs)
    histogram = Histogram("x_seconds", "Time.", registry=theirs, buckets=BUCKETS)
    assert lines(ours) == lines(theirs)
    for count, *labels in ((1, "a", "200"), (3, "b", "200"), (0, "c", "500"), (2, "a", "200")):
        counts.add(count, *labels)
        counter.labels(*labels).inc(count)
    for seconds in (0.0, 0.001, 0.0011, 0.25, 3.0, 10.0, 10.5, 100.0):
        durations.observe(seconds)
        histogram.observe(seconds)
    assert lines(ours) == lines(theirs)


def test_a_name_is_taken_once() -> None:
    registry = CollectorRegistry()
    Counts("x_requests", "Requests.", ["source"], registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Counter("x_requests", "Requests.", registry=registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Counts("x_requests", "", [], registry)
