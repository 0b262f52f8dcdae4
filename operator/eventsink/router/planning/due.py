"""What is due to a sink that is caught up, and the deliveries of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from eventsink.alerts.alert import Alert, Status, alert_id, epoch_micros, from_epoch_micros
from eventsink.alerts.alertmanager_group import encoded_group
from eventsink.router.planning.alert_states import AlertStates, StateChange
from eventsink.router.planning.batch import group_key, new_delivery, takes_groups
from eventsink.router.planning.entries import updated
from eventsink.router.planning.episodes import BY_ITSELF
from eventsink.router.queue.protocol import NewDelivery, Payload, PayloadKind
from eventsink.router.queue.states import AlertState, Notified, SinkState
from eventsink.sinks.sink import Sink


@dataclass(slots=True)
class Behind:
    """A sink that is being caught up."""

    sink: Sink
    state: SinkState
    """What is recorded when it is."""
    moved: bool = False
    """Whether it has another destination than the one that was notified."""
    waiting: set[str] = field(default_factory=set)
    """Of one that moved: keys of what waits for it, and goes to the new destination."""
    left: int | None = None
    """How many more deliveries of this pass its tenant's quota leaves to it; None: no quota bounds it."""
    groups: set[str] = field(default_factory=set)
    """Of one that takes groups: those of which that was asked."""
    expired_at: float = 0.0
    """Of one that was suspended: what was queued before this, on the queue clock, may have expired meanwhile instead of being delivered."""

    def status_of(self, state: AlertState, last: Notified | None) -> Status | None:
        """As `due_status`."""
        return due_status(state, last, moved=self.moved or (last is not None and last.at < self.expired_at))

    def is_due(self, state: AlertState, last: Notified | None, alert: Alert) -> bool:
        """Whether it is notified of an alert that fires and that it wants."""
        if self.status_of(state, last) is None:
            return False
        was_notified = last is not None and last.status == Status.FIRING
        return not (was_notified and is_waiting(alert, self.waiting))


class Due:
    """What sinks are notified of in one commit."""

    def __init__(self, states: AlertStates, now: float) -> None:
        self._states = states
        self._now = now
        self.change = StateChange()
        self.chosen: dict[str, tuple[Sink, list[tuple[Alert, bytes]]]] = {}
        """uid -> the sink, and the alerts of which it is notified."""

    def add(
        self, state: AlertState, alert: Alert | None, body: bytes | None, sinks: Sequence[Sink], silent: Sequence[Sink]
    ) -> None:
        """Record that these sinks are notified of an alert."""
        if alert is not None and body is not None:
            for sink in sinks:
                self.chosen.setdefault(sink.uid, (sink, []))[1].append((alert, body))
        entries = {sink.uid: state.status for sink in (*sinks, *silent)}
        starts_at = epoch_micros(alert.starts_at) if alert is not None else state.starts_at
        notified = updated(state.notified, entries, starts_at, self._now, BY_ITSELF)
        self._states.put(self.change, msgspec.structs.replace(state, notified=notified))


def form_of(sink: Sink, last: SinkState | None) -> SinkState:
    """The form of a sink that is recorded when it is caught up; `last`: the one recorded before.

    While it is suspended, its destination stays the one that was notified: another one is notified when the sink is resumed.
    """
    if sink.suspend and last is not None:
        return msgspec.structs.replace(last, suspended=True)
    return SinkState(sink.uid, sink.destination, match_digest(sink), sink.suspend)


def may_be_due(state: AlertState, some: Mapping[str, Behind]) -> bool:
    """Whether one of these sinks may have to be notified of an alert."""
    if state.status == Status.FIRING and not state.held_until:
        known = 0
        for last in state.notified:
            one = some.get(last.sink)
            known += one is not None and one.status_of(state, last) is None
        return known < len(some)
    if state.status != Status.RESOLVED:
        return False
    return any(one.status == Status.FIRING and one.sink in some for one in state.notified)


def due_status(state: AlertState, last: Notified | None, *, moved: bool) -> Status | None:
    """Of what a sink that is caught up is notified, of one alert; of a firing one only if it wants it. None: of nothing.

    Parameters
    ----------
    last
        What the sink was notified of; None: nothing.
    moved
        Whether it has another destination than the one that was notified.
    """
    if state.status == Status.RESOLVED:
        return Status.RESOLVED if last is not None and last.status == Status.FIRING else None
    if state.status != Status.FIRING or state.held_until:
        return None
    if last is None or last.status != Status.FIRING or moved or last.starts_at < state.starts_at:
        return Status.FIRING
    return None


def ended(firing: Alert, state: AlertState) -> Alert:
    """The end of an alert, of which the state says that it has ended."""
    return msgspec.structs.replace(
        firing,
        id=alert_id(firing.fingerprint, firing.starts_at, Status.RESOLVED),
        status=Status.RESOLVED,
        ends_at=from_epoch_micros(state.ends_at),
    )


def deliveries_of(
    chosen: Iterable[tuple[Sink, Sequence[tuple[Alert, bytes]]]],
) -> tuple[list[Payload], list[NewDelivery]]:
    """The deliveries of alerts to sinks, each with its alerts; `bytes` is the alert as JSON.

    A sink of groups gets those of one group together, its resolved ones apart from those that fire.
    """
    payloads: list[Payload] = []
    deliveries: list[NewDelivery] = []
    stored: dict[object, int] = {}
    for sink, alerts in chosen:
        if not takes_groups(sink):
            for alert, body in alerts:
                number = stored.setdefault(alert.id, len(payloads))
                if number == len(payloads):
                    payloads.append(Payload(PayloadKind.ALERT, body, alert.name))
                deliveries.append(new_delivery(sink, number, key_of(alert, sink), [alert], alert.status))
            continue
        groups: dict[tuple[str, Status], list[Alert]] = {}
        for alert, _ in alerts:
            groups.setdefault((key_of(alert, sink), alert.status), []).append(alert)
        for (key, status), members in groups.items():
            number = stored.setdefault((key, status, *(one.id for one in members)), len(payloads))
            if number == len(payloads):
                payloads.append(Payload(PayloadKind.GROUP, _group_of(members), members[0].name))
            deliveries.append(new_delivery(sink, number, key, members, status))
    return payloads, deliveries


def key_of(alert: Alert, sink: Sink) -> str:
    """The key of a delivery of an alert to a sink: that of the group for a sink of groups, if the alert came in one."""
    if takes_groups(sink) and alert.group is not None:
        return group_key(alert.source, alert.group.key)
    return alert.fingerprint


def is_waiting(alert: Alert, waiting: set[str]) -> bool:
    """Whether a delivery of the alert, or of its group, is among those with these keys."""
    return bool(waiting) and (
        alert.fingerprint in waiting or (alert.group is not None and group_key(alert.source, alert.group.key) in waiting)
    )


def match_digest(sink: Sink) -> str:
    """Digest of a sink's match rules."""
    return hashlib.blake2b(sink.match.model_dump_json().encode(), digest_size=16).hexdigest()


def _group_of(alerts: Sequence[Alert]) -> bytes:
    first = alerts[0]
    key, receiver = (first.group.key, first.group.receiver) if first.group is not None else (first.fingerprint, first.source)
    return encoded_group(alerts, key=key, receiver=receiver)
