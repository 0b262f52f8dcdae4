"""How soon a sink is sent to again after failures: one message at a time while everything fails, and ever more slowly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eventsink.router.dispatch.retry import RetrySettings, message_wait, probe_wait, sink_wait
from eventsink.sinks.sender import Failed

FAILURES_UNTIL_SLOW = 3
"""So many messages in a row must fail before the sink, and not the messages, is taken to be the reason."""
REJECTIONS_UNTIL_REPORTED = 3
"""After so many deliveries in a row that were rejected for good, the sink is said to reject everything."""


@dataclass(eq=False, slots=True)
class Pace:
    """The pace of one sink; `random` gives numbers from 0 to 1. Times are on the queue clock."""

    retry: RetrySettings
    random: Callable[[], float]
    held: str = ""
    """Reason of the failure for which the sink is held; empty: it is not. Recorded nowhere else, and unknown after a restart."""
    not_before: float = 0.0
    """Nothing leaves before, because of failures."""
    unresponsive: bool = False
    """Whether the receiver has not responded yet, or not to the last message: one message at a time leaves, for more would only wait for it."""
    _failures: int = 0
    """Messages in a row that failed transiently."""
    _rejections: int = 0
    """Deliveries in a row that were rejected for good; unknown after a restart, when the status is what remains of it."""
    _asked_until: float = 0.0
    """Until then the receiver asked not to be sent anything."""
    _probes: int = 0

    @property
    def slow(self) -> bool:
        """Whether everything fails, so that one message at a time leaves."""
        return bool(self.held) or self._failures >= FAILURES_UNTIL_SLOW

    @property
    def rejects_everything(self) -> bool:
        """Whether no message arrived since several were rejected in a row. They are sent as before: each may be the one that is taken."""
        return self._rejections >= REJECTIONS_UNTIL_REPORTED

    def delivered(self) -> None:
        """A message arrived."""
        self.unresponsive = False
        self.restart()

    def restart(self) -> None:
        """Whatever failed before counts no more."""
        self.held, self._failures, self._rejections, self.not_before, self._probes = "", 0, 0, 0.0, 0

    def rejected(self, *, for_good: bool) -> None:
        """The receiver responded that it does not take a message; not `for_good`: its parts are sent yet."""
        self.unresponsive = False
        self._failures = 0
        if for_good:
            self._rejections += 1

    def failed_transiently(self, attempts: int, failed: Failed, now: float) -> float:
        """A message did not arrive for the `attempts`-th time; returns when that one is tried again."""
        self.held = ""
        self.unresponsive = failed.status_code is None
        self._failures += 1
        due = now + message_wait(attempts, failed, self.retry, self.random)
        if failed.retry_after:
            self.asked_to_wait(now + failed.retry_after)
        if self.slow:
            wait = sink_wait(self._failures - FAILURES_UNTIL_SLOW + 1, failed, self.retry, self.random)
            self.not_before = max(self.not_before, now + wait)
        return due

    def failed_for_the_sink(self, failed: Failed, now: float) -> None:
        """Nothing can arrive until the sink is fixed: it is held, and probed later and later."""
        self.held = failed.reason
        self._probes += 1
        self.not_before = now + probe_wait(self._probes, self.retry)

    def asked_to_wait(self, until: float) -> None:
        """The receiver asked not to be sent anything until then."""
        self._asked_until = max(self._asked_until, until)
        self.wait_until(self._asked_until)

    def wait_until(self, until: float) -> None:
        """Nothing leaves before."""
        self.not_before = max(self.not_before, until)

    def probe(self, now: float) -> None:
        """Try at once although everything failed, unless the receiver asked to wait: to find out whether the sink works."""
        if self.slow:
            self.not_before = max(min(self.not_before, now), self._asked_until)
