"""A destination type that is not in the package passes the sender contract too."""

from __future__ import annotations

from eventsink.sinks.sender import FailureClass, Sender, SenderContext
from eventsink.sinks.target import Target
from tests.support.throwaway_destination import PagerTarget, open_sender
from tests.unit.destinations.sender_contract import CANARY, SenderContract, sink_of


class TestPagerSender(SenderContract):
    def target(self, url: str, timeout: float) -> Target:
        return PagerTarget(service=url, key=f"key-{CANARY}", team="storage", timeout=timeout)

    def open(self, target: Target, context: SenderContext) -> Sender:
        assert isinstance(target, PagerTarget)
        return open_sender(sink_of(target), target, context)

    def expected(self, status: int) -> FailureClass | None:
        if 200 <= status < 300:
            return None
        return FailureClass.SINK if 300 <= status < 400 else FailureClass.TRANSIENT
