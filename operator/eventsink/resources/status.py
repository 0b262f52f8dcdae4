"""What an EventSink's status says: its fields, and the conditions by which tools and people judge it.

The conditions follow kstatus (sigs.k8s.io/cli-utils, pkg/kstatus), as Flux, Argo CD and `kubectl wait` read them:

- `Ready` is always there: `True` once the current generation is in force, else `False` with the reason.
- `Reconciling` and `Stalled` are there only while they are `True`; kstatus takes their absence for `False`. At most one of
  them stands beside `Ready=False`: `Reconciling` where what is missing may come by itself, `Stalled` where a person has to act.
  (kstatus reads `Ready=False` alone as in progress; only `Stalled=True` reads as failed.)
- `Delivering` is the router's, and never counts for health. The functions here neither make nor carry it.

So `kubectl wait --for=condition=Ready` is what scripts wait for; nobody should wait for `Stalled=false`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from eventsink.runtime.times import format_time

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
DELIVERING = "Delivering"

MAX_REASON_LENGTH = 256
MAX_MESSAGE_LENGTH = 4096

Timestamp = Annotated[str, Field(min_length=20, max_length=40, json_schema_extra={"format": "date-time"})]
"""RFC 3339 with a time zone, in seconds, as the API server writes its own."""


class StatusModel(BaseModel):
    """Base: camelCase, unknown members ignored, since a newer version or another program may have written them."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, absent members left out."""
        return self.model_dump(by_alias=True, exclude_none=True)


class Condition(StatusModel):
    """One aspect of the sink's state (the same members as Kubernetes' own meta/v1 Condition)."""

    type: str = Field(
        min_length=1, max_length=64, description="Ready, Reconciling, Stalled (the operator's) or Delivering (the router's)."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(
        min_length=1, max_length=MAX_REASON_LENGTH, description="One CamelCase word for the reason, fit for programs."
    )
    message: str = Field(max_length=MAX_MESSAGE_LENGTH, description="What is the matter and what to do about it.")
    last_transition_time: Timestamp = Field(description="When the condition's status last changed.")
    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] | None = Field(
        default=None, description="The metadata.generation that this was said of."
    )


class SlackStatus(StatusModel):
    """The Slack channel that the sink resolved to."""

    team_id: str | None = Field(default=None, max_length=64, description="Id of the workspace.")
    team_name: str | None = Field(default=None, max_length=256, description="Name of the workspace.")
    channel_id: str | None = Field(default=None, max_length=64, description="Id of the channel.")
    channel_name: str | None = Field(default=None, max_length=256, description="Name of the channel when it was resolved.")


class WebhookStatus(StatusModel):
    """The endpoint that the sink posts to."""

    origin: str | None = Field(
        default=None, max_length=512, description="Scheme and host, and an unusual port: the most of its URL that is shown."
    )


class DeliveryStatus(StatusModel):
    """How delivery goes, as the router told it last; it lags by up to five minutes."""

    last_delivered_time: Timestamp | None = Field(default=None, description="When the last message was delivered.")
    last_error: str | None = Field(
        default=None, max_length=1024, description="The last failure that no success followed; absent: none."
    )


class EventSinkStatus(StatusModel):
    """What the operator and the router made of the spec."""

    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] | None = Field(
        default=None, description="The metadata.generation that the operator has seen last."
    )
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = Field(
        default=(),
        description="Ready: the spec is in force. Reconciling: waiting for something that may come. Stalled: a person has to "
        "act. Delivering: messages arrive (never counts for health).",
    )
    type: str | None = Field(default=None, max_length=32, description="The kind of destination: slack or webhook.")
    spec_changed_time: Timestamp | None = Field(default=None, description="When the operator saw the spec's last change.")
    slack: SlackStatus | None = Field(default=None, description="The Slack channel that the sink resolved to.")
    webhook: WebhookStatus | None = Field(default=None, description="The endpoint that the sink posts to.")
    delivery: DeliveryStatus | None = Field(
        default=None, description="How delivery goes, as the router told it last; it lags by up to five minutes."
    )

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, or None."""
        return next((condition for condition in self.conditions if condition.type == kind), None)


def ready(
    message: str, *, generation: int, now: datetime, previous: Iterable[Condition] = (), reason: str = "Accepted"
) -> tuple[Condition, ...]:
    """The operator's conditions of a sink whose current generation is in force.

    Parameters
    ----------
    message
        A sentence for people; cut to MAX_MESSAGE_LENGTH.
    generation
        The `metadata.generation` that this is said of.
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
    if len(message) > MAX_MESSAGE_LENGTH:
        message = message[: MAX_MESSAGE_LENGTH - 1] + "…"
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
