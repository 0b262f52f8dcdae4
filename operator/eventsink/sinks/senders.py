"""Opens the sender of a compiled sink: the one place that knows every kind."""

from __future__ import annotations

from eventsink.sinks.sender import Sender
from eventsink.sinks.sink import Sink
from eventsink.sinks.transport import Transport
from eventsink.sinks.webhook import WebhookSender


class UnsupportedSink(ValueError):
    """This version cannot send to that kind of sink, or to one that was compiled like this."""


def open_sender(sink: Sink, transport: Transport) -> Sender:
    """The sender of a sink that is not withdrawn.

    Raises
    ------
    UnsupportedSink
        A kind that this version does not know, or a target that it cannot use.
    """
    if sink.webhook is None:
        raise UnsupportedSink(f"this version cannot send to sinks of the kind {sink.kind}; upgrade the router")
    try:
        return WebhookSender(sink.webhook, transport)
    except ValueError as error:
        raise UnsupportedSink(f"the compiled sink cannot be used: {error}") from None
