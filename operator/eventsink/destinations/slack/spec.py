"""What people write into an EventSink whose destination is a Slack channel, the rules for it, and what its status shows."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from eventsink.resources.model import SET, AtMost, SecretKeyRef, Severity, SpecModel, StatusModel
from eventsink.resources.rule import Readable, Rule, exactly_one, form
from eventsink.resources.rules import DISPLAY_NAME, UNIQUE_ENTRIES
from eventsink.templates.errors import InvalidTemplate, position
from eventsink.templates.template import MAX_TEMPLATE, read_template

DEFAULT_LINKS: Literal["buttons"] = "buttons"
DEFAULT_UPDATES: Literal["edit"] = "edit"
DEFAULT_REPEATS: Literal["thread"] = "thread"
MAX_FIELDS = 10
MAX_BUTTONS = 5
MAX_MENTIONS = 5
MAX_MENTIONED = 10
"""Users, and groups, in one entry of mentions."""

MAX_TITLE_TEMPLATE = 1000
_MENTION = re.compile(r"<[@!#]")

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
    message="set channel to the name or id of a Slack channel; only an incoming webhook, or a code that comes with one, needs none",
    cel="has(self.channel) || has(self.incomingWebhookSecretRef) || has(self.oauthCodeSecretRef)",
    holds=lambda slack: (
        slack.channel is not None or slack.incoming_webhook_secret_ref is not None or slack.oauth_code_secret_ref is not None
    ),
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
TEAM = form("^T[A-Z0-9]{1,20}$", "write the id of a workspace, such as T0123456789; it is in the address of Slack in the browser")
TEAM_OF_AN_APP = Rule(
    message="remove teamId: it is for an app of your own (oauthCodeSecretRef or botTokenSecretRef)",
    cel="!has(self.teamId) || has(self.oauthCodeSecretRef) || has(self.botTokenSecretRef)",
    holds=lambda slack: (
        slack.team_id is None or slack.oauth_code_secret_ref is not None or slack.bot_token_secret_ref is not None
    ),
    field="teamId",
    reason="FieldValueForbidden",
)


def read_text_template(source: str) -> None:
    """Check a template of a message.

    Raises
    ------
    InvalidTemplate
        It cannot be read, or tries to mention somebody.
    """
    if found := _MENTION.search(source):
        raise InvalidTemplate(f"{position(source, found.start())}: a template mentions nobody; name people in mentions")
    read_template(source)


ONE_FIELD_SOURCE = exactly_one(("label", "annotation"), "set exactly one of label and annotation")
USER = form(
    "^[UW][A-Z0-9]{2,20}$", "write the id of a Slack user, such as U0123456789; it is in the user's profile under Copy member ID"
)
GROUP = form(
    "^S[A-Z0-9]{2,20}$", "write the id of a Slack user group, such as S0123456789; it is at the end of the group's address"
)
MENTIONS_SOMEBODY = Rule(
    message="set at least one of users, groups and here: true",
    cel="has(self.users) || has(self.groups) || (has(self.here) && self.here)",
    holds=lambda mention: mention.users is not None or mention.groups is not None or mention.here is True,
)


class FieldSpec(SpecModel):
    """A label or an annotation of alerts that messages show with a title."""

    RULES = (ONE_FIELD_SOURCE,)

    label: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(default=None, description="Name of the label.")
    annotation: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        default=None, description="Name of the annotation."
    )
    title: Annotated[str, Field(max_length=75), DISPLAY_NAME] | None = Field(
        default=None, description="What is shown before the value. Default: the name."
    )


class ButtonSpec(SpecModel):
    """A button that opens the URL in an annotation of the alert."""

    text: Annotated[str, Field(max_length=75), DISPLAY_NAME] = Field(description="What is written on the button.")
    url_annotation: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="Name of the annotation with the URL; an alert without it has no such button."
    )


class MentionSpec(SpecModel):
    """Whom a message mentions while an alert fires."""

    RULES = (MENTIONS_SOMEBODY,)

    min_severity: Severity | None = Field(
        default=None,
        description="Lowest severity that mentions; an alert whose severity is unknown always does. Default: every firing alert.",
    )
    users: (
        Annotated[
            list[Annotated[str, Field(max_length=21), USER]],
            Field(min_length=1, max_length=MAX_MENTIONED, json_schema_extra=SET),
            UNIQUE_ENTRIES,
        ]
        | None
    ) = Field(default=None, description="Ids of users, such as U0123456789.")
    groups: (
        Annotated[
            list[Annotated[str, Field(max_length=21), GROUP]],
            Field(min_length=1, max_length=MAX_MENTIONED, json_schema_extra=SET),
            UNIQUE_ENTRIES,
        ]
        | None
    ) = Field(default=None, description="Ids of user groups, such as S0123456789.")
    here: bool | None = Field(default=None, description="Whether the active members of the channel are mentioned (@here).")


TEMPLATE_GIVEN = Rule(
    message="set at least one of title and body",
    cel="has(self.title) || has(self.body)",
    holds=lambda template: template.title is not None or template.body is not None,
)


class TemplateSpec(SpecModel):
    """What messages say, in the owner's own words (Liquid)."""

    RULES = (TEMPLATE_GIVEN,)

    title: Annotated[str, Field(min_length=1, max_length=MAX_TITLE_TEMPLATE), Readable(read_text_template)] | None = Field(
        default=None, description="Template of the first line, which is all that a locked phone shows. Plain text."
    )
    body: Annotated[str, Field(min_length=1, max_length=MAX_TEMPLATE), Readable(read_text_template)] | None = Field(
        default=None,
        description="Template of the text below it, in which *bold*, _italic_, ~struck~, `code` and <URL|text> are formatting. "
        "What it writes of alerts is text as it is.",
    )


