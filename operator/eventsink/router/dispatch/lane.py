"""The waiting deliveries of one sink, and which of them may leave now.

A lane decides and does nothing: no clock of its own, no I/O. It holds a window of the sink's oldest waiting deliveries; the rest stays in the
queue. Deliveries of one key leave one after the other. While everything fails, one message at a time leaves, ever more slowly; one message
that fails alone waits by itself and does not stop the others.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from eventsink.router.dispatch.retry import RetrySettings, message_wait, probe_wait, sink_wait
from eventsink.router.queue.protocol import Delivery, PayloadKind
from eventsink.sinks.sender import Failed

FAILURES_UNTIL_SLOW = 3
"""So many messages in a row must fail before the sink, and not the messages, is taken to be the reason."""


@dataclass(eq=False, slots=True)
class Item:
    """A delivery in the window."""

    delivery: Delivery


@dataclass(eq=False, slots=True)
class OutgoingMessage:
    """The deliveries sent in one message: its id and composition stay the same through all attempts."""

    id: str
    items: list[Item]
    attempts: int = 0
    due: float = 0.0
    bound: bool = False
    """Whether the composition is stored in the queue."""

    @property
    def seqs(self) -> list[int]:
        return [item.delivery.seq for item in self.items]


@dataclass(slots=True)
class Limits:
    """What a sink's dispatch parameters and the router's settings allow."""

    concurrency: int = 8
    """Messages in flight at once."""
    batch: int = 1
    """Most alerts in one message."""


@dataclass(eq=False, slots=True)
class Lane:
    """The lane of one sink; `random` gives numbers from 0 to 1."""

    retry: RetrySettings
    random: Callable[[], float]
    limits: Limits = field(default_factory=Limits)
    blocked: str = ""
    """Why nothing may leave at all (`Suspended`, `Withdrawn`, ...); empty: it may."""
    held: str = ""
    """Reason of the failure for which the sink is held; empty: it is not. Recorded nowhere else, and unknown after a restart."""
    last_seq: int = 0
    """Of the newest delivery that was ever in the window."""
    lagging: bool = False
    """Whether the queue has deliveries of this sink behind the window."""
    in_flight: int = 0
    failures: int = 0
    """Messages in a row that failed transiently."""
    not_before: float = 0.0
    """Queue clock: nothing leaves before, because of failures."""
    asked_until: float = 0.0
    """Queue clock: until then the receiver asked not to be sent anything."""
    _probes: int = 0
    _items: dict[int, Item] = field(default_factory=dict)
    _keys: dict[str, list[Item]] = field(default_factory=dict)
    """Lists: nearly every key has one delivery, for which a deque takes ten times the memory."""
    _ready: deque[Item] = field(default_factory=deque)
    _again: list[tuple[float, int, OutgoingMessage]] = field(default_factory=list)
    _flying: set[OutgoingMessage] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def slow(self) -> bool:
        """Whether everything fails, so that one message at a time leaves."""
        return bool(self.held) or self.failures >= FAILURES_UNTIL_SLOW

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries behind those of the window; they come in order of seq, and none is left out between."""
        bound: dict[str, list[Item]] = {}
        for delivery in deliveries:
            item = Item(delivery)
            self.last_seq = delivery.seq
            self._items[delivery.seq] = item
            line = self._keys.get(delivery.key)
            if line is None:
                self._keys[delivery.key] = [item]
            else:
                line.append(item)
            if delivery.batch:
                bound.setdefault(delivery.batch, []).append(item)
            elif line is None:
                self._make_ready(item)
        for identifier, items in bound.items():
            attempts = max(item.delivery.attempts for item in items)
            self._defer(OutgoingMessage(identifier, items, attempts, max(item.delivery.due for item in items), bound=True))

    def pick(self, now: float) -> OutgoingMessage | None:
        """The next message that may leave, or None; the caller sends it and reports the outcome."""
        if self.blocked or now < self.not_before or self.in_flight >= (1 if self.slow else self.limits.concurrency):
            return None
        message = self._pick_again(now) or self._pick_new()
        if message is None and self.slow and self._again:
            message = heapq.heappop(self._again)[2]  # the lane's own wait is over: any will do as a probe
        if message is not None:
            self.in_flight += 1
            self._flying.add(message)
        return message

    def wake_at(self) -> float | None:
        """Queue clock at which `pick` may give something that it does not give now; None: not before something happens."""
        if self.blocked or not self._items or self.in_flight >= (1 if self.slow else self.limits.concurrency):
            return None
        if self._ready or (self.slow and self._again):
            return self.not_before
        return max(self._again[0][0], self.not_before) if self._again else None

    def delivered(self, message: OutgoingMessage) -> None:
        """The message arrived."""
        self._landed(message)
        self._remove(message.items)
        was_slow = self.slow
        self.held, self.failures, self.not_before, self._probes = "", 0, 0.0, 0
        if was_slow:
            self._make_due()

    def failed_transiently(self, message: OutgoingMessage, failed: Failed, now: float) -> float:
        """The message may arrive later; returns when it is tried again (queue clock)."""
        self._landed(message)
        self.held = ""
        self.failures += 1
        message.attempts += 1
        message.due = now + message_wait(message.attempts, failed, self.retry, self.random)
        self._defer(message)
        if failed.retry_after:
            self.asked_until = max(self.asked_until, now + failed.retry_after)
            self.not_before = max(self.not_before, self.asked_until)
        if self.slow:
            wait = sink_wait(self.failures - FAILURES_UNTIL_SLOW + 1, failed, self.retry, self.random)
            self.not_before = max(self.not_before, now + wait)
        return message.due

    def failed_for_good(self, message: OutgoingMessage) -> list[Item]:
        """The receiver rejects the message: the items to dead-letter; none where a batch is halved to find out which of them it meant."""
        self._landed(message)
        self.failures = 0
        if len(message.items) == 1:
            self._remove(message.items)
            return message.items
        half = (len(message.items) + 1) // 2
        for items in (message.items[:half], message.items[half:]):
            self._defer(OutgoingMessage(message_id(items), items))
        return []

    def failed_for_the_sink(self, message: OutgoingMessage, failed: Failed, now: float) -> float:
        """Nothing can arrive until the sink is fixed: hold it; returns when it is probed (queue clock)."""
        self._landed(message)
        self.held = failed.reason
        self._probes += 1
        message.attempts += 1
        message.due = now
        self._defer(message)
        self.not_before = now + probe_wait(self._probes, self.retry)
        return self.not_before

    def returned(self, message: OutgoingMessage, not_before: float = 0.0) -> None:
        """The message was not sent after all: it may leave again, and nothing of the sink before a time on the queue clock."""
        self._landed(message)
        self._defer(message)
        self.not_before = max(self.not_before, not_before)

    def drop(self, message: OutgoingMessage) -> None:
        """The message must never be sent."""
        self._landed(message)
        self._remove(message.items)

    def recompiled(self) -> None:
        """The sink was compiled again: try at once."""
        self.held, self.failures, self.not_before, self._probes = "", 0, 0.0, 0
        self._make_due()

    def probe(self, now: float) -> None:
        """Try at once although everything failed, unless the receiver asked to wait: to find out whether the sink works."""
        if self.slow:
            self.not_before = max(min(self.not_before, now), self.asked_until)

    def expire(self, seq: int) -> tuple[Item | None, list[int]]:
        """Take out a delivery that is too old, unless it is in flight.

        Returns
        -------
        tuple
            The item, or None; and the seqs of a stored composition that is void now.
        """
        item = self._items.get(seq)
        if item is None or any(item in message.items for message in self._flying):
            return None, []
        void: list[int] = []
        for entry in self._again:
            message = entry[2]
            if item in message.items:
                self._again.remove(entry)
                heapq.heapify(self._again)
                void = message.seqs if message.bound else []
                for other in message.items:
                    if other is not item:
                        self._make_ready(other)
                break
        if item in self._ready:
            self._ready.remove(item)
        self._remove([item])
        return item, void

    def seqs_in_flight(self) -> list[int]:
        """What is in flight."""
        return [seq for message in self._flying for seq in message.seqs]

    def knows(self, seq: int) -> bool:
        """Whether the delivery is in the window."""
        return seq in self._items

    def oldest(self) -> float | None:
        """Wall clock at which the oldest delivery of the window was queued."""
        first = next(iter(self._items.values()), None)
        return first.delivery.created if first is not None else None

    def _pick_again(self, now: float) -> OutgoingMessage | None:
        if self._again and self._again[0][0] <= now:
            return heapq.heappop(self._again)[2]
        return None

    def _pick_new(self) -> OutgoingMessage | None:
        if not self._ready:
            return None
        first = self._ready.popleft()
        items = [first]
        batching = self.limits.batch > 1 and first.delivery.kind is PayloadKind.ALERT
        if batching:
            while len(items) < self.limits.batch and self._ready and self._ready[0].delivery.kind is PayloadKind.ALERT:
                items.append(self._ready.popleft())
        return OutgoingMessage(message_id(items), items, first.delivery.attempts if len(items) == 1 else 0)

    def _make_ready(self, item: Item) -> None:
        """The item is the first of its key: it may leave when it is due."""
        if item.delivery.due > 0:
            self._defer(OutgoingMessage(item.delivery.id, [item], item.delivery.attempts, item.delivery.due))
        else:
            self._ready.append(item)

    def _make_due(self) -> None:
        for _, _, message in self._again:
            message.due = 0.0
        self._again = [(0.0, message.items[0].delivery.seq, message) for _, _, message in self._again]
        heapq.heapify(self._again)

    def _defer(self, message: OutgoingMessage) -> None:
        heapq.heappush(self._again, (message.due, message.items[0].delivery.seq, message))

    def _landed(self, message: OutgoingMessage) -> None:
        self.in_flight -= 1
        self._flying.discard(message)

    def _remove(self, items: Iterable[Item]) -> None:
        for item in items:
            self._items.pop(item.delivery.seq, None)
            line = self._keys[item.delivery.key]
            first = line[0] is item
            line.remove(item)
            if not line:
                del self._keys[item.delivery.key]
            elif first:
                self._make_ready(line[0])


def message_id(items: Sequence[Item]) -> str:
    """The id of a message of these deliveries: that of the first, and how many they are."""
    first = items[0].delivery.id
    return first if len(items) == 1 else f"{first}.{len(items)}"
