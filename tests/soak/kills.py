"""What got a 200 arrives, in order, whatever happens in between: a router with a large backlog is killed again and again.

Ten senders post alerts and their ends, and retry every 10 ms, also while the router starts. One sink keeps up, and another mostly fails, so
that its backlog is read at each start. Then the router is left alone, and everything that was acknowledged must have arrived: first that an
alert fires, then that it has ended.

    python -m tests.soak.kills [SECONDS]
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httptools
import msgspec

from eventsink.router.planning.assign import assign
from eventsink.router.queue.protocol import Batch, NewDelivery, Payload, PayloadKind
from eventsink.router.queue.sqlite import QueueSettings, SqliteQueue
from eventsink.router.sources import PostingSource, PostingSourceSettings
from tests.support import parts, router_process
from tests.support.parts import alert, notification
from tests.support.ports import free_port
from tests.support.processes import RunningProcess
from tests.support.waiting import wait_until

KILLS = 200
WAITING = 100_000
SENDERS = 10
RETRY_SECONDS = 0.01
PAUSE_SECONDS = 0.05
"""Of a sender after an alert was accepted."""
LONGEST_LIFE_SECONDS = 3.0
DRAIN_SECONDS = 600.0
PREFILLED_AT_ONCE = 500

Fact = tuple[str, str]
"""Name of an alert, and its status."""


@dataclass
class Figures:
    """What was done, and what was found."""

    kills: int = 0
    killed_before_intake: int = 0
    acknowledged: int = 0
    arrived: int = 0
    problems: list[str] = field(default_factory=list)


class Recorder(threading.Thread):
    """A receiver that records, for each path, when it first got each fact."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.facts: dict[str, dict[Fact, int]] = {}
        self.count = 0
        self.status: dict[str, int] = {}
        self.port = 0
        self._listening = threading.Event()
        self.start()
        assert self._listening.wait(30)

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Recorded(self), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await server.serve_forever()

    def take(self, path: str, body: bytes) -> int:
        """Record a message; returns the status of the response."""
        status = self.status.get(path, 200)
        if status == 200:
            data = json.loads(body)["data"]
            self.count += 1
            self.facts.setdefault(path, {}).setdefault((data["name"], data["status"]), self.count)
        return status


class _Recorded(asyncio.Protocol):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._parser = httptools.HttpRequestParser(self)
        self._path, self._body = "", bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url.decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        status = self._recorder.take(self._path, bytes(self._body))
        self._body.clear()
        self._transport.write(b"HTTP/1.1 %d -\r\nContent-Length: 0\r\n\r\n" % status)


