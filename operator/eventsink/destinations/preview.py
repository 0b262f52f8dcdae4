"""What a sink would be sent, for a person to read: the part `preview` of each destination type makes it of the same code that sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eventsink.alerts.alert import Alert, IncomingAlert, IncomingNotification
from eventsink.destinations import registry
from eventsink.resources.eventsink import EventSink

DEFAULT_SPEC = {"tenant": "default", "name": "Preview", "slack": {"channel": "#alerts"}}
"""Of a sink for whoever has none: messages are what most people want to see."""


@dataclass(frozen=True)
class PreviewedAlerts:
    """What a source sent, and which of it a sink wants."""

    notification: IncomingNotification
    wanted: Sequence[tuple[IncomingAlert, Alert]]
    """At least one."""

    @property
    def alerts(self) -> list[Alert]:
        """Those that the sink wants."""
        return [alert for _, alert in self.wanted]

    @property
    def whole(self) -> bool:
        """Whether the sink wants everything that the source sent."""
        return len(self.wanted) == len(self.notification.positions()) and not self.notification.rejected


@dataclass(frozen=True)
class MessagePreview:
    """One message."""

    to: str
    """Where it goes, as in `Slack #alerts`; of a URL its scheme and host."""
    body: Any
    """As the receiver gets it; of JSON."""
    lines: Sequence[str]
    """For a terminal, with ANSI codes for colours, and no other control character."""
    notes: Sequence[str] = ()
    """Sentences about what is not as the sink's owner meant it."""


def preview(sink: EventSink, sent: PreviewedAlerts, *, width: int) -> Sequence[MessagePreview]:
    """The messages that the sink would be sent about the alerts that it wants, in at most `width` columns. Shows no credential."""
    made: Sequence[MessagePreview] = registry.load(sink.spec.type, "preview").preview(sink, sent, width=width)
    return made
