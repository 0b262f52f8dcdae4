"""Settings of the intake."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from eventsink.runtime.address import Address
from eventsink.runtime.listener.settings import ListenerLimits
from eventsink.runtime.settings import Seconds, Settings


class IntakeSettings(Settings):
    """Where alerts are accepted, and the bounds of what is accepted at once."""

    address: Address = "127.0.0.1:8080"
    """`host:port`. In manifests/: 0.0.0.0:8080."""
    max_body_bytes: int = Field(default=16 * 1024**2, ge=1024)
    """Of one request; larger ones, also once they are expanded, get a 413. Groups by namespace keep notifications small."""
    max_held_bytes: int = Field(default=32 * 1024**2, ge=1024)
    """Of all requests that are in memory at once; more get a 503. One address has at most as many as it leaves to others, so half of this if
    it is alone. What is made of a body takes several times its size."""
    max_connections: int = Field(default=2000, ge=2)
    """Open at once, TLS handshakes included; more get a 503 and are closed. One address has at most as many as it leaves to others."""
    max_requests_under_way: int = Field(default=512, ge=2)
    """Accepted at once; more get a 503. One source has at most as many as it leaves to others."""
    read_timeout: Seconds = Field(default=15.0, gt=0)
    """From the first byte of a request to its last."""
    write_timeout: Seconds = Field(default=30.0, gt=0)
    """How long a client may leave its responses unread."""
    idle_timeout: Seconds = Field(default=120.0, gt=0)
    """How long a connection without a request is kept."""
    sender_header: str = Field(default="", max_length=64, pattern=r"^[A-Za-z0-9-]*$")
    """Header by which the halves of a highly available pair are distinguished behind a proxy or mesh, such as X-Forwarded-For; it must be set
    by the proxy. Empty, or where a request has none: by the address that the connection comes from. The same from another sender within
    state.haWindow is a duplicate."""
    tls_certificate_file: Path | None = None
    """PEM; with tlsKeyFile, HTTPS is spoken."""
    tls_key_file: Path | None = None
    """PEM, of tlsCertificateFile."""

    @model_validator(mode="after")
    def _both_or_none(self) -> IntakeSettings:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("set both tlsCertificateFile and tlsKeyFile, or none")
        if self.max_held_bytes < 2 * self.max_body_bytes:
            raise ValueError("maxHeldBytes must be at least twice maxBodyBytes: one address has at most half of it")
        return self

    def certificate(self) -> tuple[Path, Path] | None:
        """Files of certificate and key; None: plain HTTP."""
        if self.tls_certificate_file is None or self.tls_key_file is None:
            return None
        return self.tls_certificate_file, self.tls_key_file

    def limits(self, max_connections: int) -> ListenerLimits:
        """The limits of the listener, with so many connections."""
        return ListenerLimits(
            "intake.",
            max_connections=max_connections,
            max_body_bytes=self.max_body_bytes,
            max_held_bytes=self.max_held_bytes,
            read_timeout=self.read_timeout,
            write_timeout=self.write_timeout,
            idle_timeout=self.idle_timeout,
        )
