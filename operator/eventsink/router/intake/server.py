"""Listens for senders of alerts: address, certificate, bounds over all connections, and the end of accepting alerts."""

from __future__ import annotations

import asyncio
import ssl

from eventsink.router.intake.connection import Connections, IntakeConnection
from eventsink.router.intake.requests import Intake
from eventsink.router.intake.settings import IntakeSettings
from eventsink.runtime.address import split_address
from eventsink.runtime.logs import get_logger
from eventsink.runtime.settings import ConfigurationError

BACKLOG = 1024
CERTIFICATE_REREAD_SECONDS = 60.0
"""Certificate and key are read again after this, so that a renewed one takes effect without a restart."""


class IntakeServer:
    """Listens, and hands requests to an `Intake`."""

    def __init__(self, settings: IntakeSettings, intake: Intake) -> None:
        self.settings = settings
        self.intake = intake
        self.connections = Connections(settings, intake)
        self._server: asyncio.Server | None = None
        self._context: ssl.SSLContext | None = None
        self._rereading: asyncio.TimerHandle | None = None

    async def start(self) -> int:
        """Listen; returns the port.

        Raises
        ------
        OSError
            The address cannot be bound.
        ConfigurationError
            The certificate cannot be used.
        """
        host, port = split_address(self.settings.address)
        loop = asyncio.get_running_loop()
        self._context = _tls(self.settings)
        self._server = await loop.create_server(
            lambda: IntakeConnection(self.connections), host, port, ssl=self._context, backlog=BACKLOG, reuse_address=True
        )
        if self._context is not None:
            self._rereading = loop.call_later(CERTIFICATE_REREAD_SECONDS, self.reread_certificate)
        bound = int(self._server.sockets[0].getsockname()[1])
        get_logger().info("listening", part="intake", process="router", port=bound)
        return bound

    def reread_certificate(self) -> None:
        """Use what is in the files now for new connections, and read again later; what cannot be used changes nothing."""
        if self._context is None or self.intake.stopping:
            return
        try:
            # A certificate without its key would spoil the context that is in use, so a fresh one is tried first.
            _tls(self.settings)
            _load_certificate(self._context, self.settings)
        except ConfigurationError as error:
            get_logger().warning("the certificate cannot be read again; the one read last stays in use", reason=str(error))
        if self._rereading is not None:
            self._rereading.cancel()
        self._rereading = asyncio.get_running_loop().call_later(CERTIFICATE_REREAD_SECONDS, self.reread_certificate)

    def stop_accepting(self) -> None:
        """Take no new connections; respond with 503 on those that are open, and end each after its response."""
        self.intake.stopping = True
        if self._rereading is not None:
            self._rereading.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections.open):
            connection.end_when_idle()

    async def close(self) -> None:
        """End what is still open."""
        for connection in list(self.connections.open):
            connection.abort()
        if self._server is not None:
            await self._server.wait_closed()


def _tls(settings: IntakeSettings) -> ssl.SSLContext | None:
    if settings.tls_certificate_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_certificate(context, settings)
    return context


def _load_certificate(context: ssl.SSLContext, settings: IntakeSettings) -> None:
    assert settings.tls_certificate_file is not None
    try:
        context.load_cert_chain(settings.tls_certificate_file, settings.tls_key_file)
    except (OSError, ssl.SSLError):
        raise ConfigurationError(
            "intake.tlsCertificateFile and intake.tlsKeyFile cannot be used together: check both files"
        ) from None
