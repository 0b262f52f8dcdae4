"""Settings that the parts of the program have because there are Slack sinks, by their names in a configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from eventsink.runtime.settings import Seconds, Settings


class SlackSettings(Settings):
    """Where Slack is: a setting of the platform, never of a sink."""

    api_url: str = Field(default="https://slack.com/api/", pattern="^https?://.+/$")
    """Base address of Slack's Web API, with the slash at its end."""
    hook_urls: tuple[str, ...] = ("https://hooks.slack.com/", "https://hooks.slack-gov.com/")
    """What the URL of an incoming webhook may begin with."""
    timeout: Seconds = Field(default=10.0, gt=0, le=60)
    """For one call."""


class SlackPlatform(SlackSettings):
    """Where Slack is, and what the platform gives its tenants there."""

    token_file: Path | None = None
    """File with the bot token of the platform's own workspace, for sinks that name no credential; absent: each sink needs one."""
    team_id: str = Field(default="", pattern="^(T[A-Z0-9]{1,20})?$")
    """Id of the platform's own workspace, where the token is one of a whole organisation (Enterprise Grid); empty: it is of one workspace."""
    channels: dict[str, tuple[str, ...]] = Field(default={})
    """Tenant -> channels (#name or id) of the platform's workspace that its sinks may use; empty: every tenant may use every channel.
    The tenant `*` stands for the sinks of the platform, not for all."""


class SlackAppSettings(Settings):
    """The platform's Slack app, whose codes tenants bring."""

    client_id: str = ""
    """Client id of the app; empty: no codes are exchanged."""
    client_secret_file: Path | None = None
    """File with the app's client secret."""
    redirect_url: str = ""
    """The redirect address that was used to get the codes, where it was given; empty: none was."""
    tokens_namespace: str = Field(default="eventsink-system", min_length=1, max_length=63)
    """Where tokens are kept, one Secret for each code: a namespace that tenants and the router cannot read."""
    token_retention: Seconds = Field(default=30 * 86400.0, gt=0)
    """How long a token is kept that no EventSink needs any more, for one that is re-created; then it is revoked."""


ROUTER_SETTINGS: dict[str, type[Settings]] = {"slack": SlackSettings}
OPERATOR_SETTINGS: dict[str, type[Settings]] = {"slack": SlackPlatform, "slack_app": SlackAppSettings}
