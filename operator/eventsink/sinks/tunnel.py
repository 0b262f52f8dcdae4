"""A connection to a receiver through the network's proxy: CONNECT, for https and for http alike.

So the proxy's own responses are never taken for the receiver's, it sees no path, header or body of a message, and its credentials are sent
once for each connection.
"""

from __future__ import annotations

import asyncio
from typing import cast

from eventsink.sinks.proxy import ProxyAddress
from eventsink.sinks.transport import Endpoint, TransportError, TransportErrorKind

MAX_HEAD_BYTES = 16 * 1024
"""Of the proxy's response to CONNECT."""
_END = b"\r\n\r\n"


async def open_tunnel(proxy: ProxyAddress, address: str, endpoint: Endpoint, *, timeout: float) -> asyncio.Transport:
    """A transport to the receiver, which reads nothing until its protocol is set and its reading resumed.

    Parameters
    ----------
    address
        One of the proxy's.
    timeout
        Seconds to connect to the proxy, and as many for its response.

    Raises
    ------
    TransportError
        PROXY_UNREACHABLE, PROXY_FAILED, PROXY_AUTHENTICATION, PROXY_REFUSED, or CONNECT_TIMEOUT.
    """
    origin = endpoint.origin
    loop = asyncio.get_running_loop()
    made: list[Handshake] = []

    def make() -> Handshake:
        made.append(Handshake(origin))
        return made[-1]

    try:
        async with asyncio.timeout(timeout):
            transport, handshake = await loop.create_connection(make, address, proxy.port)
        made.clear()
    except TimeoutError:
        raise TransportError(TransportErrorKind.PROXY_UNREACHABLE, origin, f"after {timeout:g} s") from None
    except OSError as error:
        detail = (error.strerror or "cannot be reached").lower()
        raise TransportError(TransportErrorKind.PROXY_UNREACHABLE, origin, detail) from None
    finally:
        for unwanted in made:
            unwanted.abort()  # it may have been connected at the very moment of a timeout
    opened = False
    try:
        async with asyncio.timeout(timeout):
            transport.write(_head(proxy, endpoint))
            await handshake.responded
        opened = True
    except TimeoutError:
        detail = f"the proxy did not connect within {timeout:g} s"
        raise TransportError(TransportErrorKind.CONNECT_TIMEOUT, origin, detail) from None
    finally:
        if not opened:
            handshake.abort()
    return transport


def _head(proxy: ProxyAddress, endpoint: Endpoint) -> bytes:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    target = f"{host}:{endpoint.port}"
    credentials = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{credentials}\r\n".encode()


class Handshake(asyncio.Protocol):
    """Reads the proxy's response; `responded` is done when the tunnel is open, or raises a TransportError."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self.responded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def abort(self) -> None:
        """End the connection, if there is one, at once."""
        self.responded.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(_END)
        if end >= 0:
            self._judge(self._head[:end].split(b"\r\n", 1)[0], surplus=len(self._head) > end + len(_END))
        elif len(self._head) > MAX_HEAD_BYTES:
            self._fail(TransportErrorKind.PROXY_FAILED, "its response is too large")

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(TransportErrorKind.PROXY_UNREACHABLE, "it ended the connection")

    def _judge(self, line: bytes, *, surplus: bool) -> None:
        parts = line.split(b" ", 2)
        valid = len(parts) > 1 and parts[0] in (b"HTTP/1.1", b"HTTP/1.0") and len(parts[1]) == 3 and parts[1].isdigit()
        status = int(parts[1]) if valid else 0
        if 200 <= status < 300 and not surplus:
            assert self._transport is not None
            self._transport.pause_reading()  # what comes next is for the protocol that follows
            if not self.responded.done():
                self.responded.set_result(None)
            return
        kind, detail = judge_status(status)
        self._fail(kind, detail)

    def _fail(self, kind: TransportErrorKind, detail: str) -> None:
        if not self.responded.done():
            self.responded.set_exception(TransportError(kind, self._origin, detail))


def judge_status(status: int) -> tuple[TransportErrorKind, str]:
    """What a proxy's response to CONNECT means that is not a success; 0: it is not HTTP, or not what was asked for."""
    if status == 407:
        return TransportErrorKind.PROXY_AUTHENTICATION, "it responded with 407"
    if 300 <= status < 500 and status not in (408, 429):
        return TransportErrorKind.PROXY_REFUSED, f"it responded with {status}"
    if status >= 300:
        return TransportErrorKind.PROXY_FAILED, f"it responded with {status}"
    return TransportErrorKind.PROXY_FAILED, "what it responded is no valid response to CONNECT"
