"""What passes between a connection and the application behind it."""

from __future__ import annotations

import json
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

import msgspec

from eventsink.runtime.pending import Pending

JSON = b"application/json"
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


@dataclass(slots=True)
class RequestHead:
    """What is known of a request before its body."""

    method: str
    path: str
    """As in the request line, without the query; of an absolute target, its path."""
    query: str
    """After the question mark, as it was sent."""
    headers: Mapping[bytes, bytes]
    """Those that the application reads, and those of framing, names in lower case. One that may be repeated is joined as a list."""
    peer: str
    """The address of the client."""
    kept: object = None
    """What the application wants to know when the same head, but for its Content-Length, comes again on its connection."""

    def header(self, name: bytes) -> str:
        """A header that the application reads; empty where it is absent."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value is not None else ""


class Response(msgspec.Struct, frozen=True):
    """A status, a body and extra header lines (each ended by CRLF)."""

    status: int
    body: bytes
    headers: bytes = b""
    content_type: bytes = JSON


def error(status: int, sentence: str, headers: bytes = b"") -> Response:
    """An error as every client gets it."""
    return Response(status, json.dumps({"error": sentence}, separators=(",", ":")).encode(), headers)


def rendered(response: Response, *, keep_alive: bool, head_only: bool = False) -> bytes:
    """A response as it is sent over the wire; to HEAD without its body."""
    return b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s%s\r\n%s" % (
        response.status,
        _PHRASES[response.status],
        response.content_type,
        len(response.body),
        response.headers,
        b"" if keep_alive else b"Connection: close\r\n",
        b"" if head_only else response.body,
    )


T = TypeVar("T")


class Application(Protocol[T]):
    """Decides on requests; knows nothing of sockets. `T` is what it makes of a head."""

    @property
    def reads(self) -> frozenset[bytes]:
        """The headers that it reads, in lower case; others are checked and dropped."""

    def admit(self, head: RequestHead) -> T | Response:
        """Decide on a request before its body is read: what to handle, or the response to give at once."""

    def handle(self, admitted: T, body: bytes) -> Response | Pending[Response] | Coroutine[Any, Any, Response]:
        """The response to a complete request. What takes long is a coroutine; it gets a task of its own, which nothing else needs."""

    def reject(self, status: int, sentence: str, admitted: T | None = None) -> Response:
        """The response to a request that is given up while it is read, counted; it would not be accepted later either."""

    def later(self, sentence: str, admitted: T | None = None) -> Response:
        """The response to what is too much at this moment, counted."""
