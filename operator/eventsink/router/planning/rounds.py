"""Ends what a source has left out when it sent everything that fires: it says when it begins such a round, and when the round ends."""

from __future__ import annotations

from eventsink.alerts.alert import Round, UnusablePayload
from eventsink.router.planning.timeouts import Timeouts
from eventsink.router.queue.clock import QueueClock

UNKNOWN = "this round was not begun, or another one since, or the router has started since: begin again"


class Rounds:
    """The round of each source that was begun last: in memory only, since a source whose round is not known any more begins again."""

    def __init__(self, timeouts: Timeouts, clock: QueueClock) -> None:
        self._timeouts = timeouts
        self._clock = clock
        self._begun: dict[str, tuple[str, float]] = {}

    async def accept(self, source: str, said: Round) -> None:
        """Begin a round, or end what was not sent in it; returns when that is on disk.

        Parameters
        ----------
        source
            Its name.

        Raises
        ------
        UnusablePayload
            The round that ends is not the one that was begun last.
        QueueFull, QueueUnavailable
            Not all of it could be stored; the source says again that the round ends.
        """
        identity, since = self._begun.get(source, ("", 0.0))
        if not said.ends:
            # What begins a round may arrive once more, late, after its sender gave up on it: what was sent since is in the round.
            if identity != said.id:
                self._begun[source] = said.id, self._clock.clock()
            return
        if identity != said.id:
            raise UnusablePayload(UNKNOWN)
        await self._timeouts.end_silent(source, since)
        if self._begun.get(source) == (identity, since):
            del self._begun[source]
