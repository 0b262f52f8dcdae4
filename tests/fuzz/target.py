"""What a target is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One parser."""

    run: Callable[[bytes], object]
    raises: tuple[type[Exception], ...] = ()
    """What it may raise."""
    seeds: tuple[bytes, ...] = (b"",)
    """What inputs are made of, beside those in the corpus."""

    def check(self, data: bytes) -> None:
        """Raises whatever the parser must not raise."""
        try:
            self.run(data)
        except self.raises:
            pass


def as_text(data: bytes) -> str:
    """Of any bytes."""
    return data.decode(errors="replace")


def on_text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    """To run what parses a text."""
    return lambda data: parse(as_text(data))
