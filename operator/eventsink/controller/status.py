"""What the operator says in an EventSink's status, and as an Event when it changes. Pure but for `write_status`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from eventsink.controller.delivery_events import DeliveryEvents
from eventsink.destinations.problem import Problem
from eventsink.kube.api import EVENTS, Api, Conflict, Forbidden, Invalid, Key, NotFound, Object, Unavailable
from eventsink.kube.status import RETRY_SECONDS, StatusApplier
from eventsink.resources.eventsink import EventSinkObject
from eventsink.resources.model import StatusModel
from eventsink.resources.names import API_VERSION, EVENTSINKS, KIND, MANAGED_BY_LABEL, OPERATOR_MANAGER, REST_MANAGER
from eventsink.resources.status import (
    READY,
    RECONCILING,
    STALLED,
    Condition,
    EventSinkStatus,
    ready,
    reconciling,
    stalled,
)
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.times import format_time

MAX_EVENT_NAME_PREFIX = 200
"""Characters of the sink's name in the name of an Event, which has room for a suffix then (253 in all)."""
MAX_EVENT_REASON = 128
MAX_EVENT_MESSAGE = 1000
"""Characters; the API server takes 128 and 1,024 (kubernetes pkg/apis/core/validation/events.go)."""
NAME_SHARED = "; spec.name: another EventSink of the tenant has the same name; give each a name of its own"
OWN_CONDITIONS = (READY, RECONCILING, STALLED)


@dataclass(frozen=True, slots=True)
class SpecState:
    """The state of a spec: accepted and active, or rejected, with what remains of what was accepted before."""

    problem: Problem | None
    """None: the current generation is accepted and active."""
    kept_generation: int | None = None
    """The generation that stays active in spite of the problem."""
    withdrawn: bool = False
    suspended: bool = False
    type: str | None = None
    destinations: Mapping[str, StatusModel] = field(default_factory=dict)
    """Destination type -> what the status shows of the active destination; at most one entry."""
    shares_name: bool = False
    """Another EventSink of the tenant has the same display name."""


def status_of(sink: EventSinkObject, state: SpecState, now: datetime) -> EventSinkStatus:
    """The operator's part of the status, with times kept where nothing changed."""
    before = sink.status
    own = [condition for condition in before.conditions if condition.type in OWN_CONDITIONS]
    problem = state.problem
    if problem is None:
        message = "suspended: alerts are neither queued nor sent" if state.suspended else "spec accepted and active"
        if state.shares_name:
            message += NAME_SHARED
        conditions = ready(
            message, generation=sink.generation, now=now, previous=own, reason="Suspended" if state.suspended else "Accepted"
        )
    else:
        message = problem.message
        if state.withdrawn:
            message += "; until then nothing is sent and deliveries are held"
        elif state.kept_generation is not None:
            message += f"; the last accepted configuration (generation {state.kept_generation}) stays active"
        make = reconciling if problem.may_pass else stalled
        conditions = make(problem.reason, message, generation=sink.generation, now=now, previous=own)
    changed = before.spec_changed_time if before.observed_generation == sink.generation else None
    return EventSinkStatus(
        observed_generation=sink.generation,
        conditions=conditions,
        type=state.type or before.type,
        spec_changed_time=changed or format_time(now),
        **dict[str, Any](state.destinations),
    )


def is_written(sink: EventSinkObject, status: EventSinkStatus, *, details: bool) -> bool:
    """Whether the object says all of this already."""
    before = sink.status
    own = tuple(condition for condition in before.conditions if condition.type in OWN_CONDITIONS)
    if before.observed_generation != status.observed_generation or _sorted(own) != _sorted(status.conditions):
        return False
    shown = (status.type, status.spec_changed_time, status.destinations)
    return not details or (before.type, before.spec_changed_time, before.destinations) == shown


