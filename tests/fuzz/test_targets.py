"""No parser of what others write raises anything but what it says, or takes long, whatever the bytes are.

Here for a few seconds, with inputs made of pieces of valid ones; `make fuzz` goes on for as long as it is told, guided by coverage.
"""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from eventsink.alerts.formats.registry import FORMATS
from tests.fuzz.targets import CORPUS, MAX_BYTES, TARGETS, inputs

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0.3"))
"""For each target."""
EXAMPLES_AT_ONCE = 100
LONGEST_SECONDS = 2.0
"""Of processor time, for one input."""


@st.composite
def made_of(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with pieces of it, or of another one, removed, repeated, exchanged and changed; sometimes any bytes."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 16))
        other = draw(st.sampled_from(seeds))
        start = draw(st.integers(0, len(other)))
        piece = draw(
            st.one_of(st.binary(max_size=8), st.just(other[start : start + length]), st.just(bytes(data[at : at + length]) * 3))
        )
        data[at : at + draw(st.integers(0, length))] = piece
    return bytes(data[:MAX_BYTES])


def check(name: str, data: bytes) -> None:
    began = time.thread_time()
    TARGETS[name].check(data)
    assert time.thread_time() - began < LONGEST_SECONDS


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_once_is_read_as_the_contract_says(name: str) -> None:
    for data in inputs(name):
        check(name, data)


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_raises_nothing_but_what_it_says(name: str) -> None:
    seeds, end, batch = inputs(name), time.monotonic() + SECONDS, 0
    while time.monotonic() < end:

        @seed(batch)
        @settings(
            max_examples=EXAMPLES_AT_ONCE,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        @given(data=made_of(seeds))
        def holds(data: bytes) -> None:
            if time.monotonic() < end:
                check(name, data)

        holds()
        batch += 1


def test_every_source_format_has_a_target_and_no_corpus_is_of_none() -> None:
    assert {f"format_{name}" for name in FORMATS} <= TARGETS.keys()
    assert {folder.name for folder in CORPUS.iterdir() if folder.is_dir()} <= TARGETS.keys()
