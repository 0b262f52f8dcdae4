"""What an EventSink's status says: its fields, and the conditions by which tools and people judge it.

The conditions follow kstatus (sigs.k8s.io/cli-utils, pkg/kstatus), as Flux, Argo CD and `kubectl wait` read them:

- `Ready` is always there: `True` once the current generation is accepted and active, else `False` with the reason.
- `Reconciling` and `Stalled` are there only while they are `True`; kstatus takes their absence for `False`. At most one of
  them accompanies `Ready=False`: `Reconciling` where what is missing may arrive by itself, `Stalled` where a person has to act.
  (kstatus reads `Ready=False` alone as in progress; only `Stalled=True` reads as failed.)
- `Delivering` is the router's, and never counts for health. The functions here neither make nor carry it.

So `kubectl wait --for=condition=Ready` is what scripts wait for; nobody should wait for `Stalled=false`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model

from eventsink.destinations import registry
from eventsink.runtime.times import format_time

from .model import AtMost, StatusModel

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
DELIVERING = "Delivering"

DELIVERS_AGAIN = "the last message arrived, after messages had failed"
"""Message of `Delivering` where it became `True` after it was `False`: the router says so, and whoever sees the status first then knows it."""

NOT_SEEN = -1
"""The observed generation of an EventSink that the operator has not seen: the CRD's default."""

Timestamp = Annotated[str, Field(min_length=20, max_length=40, json_schema_extra={"format": "date-time"})]
"""RFC 3339 with a time zone, in seconds, as the API server writes its own."""


class Condition(StatusModel):
    """One aspect of the sink's state (the same members as Kubernetes' own meta/v1 Condition)."""

    type: str = Field(
        min_length=1, max_length=64, description="Ready, Reconciling, Stalled (the operator's) or Delivering (the router's)."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[str, AtMost(256)] = Field(min_length=1, description="One CamelCase word for the reason, for programs.")
    message: Annotated[str, AtMost(4096)] = Field(description="What is the matter and what to do about it.")
    last_transition_time: Timestamp = Field(description="When the condition's status last changed.")
    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] | None = Field(
        default=None, description="The metadata.generation that this is about."
    )


class DeliveryStatus(StatusModel):
    """How delivery goes, as the router last reported; up to five minutes old."""

    last_delivered_time: Timestamp | None = Field(default=None, description="When the last message was delivered.")
    last_error: Annotated[str, AtMost(1024)] | None = Field(
        default=None, description="The last failure that no success has followed. Absent: none."
    )


class CommonStatus(StatusModel):
    """What the operator and the router report of the sink."""

    observed_generation: Annotated[int, Field(ge=NOT_SEEN, json_schema_extra={"format": "int64"})] | None = Field(
        default=None, description="The metadata.generation that the operator has seen last; -1: none yet."
    )
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = Field(
        default=(),
        description="Ready: the spec is accepted and active. Reconciling: waiting for something that may arrive. Stalled: a "
        "person has to act. Delivering: messages arrive (never counts for health).",
    )
    type: str | None = Field(
        default=None, max_length=32, description=f"The destination type, one of: {', '.join(registry.names())}."
    )
    spec_changed_time: Timestamp | None = Field(default=None, description="When the operator saw the spec's last change.")
    delivery: DeliveryStatus | None = Field(
        default=None, description="How delivery goes, as the router last reported; up to five minutes old."
    )

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, or None."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    @property
    def destinations(self) -> Mapping[str, StatusModel]:
        """Destination type -> what is reported of the destination; at most one entry."""
        return {name: found for name in registry.names() if (found := getattr(self, name)) is not None}


def _destination_fields() -> dict[str, Any]:
    models = {name: registry.load(name, "spec").STATUS for name in registry.names()}
    return {name: (model | None, Field(default=None, description=model.__doc__)) for name, model in models.items()}


if TYPE_CHECKING:

    class EventSinkStatus(CommonStatus):
        """The status of an EventSink, with one optional field for each destination type."""

else:
    EventSinkStatus = create_model(
        "EventSinkStatus", __base__=CommonStatus, __module__=__name__, __doc__=CommonStatus.__doc__, **_destination_fields()
    )


def ready(
    message: str, *, generation: int, now: datetime, previous: Iterable[Condition] = (), reason: str = "Accepted"
) -> tuple[Condition, ...]:
    """The operator's conditions of a sink whose current generation is accepted and active.

    Parameters
    ----------
    message
        A sentence for people; one that is too long is cut.
    generation
        The `metadata.generation` that this is about.
    now
        The time of a change of status.
    previous
        The conditions that the status has now: one whose status stays the same keeps its time of transition.
    reason
        CamelCase.
    """
    return _conditions([(READY, "True")], reason, message, generation, now, previous)


def reconciling(
    reason: str, message: str, *, generation: int, now: datetime, previous: Iterable[Condition] = ()
) -> tuple[Condition, ...]:
    """The operator's conditions of a sink that waits for something that may come by itself. Parameters as of `ready`."""
    return _conditions([(READY, "False"), (RECONCILING, "True")], reason, message, generation, now, previous)


def stalled(
    reason: str, message: str, *, generation: int, now: datetime, previous: Iterable[Condition] = ()
) -> tuple[Condition, ...]:
    """The operator's conditions of a sink that stays as it is until a person acts. Parameters as of `ready`."""
    return _conditions([(READY, "False"), (STALLED, "True")], reason, message, generation, now, previous)


def _conditions(
    states: list[tuple[str, Literal["True", "False"]]],
    reason: str,
    message: str,
    generation: int,
    now: datetime,
    previous: Iterable[Condition],
) -> tuple[Condition, ...]:
    since = {(condition.type, condition.status): condition.last_transition_time for condition in previous}
    return tuple(
        Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message,
            last_transition_time=since.get((kind, status), format_time(now)),
            observed_generation=generation,
        )
        for kind, status in states
    )
