"""Opens the sender of a compiled sink: the one place that knows every kind."""

from __future__ import annotations

import aiohttp

from eventsink.destinations.slack.api import SlackSettings
from eventsink.destinations.slack.sender import SlackSender
from eventsink.destinations.slack.target import SlackTarget
from eventsink.destinations.webhook.sender import WebhookSender
from eventsink.destinations.webhook.target import WebhookTarget
from eventsink.sinks.sender import Sender
from eventsink.sinks.sink import Sink
from eventsink.sinks.transport import Transport


class UnsupportedSink(ValueError):
    """This version cannot send to that kind of sink, or to one that was compiled like this."""


def open_sender(sink: Sink, transport: Transport, slack: SlackSettings, session: aiohttp.ClientSession) -> Sender:
    """The sender of a sink that is not withdrawn.

    Parameters
    ----------
    sink
        The compiled sink.
    transport
        For webhooks.
    slack, session
        Where Slack is, and the way there.

    Raises
    ------
    UnsupportedSink
        A kind that this version does not know, or a target that it cannot use.
    """
    try:
        if isinstance(sink.target, WebhookTarget):
            return WebhookSender(sink.target, transport)
        if isinstance(sink.target, SlackTarget):
            return SlackSender(sink, slack, session)
    except ValueError as error:
        raise UnsupportedSink(f"the compiled sink cannot be used: {error}") from None
    raise UnsupportedSink("this version knows no such kind of sink; upgrade the router")
