"""What every kind of sender must pass: subclass `SenderContract` and give it a way to open one against a scripted transport."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from eventsink.sinks.sender import Failed, FailureClass, Message, Sender
from eventsink.sinks.transport import Endpoint, Response, TransportError, TransportErrorKind

CANARY = "canary"
"""Part of every credential and every answer in these tests; must appear in no outcome."""
ALERT = (
    b'{"id":"a1","fingerprint":"f1","source":"alertmanager","tenant":"acme","status":"firing","severity":"high","name":"Disk",'
    b'"startsAt":"2026-01-01T00:00:00Z","endsAt":null}'
)
MESSAGE = Message(id="m1", alerts=[ALERT])


@dataclass
class ScriptedTransport:
    """Answers as it is told and keeps what was posted."""

    answer: Response | TransportError | None = None
    posted: list[tuple[Endpoint, bytes, bytes]] = field(default_factory=list)

    async def post(self, endpoint: Endpoint, headers: bytes, body: bytes, *, timeout: float, ca: str | None = None) -> Response:
        self.posted.append((endpoint, headers, body))
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, TransportError):
            raise self.answer
        assert self.answer is not None
        return self.answer

    async def close(self) -> None:
        pass


def answered(status: int, retry_after: str | None = None) -> Response:
    return Response(status, retry_after, f"{CANARY}-body".encode())


class SenderContract:
    """Subclasses give `open_sender`; every credential that they use holds `CANARY`."""

    def open_sender(self, transport: ScriptedTransport) -> Sender:
        raise NotImplementedError

    @pytest.mark.parametrize("kind", list(TransportErrorKind))
    async def test_an_error_of_the_transport_is_a_failure_without_credentials(self, kind: TransportErrorKind) -> None:
        sender = self.open_sender(ScriptedTransport(TransportError(kind, "https://hooks.example.com", "detail")))
        outcome = await sender.send(MESSAGE)
        assert isinstance(outcome, Failed)
        expected = FailureClass.SINK if kind.name in ("TLS", "EGRESS") else FailureClass.TRANSIENT
        assert (outcome.failure, outcome.reason) == (expected, kind.value)
        assert CANARY not in repr(outcome)

    @pytest.mark.parametrize("status", [*range(100, 104), *range(200, 600, 7), 999])
    async def test_no_answer_makes_it_raise_or_show_a_credential(self, status: int) -> None:
        sender = self.open_sender(ScriptedTransport(answered(status, "nonsense")))
        outcome = await sender.send(MESSAGE)
        assert CANARY not in repr(outcome)
        assert CANARY not in repr(sender)

    async def test_cancelling_ends_it(self) -> None:
        task = asyncio.ensure_future(self.open_sender(ScriptedTransport()).send(MESSAGE))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_it_closes(self) -> None:
        await self.open_sender(ScriptedTransport()).close()
