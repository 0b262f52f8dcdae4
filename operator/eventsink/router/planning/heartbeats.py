"""Until when each firing alert is taken to fire whose source sends it all the time, and in which replica."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection

import msgspec

MAX_REPLICAS = 16
"""Replicas that are remembered of one alert; of more, those that were heard last."""
RETRY_SECONDS = 5.0
"""An overdue alert is given again after this, unless it was forgotten meanwhile: it could not be stored that it has ended."""
LOOKED_AT_ONCE = 2000
"""Alerts that are looked at in one turn of the event loop, most of which were sent again: a few milliseconds."""
LOOK_AGAIN_SECONDS = 900.0
"""Each alert is looked at so often at least: the heap holds nothing for longer of one that was forgotten."""

_Key = tuple[str, str]


class Overdue(msgspec.Struct, frozen=True):
    """An alert that was not sent again in time."""

    tenant: str
    identity: str


class _Heard(msgspec.Struct):
    """What was heard of one alert."""

    replicas: dict[str, float]
    """Replica -> queue clock until which it is taken to fire there."""
    due: float
    """When it is looked at: its place in the heap."""
    at: float = -math.inf
    """Queue clock when it was sent last, in this process."""


class Heartbeats:
    """In memory only: what is on disk of it may be some minutes old (`AlertState.expires_at`), which the time after the start makes up for.

    Bounded by the alerts that are known, and by those that were within LOOK_AGAIN_SECONDS.
    """

    def __init__(self) -> None:
        self._heard: dict[_Key, _Heard] = {}
        self._heap: list[tuple[float, str, str]] = []
        """(due, tenant, identity); one whose `due` is another by now means nothing."""
        self._not_before = -math.inf
        self.looked_at = math.inf
        """Queue clock at the last look of whoever looks all the time; before the first one, entries are kept until their time comes."""

    def __len__(self) -> int:
        return len(self._heard)

    @property
    def looked_after(self) -> int:
        """Entries of the heap: one for each alert, and those that mean nothing any more."""
        return len(self._heap)

    def nothing_before(self, at: float) -> None:
        """Nothing is overdue before this, on the queue clock: sources first have to send again what fires."""
        self._not_before = at

    def hear(
        self, tenant: str, identity: str, replicas: Collection[str], until: float, *, at: float = -math.inf, alone: bool = False
    ) -> None:
        """It fires in these replicas, and is taken to do so until then; `alone`: in no other; `at`: it was sent then."""
        key = (tenant, identity)
        heard = self._heard.get(key)
        if heard is None:
            heard = self._heard[key] = _Heard({}, math.inf)
        elif alone:
            heard.replicas.clear()
        for replica in replicas:
            heard.replicas.pop(replica, None)
            heard.replicas[replica] = until
        while len(heard.replicas) > MAX_REPLICAS:
            del heard.replicas[next(iter(heard.replicas))]
        heard.at = max(heard.at, at)
        if until < heard.due:
            self._look_again(key, heard, until)

    def end(self, tenant: str, identity: str, replicas: Collection[str]) -> None:
        """It has ended in these replicas, and fires in another."""
        heard = self._heard.get((tenant, identity))
        if heard is not None:
            for replica in replicas:
                heard.replicas.pop(replica, None)

    def forget(self, tenant: str, identity: str) -> None:
        """It does not fire any more, or is not known any more."""
        self._heard.pop((tenant, identity), None)

    def until(self, tenant: str, identity: str) -> float:
        """Queue clock until which it is taken to fire in any replica; 0: nothing was heard of it."""
        heard = self._heard.get((tenant, identity))
        return max(heard.replicas.values(), default=0.0) if heard is not None else 0.0

    def silence(self, tenant: str, identity: str, since: float, now: float) -> bool:
        """It is not taken to fire any more, unless it was sent since then; whether that is so."""
        heard = self._heard.get((tenant, identity))
        if heard is None or heard.at >= since:
            return False
        heard.replicas = {replica: min(until, now) for replica, until in heard.replicas.items()}
        self._look_again((tenant, identity), heard, now)
        return True

    def silent(self, tenant: str, identity: str, now: float) -> tuple[tuple[str, ...], bool]:
        """Replicas that have not sent it again in time, and whether those are all."""
        heard = self._heard.get((tenant, identity))
        if heard is None:
            return (), False
        silent = tuple(replica for replica, until in heard.replicas.items() if until <= now)
        return silent, len(silent) == len(heard.replicas)

    def are_due(self, now: float) -> bool:
        """Whether `overdue` has something to look at."""
        return now >= self._not_before and bool(self._heap) and self._heap[0][0] <= now

    def overdue(self, now: float, limit: int) -> list[Overdue]:
        """At most so many alerts that a replica has not sent again in time, among as many as can be looked at in one turn."""
        found: list[Overdue] = []
        count = 0
        while self.are_due(now) and len(found) < limit and count < LOOKED_AT_ONCE:
            count += 1
            due, *key = heapq.heappop(self._heap)
            tenant, identity = key
            heard = self._heard.get((tenant, identity))
            if heard is None or heard.due != due:
                continue
            next_due = min(heard.replicas.values(), default=now)
            if next_due <= now:
                found.append(Overdue(tenant, identity))
                next_due = now + RETRY_SECONDS
            self._look_again((tenant, identity), heard, next_due)
        return found

    def _look_again(self, key: _Key, heard: _Heard, due: float) -> None:
        heard.due = min(due, self.looked_at + LOOK_AGAIN_SECONDS)
        heapq.heappush(self._heap, (heard.due, *key))
