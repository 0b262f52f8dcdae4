"""The compiled sink and the tenancy: the two documents that the operator hands to the router.

Both are versioned and self-contained. The operator writes them into Secrets (`sink-<uid>`, key `sink.json`; `tenancy`, key
`tenancy.json`) of a namespace that holds nothing else; the router reads them there and nowhere else. A reader accepts its own
version and the one before. No text of a validation error repeats a value, since values are credentials.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

SINK_SECRET_TYPE = "eventsink.dev/sink"
SINK_SECRET_KEY = "sink.json"
TENANCY_SECRET_TYPE = "eventsink.dev/tenancy"
TENANCY_SECRET_NAME = "tenancy"
TENANCY_SECRET_KEY = "tenancy.json"
COMPILED_LABEL = "eventsink.dev/compiled"
DOCUMENT_VERSION = 1


def sink_secret_name(uid: str) -> str:
    """Name of the Secret that holds the compiled sink of the EventSink with this uid."""
    return f"sink-{uid}"


class Document(BaseModel):
    """Base of the documents: camelCase JSON, immutable, unknown members ignored (a newer writer adds some)."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    def to_json(self) -> str:
        """The document as JSON text, with credentials; fit for a Secret only."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


class SecretDocument(Document):
    """A document that holds credentials: its representation shows nothing of it."""

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return []


class CompiledFrom(Document):
    """What a compiled sink was made from: equal to today's, nothing needs to be compiled again."""

    generation: int
    """`metadata.generation` of the EventSink."""
    secrets: dict[str, str] = {}
    """Name of each Secret used -> its resourceVersion then."""
    policy: str = ""
    """Digest of the operator's settings and tenancy that the result depends on."""


class Withdrawn(Document):
    """Why a sink that had been accepted may not send at present; its deliveries are held."""

    reason: str
    """CamelCase, the same as in the condition `Ready`."""
    since: str
    """RFC 3339 UTC with seconds."""


class SinkMatch(Document):
    """Which alerts of the tenant the sink wants; every member that is there must be fulfilled."""

    min_severity: str | None = None
    sources: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    """Shell-style patterns with `*` only; an alert without a namespace fulfils none."""
    matchers: tuple[str, ...] = ()
    """In Alertmanager's matcher syntax, checked by the operator."""


class SinkDelivery(Document):
    """How the sink is told; durations in seconds."""

    send_resolved: bool = True
    repeat_interval: float | None = None
    max_age: float = 259200.0


class Header(SecretDocument):
    """One request header with its resolved value."""

    name: str
    value: str


class WebhookTarget(SecretDocument):
    """All that a POST to a webhook needs."""

    url: str
    headers: tuple[Header, ...] = ()
    signing_secrets: tuple[str, ...] = ()
    """As in Standard Webhooks: `whsec_` and base64, or the text itself as key."""
    format: Literal["cloudevents", "alertmanager"] = "cloudevents"
    batch: int = 1
    """Most alerts in one message, 1-1000; the alertmanager format sends groups instead."""
    timeout: float = 10.0
    ca: str | None = None
    """PEM certificates that the receiver's certificate must chain to; None: the system's."""


class SlackTarget(SecretDocument):
    """All that a message to a Slack channel needs. Exactly one of `token` and `webhook_url` is set."""

    token: str | None = None
    webhook_url: str | None = None
    team_id: str = ""
    team_name: str = ""
    channel_id: str = ""
    channel_name: str = ""
    channel_asked: str = ""
    """As the spec names it: while that stays the same, the id stays too, whatever the channel is called."""


class Sink(Document):
    """One accepted EventSink, compiled: all that delivery needs and nothing that has to be looked up."""

    version: Literal[1] = 1
    uid: str
    """`metadata.uid` of the EventSink: a sink of the same name made anew is another sink."""
    namespace: str
    name: str
    display_name: str
    tenant: str
    compiled_from: CompiledFrom
    suspend: bool = False
    withdrawn: Withdrawn | None = None
    """Set: hold everything and send nothing. The targets are absent then."""
    destination: str
    """Digest of what the sink points at (see `destination_of`); another value is another place, to which nothing was told yet."""
    match: SinkMatch = SinkMatch()
    delivery: SinkDelivery = SinkDelivery()
    webhook: WebhookTarget | None = None
    slack: SlackTarget | None = None

    @property
    def kind(self) -> str:
        """`webhook` or `slack`; `withdrawn` where there is no target."""
        if self.webhook is not None:
            return "webhook"
        return "slack" if self.slack is not None else "withdrawn"


class Tenancy(Document):
    """Which tenant owns which namespace, for sources whose alerts belong to the owner of their namespace."""

    version: Literal[1] = 1
    owners: dict[str, str] = {}
    """Namespace -> tenant, for each namespace with the label `eventsink.dev/tenant`."""


def destination_of(kind: str, *parts: str) -> str:
    """Digest that identifies a destination without telling it: 32 hex digits of the kind and its parts (URL; team, channel)."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (kind, *parts):
        digest.update(b"%d:" % len(part.encode()))
        digest.update(part.encode())
    return digest.hexdigest()
