"""No client has more than it leaves to others."""

from __future__ import annotations

import pytest

from eventsink.runtime.listener.shares import Shares, peer_key


def connect_all(shares: Shares, address: str) -> int:
    """How many connections a peer gets."""
    peer, count = shares.peer(address), 0
    while shares.may_connect(peer):
        shares.connect(peer)
        count += 1
    return count


def test_one_peer_gets_half_and_the_next_half_of_the_rest() -> None:
    shares = Shares(max_connections=64, max_held_bytes=1)
    assert [connect_all(shares, f"192.0.2.{n}") for n in range(6)] == [32, 16, 8, 4, 2, 1]
    assert shares.connections == 63


def test_what_a_peer_gives_back_others_may_have() -> None:
    shares = Shares(max_connections=4, max_held_bytes=1)
    first = shares.peer("192.0.2.1")
    assert connect_all(shares, "192.0.2.1") == 2
    shares.disconnect(first)
    shares.disconnect(first)
    assert not shares.peers
    assert connect_all(shares, "192.0.2.2") == 2


def test_bytes_are_shared_in_the_same_way() -> None:
    shares = Shares(max_connections=1, max_held_bytes=100)
    one, other = shares.peer("192.0.2.1"), shares.peer("192.0.2.2")
    assert shares.hold(one, 50)
    assert not shares.hold(one, 1)
    shares.release(one, 1)
    assert shares.hold(other, 25)
    assert not shares.hold(other, 1)
    shares.release(other, 26)
    shares.release(one, 50)
    assert (shares.held_bytes, shares.peers) == (0, {})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "", True),
    ],
)
def test_addresses_of_one_client_are_one_peer(one: str, other: str, same: bool) -> None:
    assert (peer_key(one) == peer_key(other)) is same
