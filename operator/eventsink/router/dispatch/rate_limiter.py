"""Spaces out the messages of all sinks with the same rate-limit key: Slack takes about one a second in a channel; and changes of messages."""

from __future__ import annotations

from dataclasses import dataclass, field

OVERTAKE_SECONDS = 0.5
"""Whoever is first and does not come when a message may be sent loses the turn after so long."""
ASK_AGAIN_SECONDS = 0.05
ASK_OFTEN = 10
"""So many of a line ask whenever there may be a turn; the others when it may be theirs: of thousands, all would ask for each turn."""
ASK_WITHIN_SECONDS = 30.0
"""Whoever is far behind asks again after so long: those before it may not wait any more."""
MAX_IDLE_KEYS = 10_000
"""Keys that are remembered although nobody waits for them."""


@dataclass(eq=False, slots=True)
class _Line:
    """The sinks that wait for a turn."""

    places: dict[str, int] = field(default_factory=dict)
    """Sink -> how many had come before it, in order."""
    came: int = 0
    left: int = 0


class RateLimiter:
    """Turns for each rate-limit key, first come first served. It decides and does nothing: times are given by the caller.

    Parameters
    ----------
    interval
        Seconds between two messages of one key.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._free_at: dict[str, float] = {}
        self._taken: dict[str, float] = {}
        """Key -> until when the last turn keeps others waiting."""
        self._lines: dict[str, _Line] = {}

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._free_at.keys() | self._lines.keys())

    def turn(self, key: str, sink: str, now: float) -> float | None:
        """Take the turn, or wait for it.

        Returns
        -------
        float or None
            None: the sink may send one message now. Else when to ask again.
        """
        line = self._lines.setdefault(key, _Line())
        if (place := line.places.get(sink)) is None:
            place = line.places[sink] = line.came
            line.came += 1
        later = min(max(0, place - line.left - ASK_OFTEN) * self._interval, ASK_WITHIN_SECONDS)
        free_at = self._free_at.get(key, 0.0)
        if now < free_at:
            return free_at + later
        if next(iter(line.places)) != sink and now < free_at + OVERTAKE_SECONDS:
            return now + (later or ASK_AGAIN_SECONDS)
        self.leave(key, sink)
        self._free_at[key] = self._taken[key] = now + self._interval
        if len(self._free_at) > MAX_IDLE_KEYS:
            self._free_at = {one: at for one, at in self._free_at.items() if at > now}
            self._taken = {one: at for one, at in self._taken.items() if one in self._free_at}
        return None

    def give_back(self, key: str, now: float) -> None:
        """A turn that was just taken was not used: the next one may have it."""
        if self._free_at.get(key) == self._taken.get(key):
            self._free_at[key] = now

    def leave(self, key: str, sink: str) -> None:
        """The sink has nothing to send at present."""
        line = self._lines.get(key)
        if line is not None:
            line.left += line.places.pop(sink, None) is not None
            if not line.places:
                del self._lines[key]

    def pause(self, key: str, until: float) -> None:
        """Nobody may send before then."""
        self._free_at[key] = max(self._free_at.get(key, 0.0), until)