class SlackSpec(SpecModel):
    """Post messages to a Slack channel."""

    RULES = (ONE_SLACK_CREDENTIAL, CHANNEL_NEEDED, CHANNEL_FIXED, TEAM_OF_AN_APP)

    channel: Annotated[str, Field(max_length=81), CHANNEL] | None = Field(
        default=None,
        description="Name (#security-alerts) or id of the channel; absent with an incoming webhook, whose URL fixes it, and with a code "
        "that comes with one.",
    )
    team_id: Annotated[str, Field(max_length=21), TEAM] | None = Field(
        default=None,
        description="Id of the workspace (T0123456789) in which the channel is, where the app is installed in a whole organisation "
        "(Enterprise Grid) and the channel is given by its name.",
    )
    oauth_code_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Where to read an OAuth code, which the operator exchanges once for a token."
    )
    bot_token_secret_ref: SecretKeyRef | None = Field(default=None, description="Where to read a bot token (xoxb-...).")
    incoming_webhook_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Where to read the URL of an incoming webhook of Slack."
    )
    fields: Annotated[list[FieldSpec], Field(min_length=1, max_length=MAX_FIELDS)] | None = Field(
        default=None, description="Labels and annotations that messages show, each with a title, in this order."
    )
    buttons: Annotated[list[ButtonSpec], Field(min_length=1, max_length=MAX_BUTTONS)] | None = Field(
        default=None,
        description="Buttons that open URLs in annotations, behind those for runbook, dashboard, silence and source.",
    )
    mentions: Annotated[list[MentionSpec], Field(min_length=1, max_length=MAX_MENTIONS)] | None = Field(
        default=None, description="Whom messages mention while alerts fire. Nothing in an alert mentions anybody."
    )
    links: Literal["buttons", "text"] | None = Field(
        default=None,
        description="How links are shown: as buttons, or as links in the text, for an app without an interactivity URL, whose "
        f"buttons Slack shows with a warning. Default: {DEFAULT_LINKS}.",
    )
    updates: Literal["edit", "thread", "message"] | None = Field(
        default=None,
        description="What becomes of a message when its alerts change: it is edited, and a reply in its thread says what changed (edit); only "
        "the reply (thread); or each change is a message of its own (message), as always with an incoming webhook. "
        f"Default: {DEFAULT_UPDATES}.",
    )
    repeats: Literal["thread", "channel"] | None = Field(
        default=None,
        description="Where a repeat of what still fires goes: into the thread of the message that announced it, or into the channel as well. "
        f"With updates: message, into the channel. Default: {DEFAULT_REPEATS}.",
    )
    template: TemplateSpec | None = Field(
        default=None, description="What messages say instead of the built-in headline and description."
    )


class SlackStatus(StatusModel):
    """The Slack channel that the sink resolved to."""

    team_id: Annotated[str, AtMost(64)] | None = Field(default=None, description="Id of the workspace.")
    team_name: Annotated[str, AtMost(256)] | None = Field(default=None, description="Name of the workspace.")
    channel_id: Annotated[str, AtMost(64)] | None = Field(default=None, description="Id of the channel.")
    channel_name: Annotated[str, AtMost(256)] | None = Field(
        default=None, description="Name of the channel when it was resolved."
    )
    incoming_webhook: bool | None = Field(
        default=None, description="True: an incoming webhook posts the messages, and can neither edit them nor reply to them."
    )


SPEC = SlackSpec
STATUS = SlackStatus
