"""The sinks and the tenancy that the router knows at this moment, and who is notified when they change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from eventsink.resources.names import ALL_TENANTS
from eventsink.runtime.times import format_time
from eventsink.sinks.sink import Sink, Tenancy, Withdrawn

NOT_OF_PLATFORM = "NotPlatformNamespace"
"""Why a sink of all tenants is withdrawn whose namespace the tenancy does not name as the platform's."""


@dataclass(frozen=True, slots=True)
class SinkChange:
    """One sink appeared (`before` is None), changed, or was deleted (`after` is None)."""

    before: Sink | None
    after: Sink | None


class SinkDirectory:
    """Current sinks by uid, and the tenancy.

    Filled by whoever watches the compiled sinks; read by matching and dispatch. Lives in one event loop: listeners are called at
    once and must not block.
    """

    def __init__(self) -> None:
        self._sinks: dict[str, Sink] = {}
        self._of_all: dict[str, Sink] = {}
        """As they were put, the sinks that receive the alerts of all tenants, by uid."""
        self._tenancy = Tenancy()
        self._tenancy_known = False
        self._loaded = False
        self.withheld: set[str] = set()
        """uids of sinks that exist and that this version cannot read: they are not deleted."""
        self._sink_listeners: list[Callable[[SinkChange], None]] = []
        self._load_listeners: list[Callable[[], None]] = []

    @property
    def loaded(self) -> bool:
        """True once every sink and the tenancy were seen; before that, nothing may be accepted."""
        return self._loaded

    @property
    def sinks(self) -> Mapping[str, Sink]:
        """uid -> sink; a live view."""
        return MappingProxyType(self._sinks)

    @property
    def tenancy(self) -> Tenancy:
        return self._tenancy

    @property
    def tenancy_known(self) -> bool:
        """True once a tenancy document was seen."""
        return self._tenancy_known

    def subscribe(self, listener: Callable[[SinkChange], None]) -> None:
        """Have `listener` called for each change of a sink from now on."""
        self._sink_listeners.append(listener)

    def when_loaded(self, listener: Callable[[], None]) -> None:
        """Have `listener` called once, when everything is loaded (at once, if it is)."""
        if self._loaded:
            listener()
        else:
            self._load_listeners.append(listener)

    def put(self, sink: Sink) -> None:
        """A sink appeared or changed. One that is equal to the known one changes nothing.

        One that receives the alerts of all tenants is withdrawn while the tenancy does not name its namespace as the platform's, whatever
        the operator has compiled: the tenancy is one document, and there before that of each sink.
        """
        if sink.tenant == ALL_TENANTS:
            self._of_all[sink.uid] = sink
            sink = self._checked(sink)
        elif self._of_all:
            self._of_all.pop(sink.uid, None)
        before = self._sinks.get(sink.uid)
        if before == sink:
            return
        self._sinks[sink.uid] = sink
        self._notify(SinkChange(before, sink))

    def remove(self, uid: str) -> None:
        """A sink was deleted. An unknown uid changes nothing."""
        self._of_all.pop(uid, None)
        before = self._sinks.pop(uid, None)
        if before is not None:
            self._notify(SinkChange(before, None))

    def set_tenancy(self, tenancy: Tenancy) -> None:
        """The tenancy document was seen or changed."""
        self._tenancy = tenancy
        self._tenancy_known = True
        for sink in list(self._of_all.values()):
            self.put(sink)

    def _checked(self, sink: Sink) -> Sink:
        """A sink of all tenants, withdrawn unless its namespace is the platform's."""
        if sink.withdrawn is not None or sink.namespace in self._tenancy.platform:
            return sink
        before = self._sinks.get(sink.uid)
        if before is not None and before.withdrawn is not None and before.withdrawn.reason == NOT_OF_PLATFORM:
            withdrawn = before.withdrawn
        else:
            withdrawn = Withdrawn(reason=NOT_OF_PLATFORM, since=format_time(datetime.now(UTC)))
        return sink.model_copy(update={"withdrawn": withdrawn, "target": None})

    def mark_loaded(self) -> None:
        """All sinks of the first list were put and the tenancy is known."""
        if self._loaded:
            return
        self._loaded = True
        for listener in self._load_listeners:
            listener()
        self._load_listeners.clear()

    def _notify(self, change: SinkChange) -> None:
        for listener in self._sink_listeners:
            listener(change)
