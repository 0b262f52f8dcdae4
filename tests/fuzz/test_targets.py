"""No parser of what others write raises anything but what it says, or takes long, whatever the bytes are.

Here for a few seconds, with inputs made of pieces of valid ones, and where there is atheris a little while guided by coverage; `make fuzz` goes
on for as long as it is told.
"""

from __future__ import annotations

import importlib.util
import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from eventsink.alerts.formats.registry import FORMATS
from tests.fuzz.__main__ import fuzz
from tests.fuzz.targets import CORPUS, MAX_BYTES, TARGETS, inputs

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0.3"))
"""For each target."""
INPUTS_AT_ONCE = 20
GUIDED_CPU_SECONDS = 8.0
"""Of the processor, for all targets, after the start, which takes ten more."""
GUIDED_SECONDS = 30
LONGEST_SECONDS = 2.0
"""Of processor time, for one input."""
MAX_EDITS = 6
"""Of a seed."""
MAX_PIECE = 16
"""Bytes."""
PIECES = (
    *(b"null", b"true", b"0", b"-1", b"1e999", b"9" * 40, b'""', b"[]", b"{}", b'"\\ud800"', b"\xff", b"\0", b"\r\n"),
    *(b"[" * 2000, b'{"a":' * 600, b"9999-12-31T23:59:59-10:00"),
)
"""What parsers trip over."""


def made_of(seeds: list[bytes], chance: random.Random) -> bytes:
    """A seed with pieces of it, or of another one, removed, repeated, exchanged and changed."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, MAX_EDITS)):
        at, source = chance.randint(0, len(data)), chance.choice(seeds)
        start, length = chance.randint(0, len(source)), chance.randint(0, MAX_PIECE)
        pieces = (
            source[start : start + length],
            bytes(data[at : at + length]) * 3,
            chance.choice(PIECES),
            chance.randbytes(1),
            b"",
        )
        data[at : at + chance.randint(0, MAX_PIECE)] = chance.choice(pieces)
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
        @settings(max_examples=5, deadline=None, database=None, phases=(Phase.generate,))
        @given(number=st.integers(0, 2**32))
        def holds(number: int) -> None:
            # Hypothesis draws one number for many inputs: to draw each of their pieces takes a hundred times as long as most parsers do.
            chance = random.Random(number)
            for _ in range(INPUTS_AT_ONCE):
                data = made_of(seeds, chance)
                try:
                    check(name, data)
                except BaseException as error:
                    error.add_note(f"tests/fuzz/corpus/{name} gets this input: {data!r}")
                    raise

        holds()
        batch += 1


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="there is no atheris for this version of Python")
def test_guided_by_coverage_nothing_is_found_in_a_short_time(tmp_path: Path) -> None:
    assert fuzz(list(TARGETS), GUIDED_SECONDS, cpu_seconds=GUIDED_CPU_SECONDS, corpus=tmp_path)


def test_every_source_format_has_a_target_and_no_corpus_is_of_none() -> None:
    assert {f"format_{name}" for name in FORMATS} <= TARGETS.keys()
    assert {folder.name for folder in CORPUS.iterdir() if folder.is_dir()} <= TARGETS.keys()
