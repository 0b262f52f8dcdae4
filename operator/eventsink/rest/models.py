"""Requests and responses of the REST API: snake_case JSON, and the source of the OpenAPI document.

Requests are read without conversion of types, and unknown fields are rejected by name. The rules about values are the EventSink's own;
the schema states those that it can for readers, and `calls/specs.py` checks all. Arguments and configuration of a destination are
those of its type, under the type's display name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, create_model, model_validator

from eventsink.destinations.arguments import NO_DOCSTRINGS, Duration, RestModel, arguments, bounds, from_spec, stated
from eventsink.resources import rules
from eventsink.resources.mutes import MAX_MUTE_MATCHERS, MAX_TIME_CHARACTERS, MuteSpec
from eventsink.resources.spec import DeliverySpec, EventSinkSpec, MatchSpec

UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"

TenantId = Annotated[str, Field(min_length=1, **bounds(EventSinkSpec, "tenant"), json_schema_extra=stated(rules.CLAIM_PATTERN))]
DisplayName = Annotated[str, Field(min_length=1, **bounds(EventSinkSpec, "name"), json_schema_extra=stated(rules.TEXT_PATTERN))]
Description = Annotated[str, Field(**bounds(EventSinkSpec, "description"))]
Id = Annotated[str, Field(json_schema_extra=stated(UUID_PATTERN, format="uuid"))]
GivenId = Annotated[str, Field(json_schema_extra=stated(UUID_PATTERN.replace("a-f", "a-fA-F"), format="uuid"))]
"""In a request: upper and lower case do not differ."""
Time = Annotated[str, Field(json_schema_extra=stated(TIME_PATTERN, format="date-time"))]
DISPLAY_NAMES = tuple(one.display_name for one in arguments().values())

if TYPE_CHECKING:

    class MatchArgs(RestModel):
        """Which alerts to deliver; an alert must satisfy everything that is set."""

    class DeliveryArgs(RestModel):
        """How alerts are delivered."""

    class MuteArgs(RestModel):
        """Alerts of which the sink is not notified for a time."""

else:
    MatchArgs = from_spec("MatchArgs", MatchSpec, "Which alerts to deliver; an alert must satisfy everything that is set.")
    DeliveryArgs = from_spec("DeliveryArgs", DeliverySpec, "How alerts are delivered.")
    MuteArgs = from_spec("MuteArgs", MuteSpec, "Alerts of which the sink is not notified for a time.")


Mutes = Annotated[list[MuteArgs], Field(**bounds(EventSinkSpec, "mutes"))]


class ByType(RestModel):
    """One field for each destination type; exactly one of them is set."""

    @property
    def type(self) -> str:
        """The name of the type that is set, as in a spec."""
        return next(name for name in arguments() if getattr(self, name) is not None)

    @property
    def value(self) -> Any:
        """The model of the type that is set."""
        return getattr(self, self.type)

    @classmethod
    def of(cls, name: str, value: RestModel) -> Self:
        """The model with the value of one type, which is named as in a spec."""
        return cls.model_validate({name: value})

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if sum(getattr(self, name) is not None for name in arguments()) != 1:
            raise ValueError(f"write exactly one of {', '.join(DISPLAY_NAMES[:-1])} and {DISPLAY_NAMES[-1]}")
        return self


class ByTypeArgs(ByType):
    """A destination in a request."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [name], "properties": {name: {"type": "object"}}} for name in DISPLAY_NAMES]}
    )


def _by_type(name: str, base: type[ByType], part: Literal["create", "change", "configuration"], doc: str) -> type[ByType]:
    fields: dict[str, Any] = {
        type_name: (getattr(one, part) | None, Field(default=None, alias=one.display_name))
        for type_name, one in arguments().items()
    }
    return create_model(name, __base__=base, __doc__=doc, __cls_kwargs__=NO_DOCSTRINGS, **fields)


if TYPE_CHECKING:

    class EventSinkArgs(ByTypeArgs):
        """The destination of a new sink."""

    class EventSinkChanges(ByTypeArgs):
        """What changes of the destination."""

    class Configuration(ByType):
        """The destination."""

