"""What a compiled sink of the type slack holds."""

from __future__ import annotations

from typing import Literal

from eventsink.destinations.slack.form import DEFAULT_FORM, SlackForm
from eventsink.destinations.slack.spec import DEFAULT_REPEATS, DEFAULT_UPDATES
from eventsink.sinks.target import DispatchParameters, Target, destination_of

MAX_DIGEST_ALERTS = 1000
"""Most alerts in one message: everything that waits in the window."""


class SlackTarget(Target):
    """All that a message to a Slack channel needs. Exactly one of `token` and `webhook_url` is set."""

    type: Literal["slack"] = "slack"
    token: str | None = None
    webhook_url: str | None = None
    team_id: str = ""
    team_name: str = ""
    channel_id: str = ""
    channel_name: str = ""
    channel_asked: str = ""
    """As the spec names it: while that stays the same, the id stays too, whatever the channel is called."""
    form: SlackForm = DEFAULT_FORM
    updates: Literal["edit", "thread", "message"] = DEFAULT_UPDATES
    """What becomes of a message when its alerts change; an incoming webhook sends another one, whatever this says."""
    repeats: Literal["thread", "channel"] = DEFAULT_REPEATS
    """Where a repeat of what still fires goes."""

    def destination(self) -> str:
        """Digest of team and channel; of an incoming webhook, which hides them, of its URL."""
        if self.webhook_url is not None:
            return destination_of("slack", self.webhook_url)
        return destination_of("slack", self.team_id, self.channel_id)

    def dispatch_parameters(self) -> DispatchParameters:
        """One message at a time: Slack takes about one a second for each channel, so the next is a digest of everything waiting."""
        follows = self.token is not None and self.updates != "message"
        # Slack counts changes of messages by app and workspace: a token is of one of both.
        edits = (
            destination_of("slack edits", self.team_id, self.token) if self.token is not None and self.updates == "edit" else ""
        )
        return DispatchParameters(
            concurrency=1,
            batch=MAX_DIGEST_ALERTS,
            joins_key=True,
            rate_limit_key=self.destination(),
            keeps_receipts=True,
            follows_posts=follows,
            edit_rate_limit_key=edits,
        )


TARGET = SlackTarget
