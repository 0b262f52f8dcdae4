"""Where the embedded queue is kept, and its bounds."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from eventsink.runtime.settings import Seconds, Settings


class QueueSettings(Settings):
    """Where the queue is kept and how large it may get."""

    path: Path = Path("/var/lib/eventsink/queue.db")
    """The database file; its folder must exist and be writable."""
    lock_timeout: Seconds = 180.0
    """How long the start waits for another process that has the queue open, such as the pod before, which may take until the end of its
    grace period. `/readyz` says for whom."""
    max_waiting: int = Field(default=1_000_000, ge=1)
    """Deliveries that may wait; beyond it sources get a 503. One takes 140 bytes on the disk, its alert (stored
    once for all sinks) 1 to 4 kB, and nothing in memory."""
    max_bytes: int = Field(default=8 * 1024**3, ge=1024**2)
    """What rows may take in the file; beyond it sources get a 503."""
    max_pending_bytes: int = Field(default=32 * 1024**2, ge=1)
    """What may wait in memory for its commit; beyond it sources get a 503."""
    min_free_bytes: int = Field(default=256 * 1024**2, ge=0)
    """Free space of the disk below which sources get a 503, so that what arrives can still be recorded."""
    max_dead: int = Field(default=100_000, ge=0)
    """Dead letters that are kept; the oldest make room (counted in a metric)."""
    dead_letter_age: Seconds = 14 * 86400.0
    """How long a dead letter is kept."""
    max_arrived: int = Field(default=200_000, ge=0)
    """Records of which Slack message carried which alert; the oldest make room."""
    arrived_age: Seconds = 7 * 86400.0
    """How long such a record is kept."""
    max_posted: int = Field(default=200_000, ge=0)
    """Alerts of which it is recorded which Slack message announced them, so that it is edited when they change; those of the oldest messages
    make room, and what becomes of them is a new message (counted in a metric)."""
    max_posted_bytes: int = Field(default=256 * 1024**2, ge=0)
    """What such messages show, in bytes; the same applies."""
    accept_loss: str = ""
    """Id of a queue that is gone for good, from the error with which the router did not start: it then starts without what was in it."""
