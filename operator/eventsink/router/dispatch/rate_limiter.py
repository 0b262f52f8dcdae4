"""Spaces out the messages to one place: Slack takes about one a second in a channel, from all sinks together."""

from __future__ import annotations

OVERTAKE_SECONDS = 0.5
"""Whoever is first and does not come when the place is free loses the turn after so long."""
ASK_AGAIN_SECONDS = 0.05
MAX_IDLE_PLACES = 10_000
"""Places that are remembered although nobody waits for them."""


class Pace:
    """Turns at places, first come first served. It decides and does nothing: times are given by the caller.

    Parameters
    ----------
    interval
        Seconds between two messages to one place.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._free_at: dict[str, float] = {}
        self._lines: dict[str, dict[str, None]] = {}
        """Place -> the sinks that wait for a turn there, in order."""

    def turn(self, place: str, sink: str, now: float) -> float | None:
        """Take the turn, or wait for it.

        Returns
        -------
        float or None
            None: the sink may send one message now. Else when to ask again.
        """
        line = self._lines.setdefault(place, {})
        line.setdefault(sink)
        free_at = self._free_at.get(place, 0.0)
        if now < free_at:
            return free_at
        if next(iter(line)) != sink and now < free_at + OVERTAKE_SECONDS:
            return now + ASK_AGAIN_SECONDS
        self.leave(place, sink)
        self._free_at[place] = now + self._interval
        if len(self._free_at) > MAX_IDLE_PLACES:
            self._free_at = {one: at for one, at in self._free_at.items() if at > now}
        return None

    def leave(self, place: str, sink: str) -> None:
        """The sink has nothing to send at present."""
        line = self._lines.get(place)
        if line is not None:
            line.pop(sink, None)
            if not line:
                del self._lines[place]

    def hold(self, place: str, until: float) -> None:
        """Nobody may send there before."""
        self._free_at[place] = max(self._free_at.get(place, 0.0), until)
