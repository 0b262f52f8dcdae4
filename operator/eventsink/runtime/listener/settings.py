"""Limits of a listener, and the settings that listeners share."""

from __future__ import annotations

from dataclasses import dataclass

TLS_HANDSHAKE_SECONDS = 10.0
LINGER_SECONDS = 2.0
"""How long a connection that is being ended may take to read its responses and to close."""
MAX_SURPLUS = 64
"""Connections over the limit that get a response; more are closed without one."""
MAX_DISCARDED_BYTES = 256 * 1024
"""Of the body of a request whose response is known before; for a larger one the connection is closed."""


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """What a listener allows.

    Parameters
    ----------
    settings
        What its settings begin with, such as `intake.`: errors name them. Empty where these limits are not settings.
    """

    settings: str
    max_connections: int = 64
    """Open at once, TLS handshakes included; one address has at most as many as are left to others."""
    max_body_bytes: int = 1024**2
    max_held_bytes: int = 16 * 1024**2
    """Of all requests in memory at once; one address has at most as many as are left to others."""
    read_timeout: float = 15.0
    """From the first byte of a request to its last."""
    write_timeout: float = 30.0
    """How long a client may leave its responses unread."""
    idle_timeout: float = 120.0
    """How long a connection without a request is kept."""

    def named(self, setting: str) -> str:
        """The setting in parentheses, for a sentence; empty where it is none."""
        return f" ({self.settings}{setting})" if self.settings else ""

    def shortest(self) -> float:
        """The shortest of its timeouts."""
        return min(self.read_timeout, self.write_timeout, self.idle_timeout)
