"""The bodies of waiting deliveries that are in memory: bounded in bytes, for each lane and in all."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from eventsink.router.queue.protocol import Delivery


@dataclass(eq=False, slots=True)
class WindowMemory:
    """What the windows of all lanes hold; each lane counts what it takes and gives back.

    A delivery whose body has no room keeps its place in the window without it: the body is read from the queue when it is sent.
    """

    max_bytes: int
    """Of all bodies."""
    max_lane_bytes: int
    """Of the bodies of one lane."""
    deliveries: int = 0
    bytes: int = 0

    @property
    def scarce(self) -> bool:
        """Whether lanes to which nothing can be sent should give up their bodies."""
        return self.bytes > self.max_bytes // 2


def without_body(delivery: Delivery) -> Delivery:
    """The delivery with its body left out."""
    return msgspec.structs.replace(delivery, body=b"", left_out=size_of(delivery))


def size_of(delivery: Delivery) -> int:
    """Bytes of the body, whether it is in memory or not."""
    return len(delivery.body) + delivery.left_out
