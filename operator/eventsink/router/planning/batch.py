"""The deliveries and log entries of one notification, in the form that each sink asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from eventsink.alerts.alert import Alert, IncomingNotification, Status
from eventsink.alerts.alertmanager_group import encoded_group
from eventsink.router.queue.protocol import Batch, NewDelivery, NotificationLogEntry, Payload, PayloadKind
from eventsink.sinks.sink import Sink

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Owned:
    """An alert that has its tenant, with its index in the notification."""

    index: int
    alert: Alert


class BatchBuilder:
    """Collects the deliveries of one notification; bytes that several sinks get are stored once."""

    def __init__(self, notification: IncomingNotification) -> None:
        self._notification = notification
        self._payloads: list[Payload] = []
        self._deliveries: list[NewDelivery] = []
        self._stored: dict[object, int] = {}
        self.log_entries: list[NotificationLogEntry] = []

    def sends_received_group(self, sink: Sink) -> bool:
        """Whether the sink gets the group as the source wrote it."""
        return takes_groups(sink) and self._notification.envelope is not None

    def add_alerts(self, sink: Sink, chosen: Sequence[Owned]) -> None:
        """One delivery for each alert, to a sink of groups as a group of its own; those of one alert leave in order."""
        kind = PayloadKind.GROUP if takes_groups(sink) else PayloadKind.ALERT
        for one in chosen:
            payload = self._store((kind, one.index), lambda alert=one.alert: _payload_of(alert, kind))  # type: ignore[misc]
            self._add(sink, payload, one.alert.fingerprint, one.alert.status)

    def add_received_group(self, sink: Sink, chosen: Sequence[Owned]) -> None:
        """One delivery for the group; those of one group leave in order."""
        group = self._notification.group
        assert group is not None
        indices = tuple(one.index for one in chosen)
        resolved = all(one.alert.status is Status.RESOLVED for one in chosen)
        status = Status.RESOLVED if resolved else Status.FIRING
        name = group.labels.get("alertname") or chosen[0].alert.name or group.receiver
        payload = self._store(indices, lambda: Payload(PayloadKind.GROUP, self._render(indices, status), name))
        self._add(sink, payload, hashlib.blake2b(group.key.encode(), digest_size=16).hexdigest(), status)

    def build(self) -> Batch:
        """The batch."""
        return Batch(self._payloads, self._deliveries, self.log_entries)

    def _render(self, indices: tuple[int, ...], status: Status) -> bytes:
        """The notification with these alerts only; the very bytes where that is all of them."""
        notification = self._notification
        if len(indices) == len(notification.alerts) and not notification.rejected:
            return notification.body
        assert notification.envelope is not None
        raw = {index: incoming.raw for index, incoming in zip(notification.positions(), notification.alerts, strict=True)}
        members = dict(notification.envelope)
        members["status"] = msgspec.Raw(_encoder.encode(status))
        members["alerts"] = msgspec.Raw(b"[" + b",".join(raw[index] for index in indices) + b"]")
        return _encoder.encode(members)

    def _store(self, key: object, make: Callable[[], Payload]) -> int:
        number = self._stored.get(key)
        if number is None:
            number = self._stored[key] = len(self._payloads)
            self._payloads.append(make())
        return number

    def _add(self, sink: Sink, payload: int, key: str, status: Status) -> None:
        self._deliveries.append(NewDelivery(payload, sink.uid, sink.tenant, key, status.value, sink.delivery.max_age))


def takes_groups(sink: Sink) -> bool:
    """Whether the sink gets groups in Alertmanager's webhook format instead of alerts."""
    return sink.dispatch.payload is PayloadKind.GROUP


def _payload_of(alert: Alert, kind: PayloadKind) -> Payload:
    if kind is PayloadKind.GROUP:
        return Payload(kind, encoded_group(alert, key=alert.fingerprint, receiver=alert.source), alert.name)
    return Payload(kind, _encoder.encode(alert), alert.name)
