"""What a webhook's senders have in common where nothing but a status says what became of a message."""

from __future__ import annotations

from eventsink.sinks.sender import FailureClass
from tests.unit.destinations.sender_contract import SenderContract

SINK_STATUSES = (401, 402, 403, 404, 407, 410, 421, 451)
TRANSIENT_STATUSES = (408, 423, 424, 425, 429)


class WebhookContract(SenderContract):
    """Subclasses give `target`."""

    def expected(self, status: int) -> FailureClass | None:
        if status in TRANSIENT_STATUSES or status < 200 or status >= 500:
            return FailureClass.TRANSIENT
        if status in SINK_STATUSES or 300 <= status < 400:
            return FailureClass.SINK
        return FailureClass.MESSAGE if status >= 400 else None
