"""The deliveries that are sent in one message."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eventsink.router.queue.protocol import Delivery


class Item(msgspec.Struct, eq=False):
    """A delivery in the window."""

    delivery: Delivery
    message: OutgoingMessage | None = None
    """The message that it is part of; None: it waits for one."""


class OutgoingMessage(msgspec.Struct, eq=False):
    """The deliveries sent in one message: its id and composition stay the same through all attempts."""

    id: str
    items: list[Item]
    attempts: int = 0
    due: float = 0.0
    bound: bool = False
    """Whether the composition is stored in the queue."""
    part: bool = False
    """Whether it is a part of a message that was rejected, whose rest is sent apart from it."""
    in_flight: bool = False
    size: int = 0
    """Bytes of the bodies in it."""

    def __post_init__(self) -> None:
        size = 0
        for item in self.items:
            item.message = self
            size += len(item.delivery.body) + item.delivery.left_out
        self.size = size

    def recompose(self, items: list[Item]) -> None:
        """The message is of these deliveries from now on, and has their id; those that it had before are the caller's."""
        self.items = items
        self.id = message_id(items)
        self.__post_init__()

    @property
    def seqs(self) -> list[int]:
        return [item.delivery.seq for item in self.items]


def message_id(items: Sequence[Item]) -> str:
    """The id of a message of these deliveries: that of the first, and how many they are."""
    first = items[0].delivery.id
    return first if len(items) == 1 else f"{first}.{len(items)}"


def composition_size(identifier: str) -> int:
    """How many deliveries the message of an id holds."""
    _, _, number = identifier.rpartition(".")
    return int(number) if number.isdecimal() and len(number) < 6 else 1
