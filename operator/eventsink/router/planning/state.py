"""What is news to a sink: decided from what it was last told and what the source says now.

These are the rules for a source that decides on repeats itself (Alertmanager). A pair of them sends everything twice when its halves do not
hear each other; what stood in a notification a moment ago (the HA window) and stands there again is the other half's copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from eventsink.alerts.alert import Alert, Status, epoch_micros
from eventsink.router.queue.protocol import Queue, Told
from eventsink.runtime.settings import Seconds, Settings
from eventsink.sinks.sink import Sink


class StateSettings(Settings):
    """How long the router remembers what it told a sink."""

    ha_window: Seconds = 60.0
    """Within this, the same notification again is the copy of the other half of a highly available pair. Must be shorter than
    Alertmanager's repeat_interval, and longer than its halves are apart (--cluster.peer-timeout)."""
    retention: Seconds = 120 * 3600.0
    """An alert that fires and is not heard of for so long is forgotten, as Alertmanager does. Longer than any repeat_interval."""
    resolved_retention: Seconds = 3600.0
    """A resolved alert is forgotten after this."""


@dataclass(slots=True)
class Memory:
    """What a sink was last told of one alert."""

    status: str
    starts_at: int
    """Microseconds since the epoch."""
    told_at: float
    """Queue clock."""
    seen_at: float
    """Queue clock: when it last stood in a notification for the sink, told again or not."""


def to_tell(alerts: Sequence[Alert], known: Sequence[Memory | None], *, now: float, ha_window: float, repeat: bool) -> list[int]:
    """Which of a notification's alerts are to be told to a sink.

    Parameters
    ----------
    alerts
        Those of one notification that the sink wants.
    known
        What it was told of each, in the same order.
    now
        Queue clock.
    ha_window
        Seconds.
    repeat
        Whether nothing in the whole notification is new, also not what other sinks want of it: then the source repeats itself.

    Returns
    -------
    list
        Indices into `alerts`.
    """
    news = [
        index
        for index, (alert, memory) in enumerate(zip(alerts, known, strict=True))
        if is_news(alert, memory, now=now, ha_window=ha_window)
    ]
    if news or not repeat:
        return news
    firing = [index for index, alert in enumerate(alerts) if alert.status is Status.FIRING]
    if all(_stood_there(known[index], now, ha_window) for index in firing):
        return []
    return firing


def is_news(alert: Alert, memory: Memory | None, *, now: float, ha_window: float) -> bool:
    """Whether one alert says something that the sink was not told."""
    if alert.status is Status.RESOLVED:
        if memory is None or memory.status != Status.FIRING:
            return False  # an end is told to those that were told the beginning
        return epoch_micros(alert.starts_at) >= memory.starts_at or not _stood_there(memory, now, ha_window)
    if memory is None or epoch_micros(alert.starts_at) > memory.starts_at:
        return True
    # It ended and fires again with its old beginning: a late copy within the window, a new turn after it.
    return memory.status == Status.RESOLVED and not _stood_there(memory, now, ha_window)


def _stood_there(memory: Memory | None, now: float, ha_window: float) -> bool:
    return memory is not None and now - memory.seen_at <= ha_window


@dataclass(frozen=True, slots=True)
class Heard:
    """What the last notification of a group said."""

    ids: frozenset[str]
    """Of its alerts."""
    at: float
    """Queue clock."""


class ToldState:
    """What each sink was told, in memory; the queue keeps the same on disk.

    Changes are made before the commit, so that the next request sees them, and taken back if the commit fails (`undo`).
    """

    def __init__(self, queue: Queue, settings: StateSettings) -> None:
        self._queue = queue
        self._settings = settings
        self._sinks: dict[tuple[str, str], dict[str, Memory]] = {}
        self._groups: dict[tuple[str, str], Heard] = {}

    async def load(self) -> int:
        """Read what is on disk; returns how many records there are."""
        count = 0
        async for told in self._queue.told():
            memories = self._sinks.setdefault((told.sink, told.destination), {})
            memories[told.fingerprint] = Memory(told.status, told.starts_at, told.told_at, told.told_at)
            count += 1
        return count

    def hear(self, source: str, group: str, ids: frozenset[str], now: float) -> tuple[bool, Callable[[], None]]:
        """Note what a notification of a group says, as the ids of its alerts.

        Returns
        -------
        bool
            Whether it says nothing that the one before it did not say. Of a group's first since the router started, nothing is known:
            True, and what each sink was told decides alone.
        Callable
            Takes the note back.
        """
        key = (source, group)
        before = self._groups.get(key)
        self._groups[key] = Heard(ids, now)

        def undo() -> None:
            if before is None:
                self._groups.pop(key, None)
            else:
                self._groups[key] = before

        return before is None or ids <= before.ids, undo

    def known(self, sink: Sink, alerts: Iterable[Alert]) -> list[Memory | None]:
        """What the sink was told of each alert, at the destination that it has now."""
        memories = self._sinks.get((sink.uid, sink.destination), {})
        return [memories.get(alert.fingerprint) for alert in alerts]

    def see(self, known: Iterable[Memory | None], now: float) -> Callable[[], None]:
        """Note that these stood in a notification; returns what takes it back."""
        before = []
        for memory in known:
            if memory is not None:
                before.append((memory, memory.seen_at))
                memory.seen_at = now

        def undo() -> None:
            for memory, seen_at in before:
                memory.seen_at = seen_at

        return undo

    def tell(self, sink: Sink, alerts: Iterable[Alert], now: float) -> tuple[list[Told], Callable[[], None]]:
        """Note that the sink is told of these: the records for the queue, and what takes it back."""
        memories = self._sinks.setdefault((sink.uid, sink.destination), {})
        before: list[tuple[str, Memory | None]] = []
        records = []
        for alert in alerts:
            fingerprint, starts_at = alert.fingerprint, epoch_micros(alert.starts_at)
            before.append((fingerprint, memories.get(fingerprint)))
            memories[fingerprint] = Memory(alert.status.value, starts_at, now, now)
            records.append(Told(sink.uid, sink.destination, fingerprint, alert.status.value, starts_at, now))

        def undo() -> None:
            for fingerprint, memory in reversed(before):
                if memory is None:
                    memories.pop(fingerprint, None)
                else:
                    memories[fingerprint] = memory

        return records, undo

    def forget_sink(self, uid: str) -> None:
        """Drop all that a sink was told, wherever it pointed (the queue forgets it when it buries the sink)."""
        for key in [key for key in self._sinks if key[0] == uid]:
            del self._sinks[key]

    async def prune(self) -> int:
        """Forget what is too old to matter, here and on disk; returns how many records went."""
        now = self._queue.clock()
        self._groups = {key: heard for key, heard in self._groups.items() if now - heard.at <= self._settings.retention}
        old: list[Told] = []
        for (sink, destination), memories in list(self._sinks.items()):
            for fingerprint, memory in list(memories.items()):
                keep = self._settings.retention if memory.status == Status.FIRING else self._settings.resolved_retention
                if now - memory.seen_at > keep:
                    del memories[fingerprint]
                    old.append(Told(sink, destination, fingerprint, memory.status, memory.starts_at, memory.told_at))
            if not memories:
                del self._sinks[sink, destination]
        if old:
            await self._queue.forget(old)
        return len(old)

    def __len__(self) -> int:
        return sum(map(len, self._sinks.values()))
