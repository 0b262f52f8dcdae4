"""Requests and responses of the REST API: snake_case JSON, and the source of the OpenAPI document.

Requests are read without conversion of types, and unknown fields are rejected by name. The rules about values are the EventSink's own
(`resources/rules.py`); the schema states those that it can for readers, and `calls/specs.py` checks all.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eventsink.resources import rules
from eventsink.resources.eventsink import SENTENCES
from eventsink.rest.errors import InvalidRequest
from eventsink.runtime.durations import DURATION_PATTERN, MAX_DURATION_LENGTH

UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"
MAX_CREDENTIAL = 8192
"""Characters of a token, code, header value or secret."""
MAX_CERTIFICATES = 64 * 1024


def _shown(pattern: str, **more: Any) -> dict[str, Any]:
    return {"pattern": pattern, **more}


TenantId = Annotated[str, Field(min_length=1, max_length=63, json_schema_extra=_shown(rules.TENANT_PATTERN))]
DisplayName = Annotated[str, Field(min_length=1, max_length=128, json_schema_extra=_shown(rules.TEXT_PATTERN))]
Description = Annotated[str, Field(max_length=1024)]
Duration = Annotated[str, Field(max_length=MAX_DURATION_LENGTH, json_schema_extra=_shown(DURATION_PATTERN))]
Credential = Annotated[str, Field(min_length=1, max_length=MAX_CREDENTIAL, json_schema_extra={"writeOnly": True})]
Id = Annotated[str, Field(json_schema_extra=_shown(UUID_PATTERN, format="uuid"))]
Time = Annotated[str, Field(json_schema_extra=_shown(TIME_PATTERN, format="date-time"))]


class RestModel(BaseModel):
    """Base of requests and responses."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True, populate_by_name=True
    )

    def __repr_args__(self) -> Any:
        return ()  # credentials are among the values


class MatchArgs(RestModel):
    """Which alerts are wanted; all that is set has to be fulfilled."""

    min_severity: Literal["informational", "low", "medium", "high", "critical", "fatal"] | None = None
    """The least severity."""
    sources: Annotated[list[Annotated[str, Field(max_length=63)]], Field(min_length=1, max_length=32)] | None = None
    """Names of sources."""
    namespaces: Annotated[list[Annotated[str, Field(max_length=63)]], Field(min_length=1, max_length=64)] | None = None
    """Kubernetes namespaces that the alert is about; `*` stands for any characters."""
    matchers: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(min_length=1, max_length=32)] | None = None
    """Label matchers as in Alertmanager."""


class DeliveryArgs(RestModel):
    """How the sink is told."""

    send_resolved: bool | None = None
    """Whether the end of an alert is told too; absent: yes."""
    repeat_interval: Duration | None = None
    """How often an alert that goes on is told again, where its source resends it as a heartbeat."""
    max_age: Duration | None = None
    """How long delivery is tried; absent: 72h."""


class HeaderArgs(RestModel):
    """One request header. Its value is kept in a Secret and never shown again."""

    name: Annotated[str, Field(min_length=1, max_length=64, json_schema_extra=_shown(rules.HEADER_NAME_PATTERN))]
    value: Annotated[str, Field(max_length=4096, json_schema_extra=_shown(rules.HEADER_VALUE_PATTERN, writeOnly=True))]


class WebhookArgs(RestModel):
    """An HTTP endpoint that messages are posted to."""

    url: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    """Where to post; readable by everybody who may read the EventSink."""
    secret_url: Annotated[str, Field(min_length=1, max_length=2048, json_schema_extra={"writeOnly": True})] | None = None
    """Instead of `url`, if the URL itself is a credential: kept in a Secret, shown as scheme and host."""
    headers: Annotated[list[HeaderArgs], Field(max_length=32)] | None = None
    """Headers sent with each message; in an update they replace all existing ones."""
    signing_secret: Credential | None = None
    """Signs messages (Standard Webhooks); after an update the previous one keeps signing beside it."""
    generate_signing_secret: bool | None = None
    """Generate a signing secret; this response alone shows it."""
    format: Literal["cloudevents", "alertmanager"] | None = None
    """cloudevents (default), or alertmanager: the group as Alertmanager's own webhook sends it."""
    batch: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Most alerts in one message; for the format cloudevents only."""
    timeout: Duration | None = None
    """How long one attempt may take, 1s to 60s."""
    ca_certificate: Annotated[str, Field(min_length=1, max_length=MAX_CERTIFICATES)] | None = None
    """PEM certificates of the authority that signed the receiver's certificate, trusted instead of the public ones."""


class SlackArgs(RestModel):
    """A Slack channel, and at most one credential; without one, the workspace that the platform configured is used."""

    channel: Annotated[str, Field(min_length=1, max_length=81)] | None = None
    """Name (#security-alerts) or id; omitted with an incoming webhook, whose URL determines it."""
    slack_oauth_code: Credential | None = None
    """An OAuth code, exchanged once for a token."""
    bot_token: Credential | None = None
    """A bot token (xoxb-...)."""
    incoming_webhook_url: Credential | None = None
    """The URL of an incoming webhook of Slack."""


