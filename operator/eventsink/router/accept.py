"""From the bytes of a request to a committed batch: parse, tenant, match, news, commit. Each step is a function with a name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from eventsink.alerts.alert import Alert, Payload, Rejection, Status
from eventsink.router import queue as q
from eventsink.router.directory import SinkDirectory
from eventsink.router.match import SinkIndex
from eventsink.router.queue import Batch, NewDelivery, PayloadKind, Queue, Told
from eventsink.router.sources import Source
from eventsink.router.state import StateSettings, ToldState, to_tell
from eventsink.router.tenants import Refusal, Refused, tenant_of
from eventsink.sinks.sink import Sink

_encoder = msgspec.json.Encoder()


class NotLoaded(Exception):
    """The router does not know all sinks yet: nothing may be accepted."""


class NothingAccepted(ValueError):
    """Every alert of the payload was refused because of its tenant; the text is the first one's sentence."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a request: how many alerts were taken, which were not, how many deliveries were queued."""

    alerts: int
    rejected: Sequence[Rejection]
    deliveries: int
    refusals: Sequence[Refusal] = ()


@dataclass(frozen=True, slots=True)
class Owned:
    """An alert that has its tenant, with its place in the payload."""

    index: int
    alert: Alert


class Acceptor:
    """Takes payloads of sources into the queue."""

    def __init__(
        self, directory: SinkDirectory, index: SinkIndex, state: ToldState, queue: Queue, settings: StateSettings
    ) -> None:
        self._directory = directory
        self._index = index
        self._state = state
        self._queue = queue
        self._settings = settings

    async def accept(self, source: Source, body: bytes) -> Accepted:
        """Take one request; returns when everything is on disk.

        Raises
        ------
        NotLoaded
            Sinks or tenancy are not known yet.
        UnusablePayload
            Nothing in the body can be used.
        NothingAccepted
            No alert in it has a tenant that the source may name.
        QueueFull, QueueUnavailable
            It could not be stored; nothing was.
        """
        if not self._directory.loaded:
            raise NotLoaded
        payload = source.parse(body)
        owned, refused = assign(source, payload, self._directory)
        if not owned:
            raise NothingAccepted(f"no alert was taken; alerts[{refused[0][0]}]: {refused[0][1].sentence}")
        batch, undo = self._plan(group_by_sink(owned, self._index), payload, body)
        # An empty batch waits too: what it repeats may be in a commit that is still under way.
        await self._queue.put(batch, undo)
        rejected = [*payload.rejected, *(Rejection(index, one.sentence) for index, one in refused)]
        return Accepted(len(owned), rejected, len(batch.deliveries), [one.why for _, one in refused])

    def _plan(
        self, wanted: dict[str, tuple[Sink, list[Owned]]], payload: Payload, body: bytes
    ) -> tuple[Batch, Callable[[], None]]:
        """What each sink is to be told, as a batch; the state in memory is stepped forward, `undo` steps it back."""
        now = self._queue.clock()
        builder = BatchBuilder(payload, body)
        undos: list[Callable[[], None]] = []
        for sink, owned in wanted.values():
            alerts = [one.alert for one in owned]
            known = self._state.known(sink, alerts)
            send_resolved = sink.delivery.send_resolved
            told = to_tell(alerts, known, now=now, ha_window=self._settings.ha_window, send_resolved=send_resolved)
            undos.append(self._state.see(known, now))
            if not told:
                continue
            if builder.sends_groups(sink):
                # The group goes as it came once anything in it is to be told.
                chosen = [one for one in owned if send_resolved or one.alert.status is not Status.RESOLVED]
                builder.add_group(sink, chosen)
            else:
                chosen = [owned[index] for index in told]
                builder.add_alerts(sink, chosen)
            records, undo = self._state.tell(sink, [one.alert for one in chosen], now)
            builder.told += records
            undos.append(undo)

        def undo_all() -> None:
            for undo in reversed(undos):
                undo()

        return builder.build(), undo_all