def event_of(sink: EventSinkObject, status: EventSinkStatus) -> tuple[str, str, str] | None:
    """The Event to record: (type, reason, message), or None where nothing changed that people need to know."""
    old, new = sink.status.condition(READY), status.condition(READY)
    assert new is not None
    if old is not None and (old.status, old.reason, old.message) == (new.status, new.reason, new.message):
        return None
    if old is None and new.reason == "SecretNotFound" and _is_being_made(sink):
        return None
    is_well = new.status == "True" and not new.message.endswith(NAME_SHARED)
    return ("Normal" if is_well else "Warning", new.reason, new.message)


def _is_being_made(sink: EventSinkObject) -> bool:
    """By the REST facade, which makes a sink before the Secret that it owns."""
    labels = sink.raw["metadata"].get("labels") or {}
    return labels.get(MANAGED_BY_LABEL) == REST_MANAGER


def _sorted(conditions: tuple[Condition, ...]) -> list[Condition]:
    return sorted(conditions, key=lambda condition: condition.type)


class StatusWriter:
    """Writes statuses and Events."""

    def __init__(
        self,
        api: Api,
        now: Callable[[], datetime],
        left_out: Callable[[], None] = lambda: None,
        *,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._api = api
        self._delivery = DeliveryEvents(now, left_out)
        self._now = now
        self._statuses = StatusApplier(api, EVENTSINKS, OPERATOR_MANAGER, retry_seconds=retry_seconds)
        self._event_log = Repeated(60.0)

    @property
    def complete(self) -> bool:
        """Whether the CRD has all fields, as far as is known."""
        return self._statuses.complete

    async def write(self, sink: EventSinkObject, state: SpecState) -> Object | None:
        """Make the status say what the state is; returns the EventSink as it was written, or None where it says that already.

        Raises
        ------
        ApiError
            It could not be written; a Conflict means that the object was changed since, and will be seen again.
        """
        status = status_of(sink, state, self._now())
        if is_written(sink, status, details=self._statuses.tries_all):
            return None
        written = await self._statuses.apply(_body(sink, status))
        event = event_of(sink, status)
        if event is not None:
            await self._record(sink, *event, field=state.problem.path if state.problem is not None else "")
        return written

    async def announce(self, sink: EventSinkObject) -> float | None:
        """Record that the sink stopped delivering, or recovered; returns after how many seconds to call again, None: not by itself."""
        event, again = self._delivery.look(sink)
        if event is not None:
            await self._record(sink, event.type, event.reason, event.message, name=event.name)
        return again

    def forget(self, key: Key) -> None:
        """The sink is gone."""
        self._delivery.forget(key)

    async def _record(
        self, sink: EventSinkObject, kind: str, reason: str, message: str, *, field: str = "", name: str = ""
    ) -> None:
        """Create an Event; one that has a name already exists if the name does."""
        now = self._now()
        prefix = f"{sink.name[:MAX_EVENT_NAME_PREFIX]}."
        body: Object = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {**({"name": prefix + name} if name else {"generateName": prefix}), "namespace": sink.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": sink.namespace,
                "name": sink.name,
                "uid": sink.uid,
                "resourceVersion": sink.resource_version,
                **({"fieldPath": field} if field else {}),
            },
            "type": kind,
            "reason": reason[:MAX_EVENT_REASON],
            "message": message[:MAX_EVENT_MESSAGE],
            "source": {"component": OPERATOR_MANAGER},
            "reportingComponent": OPERATOR_MANAGER,
            "firstTimestamp": format_time(now),
            "lastTimestamp": format_time(now),
            "count": 1,
        }
        try:
            await self._api.create(EVENTS, body)
        except Conflict:
            if not name:
                raise
        except (Unavailable, Forbidden, NotFound, Invalid) as error:
            # The status says the same; a namespace that is being deleted takes no Events.
            if self._event_log.due() is not None:
                get_logger().warning("an Event could not be written", reason=str(error))


def _body(sink: EventSinkObject, status: EventSinkStatus) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        # The resourceVersion makes a write to an object that was changed or re-created since fail (409).
        "metadata": {"name": sink.name, "namespace": sink.namespace, "resourceVersion": sink.resource_version},
        "status": status.to_dict(),
    }
