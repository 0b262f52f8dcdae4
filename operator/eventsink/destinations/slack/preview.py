"""What a Slack sink would post: the message that the router makes, for a terminal and as Block Kit."""

from __future__ import annotations

from collections.abc import Sequence

from eventsink.destinations.preview import MessagePreview, PreviewedAlerts
from eventsink.destinations.slack.form import SlackForm
from eventsink.destinations.slack.message import render
from eventsink.destinations.slack.spec import SlackSpec
from eventsink.destinations.slack.terminal import terminal_lines
from eventsink.resources.eventsink import EventSink


def preview(sink: EventSink, sent: PreviewedAlerts, *, width: int) -> Sequence[MessagePreview]:
    """One message about all alerts, as when they wait together."""
    slack = sink.spec.destination
    assert isinstance(slack, SlackSpec)
    message = render(
        sent.alerts,
        SlackForm.of(slack),
        sink=f"{sink.namespace}/{sink.name}",
        tenant=sink.spec.tenant,
        lookup="eventsink deliveries --message ID",
    )
    to = f"Slack {slack.channel}" if slack.channel is not None else "Slack, the channel of the incoming webhook"
    body = message.body()
    notes = [f"the message is the built-in one: {message.template_problem}"] if message.template_problem else []
    return [MessagePreview(to, body, terminal_lines(body, width=width), notes)]
