"""Settings of the intake."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from eventsink.runtime.address import Address
from eventsink.runtime.settings import Seconds, Settings


class IntakeSettings(Settings):
    """Where alerts are accepted, and the bounds of what is accepted at once."""

    address: Address = "127.0.0.1:8080"
    """`host:port`. In manifests/router: 0.0.0.0:8080."""
    max_body_bytes: int = Field(default=16 * 1024**2, ge=1024)
    """Of one request; larger ones get a 413. Groups by namespace keep notifications small."""
    max_held_bytes: int = Field(default=32 * 1024**2, ge=1024)
    """Of all bodies that are in memory at once; more get a 503. What is made of a body takes several times its size."""
    max_connections: int = Field(default=2000, ge=1)
    """Open at once; more get a 503 and are closed."""
    max_requests_under_way: int = Field(default=512, ge=1)
    """Accepted at once; more get a 503."""
    read_timeout: Seconds = 15.0
    """From the first byte of a request to its last."""
    idle_timeout: Seconds = 120.0
    """How long a connection without a request is kept."""
    sender_header: str = Field(default="", max_length=64, pattern=r"^[A-Za-z0-9-]*$")
    """Header by which the halves of a highly available pair are told apart behind a proxy or mesh, such as X-Forwarded-For; it must be set
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
        if self.max_held_bytes < self.max_body_bytes:
            raise ValueError("maxHeldBytes must be at least maxBodyBytes")
        return self
