"""A small HTTP proxy that does CONNECT and nothing else, as a company's network has one at its edge."""

from __future__ import annotations

import base64
import select
import socket
import threading
from collections.abc import Mapping
from socketserver import BaseRequestHandler, ThreadingTCPServer
from types import TracebackType
from typing import Self

TIMEOUT_SECONDS = 30.0
HEAD_BYTES = 64 * 1024


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


class ConnectProxy:
    """Tunnels; use as a context manager, or `start` and `close` it.

    Parameters
    ----------
    hosts
        Name -> address: it alone knows these names; others are addresses.
    login
        `user:password` that it asks for; empty: none.
    """

    def __init__(self, hosts: Mapping[str, str] | None = None, *, login: str = "") -> None:
        self.hosts = dict(hosts or {})
        self.login = login
        self.targets: list[str] = []
        """`host:port` of each CONNECT that was allowed."""
        self.heads: list[bytes] = []
        """Everything that it was sent before a tunnel stood."""
        self.response = b""
        """What it responds instead of connecting; empty: it connects."""
        self._lock = threading.Lock()
        self.tunnels = 0
        """Open at this moment."""
        self._clients: set[socket.socket] = set()
        self.hang = threading.Event()
        """While set, CONNECT gets no response."""
        proxy = self

        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                try:
                    proxy.serve(self.request)
                except OSError:
                    pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.003}, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """For the setting, without the login."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Listen."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def serve(self, client: socket.socket) -> None:
        """One connection."""
        client.settimeout(TIMEOUT_SECONDS)
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(HEAD_BYTES)
            if not data:
                return
            head += data
        self.heads.append(head)
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        if self.hang.is_set():
            client.recv(1)  # until the client gives up
        elif self.response:
            client.sendall(self.response)
        elif method != "CONNECT":
            client.sendall(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
        elif self.login and f"Basic {base64.b64encode(self.login.encode()).decode()}".encode() not in head:
            client.sendall(b'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n')
        else:
            self._tunnel(client, target)

    def end_tunnels(self) -> None:
        """End the tunnels that are open, as a proxy does with those that are not used."""
        with self._lock:
            for client in self._clients:
                client.shutdown(socket.SHUT_RDWR)

    def _count(self, client: socket.socket, tunnels: int) -> None:
        with self._lock:
            self.tunnels += tunnels
            (self._clients.add if tunnels > 0 else self._clients.discard)(client)

    def _tunnel(self, client: socket.socket, target: str) -> None:
        host, _, port = target.rpartition(":")
        host = host.strip("[]")
        try:
            receiver = socket.create_connection((self.hosts.get(host, host), int(port)), TIMEOUT_SECONDS)
        except OSError:
            client.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            return
        with receiver:
            self.targets.append(target)
            self._count(client, 1)
            try:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                _relay(client, receiver)
            finally:
                self._count(client, -1)


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Pass on what either side sends, and how it ends."""
    peers = {one: other, other: one}
    open_sides = set(peers)
    while open_sides:
        readable, _, _ = select.select(list(open_sides), [], [], TIMEOUT_SECONDS)
        if not readable:
            return
        for side in readable:
            try:
                data = side.recv(HEAD_BYTES)
            except ConnectionError:
                data = b""
                # A reset goes on as a reset.
                peers[side].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return
            if data:
                peers[side].sendall(data)
            else:
                open_sides.discard(side)
                peers[side].shutdown(socket.SHUT_WR)
