"""What the outgoing connections of a process are kept and counted by: hosts, the pools within them, and the bounds that are shared out."""

from __future__ import annotations

from eventsink.sinks.connection import Connection
from eventsink.sinks.shares import Limit

SLOW_PART = 2
"""Sinks whose receivers are slow, or did not respond to the last message, get one connection in so many."""
UNPROVEN_PART = 3 / 4
"""They, and those that have not had an attempt yet, get this part of the connections together."""


class Bounds:
    """What is shared out of the connections of the process, or of one host."""

    __slots__ = ("all", "slow", "unproven")

    def __init__(self, most: int) -> None:
        self.all = Limit(most)
        self.unproven = Limit(max(1, int(most * UNPROVEN_PART)))
        """Of new sinks and slow ones: the rest is for those whose receivers respond promptly."""
        self.slow = Limit(max(1, most // SLOW_PART))
        """Of slow ones: the rest is for new ones, too."""


class Host:
    """One host and port: its connections, whoever uses them."""

    __slots__ = ("__weakref__", "bounds", "idle", "most", "sockets")

    def __init__(self, most: int) -> None:
        self.most = most
        self.bounds = Bounds(most)
        self.sockets = 0
        self.idle: dict[Connection, Pool] = {}
        """Least recently used first."""


class Pool:
    """The unused connections that may stand in for each other: of one tenant, to one host and port, with the same trust."""

    __slots__ = ("__weakref__", "by_authorities", "host", "idle", "keeps_from")

    def __init__(self, host: Host, *, by_authorities: bool) -> None:
        self.host = host
        self.by_authorities = by_authorities
        """Whether the authorities of the settings decide whom its connections trust, so that they end when those change."""
        self.idle: dict[Connection, None] = {}
        """Least recently used first."""
        self.keeps_from = 0.0
        """From when on connections are kept, on the transport's clock."""
