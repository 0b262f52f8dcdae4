"""What an OAuth code was exchanged for: a token that posts, or an incoming webhook. Pure."""

from __future__ import annotations

from eventsink.destinations.problem import Problem
from eventsink.destinations.slack.tokens import TokenRecord

_CHANNEL = "spec.slack.channel"


def posts_by_webhook(record: TokenRecord, channel: str | None) -> bool:
    """Whether a sink posts by the incoming webhook that came with its code, and not by the token.

    The person who installed the app chose the webhook's channel. It is used where the spec names no channel, and where the app has no
    scope to post by itself.

    Parameters
    ----------
    record
        Slack's response; one that an older version stored has neither scopes nor a webhook.
    channel
        As the spec names it.

    Raises
    ------
    Problem
        Neither of them posts there.
    """
    if channel is None:
        if record.webhook_url:
            return True
        raise Problem(
            "ChannelNotFound", _CHANNEL, "name a channel: the app was installed without an incoming webhook, which would fix one"
        )
    if not record.scopes or "chat:write" in record.scopes:
        return False
    add = "add the scope chat:write to the Slack app and install it again"
    if not record.webhook_url:
        raise Problem("SlackScopeMissing", "spec.slack", f"the Slack app may not post; {add}")
    if channel.removeprefix("#") in (record.webhook_channel_id, record.webhook_channel):
        return True
    raise Problem(
        "SlackScopeMissing",
        _CHANNEL,
        f"the app may post by its incoming webhook only, to the channel that was chosen when it was installed, and not to {channel}: "
        f"remove channel, or {add}",
    )
