"""Alerts at a steady rate through a router, and receivers that behave and misbehave; sent and received in one event loop, on one clock."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import httptools

from tests.support.parts import Router, alert, notification

CONNECTIONS = 32
DRIP_SECONDS = 0.5
_NAME = re.compile(rb'"name":"(A\d+)"')
_STATUS = {"fail": b"503", "reject": b"400"}


def size(short: int, full: int) -> int:
    """How large a benchmark is: as its argument says, which is a number or `full`."""
    argument = sys.argv[1] if len(sys.argv) > 1 else ""
    return full if argument == "full" else int(argument or short)


def percentile(values: Iterable[float], percent: float) -> float:
    """The value below which so many percent are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def memory_peak(pid: int) -> int:
    """Bytes that a process has had in memory at most."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


class Receivers:
    """What listens; the first part of a path says how it behaves: `ok`, `hang`, `fail`, `reject` or `drip`."""

    def __init__(self) -> None:
        self.arrived: dict[str, float] = {}
        """Name of an alert -> when it arrived first where it is accepted."""
        self._servers: list[asyncio.Server] = []

    async def listen(self, host: str = "127.0.0.1") -> str:
        """Listen at one more port; returns its origin."""
        server = await asyncio.get_running_loop().create_server(lambda: _Exchange(self), host, 0)
        self._servers.append(server)
        return f"http://{host}:{server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        for server in self._servers:
            server.close()


class _Exchange(asyncio.Protocol):
    def __init__(self, receivers: Receivers) -> None:
        self._receivers = receivers
        self._parser = httptools.HttpRequestParser(self)
        self._behaviour, self._body = "", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._behaviour = url.split(b"/")[1].decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        if self._behaviour == "drip":
            self._transport.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            self._drip()
        elif self._behaviour == "ok":
            for name in _NAME.findall(body):
                self._receivers.arrived.setdefault(name.decode(), time.perf_counter())
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        elif self._behaviour != "hang":
            self._transport.write(b"HTTP/1.1 %s -\r\nContent-Length: 0\r\n\r\n" % _STATUS[self._behaviour])

    def _drip(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(b"x")
            asyncio.get_running_loop().call_later(DRIP_SECONDS, self._drip)


def notification_of(numbers: Iterable[int], sinks: int, tenants: int) -> bytes:
    """A notification with the alerts A<n>, each for the sink of `team` n modulo `sinks`, and its tenant."""
    numbers = list(numbers)
    alerts = [alert(f"A{number}", namespace=f"t{number % sinks % tenants}", team=str(number % sinks)) for number in numbers]
    return json.dumps(notification(*alerts, group=str(numbers[0]))).encode()


def sink_address(url: str, number: int, tenants: int) -> str:
    """A sink of `tests.support.router_process` that wants the alerts of `team` number."""
    return f"{url}#tenant=t{number % tenants}&matcher=team%3D%22{number}%22"


class Posting(NamedTuple):
    """Where to post, as of a `Router`."""

    url: str
    token: str


async def post_at_rate(router: Router | Posting, bodies: list[bytes], rate: float) -> list[float]:
    """Post bodies, so many a second or (0) as fast as they are accepted; returns when each was sent, late or not."""
    host, port = router.url.removeprefix("http://").partition("/")[0].split(":")
    head = f"POST /v1/alerts/alertmanager HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {router.token}\r\n"
    began = time.perf_counter()
    sent = [0.0] * len(bodies)
    numbers = iter(range(len(bodies)))

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for number in numbers:
            due = began + number / rate if rate else time.perf_counter()
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sent[number] = due if rate else time.perf_counter()
            body = bodies[number]
            writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            response = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in response[:16]:
                raise RuntimeError(response[:200].decode())
            found = re.search(rb"(?i)content-length: (\d+)", response)
            assert found is not None
            await reader.readexactly(int(found[1]))
        writer.close()

    await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))
    return sent


async def until_arrived(receivers: Receivers, names: Iterable[str], deadline: float = 120.0) -> None:
    """Wait until these alerts have arrived."""
    missing = set(names)
    async with asyncio.timeout(deadline):
        while missing := {name for name in missing if name not in receivers.arrived}:
            await asyncio.sleep(0.02)
