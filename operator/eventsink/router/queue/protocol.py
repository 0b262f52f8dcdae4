"""The contract of the durable queue: what is put stays until it is settled, through kill -9 and full disks.

`router.queue.sqlite.SqliteQueue` is the embedded engine; tests/unit/router/queue/queue_contract.py is what each engine must pass. Nothing
outside an engine may rely on how it stores.

`Queue` is five protocols in one, since one transaction changes several of them: the delivery queue, the alert states with the
notification log, the posts, the dead letters and the delivery log. Who needs one of them only asks for that one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from eventsink.router.queue.clock import QueueClock
from eventsink.router.queue.delivery_log import DeliveryFilter, DeliveryLog
from eventsink.router.queue.posts import PostChange, PostStore
from eventsink.router.queue.states import AlertStateStore, AlertStateWrite, GroupState, SinkReports, SinkState
from eventsink.sinks.target import PayloadKind as PayloadKind

MAX_TAKE_BYTES = 16 * 1024**2
"""Bodies that `DeliveryQueue.take` gives at once, where the caller does not say."""
GROUP_KEY_SEPARATOR = "/"
"""In the key of a received group, between its source's name and the digest of the group's key; in no other key."""


class Payload(msgspec.Struct, frozen=True, gc=False):
    """Bytes that one or more deliveries carry; stored once."""

    kind: PayloadKind
    body: bytes
    name: str
    """Alert name (a group: its key's alert name or the receiver), for listings; no credential can be in it."""


class NewDelivery(msgspec.Struct, frozen=True, gc=False):
    """One delivery to queue."""

    payload: int
    """Index into the batch's payloads."""
    sink: str
    """uid of the sink."""
    tenant: str
    """Of the sink: it is checked before anything is sent, and what waits counts for it."""
    key: str
    """Deliveries of one sink and one key leave in the order in which they were put (fingerprint, or group key)."""
    status: str
    """`firing`, `resolved` or `event`."""
    max_age: float
    """Seconds on the queue clock until it becomes a dead letter."""
    alert_tenant: str | None = None
    """The tenant of its alerts, for people, where the sink's is another; None: it is the sink's, or several."""


class Batch(msgspec.Struct, frozen=True):
    """All that one request of a source changes: committed whole or not at all."""

    payloads: Sequence[Payload] = ()
    deliveries: Sequence[NewDelivery] = ()
    states: Sequence[AlertStateWrite] = ()
    groups: Sequence[GroupState] = ()
    """Those in which nothing fires are forgotten."""
    sinks: Sequence[SinkState] = ()
    forgotten: Sequence[int] = ()
    """Rows of alert states that make room for others."""

    @property
    def payload_bytes(self) -> int:
        """What its payloads take in memory while it waits for its commit."""
        return sum([len(payload.body) for payload in self.payloads])

    @property
    def rows(self) -> int:
        """How many rows it writes, beside its payloads."""
        return len(self.deliveries) + len(self.states) + len(self.groups) + len(self.sinks) + len(self.forgotten)


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A waiting delivery, as dispatch sees it."""

    seq: int
    """Rising in the order of commit, never used again, nor by a queue that is restored from a copy."""
    id: str
    """Stable name of the delivery: the message's id where it travels alone."""
    sink: str
    tenant: str
    key: str
    status: str
    kind: PayloadKind
    body: bytes
    created: float
    """Wall clock, seconds since the epoch, for display."""
    expires: float
    """Queue clock."""
    due: float = 0.0
    """Queue clock; not to be sent before."""
    attempts: int = 0
    batch: str = ""
    """Id of the message whose composition was stored with this delivery in it (`bind`); empty: none."""
    left_out: int = 0
    """Bytes of the body where it was left out, and `body` is empty: `DeliveryQueue.read_bodies` gives it."""

    def __repr__(self) -> str:
        return f"Delivery({self.id}, seq={self.seq}, sink={self.sink}, key={self.key})"


@dataclass(frozen=True, slots=True)
class Retry:
    """A delivery that failed and is to be tried again."""

    seq: int
    due: float
    """Queue clock; for whoever reads the delivery from the queue again, after a restart: not to be sent before."""
    reason: str
    """CamelCase, as in `Failed.reason`."""
    detail: str = ""
    """A sentence for a person, as in `Failed.message`."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """In which message deliveries arrived, for a receiver that shows messages to people."""

    message: str
    """The message's id: a delivery's, or that of a batch."""
    reference: str
    """The receiver's own name for it (Slack: channel and timestamp); empty where it gives none."""
    post: PostChange | None = None
    """What later messages are to follow; None: the record of posts stays as it is."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that becomes a dead letter."""

    seq: int
    reason: str
    """CamelCase: `Failed.reason`, `MaxAge`, `SinkDeleted`, ..."""
    detail: str
    """A sentence for a person, as in `Failed.message`."""
    attempts: int = 0
    """Failed attempts that were not recorded by `retry`."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How much is in the queue."""

    waiting: int
    dead: int
    bytes: int
    """What the storage takes on its disk."""
    evicted: int
    """Dead letters dropped since the start: too many, or too old."""
    posts_evicted: int = 0
    """Posts forgotten since the start to make room for others."""
    fill: float = 0.0
    """Which part of its bounds is taken, of that in number or in bytes which is taken more: 1 is full."""
    damaged: bool = False
    """Whether something cannot be read any more, and nothing more is stored."""


@dataclass(slots=True)
class Waiting:
    """What waits for the sinks of one tenant."""

    deliveries: int = 0
    bytes: int = 0
    """Of their bodies; one that several of its sinks want counts for each."""


class QueueError(Exception):
    """Base of what the queue raises; its text is fit for a log and a response."""


class QueueFull(QueueError):
    """A documented bound (rows, bytes, free disk) is reached: the source must come again later. Nothing was stored."""


class QueueUnavailable(QueueError):
    """The storage failed (disk full, I/O error) or is closed. Nothing of the batch was stored."""


class QueueDamaged(QueueUnavailable):
    """What is stored cannot be read any more, or was removed: nothing is stored from now on, and what can be read is delivered."""


class DeliveryQueue(QueueClock, Protocol):
    """Deliveries from their commit to their arrival."""

    def subscribe(self, listener: Callable[[Sequence[Delivery]], None]) -> None:
        """Have `listener` called, in the event loop, with the deliveries of each commit of `put` and `replay`, in order of seq.

        Dispatch relies on this alone, never on the caller of `put`: that one may be gone by then.
        """
        ...

    async def put(self, batch: Batch, undo: Callable[[], None] | None = None) -> None:
        """Store a batch; its deliveries go to the listener once they are on disk.

        Batches are committed in the order of the calls; several waiting calls share one commit. An empty batch returns when all
        batches put before it are on disk. If a commit fails, every batch put before the failure was noticed fails too.

        Parameters
        ----------
        batch
            What to store.
        undo
            Called in the event loop if the batch is not stored, before any later batch can be put; the undos of several failed
            batches are called in reverse order, so that state kept in memory steps back as it went forward.

        The result does not depend on the caller: a cancelled call leaves either a committed batch, whose deliveries the
        listener is given all the same, or none.

        Raises
        ------
        QueueFull, QueueUnavailable
        """
        ...

    def submit(self, batch: Batch, undo: Callable[[], None] | None = None) -> asyncio.Future[None]:
        """`put` for a caller that waits in no task: the future is done when the batch is on disk, or fails as `put` does.

        It is not to be cancelled. What cannot be stored now is raised at once.
        """
        ...

    async def take(self, sink: str, *, after: int, limit: int, max_bytes: int = MAX_TAKE_BYTES) -> list[Delivery]:
        """The waiting deliveries of a sink with a `seq` above `after`, in order, whether due or not, at most `limit`.

        The first come with their bodies, `max_bytes` of them at most; those behind come without (`left_out`).
        """
        ...

    async def read_bodies(self, seqs: Sequence[int]) -> dict[int, bytes]:
        """seq -> body, of the waiting deliveries among these."""
        ...

    async def sinks_waiting(self) -> dict[str, int]:
        """uid -> number of waiting deliveries, of each sink that has any, as of the last commits; counted in memory."""
        ...

    async def settle(self, delivered: Sequence[int], arrival: Arrival | None = None) -> None:
        """Remove deliveries (by seq) that arrived, dead letters too. Unknown ones are ignored. May be put off for a moment: see `flush`.

        With an `arrival` they are kept as `ARRIVED` for a while, without their content.
        """
        ...

    async def retry(self, retries: Sequence[Retry]) -> None:
        """Record failed attempts: `attempts` rises by one, `due` and the reason are stored.

        May be put off for a moment, and is given up if the storage fails: the delivery is then tried earlier after a restart.
        """
        ...

    async def bind(self, seqs: Sequence[int], batch: str) -> None:
        """Store the composition of a message of several deliveries before it is sent; an empty `batch` reverts it."""
        ...

    def depth(self) -> Depth:
        """How much is in the queue, as of the last commits; counted in memory, so that it can be asked at any time."""
        ...

    def waiting_of(self, tenant: str) -> Waiting:
        """What waits for a tenant, as of the last commits; counted in memory, by a queue that was opened to count by tenant."""
        ...

    def tenants_changed(self) -> set[str]:
        """Tenants of which `waiting_of` has changed since the last call."""
        ...

    def waiting_for(self, sink: str) -> int:
        """How many deliveries wait for the sink with this uid, as of the last commits; counted in memory."""
        ...

    def is_writing(self) -> bool:
        """Whether a thread of this process writes at the moment: what keeps the GIL from it keeps everybody waiting."""
        ...

    def problem(self) -> str:
        """Why nothing can be stored, for readiness: the storage is damaged, is gone, or cannot be written; empty: it can, or is only full."""
        ...

    async def flush(self) -> None:
        """Return when all that was called before is on disk."""
        ...

    async def close(self) -> None:
        """Flush and release the storage. Later calls raise QueueUnavailable."""
        ...


class DeadLetters(Protocol):
    """Deliveries that are not tried any more, and their replay."""

    async def dead_letter(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Turn deliveries into dead letters."""
        ...

    async def dead_letter_sink(self, sink: str, *, reason: str, detail: str) -> int:
        """Turn all waiting deliveries of a sink into dead letters. Returns how many.

        However many they are, no `put` waits for more than one chunk of them.
        """
        ...

    async def dead_letter_oldest(
        self, sink: str, *, reason: str, detail: str, limit: int, spare: Collection[int] = frozenset()
    ) -> list[int]:
        """Turn the oldest waiting deliveries of a sink into dead letters, except `spare`; returns their seqs.

        Those are at most `limit`, and at most one chunk, so that nobody waits long: fewer than `limit` does not mean that nothing is left.
        """
        ...

    async def keep_house(self) -> None:
        """Drop dead letters that are too many or too old, or that take up room which is needed; done by itself every few seconds."""
        ...

    async def expire(self, *, reason: str, detail: str, limit: int, spare: Collection[int] = frozenset()) -> dict[str, list[int]]:
        """Turn waiting deliveries whose `expires` has come into dead letters, those that expired first, except `spare` (in flight).

        Returns
        -------
        dict
            uid of the sink -> seqs; at most `limit`, and at most one chunk, so that nobody waits long. Empty: nothing else has expired.
        """
        ...

    async def replay(self, wanted: DeliveryFilter, *, max_age: float, limit: int) -> int:
        """Make dead letters wait again, oldest first, at most `limit`, with no attempts made and a new `max_age`.

        However many they are, no `put` waits for more than one chunk of them. They keep their ids and get new `seq`s (the listener gets
        them as any new delivery). Returns how many.
        """
        ...


class Queue(DeliveryQueue, AlertStateStore, SinkReports, PostStore, DeadLetters, DeliveryLog, Protocol):
    """The durable queue. All calls are made from one event loop; each returns after its change is on disk."""
