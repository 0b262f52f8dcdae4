"""Fuzz of the listeners: almost valid requests to `eventsink run`. No 500, no repeated header, bounded memory, and health all the time.

    python -m tests.soak.listeners [SECONDS [SEED [LISTENER...]]]

SECONDS are those in all, shared by the listeners (intake, admin, rest, monitor).
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.almost_valid import CANARY, Mutator, Request
from tests.support.parts import alert, notification
from tests.support.ports import free_port
from tests.support.processes import RunningProcess
from tests.support.standalone import NAMESPACE, Standalone, sink

LISTENERS = ("intake", "admin", "rest", "monitor")
SECONDS = 4 * 600.0
WORKERS = 4
ANSWER_SECONDS = 20.0
"""For everything that one connection gets: longer than a read timeout."""
OPEN_SECONDS = 0.2
"""For those that are not ended by the client, and may be incomplete."""
HEALTH_SECONDS = 5.0
"""`/healthz` responds within this, on a machine with other work to do."""
MAX_GROWTH_BYTES = 192 * 1024**2
_STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) ")
_ID = re.compile(rb'"event_sink":\{"id":"([0-9a-f-]{36})"|"id":"([0-9a-f-]{36})","tenant_id"')


@dataclass
class Figures:
    """What a run found."""

    requests: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    cpu_seconds: float = 0.0
    slowest_health: float = 0.0
    grown_bytes: int = 0

    def __str__(self) -> str:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        return (
            f"{self.requests} requests ({statuses}), {self.cpu_seconds:.0f} s CPU, slowest health check {self.slowest_health * 1000:.0f} ms, "
            f"memory grown by {self.grown_bytes / 2**20:.0f} MiB"
        )


class Fuzzed:
    """A standalone process that is fuzzed, with one sink whose receiver is down."""

    def __init__(self, root: Path) -> None:
        self.standalone = Standalone(root)
        self.standalone.put("ns.yaml", NAMESPACE)
        self.standalone.put("sink.yaml", sink("alerts", f"http://127.0.0.1:{free_port()}/hook"))
        self.process = self.standalone.start(
            rest={"address": "127.0.0.1:0", "createWait": "0s", "testWait": "0s", "limits": {"failures": {"allowed": 10000}}},
            intake={"address": "127.0.0.1:0", "readTimeout": "2s"},
            queue={"minFreeBytes": 0, "maxWaiting": 20_000},
        )
        self.ports = {name: self.process.port_of(name) for name in LISTENERS}
        self._ids: list[str] = ["6fa1c1f2-7d3b-4e0e-9d9b-0c5a1c8c4a11"]

    def token(self, listener: str) -> str:
        """What its clients send as a bearer token."""
        file = {"intake": "alertmanager-token", "admin": "admin-token", "rest": "rest-key"}.get(listener)
        return (self.standalone.data / file).read_text().strip() if file is not None else ""

    def request(self, listener: str, chance: random.Random) -> Request:
        """A valid request."""
        token = self.token(listener).encode()
        headers = ((b"Host", b"127.0.0.1"), (b"Authorization", b"Bearer " + token), (b"Content-Type", b"application/json"))
        target, method, body = self._call(listener, chance)
        return Request(method, target, headers, body)

    def _call(self, listener: str, chance: random.Random) -> tuple[str, str, object]:
        uid = chance.choice(self._ids)
        webhook = {"Webhook": {"url": "http://127.0.0.1:9/hook", "headers": {"X-Team": "a"}}}
        calls: dict[str, list[tuple[str, str, object]]] = {
            "intake": [
                (
                    "/v1/alerts/alertmanager",
                    "POST",
                    notification(alert(f"A{chance.randrange(100)}", namespace="acme"), group="g"),
                ),
                (
                    "/v1/alerts/alertmanager",
                    "POST",
                    notification(*(alert(f"B{n}", namespace="acme") for n in range(5)), group="h"),
                ),
                ("/v1/alerts/unknown/token", "POST", {}),
            ],
            "admin": [
                ("/v1/deliveries?state=waiting&tenant=acme&limit=10&after=0", "GET", None),
                (f"/v1/deliveries?sink=acme/alerts&id={uid}&reason=x&message=y", "GET", None),
                (
                    "/v1/deliveries/replay",
                    "POST",
                    {"ids": [uid], "tenant": "acme", "sink": "acme/alerts", "reason": "x", "limit": 5},
                ),
                ("/v1/sinks", "GET", None),
                (f"/v1/sinks/{uid}/test", "POST", {"wait": 0.0}),
            ],
            "rest": [
                ("/v1/event_sink", "POST", {"tenant_id": "acme", "name": "n", "description": "d", "event_sink_args": webhook}),
                ("/v1/event_sink?tenant_id=acme&pagination[page_size]=5", "GET", None),
                (f"/v1/event_sink/{uid}", "GET", None),
                (f"/v1/event_sink/{uid}", "PUT", {"id": uid, "name": "m", "event_sink_args": webhook}),
                (f"/v1/event_sink/{uid}", "DELETE", None),
                (f"/v1/event_sink/{uid}", "DELETE", None),
                (f"/v1/event_sink/{uid}/test", "POST", {}),
                ("/v1/slack/install", "POST", {"tenant_id": "acme", "name": "n", "channel": "#c"}),
                ("/v1/slack/open?state=abc.def", "GET", None),
                ("/v1/slack/callback?state=abc.def&code=x&error=", "GET", None),
                ("/openapi.json", "GET", None),
                ("/docs", "GET", None),
            ],
            "monitor": [("/healthz", "GET", None), ("/readyz", "GET", None), ("/metrics", "GET", None)],
        }
        return chance.choice(calls[listener])

    def learn(self, response: bytes) -> None:
        """Remember ids of sinks, so that later requests concern some that exist."""
        for found in _ID.finditer(response):
            self._ids = [*self._ids[-20:], (found[1] or found[2]).decode()]


async def exchange(port: int, pieces: list[bytes], *, end: bool) -> bytes:
    """Send bytes and return all that comes back until the connection ends."""
    received = b""
    writer = None
    try:
        async with asyncio.timeout(ANSWER_SECONDS if end else OPEN_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if end:
                writer.write_eof()
            while piece := await reader.read(65536):
                received += piece
    except TimeoutError:
        if end:
            raise
    except OSError:
        pass  # the server may end the connection while more is sent
    finally:
        if writer is not None:
            writer.transport.abort()
    return received


def check(data: bytes, response: bytes, figures: Figures) -> None:
    """What must hold for each response."""
    statuses = [found.decode() for found in _STATUS.findall(response)]
    figures.requests += 1
    figures.statuses.update(statuses or ["none"])
    if bad := {"500", "502", "504"} & set(statuses):
        raise AssertionError(f"{bad}: {data[:3000]!r}")
    if CANARY.encode() in response:
        raise AssertionError(f"a header is repeated in the response: {data[:3000]!r}")


async def fuzz(fuzzed: Fuzzed, listener: str, seconds: float, seed: int) -> Figures:
    """Fuzz one listener for so many seconds."""
    figures, end = Figures(), time.monotonic() + seconds
    cpu, memory = cpu_seconds(fuzzed.process), resident_bytes(fuzzed.process)

    async def work(number: int) -> None:
        mutator = Mutator(seed * 1000 + number)
        chance = mutator.chance
        while time.monotonic() < end:
            data = b"".join(mutator.bytes_of(fuzzed.request(listener, chance)) for _ in range(chance.choice((1, 1, 1, 2))))
            cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice((0, 0, 1, 3))))
            pieces = [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]
            response = await exchange(fuzzed.ports[listener], pieces, end=chance.random() < 0.95)
            check(data, response, figures)
            fuzzed.learn(response)

    async def watch_health() -> None:
        while time.monotonic() < end:
            began = time.monotonic()
            response = await exchange(fuzzed.ports["monitor"], [b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"], end=True)
            taken = time.monotonic() - began
            figures.slowest_health = max(figures.slowest_health, taken)
            assert response.startswith(b"HTTP/1.1 200 "), response
            assert taken < HEALTH_SECONDS, f"/healthz took {taken:.1f} s"
            await asyncio.sleep(0.2)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch_health())
        for number in range(WORKERS):
            tasks.create_task(work(number))
    assert fuzzed.process.exit_code is None, fuzzed.process.tail()
    figures.cpu_seconds = cpu_seconds(fuzzed.process) - cpu
    figures.grown_bytes = resident_bytes(fuzzed.process) - memory
    assert figures.grown_bytes < MAX_GROWTH_BYTES, str(figures)
    failures = [line for line in fuzzed.process.lines() if line.get("exception")]
    assert not failures, json.dumps(failures[0])
    return figures


def cpu_seconds(process: RunningProcess) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def resident_bytes(process: RunningProcess) -> int:
    """Memory of a process."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096


def main(seconds: float = SECONDS, seed: int | None = None, listeners: tuple[str, ...] = LISTENERS) -> None:
    """Fuzz each listener; prints the seed, and the figures of each."""
    chosen = seed if seed is not None else random.SystemRandom().randrange(1_000_000)
    print(f"seed {chosen}")
    for listener in listeners:
        with tempfile.TemporaryDirectory() as folder:
            fuzzed = Fuzzed(Path(folder))
            with fuzzed.process:
                print(f"{listener}: {asyncio.run(fuzz(fuzzed, listener, seconds / len(listeners), chosen))}", flush=True)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        float(arguments[0]) if arguments else SECONDS,
        int(arguments[1]) if len(arguments) > 1 else None,
        tuple(arguments[2:]) or LISTENERS,
    )
