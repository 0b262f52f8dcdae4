"""The waiting deliveries of one sink, and which of them may leave now.

A lane decides and does nothing: no clock of its own, no I/O. It holds a window of the sink's oldest waiting deliveries; the rest stays in the
queue. Deliveries of one key leave one after the other. One message that fails alone waits by itself and does not stop the others; where all
of them fail, `Pace` says when the next one leaves.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from eventsink.router.dispatch.memory import WindowMemory, size_of, without_body
from eventsink.router.dispatch.outgoing import Item, OutgoingMessage, composition_size, message_id
from eventsink.router.dispatch.pace import Pace
from eventsink.router.queue.protocol import Delivery, PayloadKind
from eventsink.sinks.sender import Failed

MAX_BATCH_BYTES = 4 * 1024**2
"""Bodies in one message of several deliveries."""


@dataclass(slots=True)
class Limits:
    """What a sink's dispatch parameters and the router's settings allow."""

    concurrency: int = 8
    """Messages in flight at once."""
    batch: int = 1
    """Most alerts in one message."""
    joins_key: bool = False
    """Whether one message may hold several deliveries of one key, in their order: a firing alert and its resolution."""
    recomposes: bool = False
    """Whether a message may hold other deliveries each time it is tried, so that the newest state is sent: its composition is stored nowhere."""


@dataclass(eq=False, slots=True)
class Lane:
    """The lane of one sink."""

    pace: Pace
    memory: WindowMemory
    limits: Limits = field(default_factory=Limits)
    blocked: str = ""
    """Why nothing may leave at all (`Suspended`, `Withdrawn`, ...); empty: it may."""
    last_seq: int = 0
    """Of the newest delivery that was ever in the window."""
    given_up_to: int = 0
    """Everything before that is not in the window is a dead letter."""
    started: int = 0
    """How often the window was emptied."""
    lagging: bool = False
    """Whether the queue has deliveries of this sink behind the window."""
    in_flight: int = 0
    bytes: int = 0
    """Bodies of the window that are in memory."""
    _items: dict[int, Item] = field(default_factory=dict)
    _keys: dict[str, list[Item]] = field(default_factory=dict)
    """Lists: nearly every key has one delivery, for which a deque takes ten times the memory."""
    _ready: deque[Item] = field(default_factory=deque)
    _later: list[tuple[float, int, Item]] = field(default_factory=list)
    """Those that wait for a time, in no message yet."""
    _again: list[tuple[float, int, OutgoingMessage]] = field(default_factory=list)
    _flying: set[OutgoingMessage] = field(default_factory=set)
    _incomplete: dict[str, OutgoingMessage] = field(default_factory=dict)
    """Stored compositions of which a part is still behind the window."""

    def __len__(self) -> int:
        return len(self._items)

    @property
    def _full(self) -> bool:
        """Whether as many messages are in flight as may be now."""
        in_flight = self.in_flight
        if not in_flight:
            return False
        return in_flight >= self.limits.concurrency or self.pace.unresponsive or self.pace.slow

    @property
    def idle(self) -> bool:
        """Whether nothing waits to leave, now or later."""
        return not (self._ready or self._again or self._later)

    @property
    def put_off_now(self) -> int:
        """How many wait for a time, in no message yet, while others may leave."""
        return len(self._later)

    @property
    def stuck(self) -> bool:
        """Whether nothing can leave before more is read: the rest of a stored composition is behind the window."""
        return self.lagging and bool(self._incomplete) and not (self._ready or self._again or self._later or self.in_flight)

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries behind those of the window; they come in order of seq, and none is left out between."""
        bound: dict[str, list[Item]] = {}
        memory = self.memory
        for delivery in deliveries:
            size = len(delivery.body)
            if self.bytes + size > memory.max_lane_bytes or memory.bytes + size > memory.max_bytes:
                delivery = without_body(delivery)
                size = 0
            memory.deliveries += 1
            memory.bytes += size
            self.bytes += size
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
            self._compose_again(identifier, items)

    def caught_up(self) -> None:
        """Nothing waits behind the window: what is missing of a stored composition is gone."""
        self.lagging = False
        for message in self._incomplete.values():
            self._defer(message)
        self._incomplete.clear()

    def next_size(self, now: float) -> int | None:
        """Bytes of the next delivery that may leave; None: none may."""
        if self.blocked or now < self.pace.not_before or self._full:
            return None
        self._recall(now)
        if self._again and (self._again[0][0] <= now or (self.pace.slow and not self._ready)):
            return self._again[0][2].size
        return size_of(self._ready[0].delivery) if self._ready else None

    def pick(self, now: float) -> OutgoingMessage | None:
        """The next message that may leave, or None; the caller sends it and reports the outcome."""
        if self.blocked or now < self.pace.not_before or self._full:
            return None
        self._recall(now)
        if self._again and self._again[0][0] <= now:
            message = self._pick_again()
        elif self._ready:
            message = self._pick_new()
        elif self._again and self.pace.slow:
            message = self._pick_again()  # the lane's own wait is over: any will do as a probe
        else:
            return None
        self.in_flight += 1
        message.in_flight = True
        self._flying.add(message)
        return message

    def wake_at(self) -> float | None:
        """Queue clock at which `pick` may give something that it does not give now; None: not before something happens."""
        if self.idle or self.blocked or self._full:
            return None
        if self._ready or (self.pace.slow and self._again):
            return self.pace.not_before
        return max(min(line[0][0] for line in (self._again, self._later) if line), self.pace.not_before)

    def delivered(self, message: OutgoingMessage) -> None:
        """The message arrived."""
        self._landed(message)
        self._remove(message.items)
        if self._again and self.pace.slow:
            self._make_due()
        self.pace.delivered()

    def failed_transiently(self, message: OutgoingMessage, failed: Failed, now: float) -> float:
        """The message may arrive later; returns when it is tried again (queue clock)."""
        self._landed(message)
        message.attempts += 1
        message.due = self.pace.failed_transiently(message.attempts, failed, now)
        self._defer(message)
        return message.due

    def failed_for_good(self, message: OutgoingMessage) -> list[Item]:
        """The receiver rejects the message: the items to dead-letter; none where a batch is halved to find out which of them it meant."""
        self._landed(message)
        self.pace.rejected(for_good=len(message.items) == 1)
        if len(message.items) == 1:
            self._remove(message.items)
            return message.items
        self._take_apart(message, [message.items[: (half := (len(message.items) + 1) // 2)], message.items[half:]])
        return []

    def take_apart(self, message: OutgoingMessage) -> None:
        """The message was not sent, and each delivery in it is to be one of its own."""
        self._landed(message)
        self._take_apart(message, [[item] for item in message.items])

    def failed_for_the_sink(self, message: OutgoingMessage, failed: Failed, now: float) -> float:
        """Nothing can arrive until the sink is fixed: hold it; returns when it is probed (queue clock)."""
        self._landed(message)
        message.attempts += 1
        message.due = now
        self._defer(message)
        self.pace.failed_for_the_sink(failed, now)
        return self.pace.not_before

    def returned(self, message: OutgoingMessage, not_before: float = 0.0) -> None:
        """The message was not sent after all: it may leave again, and nothing of the sink before a time on the queue clock."""
        self._landed(message)
        self._defer(message)
        self.pace.wait_until(not_before)

    def keep(self, message: OutgoingMessage, items: list[Item]) -> None:
        """The message is sent with some of its deliveries only; the others may leave in another one, behind what is ready now."""
        kept = set(items)
        for item in message.items:
            if item not in kept:
                item.message = None
                if self._is_first(item):
                    self._ready.append(item)
        message.recompose(items)

    def put_off(self, message: OutgoingMessage, until: float) -> None:
        """The message was not sent: its deliveries leave later, with what has come by then; others may leave meanwhile."""
        self._landed(message)
        if message.part:
            message.due = until
            self._defer(message)
            return
        for item in message.items:
            item.message = None
            if self._is_first(item):
                heapq.heappush(self._later, (until, item.delivery.seq, item))

    def drop(self, message: OutgoingMessage) -> None:
        """The message must never be sent."""
        self._landed(message)
        self._remove(message.items)

    def recompiled(self) -> None:
        """The sink was compiled again: try at once."""
        self.pace.restart()
        self._make_due()

    def discard(self, seqs: Iterable[int]) -> tuple[list[int], list[int]]:
        """Take out deliveries that are not to be sent any more; those in flight stay.

        Returns
        -------
        tuple
            The seqs that stay in the window because they are in flight; and those of stored compositions that are void now.
        """
        gone: set[Item] = set()
        in_flight: list[int] = []
        broken: dict[OutgoingMessage, None] = {}
        for seq in seqs:
            item = self._items.get(seq)
            if item is None:
                continue
            if item.message is not None and item.message.in_flight:
                in_flight.append(seq)
                continue
            gone.add(item)
            if item.message is not None:
                broken[item.message] = None
        if not gone:
            return in_flight, []
        void = [seq for message in broken if message.bound for seq in message.seqs]
        if broken:
            self._again = [entry for entry in self._again if entry[2] not in broken]
            heapq.heapify(self._again)
            self._incomplete = {name: message for name, message in self._incomplete.items() if message not in broken}
        self._ready = deque(item for item in self._ready if item not in gone)
        self._later = [entry for entry in self._later if entry[2] not in gone]
        heapq.heapify(self._later)
        released = [item for message in broken for item in message.items if item not in gone]
        for item in released:
            item.message = None
            if self._is_first(item):
                self._make_ready(item)
        self._remove_many(gone)
        return in_flight, void

    def drop_bodies(self) -> None:
        """Keep no body in memory but those in flight."""
        for item in self._items.values():
            if item.delivery.body and not (item.message is not None and item.message.in_flight):
                self._uncount_body(item.delivery)
                item.delivery = without_body(item.delivery)

    def read_again(self) -> None:
        """Forget the window, of which nothing is in flight: all of it is read from the queue once more."""
        assert not self.in_flight
        self.forget()
        self.last_seq, self.lagging = 0, True

    def forget(self) -> None:
        """Empty the window; what is being read for it is not for it any more."""
        self.started += 1
        for item in self._items.values():
            self._uncount_body(item.delivery)
        self.memory.deliveries -= len(self._items)
        for container in (self._items, self._keys, self._ready, self._again, self._later, self._incomplete):
            container.clear()

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

    def _recall(self, now: float) -> None:
        """What waited for a time that has come is ready."""
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])

    def _pick_again(self) -> OutgoingMessage:
        """The first of those that failed; with what has come since for the same keys, where that is allowed."""
        message = heapq.heappop(self._again)[2]
        if self.limits.recomposes and self.limits.joins_key and not (message.bound or message.part):
            items = list(message.items)
            size = message.size
            for item in message.items:
                if self._is_first(item):
                    line = self._keys[item.delivery.key]
                    mine = sum(one.message is message for one in line)
                    size = self._join_line(items, line[mine:], size)
            if len(items) > len(message.items):
                message.recompose(sorted(items, key=_seq))
        return message

    def _pick_new(self) -> OutgoingMessage:
        first = self._ready.popleft()
        items = [first]
        if self.limits.batch > 1 and first.delivery.kind is PayloadKind.ALERT:
            size = self._join_key(items, size_of(first.delivery))
            while len(items) < self.limits.batch and self._ready:
                item = self._ready[0]
                size += size_of(item.delivery)
                if item.delivery.kind is not PayloadKind.ALERT or size > MAX_BATCH_BYTES:
                    break
                items.append(self._ready.popleft())
                size = self._join_key(items, size)
            if self.limits.joins_key:
                items.sort(key=_seq)
        return OutgoingMessage(message_id(items), items, items[0].delivery.attempts if len(items) == 1 else 0)

    def _join_key(self, items: list[Item], size: int) -> int:
        """Add what waits behind the last item, of its key; returns the size of all."""
        if not self.limits.joins_key:
            return size
        return self._join_line(items, self._keys[items[-1].delivery.key][1:], size)

    def _join_line(self, items: list[Item], followers: Iterable[Item], size: int) -> int:
        for follower in followers:
            more = size_of(follower.delivery)
            joins = follower.message is None and follower.delivery.kind is PayloadKind.ALERT
            if not joins or len(items) >= self.limits.batch or size + more > MAX_BATCH_BYTES:
                break
            items.append(follower)
            size += more
        return size

    def _compose_again(self, identifier: str, items: list[Item]) -> None:
        """Put together what a stored composition says, once all of it is in the window."""
        message = self._incomplete.pop(identifier, None)
        if message is None:
            message = OutgoingMessage(identifier, items, bound=True)
        else:
            message = OutgoingMessage(identifier, message.items + items, bound=True)
        message.attempts = max(item.delivery.attempts for item in message.items)
        message.due = max(item.delivery.due for item in message.items)
        if len(message.items) < composition_size(identifier):
            self._incomplete[identifier] = message
        else:
            self._defer(message)

    def _take_apart(self, message: OutgoingMessage, parts: Iterable[list[Item]]) -> None:
        for item in message.items:
            item.message = None
        for part in parts:
            # What is behind another of its key waits until that one is gone.
            if first := [item for item in part if self._is_first(item)]:
                self._defer(OutgoingMessage(message_id(first), first, part=True))

    def _is_first(self, item: Item) -> bool:
        line = self._keys.get(item.delivery.key)
        return line is not None and line[0] is item

    def _make_ready(self, item: Item) -> None:
        """The item is the first of its key: it may leave when it is due."""
        if item.delivery.due > 0 and self.limits.recomposes:
            heapq.heappush(self._later, (item.delivery.due, item.delivery.seq, item))  # one message of each would take a second
        elif item.delivery.due > 0:
            self._defer(OutgoingMessage(item.delivery.id, [item], item.delivery.attempts, item.delivery.due))
        else:
            self._ready.append(item)

    def _make_due(self) -> None:
        self._later = sorted((0.0, seq, item) for _, seq, item in self._later)
        for _, _, message in self._again:
            message.due = 0.0
        self._again = [(0.0, message.items[0].delivery.seq, message) for _, _, message in self._again]
        heapq.heapify(self._again)

    def _defer(self, message: OutgoingMessage) -> None:
        heapq.heappush(self._again, (message.due, message.items[0].delivery.seq, message))

    def _landed(self, message: OutgoingMessage) -> None:
        self.in_flight -= 1
        message.in_flight = False
        self._flying.discard(message)

    def _uncount_body(self, delivery: Delivery) -> None:
        self.bytes -= len(delivery.body)
        self.memory.bytes -= len(delivery.body)

    def _remove(self, items: Iterable[Item]) -> None:
        """The items of a message."""
        for item in items:
            delivery = item.delivery
            if self._items.pop(delivery.seq, None) is None:
                continue
            item.message = None  # the two refer to each other: nothing else would free them before the next garbage collection
            self.memory.deliveries -= 1
            self._uncount_body(delivery)
            line = self._keys[delivery.key]
            line.remove(item)  # the first, nearly always
            if not line:
                del self._keys[delivery.key]
            elif line[0].message is None:
                self._make_ready(line[0])

    def _remove_many(self, items: set[Item]) -> None:
        """Items that are neither in flight nor ready."""
        keys = {item.delivery.key for item in items}
        for item in items:
            del self._items[item.delivery.seq]
            self._uncount_body(item.delivery)
        self.memory.deliveries -= len(items)
        for key in keys:
            line = self._keys[key]
            first = line[0]
            left = [item for item in line if item not in items]
            if not left:
                del self._keys[key]
                continue
            self._keys[key] = left
            if left[0] is not first and left[0].message is None:
                self._make_ready(left[0])


def _seq(item: Item) -> int:
    return item.delivery.seq
