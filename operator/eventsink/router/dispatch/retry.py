"""What to do after a failure: decided from its class and how often it happened."""

from __future__ import annotations

from pydantic import Field, model_validator

from eventsink.runtime.backoff import Backoff, Chance
from eventsink.runtime.settings import Seconds, Settings
from eventsink.sinks.sender import Failed


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


def message_wait(attempts: int, failed: Failed, settings: RetrySettings, chance: Chance) -> float:
    """Seconds until a message is tried again after its `attempts`-th transient failure; Retry-After is a lower bound."""
    # Full jitter, here and below: many messages that failed together do not come back together.
    return max(Backoff(settings.first, settings.longest, 1.0).wait(attempts, chance), failed.retry_after or 0.0)


def sink_wait(failures: int, failed: Failed, settings: RetrySettings, chance: Chance) -> float:
    """Seconds until anything is sent to a sink again of which the last `failures` attempts all failed transiently."""
    return max(Backoff(settings.first, settings.sink_longest, 1.0).wait(failures, chance), failed.retry_after or 0.0)


def probe_wait(probes: int, settings: RetrySettings) -> float:
    """Seconds until a held sink is probed for the `probes`-th time, from 1."""
    return Backoff(settings.probe_first, settings.probe_longest).wait(probes)
