"""What the queue stores of posts: which message at a destination announced which firing alerts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from eventsink.sinks.post import Post


class PostRef(msgspec.Struct, frozen=True, gc=False):
    """Which post announced an alert."""

    id: int
    is_edited: bool
    """Whether it is recorded what the post shows, so that it can be edited."""
    starts_at: int
    """Of the alert, as the post announced it: microseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class PostChange:
    """A post as it is from now on."""

    sink: str
    """uid of the sink."""
    destination: str
    """Digest of where it is (`Sink.destination`): nothing follows it once the sink points elsewhere."""
    post: Post
    """New, or changed; one in which nothing is open is forgotten."""


class PostStore(Protocol):
    """The record of posts. It is written by `DeliveryQueue.settle`, in the transaction that settles the deliveries.

    It lives as long as the alert states: `AlertStateStore.forget` forgets what was posted of an alert, and of a sink. It is bounded; the
    oldest posts make room.
    """

    async def announced(self, sink: str, destination: str, alerts: Sequence[str]) -> dict[str, PostRef]:
        """Identity -> the post, of those of these alerts that a post of the sink, at this destination, announced and that are open.

        Whatever was settled before the call is taken into account.
        """
        ...

    async def post(self, sink: str, identifier: int) -> Post | None:
        """A post; None: it is forgotten."""
        ...