class Sender(threading.Thread):
    """Posts alerts and their ends, each until it is acknowledged."""

    def __init__(self, number: int, port: int, token: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._number, self._port, self._token, self._stop_event = number, port, token, stop
        self.acknowledged: set[Fact] = set()

    def run(self) -> None:
        number = 0
        while not self._stop_event.is_set():
            name = f"S{self._number}-{number}"
            number += 1
            for status in ("firing", "resolved"):
                body = json.dumps(notification(alert(name, status=status, namespace="acme"), group=name)).encode()
                while not self._posted(body):
                    if self._stop_event.is_set():
                        return
                    time.sleep(RETRY_SECONDS)
                self.acknowledged.add((name, status))
                time.sleep(PAUSE_SECONDS)

    def _posted(self, body: bytes) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/alerts/alertmanager", body, headers)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False  # it was killed: no response, no promise
        finally:
            connection.close()


async def prefill(path: Path, uids: Iterable[str], alerts: int) -> set[Fact]:
    """Put alerts and their ends for some sinks into a new queue, as if a router had accepted them; returns what they say."""
    source = PostingSource(
        PostingSourceSettings.model_validate(
            {"name": "alertmanager", "tokenHashes": ["sha256:" + "0" * 64], "tenant": {"fixed": "acme"}}
        )
    )
    encoder = msgspec.json.Encoder()
    queue = await SqliteQueue.open(QueueSettings(path=path, min_free_bytes=0))
    facts: set[Fact] = set()
    for status in ("firing", "resolved"):
        for start in range(0, alerts, PREFILLED_AT_ONCE):
            names = [f"P{number}" for number in range(start, min(start + PREFILLED_AT_ONCE, alerts))]
            body = json.dumps(notification(*(alert(name, status=status, namespace="acme") for name in names))).encode()
            owned, _ = assign(source, source.format.parse(body).numbered(), {})
            payloads = [Payload(PayloadKind.ALERT, encoder.encode(one.alert), one.alert.name) for one in owned]
            deliveries = [
                NewDelivery(number, uid, "acme", one.alert.fingerprint, status, 1e6)
                for number, one in enumerate(owned)
                for uid in uids
            ]
            await queue.put(Batch(payloads, deliveries))
            facts |= {(name, status) for name in names}
    await queue.close()
    return facts


def problems_of(path: str, acknowledged: Iterable[Fact], arrived: Mapping[Fact, int]) -> list[str]:
    """What is wrong with what arrived at a path: a sentence for each fact."""
    found = [f"{path}: {name} {status} never arrived" for name, status in acknowledged if (name, status) not in arrived]
    for (name, status), at in arrived.items():
        if status == "resolved" and not arrived.get((name, "firing"), at) < at:
            found.append(f"{path}: {name} arrived as resolved before it arrived as firing")
    return found


@contextmanager
def running(
    folder: Path, addresses: Iterable[str], settings: Mapping[str, object], tokens: parts.Router
) -> Iterator[RunningProcess]:
    """A router that was only just started."""
    (folder / "token").write_text(tokens.token)
    (folder / "admin-token").write_text(tokens.admin_token)
    configuration = parts.write_settings(folder / "router.yaml", parts.merged(tokens.configuration(), settings))
    command: list[str | Path] = [sys.executable, "-m", "tests.support.router_process", configuration, *addresses]
    with RunningProcess(command, log=folder / "router.log", name="router") as process:
        yield process


def listens(process: RunningProcess) -> bool:
    """Whether it has opened its intake."""
    return any(line.get("event") == "listening" and line.get("part") == "intake" for line in process.lines())


def audit(folder: Path, *, kills: int, waiting: int, seed: int) -> Figures:
    """Kill a router with so much waiting so often, and look at what arrived."""
    chance = random.Random(seed)
    recorder = Recorder()
    paths = ["/well", "/failing"]
    addresses = [f"http://127.0.0.1:{recorder.port}{path}" for path in paths]
    uids = [router_process.sink(number, address).uid for number, address in enumerate(addresses)]
    prefilled = asyncio.run(prefill(folder / "queue.db", uids[1:], waiting // 2))
    tokens = parts.Router(folder)
    port = free_port()
    settings = {"intake": {"address": f"127.0.0.1:{port}"}, "dispatch": {"checkInterval": "1s", "retry": {"sinkLongest": "1s"}}}
    stop = threading.Event()
    senders = [Sender(number, port, tokens.token, stop) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    figures = Figures()
    for number in range(kills):
        # One start in ten, what waits is sent for a while.
        recorder.status["/failing"] = 200 if number % 10 == 9 else 503
        with running(folder, addresses, settings, tokens) as process:
            if number % 2:
                wait_until("the intake", lambda: listens(process))
                time.sleep(chance.uniform(0, 1))
            else:
                time.sleep(chance.uniform(0, LONGEST_LIFE_SECONDS))
            figures.killed_before_intake += not listens(process)
            process.kill9()
        figures.kills += 1
    recorder.status.clear()
    with running(folder, addresses, settings, tokens) as process:
        process.wait_ready()
        time.sleep(1)
        stop.set()
        for sender in senders:
            sender.join(30)
        posted = {fact for sender in senders for fact in sender.acknowledged}
        wait_until(
            "everything waiting to arrive",
            lambda: "eventsink_router_deliveries_waiting 0.0" in process.metrics(),
            deadline=DRAIN_SECONDS,
            poll=0.2,
        )
        metrics = process.metrics()
    wanted = {"/well": posted, "/failing": posted | prefilled}
    figures.acknowledged = sum(len(facts) for facts in wanted.values())
    figures.arrived = recorder.count
    for path in paths:
        figures.problems += problems_of(path, wanted[path], recorder.facts.get(path, {}))
    if "eventsink_router_lanes_repaired_total 0.0" not in metrics:
        figures.problems.append("deliveries were unknown to dispatch")
    if "eventsink_router_dead_letters 0.0" not in metrics:
        figures.problems.append("there are dead letters")
    return figures


def main(seconds: float | None = None) -> None:
    """Run the audit and print its figures."""
    seed = random.SystemRandom().randrange(2**32)
    kills = KILLS if seconds is None else max(2, int(seconds / 3))
    print(f"seed {seed}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        figures = audit(Path(name), kills=kills, waiting=WAITING, seed=seed)
    print(
        f"{figures.kills} kills, {figures.killed_before_intake} of them before the intake was open, {WAITING} waiting at the first start: "
        f"{figures.acknowledged} acknowledged, {figures.arrived} arrived, {len(figures.problems)} problems, {time.monotonic() - began:.0f} s"
    )
    if figures.problems:
        raise AssertionError("\n".join(figures.problems[:20]))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else None)
