"""What a POST costs the router: the project's own transport against aiohttp's client, on the same event loop, in one run.

Both send the same body over kept connections to the same server, which runs in a process of its own, so that the CPU time of this
process is the client's alone. Ours judges addresses and bounds its waits as in the router.

python -m tests.benchmarks.transport [REQUESTS | full]
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import aiohttp
import uvloop

from eventsink.sinks.egress import EgressGuard, EgressSettings
from eventsink.sinks.http1 import Http1Transport, TransportSettings
from eventsink.sinks.resolver import Resolver
from eventsink.sinks.transport import Endpoint
from tests.support.load import size

HOSTS = 16
IN_FLIGHT = 64
BODY = b'{"data":"' + b"x" * 1000 + b'"}'
HEADERS = {"Content-Type": "application/cloudevents+json", "webhook-id": "0123456789abcdef", "webhook-timestamp": "1800000000"}
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TIMEOUT_SECONDS = 30.0
ROUNDS = 3
"""The best of so many counts: a disturbance only ever makes a run slower."""

Post = Callable[[int], Awaitable[int]]


class Responder(asyncio.Protocol):
    """Responds to each request once its last byte has arrived, and reads nothing of it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(BODY) and self._transport is not None:
            self._received = b""
            self._transport.write(RESPONSE)


def serve(ports: Connection) -> None:
    """Listen on HOSTS ports, send their numbers, and serve until this process is ended."""

    async def listening() -> None:
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(Responder, "127.0.0.1", 0) for _ in range(HOSTS)]
        ports.send([server.sockets[0].getsockname()[1] for server in servers])
        await asyncio.Event().wait()

    asyncio.run(listening())


async def cpu_of(post: Post, requests: int) -> float:
    """CPU microseconds a request of this process, with IN_FLIGHT of them at a time."""
    numbers = iter(range(requests))

    async def work() -> None:
        for number in numbers:
            assert await post(number % HOSTS) == 200

    began = time.process_time()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return (time.process_time() - began) / requests * 1e6


async def ours(ports: list[int], requests: int) -> float:
    """Of `Http1Transport`."""
    transport = Http1Transport(TransportSettings(), EgressGuard(EgressSettings(allow=("127.0.0.0/8",))), Resolver())
    clients = [transport.client(Endpoint.parse(f"http://127.0.0.1:{port}/alerts"), tenant="acme") for port in ports]
    headers = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items()).encode()

    async def post(host: int) -> int:
        return (await clients[host].post(headers, BODY, timeout=TIMEOUT_SECONDS)).status

    await cpu_of(post, IN_FLIGHT * 10)
    used = await cpu_of(post, requests)
    await transport.close()
    return used


async def aiohttps(ports: list[int], requests: int) -> float:
    """Of aiohttp's client, with the same limits."""
    limits = TransportSettings()
    connector = aiohttp.TCPConnector(limit=limits.max_connections, limit_per_host=limits.max_connections_per_host)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    urls = [f"http://127.0.0.1:{port}/alerts" for port in ports]
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def post(host: int) -> int:
            async with session.post(urls[host], data=BODY, headers=HEADERS, allow_redirects=False) as response:
                await response.read()
                return response.status

        await cpu_of(post, IN_FLIGHT * 10)
        return await cpu_of(post, requests)


def main(requests: int) -> None:
    context = multiprocessing.get_context("spawn")
    sending, receiving = context.Pipe()
    server = context.Process(target=serve, args=(sending,), daemon=True)
    server.start()
    try:
        if not receiving.poll(TIMEOUT_SECONDS):
            raise SystemExit("the server did not start")
        ports = receiving.recv()
        for name, loop in (("uvloop", uvloop.new_event_loop), ("asyncio", asyncio.new_event_loop)):
            best = {}
            for client in (ours, aiohttps):
                found = []
                for _ in range(ROUNDS):
                    with asyncio.Runner(loop_factory=loop) as runner:
                        found.append(runner.run(client(ports, requests)))
                best[client] = min(found)
            print(
                f"{name}: ours {best[ours]:.0f} us of CPU a request, aiohttp {best[aiohttps]:.0f} us; "
                f"aiohttp takes {best[aiohttps] / best[ours]:.1f} times as much"
            )
    finally:
        server.terminate()
        server.join(TIMEOUT_SECONDS)


if __name__ == "__main__":
    main(size(10_000, 50_000))
