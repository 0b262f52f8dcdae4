"""The settings of dispatch."""

from __future__ import annotations

from pydantic import Field

from eventsink.router.dispatch.retry import RetrySettings
from eventsink.runtime.settings import Seconds, Settings

MIB = 1024**2


class DispatchSettings(Settings):
    """How many messages are in flight, and how many deliveries are kept in memory."""

    concurrency: int = Field(default=8, ge=1, le=256)
    """Messages in flight to one sink at once; those about one alert are always sent one after the other."""
    max_in_flight: int = Field(default=2048, ge=1)
    """Messages in flight in all, shared out by tenant and sink: one tenant alone may have two thirds of it in flight."""
    max_in_flight_bytes: int = Field(default=16 * MIB, ge=MIB)
    """What the messages in flight may hold, shared out in the same way. One message may exceed it."""
    window: int = Field(default=5000, ge=1000)
    """Waiting deliveries of one sink that are kept in memory; the rest stays in the queue. Not below the largest batch."""
    window_bytes: int = Field(default=8 * MIB, ge=MIB)
    """What the bodies of those may hold; other bodies are read when they are sent."""
    max_in_memory: int = Field(default=50_000, ge=1000)
    """Waiting deliveries of all sinks that are kept in memory."""
    max_bytes_in_memory: int = Field(default=32 * MIB, ge=MIB)
    """What the bodies of those may hold; other bodies are read when they are sent."""
    expiry_interval: Seconds = Field(default=5.0, gt=0)
    """Interval between checks for deliveries that have reached their sink's maxAge."""
    check_interval: Seconds = Field(default=30.0, gt=0)
    """Between two comparisons of what waits in the queue with what is about to be sent."""
    rate_limit_interval: Seconds = Field(default=1.0, gt=0)
    """Between two messages to one destination that limits their rate, from all sinks that share it: a Slack channel takes about one a second."""
    retry: RetrySettings = RetrySettings()
