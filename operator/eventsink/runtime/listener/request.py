"""A request while it is read."""

from __future__ import annotations

from typing import Generic, TypeVar

from eventsink.runtime.listener.framing import Chunks, ParsedHead
from eventsink.runtime.listener.messages import Response

T = TypeVar("T")


class IncomingRequest(Generic[T]):
    """A request whose head was read, until its response is written."""

    __slots__ = ("_chunks", "admitted", "body", "body_bytes", "complete", "early", "head_only", "keep_alive", "left")

    def __init__(self, parsed: ParsedHead) -> None:
        self._chunks = Chunks() if parsed.chunked else None
        self.admitted: T
        self.early: Response | None = None
        """Set: the response is known before the body, which is discarded."""
        self.keep_alive = parsed.keep_alive
        self.head_only = parsed.head.method == "HEAD"
        """Whether the response must have no body."""
        self.left = parsed.length
        """Bytes of the body that have not come yet; 0 where it is chunked."""
        self.complete = not (parsed.length or parsed.chunked)
        self.body: bytes | bytearray = b""
        """Grows as one piece: many small ones would take many times their length."""
        self.body_bytes = 0
        """Received so far, discarded ones included."""

    def receive(self, data: bytes) -> bytes:
        """Take what belongs to the body; returns what follows it.

        Raises
        ------
        BadRequest
            It is not a chunked body.
        """
        if self._chunks is not None:
            body = self.body if isinstance(self.body, bytearray) else bytearray()
            before = len(body)
            after = self._chunks.feed(data, body)
            self.body = body
            self.body_bytes += len(body) - before
            self.complete = after is not None
            return data[-after:] if after else b""
        rest = b""
        if len(data) > self.left:
            data, rest = data[: self.left], data[self.left :]
        self.body_bytes += len(data)
        self.left -= len(data)
        self.complete = not self.left
        if isinstance(self.body, bytearray):
            self.body += data
        else:
            self.body = data if self.complete else bytearray(data)
        return rest
