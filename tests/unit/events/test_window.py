"""What waits is bounded in number and bytes, whatever is in the Events."""

from __future__ import annotations

import asyncio

from eventsink.events.event import MAX_TEXT_CHARACTERS, characters_of, sent_of, subject_of
from eventsink.events.window import Read, Window
from tests.unit.events.events_made import event

LONG = "R" * 1_000_000
HOSTILE = event(reason=LONG, about=LONG, kind=LONG, action=LONG, note=LONG, deprecatedSource={"component": LONG, "host": LONG})
"""As the API server takes them of core/v1."""


def test_texts_of_a_megabyte_are_cut_before_they_wait_or_are_remembered() -> None:
    sent = sent_of(HOSTILE)
    assert len(sent["reason"]) == len(sent["regarding"]["name"]) == MAX_TEXT_CHARACTERS
    assert characters_of(sent) < 200_000
    assert sum(map(len, subject_of(HOSTILE))) < 1000


async def test_events_wait_and_are_taken_up_to_a_number_of_bytes() -> None:
    window = Window(most=1000, max_bytes=1_000_000)
    one = Read("", "1", sent_of(HOSTILE), "uid")

    async def put() -> None:
        while True:
            await window.put(one)

    putting = asyncio.create_task(put())
    try:
        async with asyncio.timeout(30):
            while len(window) * one.size < 1_000_000:
                await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(window) * one.size < 1_000_000 + one.size
        assert len(await window.take(250, 2 * one.size)) == 2
    finally:
        putting.cancel()
        await asyncio.wait([putting])
