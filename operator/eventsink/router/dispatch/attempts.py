"""Who wants to know the outcome of attempts to send to a sink."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from eventsink.router.dispatch.outgoing import OutgoingMessage
from eventsink.sinks.sender import Failed, FailureClass, Outcome

Attempted = Callable[[Sequence[str], Outcome, bool], None]
"""Called with the keys of the deliveries in the message, the outcome, and whether everything to the sink fails."""


class AttemptWatchers:
    """Those who watch a sink at present."""

    def __init__(self) -> None:
        self._watchers: dict[str, list[Attempted]] = {}

    def watch(self, uid: str, attempted: Attempted) -> Callable[[], None]:
        """Have `attempted` called after each attempt to send to a sink; returns what ends that."""
        watchers = self._watchers.setdefault(uid, [])
        watchers.append(attempted)

        def end() -> None:
            watchers.remove(attempted)
            if not watchers and self._watchers.get(uid) is watchers:
                del self._watchers[uid]

        return end

    def of(self, uid: str) -> tuple[Attempted, ...]:
        """Who watches a sink now."""
        return tuple(self._watchers.get(uid, ())) if self._watchers else ()


def notify(watchers: Iterable[Attempted], outgoing: OutgoingMessage, outcome: Outcome, *, slow: bool) -> None:
    """Report an attempt; `slow` as `Lane.slow`."""
    if isinstance(outcome, Failed) and outcome.failure is FailureClass.MESSAGE and len(outgoing.items) > 1:
        return  # it is taken apart: which of them was meant shows later
    keys = [item.delivery.key for item in outgoing.items]
    for attempted in watchers:
        attempted(keys, outcome, slow)
