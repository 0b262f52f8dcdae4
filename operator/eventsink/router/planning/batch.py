"""The deliveries and log entries of one notification, in the form that each sink asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from eventsink.alerts.alert import Alert, IncomingAlert, IncomingNotification, Status
from eventsink.alerts.alertmanager_group import adds_label, encoded_group, encoded_part
from eventsink.resources.names import ALL_TENANTS
from eventsink.router.planning.alert_states import StateChange
from eventsink.router.queue.protocol import GROUP_KEY_SEPARATOR, Batch, NewDelivery, Payload, PayloadKind
from eventsink.sinks.sink import Sink

PARTS_MULTIPLE = 4
"""Parts of a group for different sinks, each of which wants other alerts of it, take at most so many times the size of the largest ..."""
PARTS_LEAST_BYTES = 1024**2
"""... or so much; beyond it each alert is a group of its own, which is stored once for all sinks."""
_encoder = msgspec.json.Encoder()


class Owned(msgspec.Struct, frozen=True):
    """An alert that has its tenant, with its index in the notification."""

    index: int
    alert: Alert
    valid_for: float | None = None
    """As in `IncomingAlert`."""
    start_given: bool = True
    """As in `IncomingAlert`."""


class BatchBuilder:
    """Collects the deliveries of one notification; bytes that several sinks get are stored once."""

    def __init__(self, notification: IncomingNotification) -> None:
        self._notification = notification
        self._payloads: list[Payload] = []
        self._deliveries: list[NewDelivery] = []
        self._stored: dict[object, int] = {}
        self._incoming: dict[int, IncomingAlert] = {}
        self._part_bytes = 0
        self._largest_part = 0

    def sends_received_group(self, sink: Sink) -> bool:
        """Whether the sink gets the group that the source sent, or the part of it that it wants."""
        return takes_groups(sink) and self._notification.group is not None

    def add_alerts(self, sink: Sink, chosen: Sequence[Owned]) -> None:
        """One delivery for each alert, to a sink of groups as a group of its own; those of one alert leave in order."""
        kind = PayloadKind.GROUP if takes_groups(sink) else PayloadKind.ALERT
        for one in chosen:
            self._add(sink, self._alert(kind, one), one.alert.fingerprint, [one.alert], one.alert.status)

    def add_received_group(self, sink: Sink, chosen: Sequence[Owned]) -> None:
        """One delivery for the group; those of one group leave in order."""
        group = self._notification.group
        assert group is not None
        key = group_key(chosen[0].alert.source, group.key)
        for part in self._parts(chosen):
            indices = tuple(one.index for one in part)
            resolved = all(one.alert.status is Status.RESOLVED for one in part)
            status = Status.RESOLVED if resolved else Status.FIRING
            name = group.labels.get("alertname") or part[0].alert.name or group.receiver
            payload = self._stored.get(indices)
            if payload is None:
                payload = self._store(indices, Payload(PayloadKind.GROUP, self._render(part, status), name))
            self._add(sink, payload, key, [one.alert for one in part], status)

    def body(self, one: Owned) -> int:
        """Index of the payload that is the alert itself."""
        return self._alert(PayloadKind.ALERT, one)

    def build(self, change: StateChange) -> Batch:
        """The batch, with a change of the alert states."""
        return Batch(self._payloads, self._deliveries, change.written, change.groups, change.sinks, change.forgotten)

    def _parts(self, chosen: Sequence[Owned]) -> Iterable[Sequence[Owned]]:
        """What is sent to a sink as one group: all that it wants, unless too much would be made for many sinks."""
        if tuple(one.index for one in chosen) in self._stored or self._is_whole(chosen):
            return [chosen]
        size = sum(memoryview(raw).nbytes for one in chosen if (raw := self._source_of(one.index).raw) is not None)
        self._largest_part = max(self._largest_part, size)
        if self._part_bytes + size > max(PARTS_LEAST_BYTES, PARTS_MULTIPLE * self._largest_part):
            return [[one] for one in chosen]
        self._part_bytes += size
        return [chosen]

    def _is_whole(self, chosen: Sequence[Owned]) -> bool:
        notification = self._notification
        return len(chosen) == len(notification.alerts) and not notification.rejected and not notification.absent

    def _render(self, chosen: Sequence[Owned], status: Status) -> bytes:
        """The notification with these alerts only; the very bytes where that is all of them, and every reader reads the same in them."""
        notification = self._notification
        named = any(adds_label(self._source_of(one.index), one.alert) for one in chosen if one.alert.cluster)
        if not named and self._is_whole(chosen) and notification.passes_on_body():
            return notification.body
        # The group as the alerts say it: what must not be said of it to their tenant alone is not in there.
        group = notification.group if self._is_whole(chosen) else chosen[0].alert.group
        assert group is not None
        alerts = [(self._source_of(one.index), one.alert) for one in chosen]
        return encoded_part(group, alerts, status=status)

    def _source_of(self, index: int) -> IncomingAlert:
        """The alert as it came, by its index in the notification."""
        if not self._incoming:
            self._incoming = dict(self._notification.numbered())
        return self._incoming[index]

    def _alert(self, kind: PayloadKind, one: Owned) -> int:
        """Index of the payload that is the alert by itself."""
        key = (kind, one.index)
        payload = self._stored.get(key)
        return payload if payload is not None else self._store(key, _payload_of(one.alert, kind))

    def _store(self, key: object, payload: Payload) -> int:
        number = self._stored[key] = len(self._payloads)
        self._payloads.append(payload)
        return number

    def _add(self, sink: Sink, payload: int, key: str, alerts: Sequence[Alert], status: Status) -> None:
        self._deliveries.append(new_delivery(sink, payload, key, alerts, status))


def new_delivery(sink: Sink, payload: int, key: str, alerts: Sequence[Alert], status: Status) -> NewDelivery:
    """A delivery to a sink of the payload with this index in its batch, in which these alerts are."""
    alert_tenant = None
    if sink.tenant == ALL_TENANTS and len(tenants := {alert.tenant for alert in alerts}) == 1:
        (alert_tenant,) = tenants
    return NewDelivery(payload, sink.uid, sink.tenant, key, status.value, sink.delivery.max_age, alert_tenant)


def expired_at(sink: Sink, now: float) -> float:
    """The deliveries to a sink that were queued before this have expired; both on the queue clock."""
    return now - sink.delivery.max_age


def group_key(source: str, key: str) -> str:
    """The key of the deliveries of a group."""
    return f"{source}{GROUP_KEY_SEPARATOR}{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"


def takes_groups(sink: Sink) -> bool:
    """Whether the sink gets groups in Alertmanager's webhook format instead of alerts."""
    return sink.dispatch.payload is PayloadKind.GROUP


def _payload_of(alert: Alert, kind: PayloadKind) -> Payload:
    if kind is PayloadKind.GROUP:
        return Payload(kind, encoded_group([alert], key=alert.fingerprint, receiver=alert.source), alert.name)
    return Payload(kind, _encoder.encode(alert), alert.name)
