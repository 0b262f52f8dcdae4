"""Listens for clients: address, certificate, the bounds over all connections, and the end of accepting requests."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from eventsink.runtime.address import split_address
from eventsink.runtime.listener.connection import Connection, Connections
from eventsink.runtime.listener.framing import FRAMING
from eventsink.runtime.listener.messages import Application
from eventsink.runtime.listener.metrics import ListenerMetrics
from eventsink.runtime.listener.settings import ListenerLimits
from eventsink.runtime.listener.shares import Shares
from eventsink.runtime.listener.tls import Certificate, accept
from eventsink.runtime.logs import get_logger

BACKLOG = 1024
CERTIFICATE_REREAD_SECONDS = 60.0
"""Certificate and key are read again after this, so that a renewed one takes effect without a restart."""
LONGEST_CHECK_SECONDS = 1.0
"""Deadlines are looked at at least so often."""

T = TypeVar("T")


class Listener(Generic[T]):
    """Listens, and hands requests to an application.

    Parameters
    ----------
    name
        `intake`, `admin`, `rest` or `monitor`.
    address
        An `Address`.
    process
        The part of the product, for the log.
    certificate
        PEM files of a certificate and its key: HTTPS is spoken.
    """

    def __init__(
        self,
        name: str,
        address: str,
        limits: ListenerLimits,
        application: Application[T],
        metrics: ListenerMetrics,
        *,
        process: str,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self._name = name
        self._address = address
        self._process = process
        self._files = certificate
        self._certificate: Certificate | None = None
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.limits = limits
        self.connections: Connections[T] = Connections(
            name,
            limits,
            application,
            Shares(limits.max_connections, limits.max_held_bytes),
            application.reads | FRAMING,
            metrics.counting(name),
        )

    async def start(self) -> int:
        """Listen; returns the port.

        Raises
        ------
        OSError
            The address cannot be bound.
        ConfigurationError
            The certificate cannot be used.
        """
        host, port = split_address(self._address)
        loop = asyncio.get_running_loop()
        if self._files is not None:
            self._certificate = Certificate(*self._files, self.limits.settings)
        self._sockets = _bind(host, port)
        bound = int(self._sockets[0].getsockname()[1])
        if self._certificate is not None:
            context = self._certificate.context
            self._accepting = [loop.create_task(accept(one, self.connections, context)) for one in self._sockets]
            self._later("certificate", CERTIFICATE_REREAD_SECONDS)
        else:
            new = partial(Connection, self.connections)
            self._servers = [await loop.create_server(new, sock=one, backlog=BACKLOG) for one in self._sockets]
        self._later("deadlines", self._check_seconds)
        get_logger().info("listening", part=self._name, process=self._process, port=bound)
        return bound

    def stop_accepting(self) -> None:
        """Take no new connections, and end each that is open after its response."""
        self.connections.stopping = True
        for server in self._servers:
            server.close()
        for task in [*self._accepting, *self.connections.handshakes]:
            task.cancel()
        for connection in list(self.connections.open):
            connection.end_when_idle()

    async def close(self, grace: float = 0.0) -> None:
        """End what is still open, requests that are being handled after `grace` seconds at most."""
        self.stop_accepting()
        if grace and self.connections.tasks:
            await asyncio.wait(set(self.connections.tasks), timeout=grace)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for connection in [*self.connections.open, *self.connections.surplus]:
            connection.abort()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()
        for one in self._sockets:
            one.close()  # also that of a task which was cancelled before it began

    def reread_certificate(self) -> None:
        """Use the certificate that is in the files now for new connections, and read it again later."""
        if self._certificate is not None:
            self._certificate.reread()
            self._later("certificate", CERTIFICATE_REREAD_SECONDS)

    # ---- connections

    @property
    def _check_seconds(self) -> float:
        return min(LONGEST_CHECK_SECONDS, max(0.01, self.limits.shortest() / 4))

    def _check_deadlines(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in [*self.connections.open, *self.connections.surplus]:
            connection.check_deadline(now)
        self._later("deadlines", self._check_seconds)

    def _later(self, name: str, seconds: float) -> None:
        work = {"certificate": self.reread_certificate, "deadlines": self._check_deadlines}[name]
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, work)


def _bind(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on each address of a host."""
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(BACKLOG)
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets
