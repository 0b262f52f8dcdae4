"""What became of deliveries and may be recorded a moment later, with the next commit: a crash in between sends them again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from eventsink.router.queue.protocol import Arrival, Retry
from eventsink.router.queue.sqlite.writer import QueueWrite, Settled, Writer

SETTLE_WITHIN_SECONDS = 0.05
"""What arrived is recorded at the latest after this, ..."""
SETTLE_WITH_OTHERS_SECONDS = 0.025
"""... with the first commit after this, ..."""
SETTLED_AT_ONCE = 64
"""... and with the next one if it is as much: for less, each commit would take longer."""


class Outcomes:
    """Arrivals and failed attempts until the writer gets them."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._settled: list[int] = []
        self._retries: list[Retry] = []
        self._timer: asyncio.TimerHandle | None = None
        self._with_others_at = 0.0

    def settle(self, seqs: Sequence[int]) -> None:
        """As `DeliveryQueue.settle`, without an arrival."""
        self._settled.extend(seqs)
        self._hand_over_soon()

    def retry(self, retries: Sequence[Retry]) -> None:
        """As `DeliveryQueue.retry`."""
        self._retries.extend(retries)
        self._hand_over_soon()

    def hand_over_with_others(self) -> None:
        """Something else is about to be written: give the writer what it has not got yet, if it is much or old enough."""
        if len(self._settled) + len(self._retries) >= SETTLED_AT_ONCE or self._loop.time() >= self._with_others_at:
            self.hand_over()

    def hand_over(self) -> None:
        """Give the writer what it has not got yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._retries:
            retries, self._retries = self._retries, []
            self._writer.do(
                QueueWrite(lambda store: store.retry(retries), self._loop.create_future(), keep=False, rows=len(retries))
            )
        if self._settled:
            seqs, self._settled = self._settled, []
            self._writer.do(Settled(seqs))

    def arrived(self, seqs: Sequence[int], arrival: Arrival, *, now: float, clock: float) -> None:
        """Record at once what arrived in one message, whenever storage works; nobody waits for it."""
        self._writer.do(self._arrival_of(seqs, arrival, now, clock))

    def _hand_over_soon(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(SETTLE_WITHIN_SECONDS, self.hand_over)
            self._with_others_at = self._loop.time() + SETTLE_WITH_OTHERS_SECONDS

    def _arrival_of(self, seqs: Sequence[int], arrival: Arrival, now: float, clock: float) -> QueueWrite:
        write = QueueWrite(
            lambda store: store.arrive(seqs, arrival, now=now, clock=clock), self._loop.create_future(), keep=True, rows=len(seqs)
        )
        if len(seqs) > 1 or (seqs and arrival.post is not None):
            bare = replace(arrival, post=None)  # what arrived must not wait, and be sent again, since a post cannot be written
            post = [] if arrival.post is None else [self._arrival_of([], arrival, now, clock)]
            write.parts = lambda: [self._arrival_of([seq], bare, now, clock) for seq in seqs] + post
        return write
