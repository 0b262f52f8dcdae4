"""Opens the sender of a compiled sink: the part `sender` of its destination type."""

from __future__ import annotations

from eventsink.destinations import registry
from eventsink.sinks.sender import Sender, SenderContext
from eventsink.sinks.sink import Sink


class UnsupportedSink(ValueError):
    """This version cannot send to a sink of that type, or to one that was compiled like this."""


def open_sender(sink: Sink, context: SenderContext) -> Sender:
    """The sender of a sink that is not withdrawn.

    Each type's `open_sender(sink, target, context)` makes it, or raises ValueError with a text that shows no credential.

    Raises
    ------
    UnsupportedSink
        A type that this version does not know, or a target that it cannot use.
    """
    target = sink.target
    if target is None or target.type not in registry.names():
        raise UnsupportedSink(f"this version does not know sinks of the type {sink.type}; upgrade the router")
    try:
        sender: Sender = registry.load(target.type, "sender").open_sender(sink, target, context)
    except ValueError as error:
        raise UnsupportedSink(f"the compiled sink cannot be used: {error}") from None
    return sender
