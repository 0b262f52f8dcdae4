"""What has arrived on connections and was not read yet."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from eventsink.sinks.unread import Unread

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    """Connections, each with the receiver's end of it."""
    with ExitStack() as stack:
        made = [socket.socketpair() for _ in range(5)]
        for pair in made:
            for end in pair:
                stack.enter_context(end)
        yield made


def watching(pairs: list[Pair], most: int) -> Unread:
    unread = Unread(most)
    for ours, _ in pairs:
        unread.add(ours.fileno())
    return unread


def on(unread: Unread, pairs: list[Pair]) -> list[bool]:
    return [unread.on(ours.fileno()) for ours, _ in pairs]


def test_a_byte_and_the_end_of_a_connection_are_unread_until_they_are_read(pairs: list[Pair]) -> None:
    unread = watching(pairs, 5)
    assert on(unread, pairs) == [False] * 5
    pairs[1][1].send(b"x")
    pairs[3][1].close()
    unread.changed()
    assert on(unread, pairs) == [False, True, False, True, False]
    pairs[1][0].recv(1)
    unread.changed()
    assert on(unread, pairs) == [False, False, False, True, False]


def test_a_new_connection_with_the_number_of_one_that_was_closed_is_not_taken_for_it(pairs: list[Pair]) -> None:
    unread = watching(pairs, 5)
    pairs[0][1].send(b"x")
    unread.changed()
    number = pairs[0][0].fileno()
    assert unread.on(number)
    pairs[0][0].close()
    with socket.socket() as ours, socket.create_server(("127.0.0.1", 0)) as server:
        assert ours.fileno() == number
        ours.connect(server.getsockname())
        unread.add(number)
        assert not unread.on(number)


def test_with_more_to_read_than_is_asked_for_no_connection_is_taken_for_silent(pairs: list[Pair]) -> None:
    unread = watching(pairs, 2)
    for _, theirs in pairs[:2]:
        theirs.send(b"x")
    unread.changed()
    assert on(unread, pairs) == [True, True, False, False, False]
    pairs[2][1].send(b"x")
    unread.changed()
    assert on(unread, pairs) == [True] * 5
