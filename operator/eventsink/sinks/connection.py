"""One outgoing HTTP/1.1 connection: an asyncio.Protocol over httptools that reads small responses and trusts no receiver."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import httptools

from eventsink.sinks import tls
from eventsink.sinks.dial import Dialled
from eventsink.sinks.transport import MAX_RESPONSE_BODY_BYTES, Response, TransportError, TransportErrorKind
from eventsink.sinks.unread import Unread

MAX_RESPONSE_OVERHEAD_BYTES = 64 * 1024
"""Of everything in a response but its body: heads, chunk sizes and extensions, trailers."""
MAX_INTERIM_RESPONSES = 16
"""Responses of the class 1xx before the final one."""
BODY_SECONDS = 1.0
"""How long the rest of a response is awaited after its head, where nothing depends on it but whether the connection is reused."""
MAX_JOINED_BYTES = 64 * 1024
"""A message up to this size is joined with its head into one write; copying a larger one costs more than a second write."""
MAX_REMEMBERED_BYTES = 1024
"""A response up to this size is remembered, and not parsed again when the next one is the same."""
_SWITCHING_PROTOCOLS = 101
_REQUEST_TIMEOUT = (b"HTTP/1.1 408", b"HTTP/1.0 408")
_TLS_RECORD = (b"\x15\x03", b"\x16\x03")
"""What a server begins with that speaks TLS: an alert or a handshake."""


class Connection(Dialled):
    """One connection, one exchange at a time.

    It is `usable` for another exchange only after a response that was complete, valid and followed by nothing. A response whose head has
    come counts, whatever is wrong with the rest: the connection is then of no more use.
    """

    def __init__(self, unread: Unread) -> None:
        self._unread = unread
        self._when_lost: Callable[[Connection], None] | None = None
        self._transport: asyncio.Transport | None = None
        self._socket = -1
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Response] | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._seconds = 0.0
        self._reads = False
        self._ended = False
        self._reusable = True
        self.idle_since = 0.0
        self.authorities = ""
        """Of the settings, that were trusted when it was made."""
        self.surplus = False
        """Whether bytes came for which there was no request."""
        self.responded = False
        """Whether a byte of the response to the last request came."""
        self._status_read = False
        """Whether the parser's status is that of this response; it keeps the one before for a while."""
        self._in_body = False
        self._interim = 0
        self._overhead = 0
        self._retry_after: str | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._remembered = b""
        """The bytes of a response that came whole, with nothing before or behind it, on a connection that could be used again."""
        self._remembered_response: Response | None = None

    def when_lost(self, lost: Callable[[Connection], None]) -> None:
        """Have `lost` called once, when the connection has ended; at once, if it has."""
        if self._ended:
            lost(self)
        else:
            self._when_lost = lost

    @property
    def usable(self) -> bool:
        """Whether another request may be sent over it."""
        transport = self._transport
        return self._reusable and not self._ended and transport is not None and not transport.is_closing()

    @property
    def silent(self) -> bool:
        """Whether nothing has arrived that is still unread: a byte, or the end of the connection."""
        return not self._unread.on(self._socket)

    def exchange(self, head: bytes, body: bytes, seconds: float, *, reads: bool = False) -> asyncio.Future[Response]:
        """Send a request; gives its response. The caller calls `time_out` after `seconds`, and `abort` where it no longer waits.

        `reads`: its body is awaited until then, and not for BODY_SECONDS only.

        The future raises a TransportError: TIMEOUT, RESET, PROTOCOL, WRONG_PROTOCOL, or one of TLS.
        """
        assert self._transport is not None
        self._begin()
        self._seconds, self._reads = seconds, reads
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        if self._ended:
            self._fail(TransportErrorKind.RESET, "")
        elif len(body) <= MAX_JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return waiter

    def time_out(self) -> None:
        """The time for the exchange is over."""
        if self._in_body:
            self._cut_short()
        else:
            self._fail(TransportErrorKind.TIMEOUT, f"after {self._seconds:.3g} s")

    def abort(self) -> None:
        """End it at once."""
        self._reusable = False
        self._end_body_timer()
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._socket = transport.get_extra_info("socket").fileno()
        self._unread.add(self._socket)

    def data_received(self, data: bytes) -> None:
        self._unread.changed()
        if self._waiter is None or self._waiter.done():
            # The rest of a response that was cut short is no surprise, nor a server that says why it ends an unused connection.
            self.surplus = self.surplus or (self._reusable and not data.startswith(_REQUEST_TIMEOUT))
            self.abort()
            return
        first, self.responded = not self.responded, True
        if first and data == self._remembered and self._remembered_response is not None:
            self._waiter.set_result(self._remembered_response)
            return
        self._overhead += len(data)  # counted here, for the parser joins the pieces of a header before it shows any
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if first and data.startswith(_TLS_RECORD):
                self._fail(TransportErrorKind.WRONG_PROTOCOL, "the port speaks TLS, not HTTP")
            else:
                self._malformed(error)
            return
        if self._overhead > MAX_RESPONSE_OVERHEAD_BYTES:
            self._malformed(None)
        elif self._in_body and not self._reads and self._body_timer is None and not self._waiter.done():
            self._body_timer = asyncio.get_running_loop().call_later(BODY_SECONDS, self._cut_short)
        elif first and self._reusable and self._waiter.done() and len(data) <= MAX_REMEMBERED_BYTES:
            self._remembered, self._remembered_response = data, self._waiter.result()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        if self._waiter is not None and not self._waiter.done():
            if self._in_body:
                self._complete()  # the end of the connection is the end of the body, or cuts it short
            elif isinstance(error, ssl.SSLError):
                kind, detail = tls.failure(error)
                self._fail(kind, detail)
            else:
                self._fail(TransportErrorKind.RESET, "before the response was complete" if self.responded else "")
        if self._when_lost is not None:
            self._when_lost(self)

    # ---- httptools

    def on_message_begin(self) -> None:
        if self._waiter is None or self._waiter.done():
            self._reusable = False  # a second response to one request: it must not be taken for that to the next
            self.surplus = True

    def on_status(self, _: bytes) -> None:
        self._status_read = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self._retry_after = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._in_body = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        room = MAX_RESPONSE_BODY_BYTES - self._body_bytes
        self._body_bytes += len(body)
        self._body.append(body[:room] if len(body) > room else body)
        if len(body) > room:
            self._cut_short()

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status == _SWITCHING_PROTOCOLS:
            self._fail(TransportErrorKind.PROTOCOL, "the response switches protocols")
        elif status < 200:
            self._interim += 1
            self._retry_after, self._status_read = None, False
            if self._interim > MAX_INTERIM_RESPONSES:
                self._fail(TransportErrorKind.PROTOCOL, "there are too many interim responses")
        else:
            self._reusable = self._reusable and bool(self._parser.should_keep_alive())
            self._complete()

    # ---- the response

    def _begin(self) -> None:
        self.responded = self._status_read = self._in_body = False
        self._interim = self._overhead = self._body_bytes = 0
        self._retry_after = None
        self._body = []

    def _malformed(self, error: Exception | None) -> None:
        """Something that is not HTTP/1.1, or is too large (`error` is None). A status that was read before counts."""
        status = self._parser.get_status_code()
        if (self._status_read and status >= 200) or self._in_body:
            self._cut_short()
        elif error is None:
            self._fail(TransportErrorKind.PROTOCOL, "the head of the response is too large")
        else:
            self._fail(TransportErrorKind.PROTOCOL, "the response is not HTTP/1.1")

    def _cut_short(self) -> None:
        """Take the response as far as it came."""
        self._reusable = False
        self._complete()

    def _complete(self) -> None:
        self._end_body_timer()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(Response(self._parser.get_status_code(), self._retry_after, b"".join(self._body)))

    def _fail(self, kind: TransportErrorKind, detail: str) -> None:
        self._reusable = False
        self._end_body_timer()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TransportError(kind, "", detail))

    def _end_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
