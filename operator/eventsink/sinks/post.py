"""A message at a destination that announced firing alerts, as the router records it: with it, a later message about them can follow it."""

from __future__ import annotations

import msgspec


class Post(msgspec.Struct, frozen=True, gc=False):
    """One message, and which alerts it announced."""

    reference: str
    """The destination's own name for it, as in `Delivered.reference`."""
    message: str
    """Id of the message in which the alerts were sent: it stays the same, whatever is changed of the post."""
    open: dict[str, int]
    """Identity -> start, in microseconds since the epoch, of the alerts that it announced and that have not ended since; empty: nothing follows
    it any more."""
    total: int
    """How many alerts it announced, but for those that a later message announced again."""
    digest: bool = False
    """Whether they are too many for each to be shown: it is followed by one message when all of them have ended."""
    alerts: tuple[bytes, ...] = ()
    """JSON of each `Alert` as the message shows it, in order; none: the message is not edited."""
    id: int = 0
    """Number of the record; 0: it is not recorded yet."""
