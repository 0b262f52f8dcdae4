"""What people write into an EventSink: the models of its spec, the single source of the CRD's schema.

Only shapes and bounds stand here. Rules between fields are CEL rules of the CRD, answered by the API server; rules about the
world (tenancy, references, policy) are the operator's. Defaults that are policy stay out of the schema: absent is absent.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "eventsink.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "EventSink"
PLURAL = "eventsinks"
SINGULAR = "eventsink"
SHORT_NAME = "esink"
CATEGORY = "eventsink"
TENANT_LABEL = "eventsink.dev/tenant"

DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
TENANT_PATTERN = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
"""A label value, since a namespace's label names the tenant; a UUID fits."""
DURATION_PATTERN = r"^([0-9]+(ms|s|m|h|d|w))+$"
HEADER_NAME_PATTERN = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
"""RFC 9110 section 5.6.2, token."""

Duration = Annotated[str, Field(min_length=2, max_length=32, pattern=DURATION_PATTERN)]


class SpecModel(BaseModel):
    """Base: camelCase, unknown members refused by name, no value in error texts."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )


class SecretKeyRef(SpecModel):
    """A key of a Secret in the EventSink's own namespace."""

    name: str = Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN, description="Name of the Secret.")
    key: str = Field(
        min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$", description="Key of the Secret's data."
    )


class Match(SpecModel):
    """Which alerts of the tenant are wanted; every part that is given must be fulfilled."""

    min_severity: Literal["informational", "low", "medium", "high", "critical", "fatal"] | None = Field(
        default=None,
        description="Lowest severity that is wanted. An alert whose severity is unknown is always wanted.",
    )
    sources: (
        list[Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]] | None
    ) = Field(
        default=None,
        min_length=1,
        max_length=32,
        description="Names of sources, as the platform configured them; absent: all.",
    )
    namespaces: (
        list[Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?$")]] | None
    ) = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Kubernetes namespaces that the alert is about; * stands for any characters.",
    )
    matchers: list[Annotated[str, Field(min_length=1, max_length=1024)]] | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        description="Label matchers as in Alertmanager, such as alertname=~\"Kube.+\" or team!=\"batch\"; regular "
        "expressions are RE2 and match the whole value.",
    )


class Delivery(SpecModel):
    """How the sink is told."""

    send_resolved: bool | None = Field(
        default=None, description="Whether the end of an alert is told too; absent: yes."
    )
    repeat_interval: Duration | None = Field(
        default=None,
        description="How often an alert that goes on is told again, for sources that resend it as a heartbeat; "
        "Alertmanager decides on repeats itself.",
    )
    max_age: Duration | None = Field(
        default=None,
        description="How long delivery is tried before the message becomes a dead letter; absent: 72h.",
    )


class Slack(SpecModel):
    """A Slack channel."""

    channel: str | None = Field(
        default=None,
        min_length=1,
        max_length=81,
        pattern=r"^(#?[^\s#@A-Z,]{1,80}|[CG][A-Z0-9]{8,20})$",
        description="Name (#security-alerts) or id of the channel; absent with an incoming webhook, whose URL fixes it.",
    )
    oauth_code_secret_ref: SecretKeyRef | None = Field(
        default=None, description="An OAuth code, which the operator exchanges once for a token."
    )
    bot_token_secret_ref: SecretKeyRef | None = Field(default=None, description="A bot token (xoxb-...).")
    incoming_webhook_secret_ref: SecretKeyRef | None = Field(
        default=None, description="The URL of an incoming webhook of Slack."
    )


class HeaderValueFrom(SpecModel):
    """Where the value of a header is read."""

    secret_key_ref: SecretKeyRef


class HeaderSpec(SpecModel):
    """One request header; its value is given or read from a Secret."""

    name: str = Field(min_length=1, max_length=64, pattern=HEADER_NAME_PATTERN)
    value: str | None = Field(default=None, max_length=4096)
    value_from: HeaderValueFrom | None = None


class Tls(SpecModel):
    """How the receiver's certificate is checked."""

    ca_secret_ref: SecretKeyRef = Field(
        description="PEM certificates of the authority that signed the receiver's certificate."
    )


class Webhook(SpecModel):
    """An HTTP endpoint that each message is posted to."""

    url: str | None = Field(
        default=None,
        min_length=8,
        max_length=2048,
        description="Where to post; http or https. Use urlSecretRef where the URL itself is secret.",
    )
    url_secret_ref: SecretKeyRef | None = Field(default=None, description="Where to read the URL.")
    headers: list[HeaderSpec] | None = Field(
        default=None, min_length=1, max_length=32, description="Headers sent with each message."
    )
    signing_secret_refs: list[SecretKeyRef] | None = Field(
        default=None,
        min_length=1,
        max_length=4,
        description="Secrets to sign messages with (Standard Webhooks); two while one replaces the other.",
    )
    format: Literal["cloudevents", "alertmanager"] | None = Field(
        default=None,
        description="cloudevents (absent: this one): each alert as CloudEvents 1.0 JSON. alertmanager: a group as "
        "Alertmanager's own webhook sends it.",
    )
    batch: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Most alerts in one message (absent: 1); for the format cloudevents only.",
    )
    timeout: Duration | None = Field(
        default=None, description="How long one attempt may take (absent: 10s); at most 60s."
    )
    tls: Tls | None = None


class EventSinkSpec(SpecModel):
    """Alerts of one tenant, matching this, go to this destination."""

    tenant: str = Field(
        min_length=1,
        max_length=63,
        pattern=TENANT_PATTERN,
        description="The tenant whose alerts are delivered: a UUID or a name. Cannot be changed.",
    )
    name: str = Field(min_length=1, max_length=128, description="What people see.")
    description: str | None = Field(default=None, max_length=1024)
    suspend: bool | None = Field(
        default=None, description="True: nothing is queued and nothing sent until it is taken back."
    )
    match: Match | None = Field(default=None, description="Which alerts are wanted; absent: every alert of the tenant.")
    delivery: Delivery | None = None
    slack: Slack | None = None
    webhook: Webhook | None = None
