"""What the tests measure on the way; shown at the end of a run."""

from __future__ import annotations

_figures: list[str] = []


def measured(text: str) -> None:
    """Keep a figure for the end of the run."""
    _figures.append(text)


def figures() -> list[str]:
    """Everything that was measured, in order."""
    return list(_figures)
