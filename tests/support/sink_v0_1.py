"""The compiled sink as the router of version 0.1 reads it. Frozen: it stays as it is whatever the program writes."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Document(BaseModel):
    """camelCase; unknown members are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class CompiledFrom(Document):
    """What the operator of version 0.1 compares to see whether it has to compile again."""

    generation: int
    secrets: dict[str, str] = Field(default={})
    """Tokens of the operator's own are among them, as `namespace/name`."""
    policy: str = ""


class Withdrawn(Document):
    """Why it may not send."""

    reason: str
    since: str


class SinkMatch(Document):
    """Which alerts."""

    min_severity: str | None = None
    sources: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    matchers: tuple[str, ...] = ()


class SinkDelivery(Document):
    """Durations in seconds."""

    send_resolved: bool = True
    repeat_interval: float | None = None
    max_age: float = 259200.0


class Header(Document):
    """A request header."""

    name: str
    value: str


class WebhookTarget(Document):
    """A webhook."""

    url: str
    headers: tuple[Header, ...] = ()
    signing_secrets: tuple[str, ...] = ()
    format: Literal["cloudevents", "alertmanager"] = "cloudevents"
    batch: int = 1
    timeout: float = 10.0
    ca: str | None = None


class SlackTarget(Document):
    """A Slack channel."""

    token: str | None = None
    webhook_url: str | None = None
    team_id: str = ""
    team_name: str = ""
    channel_id: str = ""
    channel_name: str = ""
    channel_asked: str = ""


class Sink(Document):
    """A compiled EventSink."""

    version: Literal[1] = 1
    uid: str
    namespace: str
    name: str
    display_name: str
    tenant: str
    compiled_from: CompiledFrom
    suspend: bool = False
    withdrawn: Withdrawn | None = None
    destination: str
    match: SinkMatch = SinkMatch()
    delivery: SinkDelivery = SinkDelivery()
    webhook: WebhookTarget | None = None
    slack: SlackTarget | None = None

    def expected_destination(self) -> str:
        """The digest by which version 0.1 decides whether the destination changed and alerts are sent there again."""
        if self.webhook is not None:
            return _digest("webhook", self.webhook.url)
        assert self.slack is not None
        if self.slack.webhook_url is not None:
            return _digest("slack", self.slack.webhook_url)
        return _digest("slack", self.slack.team_id, self.slack.channel_id)


def _digest(kind: str, *parts: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (kind, *parts):
        digest.update(b"%d:" % len(part.encode()))
        digest.update(part.encode())
    return digest.hexdigest()
