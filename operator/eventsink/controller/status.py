"""What the operator says in an EventSink's status, and as an Event when it changes. Pure but for `write_status`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from eventsink.destinations.problem import Problem
from eventsink.kube.api import EVENTS, Api, Forbidden, Invalid, NotFound, Object, Unavailable
from eventsink.kube.status import StatusApplier
from eventsink.resources.eventsink import EventSinkObject
from eventsink.resources.names import API_VERSION, EVENTSINKS, KIND, MANAGED_BY_LABEL, OPERATOR_MANAGER, REST_MANAGER
from eventsink.resources.status import (
    READY,
    RECONCILING,
    STALLED,
    Condition,
    EventSinkStatus,
    SlackStatus,
    WebhookStatus,
    ready,
    reconciling,
    stalled,
)
from eventsink.runtime.logs import Repeated, get_logger
from eventsink.runtime.times import format_time

OWN_CONDITIONS = (READY, RECONCILING, STALLED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reconcile came to."""

    problem: Problem | None
    """None: the current generation is in force."""
    kept_generation: int | None = None
    """The generation that stays in force in spite of the problem."""
    withdrawn: bool = False
    suspended: bool = False
    type: str | None = None
    slack: SlackStatus | None = None
    """The channel that is in force, if it is one."""
    webhook: WebhookStatus | None = None
    """The endpoint that is in force, if it is one."""


def status_of(sink: EventSinkObject, verdict: Verdict, now: datetime) -> EventSinkStatus:
    """The operator's part of the status, with times kept where nothing changed."""
    before = sink.status
    own = [condition for condition in before.conditions if condition.type in OWN_CONDITIONS]
    problem = verdict.problem
    if problem is None:
        message = "suspended: nothing is queued and nothing sent" if verdict.suspended else "the sink is in force"
        conditions = ready(
            message, generation=sink.generation, now=now, previous=own, reason="Suspended" if verdict.suspended else "Accepted"
        )
    else:
        message = problem.message
        if verdict.withdrawn:
            message += "; until then nothing is sent and deliveries are held"
        elif verdict.kept_generation is not None:
            message += f"; the last accepted configuration (generation {verdict.kept_generation}) stays in force"
        make = reconciling if problem.may_pass else stalled
        conditions = make(problem.reason, message, generation=sink.generation, now=now, previous=own)
    changed = before.spec_changed_time if before.observed_generation == sink.generation else None
    return EventSinkStatus(
        observed_generation=sink.generation,
        conditions=conditions,
        type=verdict.type or before.type,
        spec_changed_time=changed or format_time(now),
        slack=verdict.slack,
        webhook=verdict.webhook,
    )


def is_written(sink: EventSinkObject, status: EventSinkStatus, *, details: bool) -> bool:
    """Whether the object says all of this already."""
    before = sink.status
    own = tuple(condition for condition in before.conditions if condition.type in OWN_CONDITIONS)
    if before.observed_generation != status.observed_generation or _sorted(own) != _sorted(status.conditions):
        return False
    told = (status.type, status.spec_changed_time, status.slack, status.webhook)
    return not details or (before.type, before.spec_changed_time, before.slack, before.webhook) == told


def event_of(sink: EventSinkObject, status: EventSinkStatus) -> tuple[str, str, str] | None:
    """The Event to tell: (type, reason, message), or None where nothing changed that a person wants to hear of."""
    old, new = sink.status.condition(READY), status.condition(READY)
    assert new is not None
    if old is not None and (old.status, old.reason, old.message) == (new.status, new.reason, new.message):
        return None
    if old is None and new.reason == "SecretNotFound" and _is_being_made(sink):
        return None
    return ("Normal" if new.status == "True" else "Warning", new.reason, new.message)


def _is_being_made(sink: EventSinkObject) -> bool:
    """By the REST facade, which makes a sink before the Secret that it owns."""
    labels = sink.raw["metadata"].get("labels") or {}
    return labels.get(MANAGED_BY_LABEL) == REST_MANAGER


def _sorted(conditions: tuple[Condition, ...]) -> list[Condition]:
    return sorted(conditions, key=lambda condition: condition.type)


class StatusWriter:
    """Writes statuses and Events."""

    def __init__(self, api: Api, now: Callable[[], datetime]) -> None:
        self._api = api
        self._now = now
        self._statuses = StatusApplier(api, EVENTSINKS, OPERATOR_MANAGER)
        self._event_log = Repeated(60.0)

    async def write(self, sink: EventSinkObject, verdict: Verdict) -> bool:
        """Make the status say what the verdict is; whether anything was written.

        Raises
        ------
        ApiError
            It could not be written; a Conflict means that the object was changed since, and will be seen again.
        """
        status = status_of(sink, verdict, self._now())
        if is_written(sink, status, details=self._statuses.complete):
            return False
        await self._statuses.apply(_body(sink, status))
        event = event_of(sink, status)
        if event is not None:
            await self._tell(sink, *event)
        return True

    async def _tell(self, sink: EventSinkObject, kind: str, reason: str, message: str) -> None:
        now = self._now()
        body: Object = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{sink.name[:200]}.", "namespace": sink.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": sink.namespace,
                "name": sink.name,
                "uid": sink.uid,
                "resourceVersion": sink.resource_version,
            },
            "type": kind,
            "reason": reason[:128],
            "message": message[:1000],
            "source": {"component": OPERATOR_MANAGER},
            "reportingComponent": OPERATOR_MANAGER,
            "firstTimestamp": format_time(now),
            "lastTimestamp": format_time(now),
            "count": 1,
        }
        try:
            await self._api.create(EVENTS, body)
        except (Unavailable, Forbidden, NotFound, Invalid) as error:
            # The status says the same; a namespace that is being deleted takes no Events.
            if self._event_log.due() is not None:
                get_logger().warning("an Event could not be written", reason=str(error))


def _body(sink: EventSinkObject, status: EventSinkStatus) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        # The resourceVersion makes a write to an object that was changed or made anew since fail (409).
        "metadata": {"name": sink.name, "namespace": sink.namespace, "resourceVersion": sink.resource_version},
        "status": status.to_dict(),
    }
