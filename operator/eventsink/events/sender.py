"""Posts the Events that wait, in order, and moves the checkpoint on behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from eventsink.alerts.formats.kubernetes_events import SUPPRESSED
from eventsink.events.checkpoint import Checkpoint
from eventsink.events.posts import Item, Poster
from eventsink.events.window import Read, Window

BATCH = 250
"""Events of one request: below what the router takes in one turn."""
BATCH_BYTES = 2 * 1024**2
"""About what one request has at most, and one Event more."""
_encoder = msgspec.json.Encoder()


class Sender:
    """Takes what waits in the window and posts it; `run` is a task for ever."""

    def __init__(self, poster: Poster, window: Window, checkpoint: Checkpoint) -> None:
        self._poster = poster
        self._window = window
        self._checkpoint = checkpoint

    async def run(self) -> None:
        """Send until cancelled."""
        async with self._poster:
            while True:
                reads = await self._window.take(BATCH, BATCH_BYTES)
                if events := encoded(reads):
                    await self._poster.send([Item(one) for one in events])
                self._checkpoint.advance({one.collection: one.version for one in reads if one.version})


def encoded(reads: Sequence[Read]) -> list[bytes]:
    """The Events of some steps as JSON; of one that is there several times, the last, which has the largest count."""
    last: dict[str, Read] = {}
    suppressed: dict[str, int] = {}
    for number, one in enumerate(reads):
        if one.event is None:
            continue
        name = one.uid or str(number)
        suppressed[name] = suppressed.get(name, 0) + one.suppressed
        last.pop(name, None)
        last[name] = one
    return [_encoder.encode(_marked(one.event or {}, suppressed[name])) for name, one in last.items()]


def _marked(event: dict[str, Any], suppressed: int) -> dict[str, Any]:
    if not suppressed:
        return event
    return {**event, "metadata": {**event["metadata"], "annotations": {SUPPRESSED: str(suppressed)}}}
