"""What a sink is sent of its deliveries: decided when they are sent, in the form that the sink takes now.

A delivery is stored in the form that its sink took when it was queued. If the sink was changed since, its alerts become groups of one alert
each, or its groups become the alerts in them, with the ids that those alerts have otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from eventsink.alerts.alert import CLUSTER_LABEL, Alert, IncomingAlert, Status, UnusablePayload
from eventsink.alerts.alertmanager_group import encoded_group
from eventsink.alerts.formats import alertmanager
from eventsink.alerts.formats.format import Repeats
from eventsink.resources.names import ALL_TENANTS
from eventsink.router.dispatch.outgoing import OutgoingMessage
from eventsink.router.queue.protocol import GROUP_KEY_SEPARATOR, Delivery, PayloadKind
from eventsink.router.sources import Source
from eventsink.router.tenants import tenant_of
from eventsink.sinks.sender import Message
from eventsink.sinks.sink import Sink

_alert = msgspec.json.Decoder(Alert)
_group = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


class UnreadableDelivery(ValueError):
    """What was stored cannot be turned into what the sink takes now."""


class Forms:
    """Makes messages of deliveries.

    Parameters
    ----------
    sources
        The sources by name, as configured: a group's alerts are identified as its source would be read.
    owners
        The tenant that owns each namespace, as known now.
    """

    def __init__(self, sources: Mapping[str, Source], owners: Callable[[], Mapping[str, str]] = dict) -> None:
        self._sources = sources
        self._owners = owners

    def messages(self, outgoing: OutgoingMessage, bodies: Mapping[int, bytes], sink: Sink) -> list[Message]:
        """What the sender is given, one after the other: the same each time, while the sink stays as it is.

        Parameters
        ----------
        bodies
            seq -> body of each delivery of the message that is in memory without it.

        Raises
        ------
        UnreadableDelivery
            Nothing can be made of it.
        """
        first = outgoing.items[0].delivery
        wanted = sink.dispatch.payload
        if first.kind is wanted:
            if wanted is PayloadKind.GROUP:
                return [Message(id=outgoing.id, group=_body(first, bodies))]
            if not bodies:
                return [Message(outgoing.id, [item.delivery.body for item in outgoing.items], batched=outgoing.bound)]
            return [Message(outgoing.id, [_body(item.delivery, bodies) for item in outgoing.items], batched=outgoing.bound)]
        try:
            if wanted is PayloadKind.GROUP:
                return [Message(id=outgoing.id, group=_group_of(_body(first, bodies)))]
            alerts = self._alerts_of(first, _body(first, bodies))
        except (msgspec.MsgspecError, UnusablePayload, ValueError) as error:
            raise UnreadableDelivery from error
        return _in_messages(outgoing.id, alerts, sink.dispatch.batch)

    def _alerts_of(self, delivery: Delivery, body: bytes) -> list[bytes]:
        source = self._source_of(delivery, body)
        dropped = source.dropped_labels if source is not None else frozenset()
        events = source is not None and source.format.repeats is Repeats.NEVER
        name, cluster = (source.name, source.cluster) if source is not None else ("", "")
        return [
            _encoder.encode(
                (_event(one) if events and one.status is Status.FIRING else one).identify(
                    source=name,
                    tenant=self._tenant_of(delivery, source, one),
                    # The label that the router added, which is no part of what identifies the alert.
                    dropped_labels=dropped | {CLUSTER_LABEL} if cluster and one.labels.get(CLUSTER_LABEL) == cluster else dropped,
                    cluster=cluster,
                )
            )
            for one in alertmanager.parse(body).alerts
        ]

    def _tenant_of(self, delivery: Delivery, source: Source | None, alert: IncomingAlert) -> str:
        """Whose an alert of a group is; in one for a sink that receives the alerts of all tenants, that is determined again."""
        if delivery.tenant != ALL_TENANTS or source is None:
            return delivery.tenant
        tenant = tenant_of(source.settings, alert.labels, self._owners())
        return tenant if isinstance(tenant, str) else delivery.tenant

    def _source_of(self, delivery: Delivery, body: bytes) -> Source | None:
        """Where a group came from; None where that cannot be known any more."""
        name, separator, _ = delivery.key.partition(GROUP_KEY_SEPARATOR)
        if separator:
            return self._sources.get(name)
        receiver = _group.decode(body).get("receiver")
        made_of_one = self._sources.get(msgspec.json.decode(receiver, type=str)) if receiver is not None else None
        if made_of_one is not None:
            return made_of_one
        # Queued by a version that did not write the source's name into the key.
        grouped = [source for source in self._sources.values() if source.format.grouped]
        return grouped[0] if len(grouped) == 1 else None


def _body(delivery: Delivery, bodies: Mapping[int, bytes]) -> bytes:
    return bodies[delivery.seq] if delivery.left_out else delivery.body


def _group_of(body: bytes) -> bytes:
    alert = _alert.decode(body)
    return encoded_group([alert], key=alert.fingerprint, receiver=alert.source)


def _event(alert: IncomingAlert) -> IncomingAlert:
    """The format of groups has no events: they were written into it as firing alerts."""
    return msgspec.structs.replace(alert, status=Status.EVENT)


def _in_messages(identifier: str, alerts: Sequence[bytes], batch: int) -> list[Message]:
    """At most `batch` alerts in each; every message has an id that stays the same through all attempts."""
    if len(alerts) <= batch:
        return [Message(identifier, alerts, batched=batch > 1)]
    return [
        Message(f"{identifier}-{number}", alerts[first : first + batch], batched=batch > 1)
        for number, first in enumerate(range(0, len(alerts), batch), 1)
    ]
