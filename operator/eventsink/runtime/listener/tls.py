"""HTTPS of a listener: its certificate, and connections that count from the moment they are accepted, not after their handshake."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import TypeVar

from eventsink.runtime.listener.connection import Connection, Connections
from eventsink.runtime.listener.metrics import Ended
from eventsink.runtime.listener.settings import LINGER_SECONDS, TLS_HANDSHAKE_SECONDS
from eventsink.runtime.logs import get_logger
from eventsink.runtime.settings import ConfigurationError

ACCEPT_RETRY_SECONDS = 0.5
"""After an error that no single client causes, such as too many open files."""

T = TypeVar("T")


class Certificate:
    """Certificate and key, as they are in the files now.

    Parameters
    ----------
    certificate, key
        PEM files.
    settings
        What the names of the settings begin with, for errors.

    Raises
    ------
    ConfigurationError
        They cannot be used.
    """

    def __init__(self, certificate: Path, key: Path, settings: str) -> None:
        self._files = (certificate, key)
        self._settings = settings
        self.context = self._fresh()

    def reread(self) -> None:
        """Use what is in the files now for new connections; what cannot be used changes nothing."""
        try:
            # A certificate without its key would spoil the context that is in use, so a fresh one is tried first.
            self._fresh()
            self._load(self.context)
        except ConfigurationError as error:
            get_logger().warning("the certificate cannot be read again; the one read last stays in use", reason=str(error))

    def _fresh(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError):
            names = f"{self._settings}tlsCertificateFile and {self._settings}tlsKeyFile"
            raise ConfigurationError(f"{names} cannot be used together: check both files") from None


async def accept(listening: socket.socket, connections: Connections[T], context: ssl.SSLContext) -> None:
    """Accept connections for ever, and shake hands with as many as there is room for; surplus ones are closed."""
    with listening:
        while True:
            await _accept_one(listening, connections, context)


async def _accept_one(listening: socket.socket, connections: Connections[T], context: ssl.SSLContext) -> None:
    loop = asyncio.get_running_loop()
    try:
        client, address = await loop.sock_accept(listening)
    except OSError as error:
        get_logger().warning("connections cannot be accepted", reason=error.strerror)
        await asyncio.sleep(ACCEPT_RETRY_SECONDS)
        return
    connection = Connection(connections)
    if not connection.accepted(address):
        client.close()
        return
    task = loop.create_task(_shake_hands(client, connection, connections, context))
    connections.handshakes.add(task)
    task.add_done_callback(connections.handshakes.discard)


async def _shake_hands(
    client: socket.socket, connection: Connection[T], connections: Connections[T], context: ssl.SSLContext
) -> None:
    try:
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: connection,
            client,
            ssl=context,
            ssl_handshake_timeout=TLS_HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=LINGER_SECONDS,
        )
    except OSError as failed:  # ssl.SSLError, a client that hung up, and the timeout among them
        # Its traceback holds the connection with its buffers (256 KiB) in a cycle, until the garbage collector comes by.
        failed.__traceback__ = None
        connections.count(Ended.TLS_FAILED)
        connection.connection_lost(None)
    except asyncio.CancelledError:
        connection.connection_lost(None)
        raise
