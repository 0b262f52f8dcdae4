"""What people write into an EventSink: the models of its spec, the single source of the CRD's schema.

Shapes and bounds stand here; the rules attached to them stand in `rules.py`. Rules about the world (tenancy, references,
policy) are the operator's. Defaults that are policy stay out of the schema: absent is absent.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from eventsink.runtime.durations import MAX_DURATION_LENGTH

from . import rules
from .rule import Rule, check, with_validations

SET = {"x-kubernetes-list-type": "set"}

Duration = Annotated[str, Field(max_length=MAX_DURATION_LENGTH), rules.DURATION]


class SpecModel(BaseModel):
    """Base: camelCase, no conversion of types, unknown members refused by name, no value in error texts."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        strict=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    RULES: ClassVar[tuple[Rule, ...]] = ()
    """Rules between the fields of this object."""

    @model_validator(mode="after")
    def _obeys_its_rules(self) -> Self:
        check(self.RULES, self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        with_validations(handler.resolve_ref_schema(schema), cls.RULES)
        return schema


class SecretKeyRef(SpecModel):
    """A key of a Secret in the EventSink's own namespace."""

    name: Annotated[str, Field(max_length=253), rules.SECRET_NAME] = Field(
        description="Name of the Secret, in the EventSink's own namespace."
    )
    key: Annotated[str, Field(max_length=253), rules.SECRET_KEY] = Field(description="Key of the Secret's data.")


class Match(SpecModel):
    """Which alerts of the tenant are wanted; every part that is given must be fulfilled."""

    min_severity: Literal["informational", "low", "medium", "high", "critical", "fatal"] | None = Field(
        default=None,
        description="Lowest severity that is wanted. An alert whose severity is unknown is always wanted.",
    )
    sources: (
        Annotated[
            list[Annotated[str, Field(max_length=63), rules.SOURCE]],
            Field(min_length=1, max_length=32, json_schema_extra=SET),
            rules.UNIQUE_ENTRIES,
        ]
        | None
    ) = Field(default=None, description="Names of sources, as the platform configured them; absent: all.")
    namespaces: (
        Annotated[
            list[Annotated[str, Field(max_length=63), rules.NAMESPACE_GLOB]],
            Field(min_length=1, max_length=64, json_schema_extra=SET),
            rules.UNIQUE_ENTRIES,
        ]
        | None
    ) = Field(
        default=None,
        description="Kubernetes namespaces that the alert is about; * stands for any characters. An alert without a "
        "namespace is not wanted then.",
    )
    matchers: (
        Annotated[
            list[Annotated[str, Field(max_length=1024), rules.MATCHER]],
            Field(min_length=1, max_length=32, json_schema_extra=SET),
            rules.UNIQUE_ENTRIES,
        ]
        | None
    ) = Field(
        default=None,
        description='Label matchers as in Alertmanager, such as alertname=~"Kube.+" or team!="batch"; an alert has to '
        "fulfil all. Regular expressions are RE2 and match the whole value.",
    )


class Delivery(SpecModel):
    """How the sink is told."""

    send_resolved: bool | None = Field(default=None, description="Whether the end of an alert is told too; absent: yes.")
    repeat_interval: Annotated[Duration, rules.REPEAT_INTERVAL] | None = Field(
        default=None,
        description="How often an alert that goes on is told again, for sources that resend it as a heartbeat; "
        "Alertmanager decides on repeats itself. 1m to 30d.",
    )
    max_age: Annotated[Duration, rules.MAX_AGE] | None = Field(
        default=None,
        description="How long delivery is tried before the message becomes a dead letter. 1m to 30d; absent: 72h.",
    )


class Slack(SpecModel):
    """A Slack channel."""

    RULES = (rules.ONE_SLACK_CREDENTIAL, rules.CHANNEL_NEEDED, rules.CHANNEL_FIXED)

    channel: Annotated[str, Field(max_length=81), rules.CHANNEL] | None = Field(
        default=None,
        description="Name (#security-alerts) or id of the channel; absent with an incoming webhook, whose URL fixes it.",
    )
    oauth_code_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Where to read an OAuth code, which the operator exchanges once for a token."
    )
    bot_token_secret_ref: SecretKeyRef | None = Field(default=None, description="Where to read a bot token (xoxb-...).")
    incoming_webhook_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Where to read the URL of an incoming webhook of Slack."
    )


