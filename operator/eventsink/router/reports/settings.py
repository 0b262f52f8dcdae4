"""How statuses are written."""

from __future__ import annotations

from pydantic import Field

from eventsink.runtime.settings import Settings


class ReportSettings(Settings):
    """How fast the router writes how delivery goes into the statuses of EventSinks."""

    per_second: int = Field(default=100, ge=1, le=10_000)
    """Statuses written in a second, on average over five seconds; at most eight at a time. Changes of `Delivering` go first, and what only
    brings a status up to date takes a third of it at most."""
