"""What the operator says in an EventSink's status, and as an Event when it changes. Pure but for `write_status`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from eventsink.controller.delivery_events import DeliveryEvents
from eventsink.controller.events import Event, Events
from eventsink.destinations.problem import Problem
from eventsink.kube.api import Api, Key, Object
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
from eventsink.runtime.times import format_time

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
    remark: str = ""
    """What its destination type adds."""


def status_of(sink: EventSinkObject, state: SpecState, now: datetime) -> EventSinkStatus:
    """The operator's part of the status, with times kept where nothing changed."""
    before = sink.status
    own = [condition for condition in before.conditions if condition.type in OWN_CONDITIONS]
    problem = state.problem
    if problem is None:
        message = "suspended: alerts are neither queued nor sent" if state.suspended else "spec accepted and active"
        if state.remark:
            message += f"; {state.remark}"
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
        self._events = Events(api, now, left_out)
        self._delivery = DeliveryEvents(now, left_out)
        self._now = now
        self._statuses = StatusApplier(api, EVENTSINKS, OPERATOR_MANAGER, retry_seconds=retry_seconds)

    @property
    def complete(self) -> bool:
        """Whether the CRD has all fields, as far as is known."""
        return self._statuses.complete

    async def write(self, sink: EventSinkObject, state: SpecState) -> Object | None:
        """Make the status say what the state is; returns the EventSink as it was written, or None where it says that already.

        `announce` records the change as an Event.

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
            self._events.add(sink, Event(*event, field=state.problem.path if state.problem is not None else ""))
        return written

    async def announce(self, sink: EventSinkObject) -> float | None:
        """Record as Events what changed: of `Ready`, and that the sink stopped delivering, or recovered.

        Returns
        -------
        float or None
            After how many seconds to call again; None: not by itself.
        """
        key = (sink.namespace, sink.name)
        again = await self._events.write_waiting(sink)
        event, wait = self._delivery.look(sink)
        if event is not None:
            if await self._events.write(sink, Event(event.type, event.reason, event.message, name=event.name)):
                self._delivery.recorded(key, event)
            else:
                wait = self._delivery.failed(key, event)
        return min((one for one in (again, wait) if one is not None), default=None)

    def forget(self, key: Key) -> None:
        """The sink is gone."""
        self._delivery.forget(key)
        self._events.forget(key)


def _body(sink: EventSinkObject, status: EventSinkStatus) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        # The resourceVersion makes a write to an object that was changed or re-created since fail (409).
        "metadata": {"name": sink.name, "namespace": sink.namespace, "resourceVersion": sink.resource_version},
        "status": status.to_dict(),
    }