class SlackChannelArgs(RestModel):
    """What can be changed of a Slack sink: the credential stays."""

    channel: Annotated[str, Field(min_length=1, max_length=81)]
    """Name (#security-alerts) or id."""


class SlackCodeArgs(SlackChannelArgs):
    """How the browser flow reconnects a sink."""

    slack_oauth_code: Credential


def _exactly_one(value: Any) -> Any:
    if (value.slack is None) == (value.webhook is None):
        raise ValueError("write exactly one of Slack and Webhook")
    return value


_EITHER: Any = [{"required": [name], "properties": {name: {"type": "object"}}} for name in ("Slack", "Webhook")]
"""For the JSON schema: one of the two is present, and is not null."""


class EventSinkArgs(RestModel):
    """The destination: exactly one of the two."""

    model_config = ConfigDict(json_schema_extra={"oneOf": _EITHER})

    slack: SlackArgs | None = Field(default=None, alias="Slack")
    webhook: WebhookArgs | None = Field(default=None, alias="Webhook")

    @model_validator(mode="after")
    def _one(self) -> Self:
        return _exactly_one(self)  # type: ignore[no-any-return]


class EventSinkChanges(RestModel):
    """What changes of the destination, whose type stays."""

    model_config = ConfigDict(json_schema_extra={"oneOf": _EITHER})

    slack: SlackChannelArgs | None = Field(default=None, alias="Slack")
    webhook: WebhookArgs | None = Field(default=None, alias="Webhook")

    @model_validator(mode="after")
    def _one(self) -> Self:
        return _exactly_one(self)  # type: ignore[no-any-return]


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
    delivery: DeliveryArgs | None = None


class UpdateRequest(RestModel):
    """What changes: omitted fields stay, null clears an optional field."""

    id: Id
    """The same as in the path."""
    name: DisplayName | None = None
    description: Description | None = None
    event_sink_args: EventSinkChanges | None = None
    suspend: bool | None = None
    match: MatchArgs | None = None
    delivery: DeliveryArgs | None = None


class NoContent(RestModel):
    """An empty object."""


class ShownHeader(RestModel):
    """A header, without its value."""

    name: str


class WebhookConfiguration(RestModel):
    """Where a webhook sink posts."""

    url: str
    """In full, or scheme and host if it is kept in a Secret; empty: not known yet."""
    headers: list[ShownHeader] | None = None
    format: str | None = None
    batch: int | None = None
    timeout: str | None = None
    signed: bool | None = None
    """Whether messages are signed."""


class SlackConfiguration(RestModel):
    """Where a Slack sink posts."""

    channel: str
    """As requested; empty for an incoming webhook."""
    channel_id: str | None = None
    channel_name: str | None = None
    team_id: str | None = None
    team_name: str | None = None


class Configuration(RestModel):
    """The destination, under its type."""

    slack: SlackConfiguration | None = Field(default=None, alias="Slack")
    webhook: WebhookConfiguration | None = Field(default=None, alias="Webhook")


class Delivering(RestModel):
    """Whether messages arrive, as the router last reported it."""

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
    event_sink_type: Literal["Slack", "Webhook"]
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
    delivery: DeliveryArgs | None = None
    delivering: Delivering | None = None


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


class InstallRequest(RestModel):
    """A Slack sink that a person connects in the browser: a new one (tenant_id, name, channel), or `id` of one to reconnect."""

    tenant_id: TenantId | None = None
    name: DisplayName | None = None
    description: Description | None = None
    channel: Annotated[str, Field(min_length=1, max_length=81)] | None = None
    id: Id | None = None


class InstallResponse(RestModel):
    """The link for the person."""

    url: str
    """Works once, in the browser that opens it."""
    expires_at: Time


Model = TypeVar("Model", bound=RestModel)

_OWN = SENTENCES | {
    "extra_forbidden": "unknown field, remove it",
    "string_type": "write a text",
    "bool_type": "write true or false",
    "int_type": "write a whole number",
    "list_type": "write a list",
    "model_type": "write an object",
    "json_invalid": "invalid JSON",
}


def describe(error: ValidationError) -> str:
    """One sentence for each error, field by field, without a value."""
    found: dict[str, str] = {}
    for one in error.errors(include_url=False, include_input=False):
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in one["loc"]).lstrip(".") or "the body"
        template = _OWN.get(one["type"])
        sentence = template.format(**one.get("ctx", {})) if template else one["msg"].removeprefix("Value error, ")
        found.setdefault(path, sentence)
    return "; ".join(f"{path}: {sentence}" for path, sentence in list(found.items())[:10])


def read(model: type[Model], body: bytes) -> Model:
    """Read a request.

    Raises
    ------
    InvalidRequest
        It is not JSON, or not of this form.
    """
    try:
        return model.model_validate_json(body, by_alias=True, by_name=False)
    except ValidationError as error:
        sentence = describe(error)
    raise InvalidRequest(sentence)
