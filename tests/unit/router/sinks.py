"""Compiled sinks and sources for tests of the router."""

from __future__ import annotations

import hashlib
from typing import Any

from eventsink.destinations.slack.target import SlackTarget
from eventsink.destinations.webhook.target import WebhookTarget
from eventsink.router.directory import SinkDirectory
from eventsink.router.sources import PostingSource, PostingSourceSettings
from eventsink.sinks.sink import CompiledFrom, Sink, SinkDelivery, SinkMatch, Tenancy, Withdrawn

TOKEN = "token-of-the-source"


def sink(
    name: str = "s",
    *,
    tenant: str = "acme",
    url: str = "https://hooks.example.com/",
    match: dict[str, Any] | None = None,
    delivery: dict[str, Any] | None = None,
    generation: int = 1,
    **members: Any,
) -> Sink:
    """A compiled webhook sink; its uid is made of its name."""
    target = WebhookTarget(**{"url": url, **members.pop("webhook", {})})
    return Sink(
        uid=uid(name),
        namespace="acme",
        name=name,
        display_name=name,
        tenant=tenant,
        compiled_from=CompiledFrom(generation=generation),
        destination=target.destination(),
        match=SinkMatch(**(match or {})),
        delivery=SinkDelivery(**(delivery or {})),
        dispatch=target.dispatch_parameters(),
        target=target,
        **members,
    )


def withdrawn_sink(name: str, **members: Any) -> Sink:
    """A sink as the operator leaves it when it may not send any more: without its target."""
    withdrawn = Withdrawn(reason="TenantNotOwned", since="2026-01-01T00:00:00Z")
    return sink(name, **members).model_copy(update={"withdrawn": withdrawn, "target": None})


def uid(name: str) -> str:
    """A uid in Kubernetes' form, made of a name."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"


def directory(*sinks: Sink, owners: dict[str, str] | None = None) -> SinkDirectory:
    """A loaded directory."""
    made = SinkDirectory()
    made.set_tenancy(Tenancy(owners=owners or {"acme": "acme", "globex": "globex"}))
    for one in sinks:
        made.put(one)
    made.mark_loaded()
    return made


def slack_sink(name: str = "s", channel: str = "C1") -> Sink:
    """A compiled Slack sink."""
    target = SlackTarget(token="token", team_id="T1", channel_id=channel)
    changed = {"target": target, "destination": target.destination(), "dispatch": target.dispatch_parameters()}
    return sink(name).model_copy(update=changed)


def source_settings(**members: Any) -> PostingSourceSettings:
    """Settings of the source `alertmanager`, whose token is TOKEN."""
    given = {
        "name": "alertmanager",
        "tokenHashes": [f"sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}"],
        "tenant": {"namespaceOwner": {}},
        **members,
    }
    return PostingSourceSettings.model_validate(given)


def source(**members: Any) -> PostingSource:
    """The source at work."""
    return PostingSource(source_settings(**members))