def assign(source: Source, payload: Payload, directory: SinkDirectory) -> tuple[list[Owned], list[tuple[int, Refused]]]:
    """Give each alert its tenant, or say why it has none."""
    owned, refused = [], []
    owners = directory.tenancy.owners
    for index, incoming in zip(payload.positions(), payload.alerts, strict=True):
        tenant = tenant_of(source.settings, incoming.labels, owners)
        if isinstance(tenant, Refused):
            refused.append((index, tenant))
        else:
            alert = incoming.identify(source=source.name, tenant=tenant, dropped_labels=source.dropped_labels)
            owned.append(Owned(index, alert))
    return owned, refused


def group_by_sink(owned: Sequence[Owned], index: SinkIndex) -> dict[str, tuple[Sink, list[Owned]]]:
    """uid -> the sink and the alerts that it wants, each alert once (a pair's copies in one payload are one)."""
    wanted: dict[str, tuple[Sink, list[Owned]]] = {}
    seen: set[str] = set()
    for one in owned:
        if one.alert.id in seen:
            continue
        seen.add(one.alert.id)
        for sink in index.matching(one.alert):
            wanted.setdefault(sink.uid, (sink, []))[1].append(one)
    return wanted


class BatchBuilder:
    """Collects the deliveries of one request; bytes that several sinks get are stored once."""

    def __init__(self, payload: Payload, body: bytes) -> None:
        self._payload = payload
        self._body = body
        self._payloads: list[q.Payload] = []
        self._deliveries: list[NewDelivery] = []
        self._stored: dict[object, int] = {}
        self._raw = {index: incoming.raw for index, incoming in zip(payload.positions(), payload.alerts, strict=True)}
        self.told: list[Told] = []

    def sends_groups(self, sink: Sink) -> bool:
        """Whether the sink gets groups as the source wrote them."""
        return self._payload.envelope is not None and sink.webhook is not None and sink.webhook.format == "alertmanager"

    def add_alerts(self, sink: Sink, chosen: Sequence[Owned]) -> None:
        """One delivery for each alert; those of one alert leave in order."""
        for one in chosen:
            alert = one.alert
            payload = self._store(alert.id, lambda alert=alert: q.Payload(PayloadKind.ALERT, _encoder.encode(alert), alert.name))  # type: ignore[misc]
            self._add(sink, payload, alert.fingerprint, alert.status)

    def add_group(self, sink: Sink, chosen: Sequence[Owned]) -> None:
        """One delivery for the group; those of one group leave in order."""
        assert self._payload.group is not None
        indices = tuple(one.index for one in chosen)
        firing = any(one.alert.status is Status.FIRING for one in chosen)
        group = self._payload.group
        name = group.labels.get("alertname") or chosen[0].alert.name or group.receiver
        payload = self._store(indices, lambda: q.Payload(PayloadKind.GROUP, self._render(indices, firing), name))
        key = hashlib.blake2b(group.key.encode(), digest_size=16).hexdigest()
        self._add(sink, payload, key, Status.FIRING if firing else Status.RESOLVED)

    def build(self) -> Batch:
        """The batch."""
        return Batch(self._payloads, self._deliveries, self.told)

    def _render(self, indices: tuple[int, ...], firing: bool) -> bytes:
        """The notification with these alerts only; the very bytes where that is all of them."""
        if len(indices) == len(self._payload.alerts) and not self._payload.rejected:
            return self._body
        assert self._payload.envelope is not None
        members = dict(self._payload.envelope)
        members["status"] = msgspec.Raw(b'"firing"' if firing else b'"resolved"')
        members["alerts"] = msgspec.Raw(b"[" + b",".join(self._raw[index] for index in indices) + b"]")
        return _encoder.encode(members)

    def _store(self, key: object, make: Callable[[], q.Payload]) -> int:
        number = self._stored.get(key)
        if number is None:
            number = self._stored[key] = len(self._payloads)
            self._payloads.append(make())
        return number

    def _add(self, sink: Sink, payload: int, key: str, status: Status) -> None:
        self._deliveries.append(NewDelivery(payload, sink.uid, sink.tenant, key, status.value, sink.delivery.max_age))
