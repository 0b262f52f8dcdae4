"""The REST arguments of a Slack channel, and how they become its field of the spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from eventsink.destinations.arguments import (
    Credential,
    Credentials,
    DestinationArguments,
    InvalidArguments,
    RestModel,
    bounds,
)
from eventsink.destinations.slack.spec import SlackSpec, SlackStatus

Channel = Annotated[str, Field(min_length=1, **bounds(SlackSpec, "channel"))]
_CREDENTIALS = {
    "slack_oauth_code": ("oauthCodeSecretRef", "code"),
    "bot_token": ("botTokenSecretRef", "token"),
    "incoming_webhook_url": ("incomingWebhookSecretRef", "url"),
}
"""Argument -> field of the spec, and key of the Secret."""


class SlackArgs(RestModel):
    """A Slack channel, and at most one credential; without one, the workspace that the platform configured is used."""

    channel: Channel | None = None
    """Name (#security-alerts) or id; omitted with an incoming webhook, whose URL determines it."""
    slack_oauth_code: Credential | None = None
    """An OAuth code, exchanged once for a token."""
    bot_token: Credential | None = None
    """A bot token (xoxb-...)."""
    incoming_webhook_url: Credential | None = None
    """The URL of an incoming webhook of Slack."""


class SlackChannelArgs(RestModel):
    """What can be changed of a Slack sink: the credential stays."""

    channel: Channel
    """Name (#security-alerts) or id."""


class SlackCodeArgs(SlackChannelArgs):
    """How the browser flow reconnects a sink."""

    slack_oauth_code: Credential


class SlackConfiguration(RestModel):
    """Where a Slack sink posts."""

    channel: str
    """As requested; empty for an incoming webhook."""
    channel_id: str | None = None
    channel_name: str | None = None
    team_id: str | None = None
    team_name: str | None = None


def _new(args: SlackArgs, credentials: Credentials) -> dict[str, Any]:
    given = [name for name in _CREDENTIALS if getattr(args, name) is not None]
    if len(given) > 1:
        raise InvalidArguments(f"write at most one of {' and '.join(given)}")
    spec: dict[str, Any] = {} if args.channel is None else {"channel": args.channel}
    for name in given:
        field, key = _CREDENTIALS[name]
        spec[field] = credentials.keep(key, getattr(args, name))
    return spec


def _changed(before: Mapping[str, Any], args: SlackChannelArgs, credentials: Credentials) -> dict[str, Any]:
    spec = {**before, "channel": args.channel}
    if isinstance(args, SlackCodeArgs):
        spec.pop("botTokenSecretRef", None)
        spec.pop("incomingWebhookSecretRef", None)
        spec["oauthCodeSecretRef"] = credentials.keep("code", args.slack_oauth_code)
    return spec


def _shown(spec: Mapping[str, Any], status: SlackStatus | None) -> SlackConfiguration:
    channel = spec.get("channel")
    return SlackConfiguration(
        channel=channel if isinstance(channel, str) else "",
        channel_id=status.channel_id if status else None,
        channel_name=status.channel_name if status else None,
        team_id=status.team_id if status else None,
        team_name=status.team_name if status else None,
    )


ARGUMENTS = DestinationArguments(
    display_name="Slack",
    create=SlackArgs,
    change=SlackChannelArgs,
    configuration=SlackConfiguration,
    new_spec=_new,
    changed_spec=_changed,
    shown=_shown,
    fields={field: name for name, (field, _) in _CREDENTIALS.items()},
)