class HeaderValueFrom(SpecModel):
    """Where the value of a header is read."""

    secret_key_ref: SecretKeyRef = Field(
        description="Key of a Secret whose value is the header's; one newline at its end is dropped."
    )


class HeaderSpec(SpecModel):
    """One request header; its value is given or read from a Secret."""

    RULES = (rules.HEADER_REFUSED, rules.HEADER_ONE_VALUE, rules.HEADER_VALUE, rules.HEADER_CREDENTIAL)

    name: Annotated[str, Field(max_length=64), rules.HEADER_NAME] = Field(
        description="Name of the header; upper and lower case do not differ."
    )
    value: str | None = Field(
        default=None,
        max_length=4096,
        repr=False,
        description="The value, for everybody to read. A credential belongs into a Secret: use valueFrom.",
    )
    value_from: HeaderValueFrom | None = Field(default=None, description="Where the value is read.")


class Tls(SpecModel):
    """How the receiver's certificate is checked."""

    ca_secret_ref: SecretKeyRef = Field(
        description="PEM certificates of the authority that signed the receiver's certificate, trusted instead of the "
        "public ones."
    )


class Webhook(SpecModel):
    """An HTTP endpoint that each message is posted to."""

    RULES = (
        rules.ONE_URL,
        rules.URL_SCHEME,
        rules.URL_CHARACTERS,
        rules.URL_FRAGMENT,
        rules.URL_USERINFO,
        rules.URL_AUTHORITY,
        rules.UNIQUE_HEADERS,
        rules.BATCH_NEEDS_CLOUDEVENTS,
        rules.TLS_NEEDS_HTTPS,
    )

    url: str | None = Field(
        default=None,
        max_length=2048,
        repr=False,
        description="Where to post; http or https. Use urlSecretRef where the URL itself is secret.",
    )
    url_secret_ref: SecretKeyRef | None = Field(default=None, description="Where to read the URL, instead of url.")
    headers: (
        Annotated[
            list[HeaderSpec],
            Field(
                min_length=1,
                max_length=32,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            ),
        ]
        | None
    ) = Field(default=None, description="Headers sent with each message.")
    signing_secret_refs: (
        Annotated[
            list[SecretKeyRef],
            Field(
                min_length=1,
                max_length=4,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "key"]},
            ),
            rules.UNIQUE_ENTRIES,
        ]
        | None
    ) = Field(
        default=None,
        description="Secrets to sign messages with (Standard Webhooks); two while one replaces the other.",
    )
    format: Literal["cloudevents", "alertmanager"] | None = Field(
        default=None,
        description="cloudevents (absent: this one): each alert as CloudEvents 1.0 JSON. alertmanager: a group as "
        "Alertmanager's own webhook sends it.",
    )
    batch: Annotated[int, Field(ge=1, le=1000, json_schema_extra={"format": "int32"})] | None = Field(
        default=None,
        description="Most alerts in one message, 1 to 1000 (absent: 1); for the format cloudevents only.",
    )
    timeout: Annotated[Duration, rules.TIMEOUT] | None = Field(
        default=None, description="How long one attempt may take, 1s to 60s (absent: 10s)."
    )
    tls: Tls | None = Field(default=None, description="How the receiver's certificate is checked.")


class EventSinkSpec(SpecModel):
    """Alerts of one tenant, matching this, go to this destination."""

    RULES = (rules.ONE_DESTINATION,)

    tenant: Annotated[str, Field(max_length=63), rules.TENANT, rules.TENANT_IMMUTABLE] = Field(
        description="The tenant whose alerts are delivered: a UUID or a name. Cannot be changed."
    )
    name: Annotated[str, Field(max_length=128), rules.DISPLAY_NAME] = Field(description="What people see.")
    description: str | None = Field(default=None, max_length=1024, description="What the sink is for, for people.")
    suspend: bool | None = Field(default=None, description="True: nothing is queued and nothing sent until it is taken back.")
    match: Match | None = Field(default=None, description="Which alerts are wanted; absent: every alert of the tenant.")
    delivery: Delivery | None = Field(default=None, description="How the sink is told.")
    slack: Slack | None = Field(
        default=None, description="The destination, if it is a Slack channel. Exactly one of slack and webhook."
    )
    webhook: Webhook | None = Field(
        default=None, description="The destination, if it is an HTTP endpoint. Exactly one of slack and webhook."
    )
