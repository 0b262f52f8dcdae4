"""Waits for what another process or thread will bring about, until a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 60.0
"""Generous, since machines that run tests are loaded: a wait ends when the thing is there, so only a failing test is slow."""
POLL_SECONDS = 0.05


def wait_until(
    what: str,
    probe: Callable[[], T],
    *,
    deadline: float = DEADLINE_SECONDS,
    poll: float = POLL_SECONDS,
    show: Callable[[], object] | None = None,
) -> T:
    """Call `probe` until it returns something true, and return that.

    Parameters
    ----------
    what
        What is waited for, in the words of the failure.
    probe
        Looks once. An OSError (nobody listens yet) counts as not yet; any other exception ends the wait.
    deadline, poll
        Seconds in all, and between two looks.
    show
        Returns the state for the failure; absent, what `probe` returned last is shown.

    Raises
    ------
    TimeoutError
        After the deadline, with the last state.
    """
    end = time.monotonic() + deadline
    last: object = None
    while True:
        try:
            last = result = probe()
            if result:
                return result
        except OSError as error:
            last = error
        if time.monotonic() >= end:
            raise TimeoutError(f"no {what} within {deadline:g} s; last state:\n{show() if show is not None else last}")
        time.sleep(poll)
