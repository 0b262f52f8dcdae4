"""What to do after a failure: decided from its class and how often it happened."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field, model_validator

from eventsink.runtime.settings import Seconds, Settings
from eventsink.sinks.sender import Failed

MAX_DOUBLINGS = 30
"""More of them overflow nothing and change nothing: the cap is reached long before."""


class RetrySettings(Settings):
    """How often delivery is tried again. It ends with the sink's maxAge only, never with a number of attempts."""

    first: Seconds = Field(default=1.0, gt=0)
    """Upper bound of the wait after the first transient failure of a message; it doubles with each (exponential, full jitter)."""
    longest: Seconds = 300.0
    """The longest wait of a message."""
    sink_longest: Seconds = 60.0
    """The longest wait between two attempts of a sink of which everything fails."""
    probe_first: Seconds = Field(default=30.0, gt=0)
    """First wait of a held sink (wrong credentials, wrong URL, TLS); it doubles. A changed EventSink is tried at once."""
    probe_longest: Seconds = 300.0
    """The longest wait of a held sink."""

    @model_validator(mode="after")
    def _rise(self) -> RetrySettings:
        if self.longest < self.first or self.probe_longest < self.probe_first:
            raise ValueError("longest must not be below first, nor probeLongest below probeFirst")
        return self


def message_wait(attempts: int, failed: Failed, settings: RetrySettings, random: Callable[[], float]) -> float:
    """Seconds until a message is tried again after its `attempts`-th transient failure.

    The receiver's Retry-After is a lower bound. `random` gives numbers from 0 to 1.
    """
    return max(_jittered(attempts, settings.first, settings.longest, random), failed.retry_after or 0.0)


def sink_wait(failures: int, failed: Failed, settings: RetrySettings, random: Callable[[], float]) -> float:
    """Seconds until anything is sent to a sink again of which the last `failures` attempts all failed transiently."""
    return max(_jittered(failures, settings.first, settings.sink_longest, random), failed.retry_after or 0.0)


def probe_wait(probes: int, settings: RetrySettings) -> float:
    """Seconds until a held sink is probed for the `probes`-th time, from 1."""
    return min(settings.probe_first * 2.0 ** min(probes - 1, MAX_DOUBLINGS), settings.probe_longest)


def _jittered(count: int, first: float, longest: float, random: Callable[[], float]) -> float:
    # Full jitter: many messages that failed together do not come back together.
    return random() * min(first * 2.0 ** min(max(count - 1, 0), MAX_DOUBLINGS), longest)
