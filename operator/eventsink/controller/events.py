"""Writes Events about EventSinks; one that cannot be written is tried again, for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from eventsink.kube.api import EVENTS, Api, Conflict, Forbidden, Invalid, Key, NotFound, Object, Unavailable
from eventsink.resources.eventsink import EventSinkObject
from eventsink.resources.names import API_VERSION, KIND, OPERATOR_MANAGER
from eventsink.runtime.backoff import Backoff
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.times import format_time

MAX_EVENT_NAME_PREFIX = 200
"""Characters of the sink's name in the name of an Event, which has room for a suffix then (253 in all)."""
MAX_EVENT_REASON = 128
MAX_EVENT_MESSAGE = 1000
"""Characters; the API server takes 128 and 1,024 (kubernetes pkg/apis/core/validation/events.go)."""
RETRY = Backoff(first=5.0, longest=60.0)
"""Between two attempts to write an Event."""
TRIES = 12
"""After so many, eight minutes, an Event is left out; the status says the same."""
MAX_WAITING = 1000
"""Events that are to be written again; further ones are left out."""


@dataclass(frozen=True, slots=True)
class Event:
    """What an Event says."""

    type: str
    """`Normal` or `Warning`."""
    reason: str
    message: str
    field: str = ""
    """Of the EventSink, what it is about."""
    name: str = ""
    """The end of its name, the same for the same Event, so that it is never written twice; empty: the API server makes one up."""


@dataclass(slots=True)
class _Waiting:
    uid: str
    event: Event
    due: float
    """Monotonic clock."""
    failures: int = 0


class Events:
    """The Events of EventSinks.

    Parameters
    ----------
    now
        Wall clock.
    left_out
        Called for each Event that is not written.
    clock
        Monotonic, seconds.
    """

    def __init__(
        self, api: Api, now: Callable[[], datetime], left_out: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._now = now
        self._left_out = left_out
        self._clock = clock
        self._waiting: dict[Key, _Waiting] = {}
        self._log = Repeated(60.0)

    def add(self, sink: EventSinkObject, event: Event) -> None:
        """Have `write_waiting` write an Event, instead of one of the same sink that is still waiting."""
        key = (sink.namespace, sink.name)
        if key not in self._waiting and len(self._waiting) >= MAX_WAITING:
            self._left_out()
        else:
            self._waiting[key] = _Waiting(sink.uid, event, self._clock())

    async def write_waiting(self, sink: EventSinkObject) -> float | None:
        """Write what waits of a sink; returns after how many seconds to try again, None: nothing waits.

        Raises
        ------
        ApiError
            As `write`.
        """
        key = (sink.namespace, sink.name)
        waiting = self._waiting.get(key)
        if waiting is None:
            return None
        if (wait := waiting.due - self._clock()) > 0:
            return wait
        if waiting.uid == sink.uid and not await self.write(sink, waiting.event):
            waiting.failures += 1
            if waiting.failures < TRIES:
                wait = RETRY.wait(waiting.failures)
                waiting.due = self._clock() + wait
                return wait
            self._left_out()
        self.forget(key)
        return None

    def forget(self, key: Key) -> None:
        """The sink is gone."""
        self._waiting.pop(key, None)

    async def write(self, sink: EventSinkObject, event: Event) -> bool:
        """Create an Event; False: try again later. One that will never be taken counts as written.

        Raises
        ------
        ApiError
            The operator may not write at present.
        """
        try:
            await self._api.create(EVENTS, event_body(sink, event, self._now()))
        except Conflict:
            return bool(event.name)  # it is there
        except (Unavailable, Forbidden, NotFound, Invalid) as error:
            # A namespace that is being deleted takes no Events, and rights may be about to be given.
            if self._log.due() is not None:
                get_logger().warning("an Event could not be written", reason=str(error))
            return isinstance(error, NotFound | Invalid)
        return True


def event_body(sink: EventSinkObject, event: Event, now: datetime) -> Object:
    """The object that is created."""
    prefix = f"{sink.name[:MAX_EVENT_NAME_PREFIX]}."
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {**({"name": prefix + event.name} if event.name else {"generateName": prefix}), "namespace": sink.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": sink.namespace,
            "name": sink.name,
            "uid": sink.uid,
            "resourceVersion": sink.resource_version,
            **({"fieldPath": event.field} if event.field else {}),
        },
        "type": event.type,
        "reason": event.reason[:MAX_EVENT_REASON],
        "message": event.message[:MAX_EVENT_MESSAGE],
        "source": {"component": OPERATOR_MANAGER},
        "reportingComponent": OPERATOR_MANAGER,
        "firstTimestamp": format_time(now),
        "lastTimestamp": format_time(now),
        "count": 1,
    }
