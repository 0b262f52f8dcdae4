"""One connection of a client: HTTP/1.1 as an asyncio.Protocol, a quarter of a framework's cost for a one-kilobyte event."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar, cast

from eventsink.runtime.listener.framing import (
    END_OF_HEAD,
    MAX_HEAD_BYTES,
    BadRequest,
    RememberedHead,
    check_start,
    parse_head,
)
from eventsink.runtime.listener.messages import Application, Response, error, rendered
from eventsink.runtime.listener.metrics import Ended
from eventsink.runtime.listener.request import IncomingRequest
from eventsink.runtime.listener.settings import LINGER_SECONDS, MAX_DISCARDED_BYTES, MAX_SURPLUS, ListenerLimits
from eventsink.runtime.listener.shares import Peer, Shares
from eventsink.runtime.logs import get_logger
from eventsink.runtime.pending import Pending

T = TypeVar("T")


@dataclass(slots=True)
class Connections(Generic[T]):
    """What the connections of a listener share."""

    name: str
    limits: ListenerLimits
    application: Application[T]
    shares: Shares
    wanted: frozenset[bytes]
    """Headers that are kept."""
    count: Callable[[Ended], None]
    """Counts a connection that a limit ends."""
    open: set[Connection[T]] = field(default_factory=set)
    surplus: set[Connection[T]] = field(default_factory=set)
    """Those over the limit, for the moment until they have read that."""
    tasks: set[asyncio.Future[Any]] = field(default_factory=set)
    """Requests that are being handled."""
    handshakes: set[asyncio.Task[None]] = field(default_factory=set)
    stopping: bool = False
    """Set: each connection ends after its response."""


class Connection(asyncio.Protocol, Generic[T]):
    """Requests are handled one at a time, in their order; what follows the one that is handled is not read meanwhile."""

    def __init__(self, connections: Connections[T]) -> None:
        self._all = connections
        self._limits = connections.limits
        self._application = connections.application
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._peer: Peer | None = None
        self._peer_address = ""
        self._buffer = b""
        """Received, and not yet part of a request."""
        self._scanned = 0
        """So much of the buffer holds no end of a head."""
        self._held = 0
        """How much of the listener's held bytes is its own."""
        self._remembered: RememberedHead | None = None
        self._reading: IncomingRequest[T] | None = None
        self._busy = False
        """A request is being handled."""
        self._ending = False
        """Nothing more that comes in is read."""
        self._lost = False
        self._half_closed = False
        self._paused = False
        """Nothing is read from the client at present."""
        self._unread_responses = False
        """The client does not read its responses."""
        self._deadline = math.inf
        self._idle_until = math.inf

    # ---- for the listener

    def accepted(self, address: object) -> bool:
        """Count a new connection, before any TLS handshake; whether there is room for it. `address` is as sockets have it."""
        self._peer_address = str(address[0]) if isinstance(address, tuple) and address else ""
        peer = self._all.shares.peer(self._peer_address)
        if not self._all.shares.may_connect(peer):
            self._all.shares.forget(peer)
            self._all.count(Ended.TOO_MANY_CONNECTIONS)
            return False
        self._peer = peer
        self._all.shares.connect(peer)
        self._all.open.add(self)
        return True

    def end_when_idle(self) -> None:
        """End the connection now, or after the pending response."""
        if not self._busy and self._reading is None and not self._buffer:
            self._close()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    def limit(self, seconds: float) -> None:
        """Have the connection ended when nothing more has come of it in so many seconds."""
        self._deadline = self._loop.time() + seconds

    def check_deadline(self, now: float) -> None:
        """End the connection if its time is up."""
        if now >= self._deadline:
            self._timed_out(now)

    @property
    def reading(self) -> bool:
        """Whether more is read from the client at present."""
        return self._transport is not None and not self._paused

    @property
    def unsent_bytes(self) -> int:
        """How much of the responses the client has not read yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._peer is None and not self.accepted(transport.get_extra_info("peername")):
            self._turn_away(self._transport)
        else:
            self.limit(self._limits.idle_timeout)

    def connection_lost(self, _: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._transport = None
        self._all.open.discard(self)
        self._all.surplus.discard(self)
        self._reading = None
        self._buffer = b""
        if not self._busy:
            self._release()
        if self._peer is not None:
            self._all.shares.disconnect(self._peer)

    def eof_received(self) -> bool:
        self._half_closed = True
        # A client may end its half and still read the response; TLS has no halves.
        return self._busy and self._transport is not None and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        self._unread_responses = True
        self._regulate()

    def resume_writing(self) -> None:
        self._unread_responses = False
        if not self._busy:
            if self._reading is None:
                self._release()
            self._go_on()
        self._regulate()

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self._busy or self._unread_responses:
            self._keep(len(data))
        else:
            self._go_on()

    # ---- requests

    def _go_on(self) -> None:
        """Read requests from what was received, as far as that goes."""
        try:
            while self._buffer and not self._busy and not self._ending and not self._unread_responses:
                if self._reading is None:
                    if not self._read_head():
                        return
                elif not self._read_body(self._reading):
                    return
        except BadRequest as bad:
            large = bad.status == 431
            self._all.count(Ended.HEAD_TOO_LARGE if large else Ended.NOT_HTTP)
            self._reject(self._application.reject(bad.status, bad.sentence))
        if self._buffer and self._busy:
            self._regulate()

    def _read_head(self) -> bool:
        """Read a head from the buffer; whether there was one."""
        if not self._scanned:
            if self._buffer[:1] in (b"\r", b"\n"):
                self._buffer = self._buffer.lstrip(b"\r\n")  # an empty line in front of a request
                if not self._buffer:
                    return False
            self._deadline = self._loop.time() + self._limits.read_timeout
        end = self._buffer.find(END_OF_HEAD, self._scanned, MAX_HEAD_BYTES)
        if end < 0:
            check_start(self._buffer)
            self._scanned = max(1, len(self._buffer) - len(END_OF_HEAD) + 1)
            return False
        end += len(END_OF_HEAD)
        head = self._buffer[:end]
        parsed = self._remembered.again(head) if self._remembered is not None else None
        if parsed is None:
            parsed = parse_head(head, self._all.wanted, self._peer_address)
            self._remembered = RememberedHead.of(head, parsed)
        self._buffer, self._scanned = self._buffer[end:], 0
        request: IncomingRequest[T] = IncomingRequest(parsed)
        self._reading = request
        admitted = self._application.admit(parsed.head)
        if isinstance(admitted, Response):
            request.early = admitted
            if parsed.expects or request.left > MAX_DISCARDED_BYTES:
                # A client that waits for permission to send gets the response instead.
                self._reject(admitted)
                return True
        else:
            request.admitted = admitted
            if request.left > self._limits.max_body_bytes:
                self._too_large(request)
                return True
            if parsed.expects and not self._buffer and self._transport is not None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if request.complete:
            self._complete(request)
        return True

    def _read_body(self, request: IncomingRequest[T]) -> bool:
        """Read from the buffer what belongs to the body of the request; whether that was all of it."""
        before = request.body_bytes
        self._buffer = request.receive(self._buffer)
        if request.early is not None:
            request.body = b""
            if request.body_bytes > MAX_DISCARDED_BYTES:
                self._reject(request.early)
                return True
        elif request.body_bytes > self._limits.max_body_bytes:
            self._too_large(request)
            return True
        elif not self._hold(request.body_bytes - before):
            request.early = self._application.later(
                f"too much is being accepted at once{self._limits.named('maxHeldBytes')}", request.admitted
            )
            request.body = b""
            self._release()
        if request.complete:
            self._complete(request)
        return request.complete

    def _complete(self, request: IncomingRequest[T]) -> None:
        self._reading = None
        if request.early is not None:
            self._respond(request.early, request)
            return
        self._busy = True
        self._deadline = math.inf
        body, request.body = bytes(request.body), b""
        try:
            handled = self._application.handle(request.admitted, body)
        except Exception:
            handled = self._failed()
        if isinstance(handled, Response):
            # In the next turn: others have theirs between requests that are pipelined.
            self._loop.call_soon(self._finish, request, handled)
            return
        if not isinstance(handled, Pending):
            # A client that hangs up does not cancel what was started.
            task = self._loop.create_task(handled)
            handled = Pending(task, task.result)
        self._all.tasks.add(handled.future)
        handled.future.add_done_callback(partial(self._handled, request, handled.result))

    def _handled(self, request: IncomingRequest[T], result: Callable[[], Response], future: asyncio.Future[Any]) -> None:
        self._all.tasks.discard(future)
        try:
            response: Response | None = result()
        except asyncio.CancelledError:
            response = None
        except Exception:
            response = self._failed()
        self._finish(request, response)

    def _finish(self, request: IncomingRequest[T], response: Response | None) -> None:
        """Respond to the request that is handled, without a response if that was cancelled, and read on."""
        self._busy = False
        self._release()
        if response is not None:
            self._respond(response, request)
        if self._unread_responses and self._buffer:
            self._keep(len(self._buffer))
        elif self._buffer:
            self._go_on()
        if self._paused:
            self._regulate()

    def _failed(self) -> Response:
        get_logger().exception("a request failed", part=self._all.name)
        return error(500, "internal error; see the log")

    def _respond(self, response: Response, request: IncomingRequest[T] | None) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        keep_alive = (
            request is not None
            and request.keep_alive
            and not self._ending
            and not self._all.stopping
            and not (self._half_closed and not self._buffer)
        )
        transport.write(rendered(response, keep_alive=keep_alive, head_only=request is not None and request.head_only))
        if keep_alive:
            now = self._loop.time()
            self._deadline = now + self._limits.write_timeout
            self._idle_until = now + self._limits.idle_timeout
        elif self._ending and transport.can_write_eof():
            # What the client is still sending is taken off the wire for a moment: a reset would overtake the response.
            self._buffer = b""
            transport.write_eof()
            self.limit(LINGER_SECONDS)
        else:
            self._close()

    def _reject(self, response: Response) -> None:
        """Respond before the request is complete; nothing more is read."""
        request, self._reading = self._reading, None
        self._ending = True
        self._buffer = b""
        self._release()
        self._respond(response, request)

    def _keep(self, size: int) -> None:
        """Keep what comes too early, if there is room; else the connection is ended after the response that is due."""
        if self._hold(size):
            self._regulate()
        else:
            self._ending = True
            self._buffer = b""

    def _too_large(self, request: IncomingRequest[T]) -> None:
        self._all.count(Ended.BODY_TOO_LARGE)
        most, named = self._limits.max_body_bytes, self._limits.named("maxBodyBytes")
        self._reject(
            self._application.reject(413, f"a request has at most {most} bytes{named}: send smaller ones", request.admitted)
        )

    def _hold(self, size: int) -> bool:
        """Count bytes that are kept in memory; whether there is room for them."""
        assert self._peer is not None
        self._held += size
        if self._all.shares.hold(self._peer, size):
            return True
        self._all.count(Ended.TOO_MUCH_HELD)
        return False

    def _release(self) -> None:
        """Count nothing of it as kept any more."""
        if self._held and self._peer is not None:
            self._all.shares.release(self._peer, self._held)
            self._held = 0

    # ---- bounds

    def _turn_away(self, transport: asyncio.Transport) -> None:
        """Respond that there are too many connections, unless too many get this response already."""
        if len(self._all.surplus) >= MAX_SURPLUS:
            transport.abort()
            return
        self._all.surplus.add(self)
        response = self._application.later(f"too many connections are open{self._limits.named('maxConnections')}")
        transport.write(rendered(response, keep_alive=False))
        self._close()

    def _regulate(self) -> None:
        """Read on only while the client reads its responses, and its next request can be read."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        pause = self._unread_responses or (self._busy and bool(self._buffer))
        if pause == self._paused:
            return
        self._paused = pause
        if pause:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _timed_out(self, now: float) -> None:
        if self._ending or self._transport is None:
            self.abort()
        elif self._reading is not None or self._scanned:
            self._all.count(Ended.READ_TIMEOUT)
            admitted = self._reading.admitted if self._reading is not None and self._reading.early is None else None
            named = self._limits.named("readTimeout")
            self._reject(self._application.reject(408, f"the request did not arrive in time{named}", admitted))
        elif self.unsent_bytes:
            self._all.count(Ended.WRITE_TIMEOUT)
            self.abort()
        elif now < self._idle_until < math.inf:
            self._deadline = self._idle_until
        else:
            self._close()

    def _close(self) -> None:
        """End the connection once its responses are out, or after a moment without them."""
        self._ending = True
        self._buffer = b""
        self._release()
        if self._transport is not None:
            self._transport.close()
            self.limit(LINGER_SECONDS)
