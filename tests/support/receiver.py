"""A webhook receiver that records every request and responds as configured."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httptools
import trustme

from tests.support.waiting import DEADLINE_SECONDS, wait_until

ACCEPTING_STEPS = 5
"""Of the event loop, at least as many as it takes from accepting a connection to a transport that its protocol knows."""
START_TIMEOUT_SECONDS = 30
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Received:
    """One request.

    Attributes
    ----------
    headers
        Names in lower case; of a repeated one, the values joined by a comma and a space.
    time
        Seconds on the monotonic clock at which its last byte arrived.
    connection
        Number of the connection, from 1, so that a test can see whether connections are kept.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    time: float
    connection: int

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class CannedResponse:
    """What the receiver returns for one request.

    Attributes
    ----------
    delay
        Seconds before the response.
    hang
        Never respond; the connection stays open.
    disconnect
        Close the connection instead of responding.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    hang: bool = False
    disconnect: bool = False


OK = CannedResponse()
HANG = CannedResponse(hang=True)
DISCONNECT = CannedResponse(disconnect=True)


def retry_after(seconds: int, status: int = 503) -> CannedResponse:
    """A temporary failure with Retry-After."""
    return CannedResponse(status, {"Retry-After": str(seconds)})


def redirect(location: str, status: int = 307) -> CannedResponse:
    """A redirect to another address."""
    return CannedResponse(status, {"Location": location})


class Receiver:
    """Listens on a free port of loopback, in a thread of its own; use as a context manager.

    The response is 200 unless `respond_with` says something else. Pipelined requests are not supported: their responses could
    come out of order.

    Parameters
    ----------
    authority
        Serve TLS with a certificate for 127.0.0.1 and localhost that this authority issues.
    of_clients
        Demand certificates of this authority from clients; with `authority` only.
    port
        Listen there instead, to take over the port of an earlier receiver.
    """

    def __init__(self, *, authority: trustme.CA | None = None, of_clients: trustme.CA | None = None, port: int = 0) -> None:
        self._tls: ssl.SSLContext | None = None
        if authority is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("127.0.0.1", "localhost").configure_cert(self._tls)
            if of_clients is not None:
                of_clients.configure_trust(self._tls)
                self._tls.verify_mode = ssl.CERT_REQUIRED
        self._requests: list[Received] = []
        self._responses: dict[str | None, list[CannedResponse]] = {}
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._connections: set[_Connection] = set()
        self._accepted = 0
        self._wanted_port = port
        self._server: asyncio.Server | None = None
        self._failure: BaseException | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_SECONDS):
            raise TimeoutError("the receiver did not start")
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def url(self, path: str = "/") -> str:
        """The address of a path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}{path}"

    def respond_with(self, *responses: CannedResponse | int, path: str | None = None) -> None:
        """From now on return these responses, one after another, to requests to `path` (absent: to every path that has none of
        its own); the last one is repeated for ever. A number is a status."""
        given = [CannedResponse(one) if isinstance(one, int) else one for one in responses] or [OK]
        with self._lock:
            self._responses[path] = given

    def requests(self, path: str | None = None) -> list[Received]:
        """The requests received so far, in order; with a path, only those to it."""
        with self._lock:
            seen = list(self._requests)
        return seen if path is None else [one for one in seen if one.path == path]

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    def wait_for(
        self,
        awaited: int | Callable[[list[Received]], object],
        *,
        path: str | None = None,
        deadline: float = DEADLINE_SECONDS,
    ) -> list[Received]:
        """Wait until that many requests were received, or until the predicate holds of them; returns all that were received.

        Raises
        ------
        TimeoutError
            After `deadline` seconds, with the number and the paths of those that came.
        """
        holds: Callable[[list[Received]], object] = awaited if callable(awaited) else lambda seen: len(seen) >= awaited
        seen: list[Received] = []

        def probe() -> bool:
            nonlocal seen
            seen = self.requests(path)
            return bool(holds(seen))

        what = "awaited requests" if callable(awaited) else f"{awaited} requests"
        wait_until(f"{what} to {path or 'any path'}", probe, deadline=deadline, poll=POLL_SECONDS, show=lambda: _shown(seen))
        return seen

    def close(self) -> None:
        """Stop listening and cut all connections."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(START_TIMEOUT_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._server = self._loop.run_until_complete(self._listen())
        except BaseException as error:
            self._failure = error
            self._loop.close()
            self._started.set()
            return
        self.port = self._server.sockets[0].getsockname()[1]
        self._started.set()
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._cut(self._server))
            self._loop.close()

    async def _cut(self, server: asyncio.Server) -> None:
        """Stop listening and cut all connections, also those that are being accepted: asyncio forgets them where the server is closed first."""
        for one in server.sockets:
            self._loop.remove_reader(one.fileno())
        for _ in range(ACCEPTING_STEPS):
            await asyncio.sleep(0)
        shaking_hands = asyncio.all_tasks() - {asyncio.current_task()}
        for task in shaking_hands:
            task.cancel()
        await asyncio.gather(*shaking_hands, return_exceptions=True)
        server.close()
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self._wanted_port, ssl=self._tls, backlog=1024
        )

    def opened(self, connection: _Connection) -> int:
        """A connection was opened; returns its number."""
        self._connections.add(connection)
        self._accepted += 1
        return self._accepted

    def closed(self, connection: _Connection) -> None:
        """A connection was closed."""
        self._connections.discard(connection)

    def take(self, request: Received) -> CannedResponse:
        """Record a request; returns the response to it."""
        with self._lock:
            self._requests.append(request)
            responses = self._responses.get(request.path) or self._responses.get(None)
            if responses is None:
                return OK
            return responses.pop(0) if len(responses) > 1 else responses[0]


class _Connection(asyncio.Protocol):
    """One connection: bytes to requests, responses to bytes (also the callbacks of httptools' parser)."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._number = 0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._clear()

    def _clear(self) -> None:
        self._path = b""
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._number = self._receiver.opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._receiver.closed(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._respond(CannedResponse(400, {"Connection": "close"}))
            self.abort()

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        request = Received(
            self._parser.get_method().decode(),
            self._path.decode("latin-1"),
            self._headers,
            bytes(self._body),
            time.monotonic(),
            self._number,
        )
        self._clear()
        response = self._receiver.take(request)
        if response.hang:
            return
        if response.delay:
            asyncio.get_running_loop().call_later(response.delay, self._respond, response)
        else:
            self._respond(response)

    def _respond(self, response: CannedResponse) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if response.disconnect:
            self._transport.abort()
            return
        head = [f"HTTP/1.1 {response.status} -", f"Content-Length: {len(response.body)}"]
        head += [f"{name}: {value}" for name, value in response.headers.items()]
        self._transport.write("\r\n".join([*head, "", ""]).encode("latin-1") + response.body)
        if response.headers.get("Connection", "").lower() == "close":
            self._transport.close()


def _shown(seen: list[Received]) -> str:
    paths: dict[str, int] = {}
    for one in seen:
        paths[one.path] = paths.get(one.path, 0) + 1
    return f"{len(seen)} came: " + (", ".join(f"{path} {count}" for path, count in paths.items()) or "none")
