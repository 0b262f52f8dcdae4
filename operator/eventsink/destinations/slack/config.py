"""Settings that the parts of the program have because there are Slack sinks, by their names in a configuration."""

from __future__ import annotations

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


ROUTER_SETTINGS = {"slack": SlackSettings}
