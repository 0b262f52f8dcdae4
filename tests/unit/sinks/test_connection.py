"""A response means the same however it arrives, and whatever arrives is a response, an error, or the end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsink.sinks.connection import MAX_JOINED_BYTES, Connection
from eventsink.sinks.transport import Response, TransportError
from eventsink.sinks.unread import Unread
from tests.unit.sinks.transport_contract import OK

RESPONSES = [
    OK,
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 429 Too Many\r\nContent-Length: 9\r\n\r\nshort",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 20",
    b"\x15\x03\x01\x00\x02\x02\x46",
]


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Connection, socket.socket]]:
    """A connection, and the receiver's end of it."""
    ours, theirs = socket.socketpair()
    unread = Unread(1)
    theirs.setblocking(False)
    transport, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(unread), sock=ours)
    try:
        yield connection, theirs
    finally:
        theirs.close()
        transport.abort()
        await asyncio.sleep(0)


async def outcome(pieces: list[bytes]) -> object:
    """What an exchange comes to whose response arrives in these pieces, followed by the end of the connection."""
    async with connected() as (connection, theirs):
        exchange = connection.exchange(b"POST / HTTP/1.1\r\n\r\n", b"", 30.0)
        await asyncio.sleep(0)
        for piece in pieces:
            connection.data_received(piece)
        theirs.close()
        try:
            response = await exchange
        except TransportError as error:
            return error.kind
        assert not connection.usable or response.status >= 200
        return response


def splits(sent: bytes) -> Iterator[list[bytes]]:
    yield [sent]
    yield [sent[n : n + 1] for n in range(len(sent))]
    for at in range(1, len(sent)):
        yield [sent[:at], sent[at:]]


@pytest.mark.parametrize("sent", RESPONSES)
async def test_a_response_means_the_same_in_whatever_pieces_it_arrives(sent: bytes) -> None:
    whole = await outcome([sent])
    for pieces in splits(sent):
        found = await outcome(pieces)
        if isinstance(found, Response) and isinstance(whole, Response):
            # Of a malformed one only the status counts.
            assert (found.status, found.retry_after) == (whole.status, whole.retry_after), pieces
        else:
            assert found == whole or sent[:1] == b"\x15", pieces


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(RESPONSES),
            st.sampled_from(
                [
                    b"HTTP/1.1 ",
                    b"200 OK",
                    b"\r\n",
                    b"\n",
                    b"Content-Length: 1",
                    b"Transfer-Encoding: chunked",
                    b"Upgrade: x",
                    b"0",
                ]
            ),
        ),
        max_size=12,
    )
)
def test_whatever_arrives_is_a_response_or_an_error(pieces: list[bytes]) -> None:
    async def run() -> None:
        found = await outcome([piece for piece in pieces if piece])
        assert not isinstance(found, Response) or found.status >= 200

    asyncio.run(run())


@pytest.mark.parametrize("first", [one for one in RESPONSES if one.startswith(b"HTTP")])
async def test_a_response_that_is_the_same_as_the_one_before_means_the_same(first: bytes) -> None:
    async with connected() as (connection, _):
        for pieces in ([first], [first], [OK], [OK], [OK[:9], OK[9:]], [OK], [first[:13], first[13:]], [first], [OK]):
            exchange = connection.exchange(b"POST / HTTP/1.1\r\n\r\n", b"", 30.0)
            for piece in pieces:
                connection.data_received(piece)
            if not exchange.done():
                exchange.cancel()  # it says nothing of its end
                break
            if exchange.exception() is not None:
                break
            assert exchange.result() == await outcome(pieces)
            if not connection.usable:
                break


async def test_bytes_behind_a_response_that_is_the_same_as_the_one_before_end_the_connection() -> None:
    for behind in ([OK + OK], [OK, OK]):
        async with connected() as (connection, _):
            for _ in range(2):
                exchange = connection.exchange(b"POST / HTTP/1.1\r\n\r\n", b"", 30.0)
                connection.data_received(OK)
                assert (await exchange).status == 200
                assert connection.usable
            exchange = connection.exchange(b"POST / HTTP/1.1\r\n\r\n", b"", 30.0)
            for piece in behind:
                connection.data_received(piece)
            assert (await exchange).status == 200
            assert not connection.usable
            assert connection.surplus


@pytest.mark.parametrize("size", [0, MAX_JOINED_BYTES, MAX_JOINED_BYTES + 1, 3_000_000])
async def test_a_message_of_any_size_arrives_unchanged(size: int) -> None:
    body = os.urandom(size)
    loop = asyncio.get_running_loop()
    async with connected() as (connection, theirs):
        exchange = connection.exchange(b"head", body, 30.0)
        received = bytearray()
        while len(received) < size + 4:
            received += await loop.sock_recv(theirs, 1 << 20)
        await loop.sock_sendall(theirs, OK)
        assert (await exchange).status == 200
        assert bytes(received) == b"head" + body
        assert connection.usable


async def test_dripping_a_head_costs_no_more_than_its_size_allows() -> None:
    async with connected() as (connection, _):
        exchange = connection.exchange(b"POST / HTTP/1.1\r\n\r\n", b"", 30.0)
        await asyncio.sleep(0)
        connection.data_received(b"HTTP/1.1 200 OK\r\nX: ")
        pieces = 0
        while not exchange.done():
            connection.data_received(b"y" * 64)
            pieces += 1
            await asyncio.sleep(0)
        assert (await exchange).status == 200
        assert pieces <= 1024 + 2
