"""The options of `eventsink sinks` for a Slack channel."""

from __future__ import annotations

import click

from eventsink.destinations.options import SECRET_FILE, Argument, DestinationOptions

OPTIONS = DestinationOptions(
    (Argument("channel", click.Option(["--slack-channel"], metavar="CHANNEL", help="Slack: #name or id.")),),
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
