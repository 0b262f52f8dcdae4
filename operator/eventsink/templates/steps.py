"""The steps that one evaluation may take: the time that a template costs, counted so that the same input ends the same way each time."""

from __future__ import annotations

from eventsink.templates.errors import TemplateFailed

MAX_STEPS = 20_000
"""For one evaluation: at most 20 ms on the slowest machine that was measured. A line for each of 100 alerts takes 3,000."""
CHARACTERS = 64
"""So many characters that are read or written count as a step."""
MAX_TEXT = 65_536
"""Characters of one text that a template makes."""
MAX_ITEMS = 2000
"""Of one list that it makes."""


class Steps:
    """Counts down.

    Parameters
    ----------
    left
        How many steps there are.
    """

    __slots__ = ("left",)

    def __init__(self, left: int = MAX_STEPS) -> None:
        self.left = left

    def take(self, steps: int = 1) -> None:
        """Count some.

        Raises
        ------
        TemplateFailed
            There are none left.
        """
        self.left -= steps
        if self.left < 0:
            raise TemplateFailed(f"it takes more than {MAX_STEPS:,} steps: loop over less, or nest fewer loops")

    def text(self, length: int) -> None:
        """Count the characters of a text that is about to be made."""
        if length > MAX_TEXT:
            raise TemplateFailed(
                f"it makes a text of more than {MAX_TEXT:,} characters: shorten what it is made of with truncate"
            )
        self.take(1 + length // CHARACTERS)

    def items(self, length: int) -> None:
        """Count the entries of a list that is about to be made."""
        if length > MAX_ITEMS:
            raise TemplateFailed(f"it makes a list of more than {MAX_ITEMS:,} entries")
        self.take(1 + length // 8)

    def search(self, text: str, part: str) -> None:
        """Count the search for a part in a text: the longer the part, the more often a text may nearly have it."""
        self.take(1 + len(text) * (1 + min(len(part), CHARACTERS * 2) // 8) // CHARACTERS)
