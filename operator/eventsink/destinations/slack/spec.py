"""What people write into an EventSink whose destination is a Slack channel, the rules for it, and what its status shows."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eventsink.resources.model import AtMost, SecretKeyRef, SpecModel, StatusModel
from eventsink.resources.rule import Rule, form

CHANNEL_PATTERN = r"^(#?[^ \t\r\n#@A-Z,]{1,80}|[CG][A-Z0-9]{8,20})$"

CHANNEL = form(
    CHANNEL_PATTERN,
    "write the name of a channel in lower case, such as #security-alerts, or its id, such as C0123456789",
)
ONE_SLACK_CREDENTIAL = Rule(
    message="set at most one of oauthCodeSecretRef, botTokenSecretRef and incomingWebhookSecretRef",
    cel="[has(self.oauthCodeSecretRef), has(self.botTokenSecretRef), has(self.incomingWebhookSecretRef)]"
    ".filter(given, given).size() <= 1",
    holds=lambda slack: (
        [slack.oauth_code_secret_ref, slack.bot_token_secret_ref, slack.incoming_webhook_secret_ref].count(None) >= 2
    ),
)
CHANNEL_NEEDED = Rule(
    message="set channel to the name or id of a Slack channel; only an incoming webhook needs none",
    cel="has(self.channel) || has(self.incomingWebhookSecretRef)",
    holds=lambda slack: slack.channel is not None or slack.incoming_webhook_secret_ref is not None,
    field="channel",
    reason="FieldValueRequired",
)
CHANNEL_FIXED = Rule(
    message="remove channel: an incoming webhook posts to the channel that its URL was made for",
    cel="!has(self.channel) || !has(self.incomingWebhookSecretRef)",
    holds=lambda slack: slack.channel is None or slack.incoming_webhook_secret_ref is None,
    field="channel",
    reason="FieldValueForbidden",
)


class SlackSpec(SpecModel):
    """Post messages to a Slack channel."""

    RULES = (ONE_SLACK_CREDENTIAL, CHANNEL_NEEDED, CHANNEL_FIXED)

    channel: Annotated[str, Field(max_length=81), CHANNEL] | None = Field(
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


class SlackStatus(StatusModel):
    """The Slack channel that the sink resolved to."""

    team_id: Annotated[str, AtMost(64)] | None = Field(default=None, description="Id of the workspace.")
    team_name: Annotated[str, AtMost(256)] | None = Field(default=None, description="Name of the workspace.")
    channel_id: Annotated[str, AtMost(64)] | None = Field(default=None, description="Id of the channel.")
    channel_name: Annotated[str, AtMost(256)] | None = Field(
        default=None, description="Name of the channel when it was resolved."
    )


SPEC = SlackSpec
STATUS = SlackStatus
