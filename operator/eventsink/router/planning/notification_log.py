"""The notification log in memory: which alerts each sink was notified of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from eventsink.alerts.alert import Alert, Status, epoch_micros
from eventsink.router.planning.notify import Notified
from eventsink.router.queue.protocol import NotificationLogEntry, NotificationLogStore
from eventsink.runtime.settings import Seconds, Settings
from eventsink.sinks.sink import Sink


class StateSettings(Settings):
    """How long the router remembers what it notified a sink of."""

    ha_window: Seconds = 60.0
    """Within this, the same notification again is a duplicate from the other half of a highly available pair. Must be shorter than
    Alertmanager's repeat_interval, and longer than its halves are apart (--cluster.peer-timeout)."""
    retention: Seconds = 120 * 3600.0
    """A firing alert that no notification has named for so long is forgotten, as Alertmanager does. Longer than any repeat_interval."""
    resolved_retention: Seconds = 3600.0
    """A resolved alert, and an event, is forgotten after this."""


@dataclass(frozen=True, slots=True)
class _GroupNotification:
    """What the last notification of a group said."""

    ids: frozenset[str]
    """Of its alerts."""
    at: float
    """Queue clock."""


class NotificationLog:
    """Which alerts each sink was notified of, in memory; the queue keeps the same on disk.

    Changes are made before the commit, so that the next request sees them, and reverted if the commit fails (`undo`).
    """

    def __init__(self, store: NotificationLogStore, settings: StateSettings) -> None:
        self._store = store
        self._settings = settings
        self._sinks: dict[tuple[str, str], dict[str, Notified]] = {}
        self._groups: dict[tuple[str, str], _GroupNotification] = {}

    async def load(self) -> int:
        """Read what is on disk; returns how many entries there are."""
        count = 0
        async for entry in self._store.log_entries():
            of_sink = self._sinks.setdefault((entry.sink, entry.destination), {})
            of_sink[entry.fingerprint] = Notified(entry.status, entry.starts_at, entry.notified_at, entry.notified_at)
            count += 1
        return count

    def record_group(self, source: str, group: str, ids: frozenset[str], now: float) -> tuple[bool, Callable[[], None]]:
        """Record what a notification of a group says, as the ids of its alerts.

        Returns
        -------
        bool
            Whether it says nothing that the one before it did not say. Of a group's first since the router started, nothing is known:
            True, and what each sink was notified of decides alone.
        Callable
            Reverts it.
        """
        key = (source, group)
        before = self._groups.get(key)
        self._groups[key] = _GroupNotification(ids, now)

        def undo() -> None:
            if before is None:
                self._groups.pop(key, None)
            else:
                self._groups[key] = before

        return before is None or ids <= before.ids, undo

    def notified(self, sink: Sink, alerts: Iterable[Alert]) -> list[Notified | None]:
        """What the sink was notified of each alert, at the destination that it has now."""
        of_sink = self._sinks.get((sink.uid, sink.destination), {})
        return [of_sink.get(alert.identity) for alert in alerts]

    def mark_seen(self, notified: Iterable[Notified | None], now: float) -> Callable[[], None]:
        """Record that these alerts were in a notification; returns what reverts it."""
        before = []
        for one in notified:
            if one is not None:
                before.append((one, one.seen_at))
                one.seen_at = now

        def undo() -> None:
            for one, seen_at in before:
                one.seen_at = seen_at

        return undo

    def record(self, sink: Sink, alerts: Iterable[Alert], now: float) -> tuple[list[NotificationLogEntry], Callable[[], None]]:
        """Record that the sink is notified of these: the entries for the queue, and what reverts it."""
        of_sink = self._sinks.setdefault((sink.uid, sink.destination), {})
        before: list[tuple[str, Notified | None]] = []
        entries = []
        for alert in alerts:
            identity, starts_at = alert.identity, epoch_micros(alert.starts_at)
            before.append((identity, of_sink.get(identity)))
            of_sink[identity] = Notified(alert.status.value, starts_at, now, now)
            entries.append(NotificationLogEntry(sink.uid, sink.destination, identity, alert.status.value, starts_at, now))

        def undo() -> None:
            for identity, last in reversed(before):
                if last is None:
                    of_sink.pop(identity, None)
                else:
                    of_sink[identity] = last

        return entries, undo

    def forget_sink(self, uid: str) -> None:
        """Drop all that a sink was notified of, at every destination (the queue does when it dead-letters the sink's deliveries)."""
        for key in [key for key in self._sinks if key[0] == uid]:
            del self._sinks[key]

    async def prune(self) -> int:
        """Forget what is too old to matter, here and on disk; returns how many entries went."""
        now = self._store.clock()
        self._groups = {key: last for key, last in self._groups.items() if now - last.at <= self._settings.retention}
        old: list[NotificationLogEntry] = []
        for (sink, destination), of_sink in list(self._sinks.items()):
            for fingerprint, one in list(of_sink.items()):
                keep = self._settings.retention if one.status == Status.FIRING else self._settings.resolved_retention
                if now - one.seen_at > keep:
                    del of_sink[fingerprint]
                    old.append(NotificationLogEntry(sink, destination, fingerprint, one.status, one.starts_at, one.notified_at))
            if not of_sink:
                del self._sinks[sink, destination]
        if old:
            await self._store.forget(old)
        return len(old)

    def __len__(self) -> int:
        return sum(map(len, self._sinks.values()))
