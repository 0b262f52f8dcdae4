"""What one client may have of what all share: at most as much as is left."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address


@dataclass(slots=True)
class Peer:
    """What the connections of one address have together."""

    key: str
    connections: int = 0
    held_bytes: int = 0
    """Of its requests, in memory."""


@dataclass(slots=True)
class Shares:
    """Connections and bytes by peer: none gets more than is left, so that one alone gets half, and there is room for the next."""

    max_connections: int
    max_held_bytes: int
    connections: int = 0
    held_bytes: int = 0
    peers: dict[str, Peer] = field(default_factory=dict)

    def peer(self, address: str) -> Peer:
        """The peer with this address."""
        key = peer_key(address)
        found = self.peers.get(key)
        if found is None:
            found = self.peers[key] = Peer(key)
        return found

    def may_connect(self, peer: Peer) -> bool:
        """Whether it may have one more connection."""
        return peer.connections < self.max_connections - self.connections

    def connect(self, peer: Peer) -> None:
        """Count a connection."""
        peer.connections += 1
        self.connections += 1

    def disconnect(self, peer: Peer) -> None:
        """Count a connection no longer."""
        peer.connections -= 1
        self.connections -= 1
        self.forget(peer)

    def hold(self, peer: Peer, size: int) -> bool:
        """Count bytes that were received; whether that is within its share."""
        peer.held_bytes += size
        self.held_bytes += size
        return peer.held_bytes <= self.max_held_bytes - self.held_bytes

    def release(self, peer: Peer, size: int) -> None:
        """Count bytes no longer."""
        peer.held_bytes -= size
        self.held_bytes -= size
        self.forget(peer)

    def forget(self, peer: Peer) -> None:
        """Drop a peer that has nothing."""
        if not peer.connections and not peer.held_bytes and self.peers.get(peer.key) is peer:
            del self.peers[peer.key]


def peer_key(address: str) -> str:
    """What counts as one client: an IPv4 address, or the 64 bits of IPv6 that one network has."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except AddressValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return (int(parsed) >> 64).to_bytes(8, "big").hex(":", 2)
