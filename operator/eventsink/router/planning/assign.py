"""Whose each alert of a notification is, and which of them are one alert: the first step of its planning, taken in slices of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from eventsink.alerts.alert import Alert, IncomingAlert, IncomingNotification, Status
from eventsink.alerts.formats.format import Repeats
from eventsink.router.planning.batch import Owned
from eventsink.router.planning.episodes import ONE_REPLICA
from eventsink.router.sources import Source
from eventsink.router.tenants import NoTenant, tenant_of


class Merged(msgspec.Struct):
    """One alert of a notification; several that differ in dropped labels only are one."""

    one: Owned
    """Which represents all, as Alertmanager merges duplicates: it fires while one does, since the earliest time."""
    identity: str
    variants: list[Alert]
    firing: Sequence[str] = ONE_REPLICA
    """Replicas in which it fires."""
    ended: Sequence[str] = ()


class Assignment:
    """The alerts of a notification with their tenants.

    Parameters
    ----------
    owners
        Namespace -> tenant, for all slices.
    sender
        As in `Acceptor.accept_bytes`.
    """

    def __init__(self, source: Source, notification: IncomingNotification, owners: Mapping[str, str], sender: str = "") -> None:
        self._source = source
        self._owners = owners
        self._replica = sender if source.format.repeats is Repeats.HEARTBEAT and source.format.replicas else ""
        """Where an alert fires whose labels name no replica. What one of two senders ends may still fire for the other."""
        self._group = notification.group
        self._all_read = not (notification.rejected or notification.absent)
        self._merged: dict[tuple[str, str], Merged] = {}
        self.unassigned: list[tuple[int, NoTenant]] = []
        """Alerts without a tenant, by their index in the notification."""
        self.others: dict[str, bool] = {}
        """The same where the source has groups, for they may be why the notification was sent: identity -> whether it fires."""
        self.owned = 0
        """How many have a tenant."""
        self.truncated = 0
        """How many of those were truncated (`Alert.truncated`)."""

    def add(self, some: Sequence[tuple[int, IncomingAlert]]) -> None:
        """The next alerts, with their indices in the notification."""
        owned, unassigned = assign(self._source, some, self._owners)
        merge(owned, self._source.dropped_labels, self._merged, self._replica)
        self.owned += len(owned)
        for one in owned:
            if one.alert.truncated:
                self.truncated += 1
        if unassigned:
            self.unassigned += unassigned
            if self._group is not None:
                unowned = {index for index, _ in unassigned}
                self._add_others([incoming for index, incoming in some if index in unowned])

    def merged(self) -> list[Merged]:
        """Those with a tenant, the ones that differ in dropped labels only as one, in order of their first.

        How many alerts the source left out of the group is said only where all that it holds are one tenant's: else they may be another's.
        """
        if self._group is not None and self._group.truncated and not self._of_one_tenant():
            group = msgspec.structs.replace(self._group, truncated=0)
            for one in self._merged.values():
                one.one = msgspec.structs.replace(one.one, alert=msgspec.structs.replace(one.one.alert, group=group))
                one.variants = [msgspec.structs.replace(variant, group=group) for variant in one.variants]
        return list(self._merged.values())

    def _of_one_tenant(self) -> bool:
        if self._source.settings.tenant.fixed is not None:
            return True
        return self._all_read and not self.unassigned and len({tenant for tenant, _ in self._merged}) == 1

    def _add_others(self, some: Iterable[IncomingAlert]) -> None:
        for incoming in some:
            alert = incoming.identify(source=self._source.name, tenant="", dropped_labels=self._source.dropped_labels)
            fires = alert.status is not Status.RESOLVED
            self.others[alert.identity] = self.others.get(alert.identity, False) or fires


def assign(
    source: Source, incoming: Iterable[tuple[int, IncomingAlert]], owners: Mapping[str, str]
) -> tuple[list[Owned], list[tuple[int, NoTenant]]]:
    """Give alerts, which come with their indices in the notification, their tenants, or say why one has none."""
    owned, unassigned = [], []
    for index, one in incoming:
        tenant = tenant_of(source.settings, one.labels, owners)
        if isinstance(tenant, NoTenant):
            unassigned.append((index, tenant))
        else:
            alert = one.identify(source=source.name, tenant=tenant, dropped_labels=source.dropped_labels, cluster=source.cluster)
            owned.append(Owned(index, alert, one.valid_for, one.start_given))
    return owned, unassigned


def merge(
    owned: Sequence[Owned], dropped_labels: frozenset[str], merged: dict[tuple[str, str], Merged], unnamed: str = ""
) -> None:
    """Add the next alerts of a notification, by tenant and identity; those that differ in dropped labels only are one.

    `unnamed` is the replica of those that have no dropped label.
    """
    for one in owned:
        alert = one.alert
        identity = alert.identity
        key = (alert.tenant, identity)
        replica = (replica_of(alert.labels, dropped_labels) if dropped_labels else "") or unnamed
        other = merged.get(key)
        fires = alert.status is not Status.RESOLVED
        if other is None:
            of_one = ONE_REPLICA if replica == "" else (replica,)
            merged[key] = Merged(one, identity, [alert], of_one if fires else (), () if fires else of_one)
            continue
        other.one = representative(other.one, one)
        other.variants.append(alert)
        if fires:
            other.firing = (*other.firing, replica)
        else:
            other.ended = (*other.ended, replica)


def replica_of(labels: dict[str, str], dropped_labels: frozenset[str]) -> str:
    """The values of the dropped labels; empty: the alert has none of them."""
    return ",".join(f"{name}={labels[name]}" for name in sorted(dropped_labels) if name in labels)


def representative(one: Owned, other: Owned) -> Owned:
    """Which of two duplicates of an alert represents both, as Alertmanager merges them: it fires while one does, since the earlier time."""
    if one.alert.status is not other.alert.status:
        return one if one.alert.status is Status.FIRING else other
    if one.alert.count != other.alert.count:
        return one if one.alert.count > other.alert.count else other
    return other if other.alert.starts_at < one.alert.starts_at else one
