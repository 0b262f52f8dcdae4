"""How much is in the queue, counted in memory: it can be asked at any time, and costs nothing."""

from __future__ import annotations

from eventsink.router.queue.protocol import Depth, Waiting
from eventsink.router.queue.sqlite.settings import QueueSettings
from eventsink.router.queue.sqlite.store import Store, StoreChange

DEAD_LETTERS_UP_TO = 0.7
"""Part of `max_bytes` beyond which dead letters make room, the oldest first, however few they are."""
BODIES_UP_TO = 0.5
"""Part of `max_bytes` beyond which the bodies of firing alerts are not kept: what has to be delivered needs the rest."""
NEEDED_BODIES_UP_TO = 0.6
"""The same of bodies that nobody sends again: of held alerts, and of ends that suspended sinks have yet to be notified of."""


class Counts:
    """What there is, as of the last commits; changed in the event loop.

    Parameters
    ----------
    store
        Just opened.
    """

    def __init__(self, settings: QueueSettings, store: Store) -> None:
        self._settings = settings
        self.waiting_by_sink = store.waiting
        """uid -> deliveries, of each sink that has any."""
        self.waiting = sum(store.waiting.values())
        self._by_tenant = store.waiting_by_tenant
        self._tenants_changed: set[str] = set()
        self.used_bytes = store.used_bytes()
        """What the rows take in the file."""
        self._dead = store.dead
        self._evicted = 0
        self._posts_evicted = 0

    def add(self, change: StoreChange, used_bytes: int | None) -> None:
        """A transaction was committed; it left so many bytes in the file (None: unknown)."""
        for uid, more in change.waiting.items():
            self.waiting += more
            waiting = self.waiting_by_sink.get(uid, 0) + more
            if waiting:
                self.waiting_by_sink[uid] = waiting
            else:
                self.waiting_by_sink.pop(uid, None)
        self._tenants_changed.update(change.tenants)
        for tenant, (deliveries, size) in change.tenants.items():
            of_tenant = self._by_tenant.setdefault(tenant, Waiting())
            of_tenant.deliveries += deliveries
            of_tenant.bytes += size
            if not of_tenant.deliveries:
                del self._by_tenant[tenant]
        self._dead += change.dead
        self._evicted += change.evicted
        self._posts_evicted += change.posts_evicted
        if used_bytes is not None:
            self.used_bytes = used_bytes

    def depth(self, *, damaged: bool) -> Depth:
        """All of it."""
        bounds = self._settings
        fill = max(self.waiting / bounds.max_waiting, self.used_bytes / bounds.max_bytes)
        return Depth(self.waiting, self._dead, self.used_bytes, self._evicted, self._posts_evicted, fill, damaged)

    def waiting_of(self, tenant: str) -> Waiting:
        """As `DeliveryQueue.waiting_of`."""
        return self._by_tenant.get(tenant) or Waiting()

    def tenants_changed(self) -> set[str]:
        """As `DeliveryQueue.tenants_changed`."""
        changed, self._tenants_changed = self._tenants_changed, set()
        return changed

    def has_room_for_bodies(self, *, needed: bool) -> bool:
        """As `AlertStateStore.has_room_for_bodies`."""
        return self.used_bytes <= (NEEDED_BODIES_UP_TO if needed else BODIES_UP_TO) * self._settings.max_bytes

    def crowded(self) -> bool:
        """Whether dead letters have to make room."""
        return self.used_bytes > DEAD_LETTERS_UP_TO * self._settings.max_bytes
