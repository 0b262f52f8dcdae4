"""What the queue stores beside deliveries: alert states with the notification log, group and sink states, and what statuses say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from eventsink.router.queue.clock import QueueClock


class Notified(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An entry of the notification log: what one sink was last notified of, of one alert."""

    sink: str
    """uid of the sink."""
    status: str
    """`firing`, `resolved` or `event`."""
    starts_at: int
    """Microseconds since the epoch, as the source said then."""
    at: float
    """Queue clock: when the delivery was queued."""
    sender: str
    """Who sent the notification, as in `Acceptor.accept_bytes`; empty: the router itself, of its own record."""
    count: int = 0
    """As in `Alert`: what the sink was notified of."""


class AlertState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is known of one alert, with the entries of the notification log of all sinks. Its body is stored beside it."""

    row: int
    """Number of the record in the store."""
    identity: str
    """As in `Alert`."""
    tenant: str
    source: str
    status: str
    """`firing`, `resolved` or `event`."""
    starts_at: int
    """Microseconds since the epoch, as last received: start of the episode, which may move."""
    ends_at: int
    """Microseconds since the epoch: the last known end, of this episode or the one before; 0: none."""
    ended_by: str
    """Sender of that end."""
    received_at: float
    """Queue clock, to within minutes while nothing changes."""
    held_until: float = 0.0
    """Queue clock: it may be a late duplicate of what has ended, and nobody is notified of it before; 0: it is none."""
    replicas: tuple[str, ...] = ()
    """Where it fires, as the values of the labels that the source drops."""
    notified: tuple[Notified, ...] = ()
    replica_starts: tuple[int, ...] = ()
    """Of a source that sends what fires all the time: since when, in each of `replicas`, in microseconds since the epoch."""
    expires_at: float = 0.0
    """Queue clock, to within minutes: it has ended if its source has not sent it again until then; 0: its source says when it ends.
    Of an event: it is not forgotten before, since a sink has yet to be notified that it has grown."""
    count: int = 0
    """As in `Alert`: the largest that was received."""


class GroupState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the last notification of a group said."""

    row: int
    """Number of the record in the store."""
    key: bytes
    """Digest of the source's name and the group's key."""
    firing: tuple[str, ...]
    """Identities of the alerts that were firing in it."""
    at: float
    """Queue clock."""
    notified_at: float
    """Queue clock: of the last notification that was not a duplicate."""
    notified_by: str
    """Its sender."""


class SinkState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """For which form of a sink it was notified of everything that is firing."""

    uid: str
    destination: str
    match: str
    """Digest of its match rules."""
    suspended: bool


class SinkReport(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the status of a sink says of its deliveries."""

    uid: str
    state: str = ""
    """`True`, `False` or `Unknown`; empty: the status may say anything."""
    reason: str = ""
    message: str = ""
    changed: str = ""
    """When the state last changed, RFC 3339."""
    last_delivered: float | None = None
    """Wall clock, seconds since the epoch."""
    last_error: str = ""
    at: float = 0.0
    """Queue clock: when the status was written."""


KEEP_BODY = -1
NO_BODY = -2


class AlertStateWrite(msgspec.Struct, frozen=True, gc=False):
    """A record of an alert as it is from now on."""

    state: AlertState
    payload: int = KEEP_BODY
    """Index into the batch's payloads of its latest body (a `PayloadKind.ALERT`); `KEEP_BODY`: as before; `NO_BODY`: none is needed."""
    new: bool = False
    """Whether nothing was stored under this row before."""
    added: Sequence[Notified] = ()
    """If there are any, the state is as it is on disk, to within minutes of its times, but for these entries and their sinks' earlier ones."""


class AlertStateStore(QueueClock, Protocol):
    """Alert states and the notification log on disk; written by `DeliveryQueue.put`, in the transaction that queues the deliveries."""

    def alert_states(self) -> AsyncIterator[AlertState]:
        """All that were put and not forgotten yet."""
        ...

    def group_states(self) -> AsyncIterator[GroupState]:
        """All that were put and not forgotten yet."""
        ...

    def sink_states(self) -> AsyncIterator[SinkState]:
        """All that were put and not forgotten yet."""
        ...

    def has_room_for_bodies(self, *, needed: bool = False) -> bool:
        """Whether bodies of alerts may be kept that no delivery has; counted in memory.

        Parameters
        ----------
        needed
            It is what will be delivered, and nobody sends it again: there is room for it when there is none for others any more.
        """
        ...

    async def alert_bodies(self, rows: Sequence[int]) -> dict[int, bytes]:
        """Row -> the latest body (JSON of an `Alert`) of each alert state that has one; at most a few hundred at once."""
        ...

    async def forget(self, *, states: Sequence[int] = (), groups: Sequence[int] = (), sinks: Sequence[str] = ()) -> None:
        """Drop alert states and group states by row, sink states by uid; and what was posted of those alerts, and for those sinks."""
        ...

    async def waiting_keys(self, sink: str, *, limit: int) -> set[str]:
        """The keys of a sink's waiting deliveries, at most `limit`."""
        ...


class SinkReports(QueueClock, Protocol):
    """What the statuses of the sinks say, on disk."""

    def sink_reports(self) -> AsyncIterator[SinkReport]:
        """The last report of each sink."""
        ...

    def are_statuses_known(self) -> bool:
        """Whether the statuses say what the reports say that were there at the start.

        Not if somebody else may have written them since: this queue is a copy from some time ago, was out of use for long, or was used by
        a program that stores no reports.
        """
        ...

    async def report(self, reports: Sequence[SinkReport], *, removed: Sequence[str] = ()) -> None:
        """Replace the reports of these sinks, and drop those with the uids in `removed`."""
        ...
