"""The listeners of a real process against clients that are broken or hostile: no 500, no memory, and room for everybody else."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.soak.listeners import LISTENERS, Fuzzed, exchange, fuzz, resident_bytes
from tests.support.parts import alert, notification

FUZZ_SECONDS = 6.0
"""For each of four listeners; `make soak` takes longer."""
BAD_REQUESTS = 10_000
AT_ONCE = 16
MAX_GROWTH_BYTES = 48 * 1024**2
HOSTILE = "127.0.0.2"
"""The address of the clients that others must not suffer from."""


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    made = Fuzzed(tmp_path_factory.mktemp("listeners"))
    with made.process:
        yield made


@pytest.mark.parametrize("listener", LISTENERS)
def test_almost_valid_requests_get_no_500_and_health_is_served_meanwhile(fuzzed: Fuzzed, listener: str) -> None:
    figures = asyncio.run(fuzz(fuzzed, listener, FUZZ_SECONDS, seed=10))
    assert figures.statuses["200"]
    assert figures.statuses["400"]


@pytest.mark.parametrize("listener", LISTENERS)
def test_ten_thousand_bad_requests_leave_no_memory(fuzzed: Fuzzed, listener: str) -> None:
    port = fuzzed.ports[listener]
    bad = [
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 40_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000,
        b"\x16\x03\x01" * 1000,
    ]

    async def send(count: int) -> None:
        for number in range(count):
            response = await exchange(port, [bad[number % len(bad)]], end=True)
            assert response[9:12] in (b"400", b"431", b"")

    async def send_all(count: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(send(count // AT_ONCE))

    before = resident_bytes(fuzzed.process)
    asyncio.run(send_all(BAD_REQUESTS))
    assert resident_bytes(fuzzed.process) - before < MAX_GROWTH_BYTES


def connect(stack: ExitStack, port: int, data: bytes = b"") -> None:
    """Open a connection of the hostile client and leave it."""
    client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(HOSTILE, 0)))
    client.sendall(data)


async def status(fuzzed: Fuzzed, listener: str, request: bytes) -> bytes:
    head = b"Host: h\r\nAuthorization: Bearer " + fuzzed.token(listener).encode()
    data = request.replace(b"\r\n", b"\r\n" + head + b"\r\nConnection: close\r\n", 1)
    return (await exchange(fuzzed.ports[listener], [data], end=True))[9:12]


def test_silent_connections_and_half_sent_bodies_of_one_client_keep_nobody_else_out(fuzzed: Fuzzed) -> None:
    head = b"POST /v1/event_sink HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    with ExitStack() as stack:
        for listener in LISTENERS:
            for number in range(350):
                connect(stack, fuzzed.ports[listener], head if number % 2 else b"")
        body = json.dumps(notification(alert("A", namespace="acme"), group="g")).encode()
        requests = {
            "monitor": b"GET /readyz HTTP/1.1\r\n\r\n",
            "admin": b"GET /v1/sinks HTTP/1.1\r\n\r\n",
            "rest": b"GET /v1/event_sink?tenant_id=acme HTTP/1.1\r\n\r\n",
            "intake": b"POST /v1/alerts/alertmanager HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        }
        assert {one: asyncio.run(status(fuzzed, one, request)) for one, request in requests.items()} == dict.fromkeys(
            LISTENERS, b"200"
        )


@pytest.mark.parametrize(
    ("listener", "request_line", "header", "body", "expected"),
    [
        ("intake", b"POST /v1/alerts/alertmanager", b"", b'{"\xff": 1}', b"400"),
        ("intake", b"POST /v1/alerts/alertmanager", b"", b'{"alerts": [{"labels": {"\xc3\x28": "x"}}]}', b"400"),
        ("intake", b"POST /v1/alerts/alertmanager", b"Authorization: Bearer \xff", b"{}", b"401"),
        ("intake", b"POST /v1/alerts/alertmanager/%ff%00", b"X: y", b"{}", b"401"),
        ("admin", b"POST /v1/deliveries/replay", b"", b'{"\xff": 1}', b"400"),
        ("admin", b"POST /v1/deliveries/replay", b"", rb'{"tenant": "\ud800"}', b"400"),
        ("admin", b"GET /v1/deliveries?tenant=%ff", b"", b"", b"400"),
        ("admin", b"GET /v1/deliveries?limit=" + b"9" * 5000, b"", b"", b"400"),
        ("admin", b"GET /v1/sinks", b"Authorization: Bearer \xff", b"", b"401"),
        ("rest", b"POST /v1/event_sink", b"", b'{"\xff": 1}', b"400"),
        ("rest", b"POST /v1/event_sink", b"", rb'{"name": "\ud800"}', b"400"),
        ("rest", b"GET /v1/event_sink?tenant_id=%ff", b"", b"", b"400"),
        ("rest", b"GET /v1/event_sink/%ff", b"", b"", b"404"),
        ("rest", b"GET /v1/event_sink?tenant_id=acme", b"Authorization: Bearer \xff", b"", b"401"),
        ("rest", b"POST /v1/event_sink", b"Content-Type: application/json; charset=\xff", b"{}", b"400"),
        ("rest", b"GET /v1/slack/callback?state=%ff.x", b"Cookie: a=\xff", b"", b"400"),
    ],
)
def test_what_is_not_utf8_is_an_error_of_the_client(
    fuzzed: Fuzzed, listener: str, request_line: bytes, header: bytes, body: bytes, expected: bytes
) -> None:
    headers = [b"Host: h", b"Connection: close", b"Content-Length: %d" % len(body)]
    if not header.startswith(b"Content-Type"):
        headers.append(b"Content-Type: application/json")
    if not header.startswith((b"Authorization", b"X: ")):
        headers.append(b"Authorization: Bearer " + fuzzed.token(listener).encode())
    head = b"\r\n".join([request_line + b" HTTP/1.1", *headers, *([header] if header else [])])
    response = asyncio.run(exchange(fuzzed.ports[listener], [head + b"\r\n\r\n" + body], end=True))
    assert response[9:12] == expected, response
