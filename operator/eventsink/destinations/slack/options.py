"""The options of `eventsink sinks` for a Slack channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from eventsink.destinations.arguments import choices
from eventsink.destinations.options import SECRET_FILE, Argument, DestinationOptions
from eventsink.destinations.slack.spec import MentionSpec, SlackSpec
from eventsink.runtime.yaml_text import read_yaml

_SEVERITIES = choices(MentionSpec, "min_severity")


class Field(click.ParamType):  # type: ignore[type-arg]  # generic in some versions
    """A label or annotation that messages show."""

    name = "field"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        """The field as in a request."""
        kind, _, named = str(value).partition(":")
        name, _, title = named.partition("=")
        if kind not in ("label", "annotation") or not name:
            raise click.UsageError(
                "--slack-field: write label:NAME or annotation:NAME, and =TITLE behind it for another title", ctx
            )
        return {kind: name, "title": title} if title else {kind: name}


class Button(click.ParamType):  # type: ignore[type-arg]
    """A button that opens the URL in an annotation."""

    name = "TEXT=ANNOTATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        """The button as in a request."""
        text, _, annotation = str(value).rpartition("=")
        if not (text and annotation):
            raise click.UsageError("--slack-button: write TEXT=ANNOTATION", ctx)
        return {"text": text, "url_annotation": annotation}


class Mention(click.ParamType):  # type: ignore[type-arg]
    """Whom messages mention from a severity on."""

    name = "mention"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """The mention as in a request."""
        severity, _, listed = str(value).rpartition(":")
        who = [one.strip() for one in listed.split(",")]
        users, groups = [one for one in who if one[:1] in ("U", "W")], [one for one in who if one[:1] == "S"]
        if severity not in ("", *_SEVERITIES) or {*who} - {*users, *groups, "here"}:
            raise click.UsageError("--slack-mention: write here and ids of users or groups, as in critical:here,U0123456789", ctx)
        found = {"min_severity": severity, "users": users, "groups": groups, "here": "here" in who}
        return {name: one for name, one in found.items() if one}


class TemplateFile(click.ParamType):  # type: ignore[type-arg]
    """What messages say: YAML with title and body."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        """The template as in a request."""
        try:
            found = read_yaml(Path(value).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise click.UsageError("--slack-template-file: write a file of YAML with title and body", ctx) from None
        if not isinstance(found, dict) or not {*found} <= {"title", "body"}:
            raise click.UsageError("--slack-template-file: write title: and body:, each a template, and nothing else", ctx)
        return found


OPTIONS = DestinationOptions(
    (
        Argument("channel", click.Option(["--slack-channel"], metavar="CHANNEL", help="Slack: #name or id.")),
        Argument(
            "slack_fields",
            click.Option(
                ["--slack-field"],
                type=Field(),
                metavar="label:NAME[=TITLE]|annotation:NAME[=TITLE]",
                multiple=True,
                help="Slack: a label or annotation that messages show. Repeatable.",
            ),
        ),
        Argument(
            "slack_buttons",
            click.Option(
                ["--slack-button"], type=Button(), multiple=True, help="Slack: a button for the URL in an annotation. Repeatable."
            ),
        ),
        Argument(
            "slack_mentions",
            click.Option(
                ["--slack-mention"],
                type=Mention(),
                metavar="[SEVERITY:]here|ID,...",
                multiple=True,
                help="Slack: whom to mention while alerts fire, as in critical:here,U0123456789. Repeatable.",
            ),
        ),
        Argument(
            "slack_links",
            click.Option(["--slack-links"], type=click.Choice(choices(SlackSpec, "links")), help="Slack: how links are shown."),
        ),
        Argument(
            "slack_team_id",
            click.Option(["--slack-team"], metavar="ID", help="Slack: the workspace, for an app of a whole organisation."),
        ),
        Argument(
            "slack_updates",
            click.Option(
                ["--slack-updates"],
                type=click.Choice(choices(SlackSpec, "updates")),
                help="Slack: what becomes of a message when its alerts change.",
            ),
        ),
        Argument(
            "slack_repeats",
            click.Option(
                ["--slack-repeats"],
                type=click.Choice(choices(SlackSpec, "repeats")),
                help="Slack: where a repeat of what still fires goes.",
            ),
        ),
        Argument(
            "slack_template",
            click.Option(
                ["--slack-template-file"],
                type=TemplateFile(),
                help="Slack: YAML with title and body, what messages say (Liquid).",
            ),
        ),
    ),
    create_arguments=(
        Argument(
            "slack_oauth_code",
            click.Option(["--slack-code-file"], type=SECRET_FILE, help="Slack: file with an OAuth code, exchanged once."),
        ),
        Argument("bot_token", click.Option(["--bot-token-file"], type=SECRET_FILE, help="Slack: file with a bot token.")),
        Argument(
            "incoming_webhook_url",
            click.Option(["--incoming-webhook-file"], type=SECRET_FILE, help="Slack: file with the URL of an incoming webhook."),
        ),
    ),
    summary=("channel", "channel_name"),
)