else:
    EventSinkArgs = _by_type("EventSinkArgs", ByTypeArgs, "create", "The destination: exactly one of these.")
    EventSinkChanges = _by_type("EventSinkChanges", ByTypeArgs, "change", "What changes of the destination, whose type stays.")
    Configuration = _by_type("Configuration", ByType, "configuration", "The destination, under its type.")


class CreateRequest(RestModel):
    """A new sink."""

    tenant_id: TenantId
    """Whose alerts are delivered."""
    name: DisplayName
    """Display name."""
    description: Description | None = None
    """What it is for."""
    event_sink_args: EventSinkArgs
    suspend: bool | None = None
    """Pause this sink: while true, alerts are neither queued nor sent."""
    match: MatchArgs | None = None
    mutes: Mutes | None = None
    """Alerts of which the sink is not notified for a time."""
    delivery: DeliveryArgs | None = None


class UpdateRequest(RestModel):
    """What changes: omitted fields stay, null clears an optional field."""

    id: GivenId
    """The same as in the path."""
    name: DisplayName | None = None
    description: Description | None = None
    event_sink_args: EventSinkChanges | None = None
    suspend: bool | None = None
    match: MatchArgs | None = None
    mutes: Mutes | None = None
    """Alerts of which the sink is not notified for a time. They replace all existing ones."""
    delivery: DeliveryArgs | None = None


class MuteRequest(RestModel):
    """A mute to add. One with the same matchers, and the same `from`, replaces the one before."""

    matchers: Annotated[list[str], Field(min_length=1, max_length=MAX_MUTE_MATCHERS)]
    """Label matchers as in Alertmanager; an alert that satisfies all of them is muted."""
    from_: Annotated[str, Field(max_length=MAX_TIME_CHARACTERS)] | None = Field(default=None, alias="from")
    """Since when, in RFC 3339; at once by default."""
    until: Annotated[str, Field(max_length=MAX_TIME_CHARACTERS)] | None = None
    """Until when, in RFC 3339. Exactly one of `until` and `duration`."""
    duration: Duration | None = None
    """For how long from now on, such as 2h."""
    comment: str | None = None
    """Why, for people."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if (self.until is None) is (self.duration is None):
            raise ValueError("write exactly one of until and duration")
        return self


class NoContent(RestModel):
    """An empty object."""


class Delivering(RestModel):
    """Whether messages arrive, as the router last reported it; `Unknown` with the reason `NotReported` until it does."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    last_delivered_at: Time | None = None
    last_error: str | None = None


class EventSinkResponse(RestModel):
    """A sink."""

    id: Id
    tenant_id: str
    name: str
    description: str
    event_sink_type: Annotated[str, Field(json_schema_extra={"enum": list(DISPLAY_NAMES)})]
    configuration: Configuration
    created_at: Time
    updated_at: Time
    """When it was changed last."""
    ready: bool
    """Whether the configuration shown here is accepted and active."""
    reason: str
    """Why it is not ready; empty when it is."""
    suspend: bool | None = None
    match: MatchArgs | None = None
    mutes: list[MuteArgs] | None = None
    delivery: DeliveryArgs | None = None
    delivering: Delivering


class OneSink(RestModel):
    """One sink."""

    event_sink: EventSinkResponse


class ChangedSink(OneSink):
    """The sink after the change."""

    signing_secret: str | None = None
    """The one that was generated; shown in this response only."""


class Pagination(RestModel):
    """Where the list continues."""

    next_page_token: str
    """For `pagination[page_token]`; empty: this is the last page."""


class ManySinks(RestModel):
    """The sinks of a tenant, oldest first."""

    event_sinks: list[EventSinkResponse]
    pagination: Pagination | None = None


class DeletedSink(RestModel):
    """What was deleted."""

    id: Id
    tenant_id: str


class DeliveryTest(RestModel):
    """The outcome of a test alert."""

    delivered: bool
    status: Literal["", "1xx", "2xx", "3xx", "4xx", "5xx"]
    """Class of the receiver's HTTP status, if it responded."""
    reason: str
    """Why it was not delivered, such as HTTP404; empty when it was."""
    message: str
    seconds: float
    """From the request to the outcome."""
    delivery_id: str
    """The same as in the admin API and in the message's webhook-id."""


class ErrorResponse(RestModel):
    """An error."""

    error: str
    """A sentence."""
