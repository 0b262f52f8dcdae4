"""From a notification to a settled webhook, over loopback: this router with its durable queue, and Alertmanager, which keeps nothing.

Both get single alerts, each a notification of its own, and deliver each to the same receiver. Compared are deliveries a second and CPU
microseconds of a delivery, in one run.

    python -m tests.benchmarks.pipeline [ALERTS | full]
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httptools

from tests.controlplane.alertmanager import VERSION, find_or_build_alertmanager
from tests.support.debian import find_or_fetch
from tests.support.load import size
from tests.support.monitoring import Alertmanager, AlertmanagerProgram, alert, webhook_configuration
from tests.support.parts import alert as notified
from tests.support.parts import notification
from tests.support.processes import RunningProcess
from tests.support.router_process import start_router

CONNECTIONS = 64
DEADLINE_SECONDS = 300.0


class Counter(threading.Thread):
    """A receiver that responds 200 at once and counts requests."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.count = 0
        self.port = 0
        self._listening = threading.Event()
        self.start()
        self._listening.wait(30)

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Counted(self), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await server.serve_forever()


class _Counted(asyncio.Protocol):
    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._counter.count += 1
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")  # type: ignore[attr-defined]


def cpu_seconds(process: RunningProcess) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def measure(process: RunningProcess, receiver: Counter, alerts: int, send: Callable[[], None]) -> tuple[float, float]:
    """Deliveries a second and CPU microseconds of each, from the first alert sent to the last one received."""
    before, cpu, began = receiver.count, cpu_seconds(process), time.perf_counter()
    send()
    while receiver.count - before < alerts:
        if time.perf_counter() - began > DEADLINE_SECONDS:
            raise TimeoutError(f"{receiver.count - before} of {alerts} arrived")
        time.sleep(0.005)
    taken = time.perf_counter() - began
    return alerts / taken, (cpu_seconds(process) - cpu) / alerts * 1e6


async def post_all(url: str, token: str, bodies: list[bytes]) -> None:
    """Post bodies over a few kept connections, each response awaited before the next body."""
    host, port = url.removeprefix("http://").partition("/")[0].split(":")
    path = "/" + url.removeprefix("http://").partition("/")[2]
    todo = iter(bodies)

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for body in todo:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            response = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in response.lower().split(b"\r\n") if line.startswith(b"content-length")
            )
            await reader.readexactly(length)
            if b" 200 " not in response[:16]:
                raise RuntimeError(response[:200].decode())
        writer.close()

    await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))


def of_alertmanager(program: AlertmanagerProgram, folder: Path, receiver: Counter, alerts: int) -> tuple[float, float]:
    """Alertmanager: alerts in hundreds a request, each in a group of its own."""
    configuration = webhook_configuration(f"http://127.0.0.1:{receiver.port}/am", group_by=("alertname",))
    configuration["route"]["group_wait"] = "0s"
    ends = datetime.now(UTC) + timedelta(hours=1)
    posts = [
        [alert(f"A{n}", ends_at=ends, namespace="acme", severity="critical") for n in range(start, min(start + 100, alerts))]
        for start in range(0, alerts, 100)
    ]
    with Alertmanager(program, configuration, folder, log_level="info") as process:
        process.wait_up()

        def send() -> None:
            for post in posts:
                process.post_alerts(*post)

        return measure(process, receiver, alerts, send)


def of_the_router(folder: Path, receiver: Counter, alerts: int, batch: int) -> tuple[float, float]:
    """The router: `batch` alerts a notification, each delivered by itself."""
    with start_router(folder, f"http://127.0.0.1:{receiver.port}/hook") as router:
        bodies = [
            json.dumps(
                notification(
                    *(notified(f"A{n}", namespace="acme") for n in range(start, min(start + batch, alerts))), group=str(start)
                )
            ).encode()
            for start in range(0, alerts, batch)
        ]
        url, token = router.url, router.token
        return measure(router.running, receiver, alerts, lambda: asyncio.run(post_all(url, token, bodies)))


def main(alerts: int) -> None:
    """Print a line for each way."""
    receiver = Counter()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        peers: dict[str, AlertmanagerProgram] = {"Debian's": find_or_fetch(), VERSION: find_or_build_alertmanager()}
        for name, program in peers.items():
            peer, peer_cpu = of_alertmanager(program, folder / name, receiver, min(alerts, 5000))
            print(f"Alertmanager {name:>8}, nothing durable: {peer:7.0f} deliveries/s, {peer_cpu:5.0f} us CPU each")
        for batch in (1, 64):
            own = folder / f"router-{batch}"
            own.mkdir()
            rate, cpu = of_the_router(own, receiver, alerts, batch)
            print(
                f"router, durable, {batch:2} alerts a request:  {rate:7.0f} deliveries/s, {cpu:5.0f} us CPU each: "
                f"{rate / peer:.2f} times the rate and {cpu / peer_cpu:.2f} times the CPU of the current Alertmanager"
            )


if __name__ == "__main__":
    main(size(20_000, 60_000))
