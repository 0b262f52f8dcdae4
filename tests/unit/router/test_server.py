"""The door for alerts, over real sockets: what is taken, what is answered, and what a badly behaved client gets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eventsink.alerts.alert import Rejection, UnusablePayload
from eventsink.router.accept import Accepted, NothingAccepted, NotLoaded
from eventsink.router.intake import Intake, IntakeMetrics
from eventsink.router.queue import QueueFull, QueueUnavailable
from eventsink.router.server import MAX_HEAD_BYTES, IntakeServer, IntakeSettings
from eventsink.router.sources import Source
from tests.unit.router.sinks import TOKEN, source

AUTH = f"Authorization: Bearer {TOKEN}\r\n"
DEADLINE_SECONDS = 30.0
Behaviour = Callable[[bytes], Awaitable[Accepted]]


@dataclass
class Door:
    """A server whose acceptor does what the test says."""

    port: int = 0
    bodies: list[bytes] = field(default_factory=list)
    behaviour: Behaviour | None = None
    server: IntakeServer | None = None
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    async def accept(self, _: Source, body: bytes) -> Accepted:
        self.bodies.append(body)
        if self.behaviour is not None:
            return await self.behaviour(body)
        return Accepted(1, [], 1)

    async def raw(self, data: bytes, *, end: bool = False) -> bytes:
        """Send bytes and read until the server ends the connection or is silent after an answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            if end:
                writer.write_eof()
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await reader.read(-1)
        finally:
            writer.close()

    async def ask(self, head: str, body: bytes = b"{}") -> tuple[int, dict[str, str], dict[str, Any]]:
        """One request on a connection of its own: status, headers, JSON."""
        request = f"{head}Host: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        return parsed(await self.raw(request))

    async def post(self, body: bytes = b"{}", extra: str = AUTH) -> tuple[int, dict[str, str], dict[str, Any]]:
        return await self.ask(f"POST /v1/alerts/alertmanager HTTP/1.1\r\n{extra}", body)


def parsed(answer: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, json.loads(body[: int(headers["content-length"])])


@pytest.fixture
async def door(request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    settings: dict[str, Any] = getattr(request, "param", {})
    made = Door()
    sources = {"alertmanager": source(), "falco": source(name="falco", pathToken=True)}
    intake = Intake(sources, made.accept, IntakeMetrics(made.registry), max_under_way=settings.pop("maxUnderWay", 100))
    made.server = IntakeServer(
        IntakeSettings.model_validate({"address": "127.0.0.1:0", "maxBodyBytes": 2000, **settings}), intake
    )
    made.port = await made.server.start()
    yield made
    made.server.stop_accepting()
    await made.server.close()


async def test_an_alert_is_taken_and_the_answer_says_how_many(door: Door) -> None:
    async def some(_: bytes) -> Accepted:
        return Accepted(2, [Rejection(1, "an alert needs labels")], 3)

    door.behaviour = some
    status, headers, body = await door.post(b'{"x":1}')
    assert (status, body) == (200, {"accepted": 2, "rejected": [{"index": 1, "reason": "an alert needs labels"}]})
    assert headers["content-type"] == "application/json"
    assert door.bodies == [b'{"x":1}']


@pytest.mark.parametrize(
    ("head", "status", "sentence"),
    [
        (f"POST / HTTP/1.1\r\n{AUTH}", 404, "/v1/alerts/<source>"),
        (f"POST /v2/alerts/alertmanager HTTP/1.1\r\n{AUTH}", 404, "nothing is served here"),
        (f"GET /v1/alerts/alertmanager HTTP/1.1\r\n{AUTH}", 405, "use POST"),
        (f"PUT /v1/alerts/alertmanager HTTP/1.1\r\n{AUTH}", 405, "use POST"),
        ("POST /v1/alerts/alertmanager HTTP/1.1\r\n", 401, "no such source, or not its token"),
        ("POST /v1/alerts/alertmanager HTTP/1.1\r\nAuthorization: Bearer wrong\r\n", 401, "no such source, or not its token"),
        (f"POST /v1/alerts/alertmanager HTTP/1.1\r\nAuthorization: Basic {TOKEN}\r\n", 401, "no such source, or not its token"),
        (f"POST /v1/alerts/unknown HTTP/1.1\r\n{AUTH}", 401, "no such source, or not its token"),
        (f"POST /v1/alerts/alertmanager/{TOKEN} HTTP/1.1\r\n", 401, "no such source, or not its token"),
        ("POST /v1/alerts/falco/wrong HTTP/1.1\r\n", 401, "no such source, or not its token"),
        (f"POST /v1/alerts/alertmanager HTTP/1.1\r\n{AUTH}Content-Encoding: gzip\r\n", 415, "compressed bodies are not taken"),
    ],
)
async def test_what_cannot_be_taken_is_answered_with_a_sentence_and_changes_nothing(
    door: Door, head: str, status: int, sentence: str
) -> None:
    answered, headers, body = await door.ask(head)
    assert answered == status
    assert sentence in body["error"]
    assert TOKEN not in str(body)
    assert ("allow" in headers) is (status == 405)
    assert door.bodies == []


async def test_a_token_may_stand_in_the_path_where_the_source_allows_it(door: Door) -> None:
    assert (await door.ask(f"POST /v1/alerts/falco/{TOKEN}?x=y HTTP/1.1\r\n"))[0] == 200
    assert (await door.ask(f"POST /v1/alerts/falco HTTP/1.1\r\n{AUTH}"))[0] == 200


@pytest.mark.parametrize(
    ("raised", "status", "retry", "sentence"),
    [
        (UnusablePayload("the body is not JSON"), 400, None, "the body is not JSON"),
        (NothingAccepted("no alert was taken"), 403, None, "no alert was taken"),
        (NotLoaded(), 503, "5", "not loaded all sinks"),
        (QueueFull("the queue is full"), 503, "30", "the queue is full"),
        (QueueUnavailable("disk I/O error at /var"), 503, "5", "could not be stored"),
        (KeyError("a defect"), 500, None, "the router failed"),
    ],
)
async def test_each_failure_has_its_status_and_what_may_come_again_its_retry_after(
    door: Door, raised: Exception, status: int, retry: str | None, sentence: str
) -> None:
    async def fail(_: bytes) -> Accepted:
        raise raised

    door.behaviour = fail
    answered, headers, body = await door.post()
    assert (answered, headers.get("retry-after")) == (status, retry)
    assert sentence in body["error"]
    assert "/var" not in body["error"]


async def test_a_body_over_the_limit_is_refused_before_it_is_read_whole(door: Door) -> None:
    status, _, body = await door.post(b"x" * 2001)
    assert status == 413
    assert "at most 2000 bytes" in body["error"]
    chunked = f"POST /v1/alerts/alertmanager HTTP/1.1\r\nHost: x\r\n{AUTH}Transfer-Encoding: chunked\r\n\r\n".encode()
    status, _, _ = parsed(await door.raw(chunked + b"7d1\r\n" + b"x" * 2001 + b"\r\n" + b"7d1\r\n" + b"x" * 2001))
    assert status == 413
    assert door.bodies == []


async def test_chunked_bodies_and_leave_to_send_are_understood(door: Door) -> None:
    head = f"POST /v1/alerts/alertmanager HTTP/1.1\r\nHost: x\r\n{AUTH}Connection: close\r\n"
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".encode()
    assert parsed(await door.raw(chunked))[0] == 200
    answer = await door.raw(f"{head}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    refused = await door.raw(b"POST /v1/alerts/alertmanager HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
    assert parsed(refused)[0] == 401
    assert door.bodies == [b"abcde", b"{}"]


async def test_requests_on_one_connection_are_answered_in_their_order(door: Door) -> None:
    async def slow_first(body: bytes) -> Accepted:
        if body == b"0":
            await asyncio.sleep(0.05)
        return Accepted(int(body), [], 0)

    door.behaviour = slow_first
    one = "POST /v1/alerts/alertmanager HTTP/1.1\r\nHost: x\r\n{}Content-Length: 1\r\n{}\r\n{}"
    pipelined = "".join(one.format(AUTH, "Connection: close\r\n" if n == 4 else "", n) for n in range(5))
    answers = (await door.raw(pipelined.encode())).split(b"HTTP/1.1 ")[1:]
    assert [json.loads(answer.partition(b"\r\n\r\n")[2])["accepted"] for answer in answers] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
        b"POST /v1/alerts/alertmanager HTTP/9.9\r\n\r\n",
        b"POST /v1/alerts/alertmanager HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/alerts/alertmanager HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_not_http_gets_400_and_the_server_goes_on(door: Door, data: bytes) -> None:
    assert (await door.raw(data, end=True))[9:12] in (b"400", b"404", b"")
    assert (await door.post())[0] == 200


async def test_endless_headers_are_cut_off(door: Door) -> None:
    for data in (b"GET /" + b"a" * MAX_HEAD_BYTES * 3, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES):
        assert (await door.raw(data))[9:12] == b"431"


@pytest.mark.parametrize("door", [{"readTimeout": "100ms", "idleTimeout": "100ms"}], indirect=True)
async def test_a_request_that_does_not_come_and_an_idle_connection_are_ended(door: Door) -> None:
    assert (await door.raw(b"POST /v1/alerts/alertmanager HTTP/1.1\r\n"))[9:12] == b"408"
    assert await door.raw(b"") == b""


async def test_a_client_that_hangs_up_does_not_cancel_what_was_begun(door: Door) -> None:
    begun, finished = asyncio.Event(), asyncio.Event()

    async def slow(_: bytes) -> Accepted:
        begun.set()
        await asyncio.sleep(0.05)
        finished.set()
        return Accepted(1, [], 1)

    door.behaviour = slow
    _, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(f"POST /v1/alerts/alertmanager HTTP/1.1\r\nHost: x\r\n{AUTH}Content-Length: 2\r\n\r\n{{}}".encode())
    async with asyncio.timeout(DEADLINE_SECONDS):
        await begun.wait()
        writer.transport.abort()
        await finished.wait()


@pytest.mark.parametrize("door", [{"maxUnderWay": 2}], indirect=True)
async def test_more_than_may_be_under_way_is_told_to_come_again(door: Door) -> None:
    release, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def hang(_: bytes) -> Accepted:
        begun.release()
        await release.wait()
        return Accepted(1, [], 1)

    door.behaviour = hang
    hanging = [asyncio.ensure_future(door.post()) for _ in range(2)]
    for _ in hanging:
        await begun.acquire()
    status, headers, _ = await door.post()
    assert (status, headers["retry-after"]) == (503, "5")
    release.set()
    assert [answer[0] for answer in await asyncio.gather(*hanging)] == [200, 200]


async def test_when_stopping_what_is_in_is_answered_and_no_more_is_taken(door: Door) -> None:
    release, begun = asyncio.Event(), asyncio.Event()

    async def hang(_: bytes) -> Accepted:
        begun.set()
        await release.wait()
        return Accepted(1, [], 1)

    door.behaviour = hang
    idle, idle_writer = await asyncio.open_connection("127.0.0.1", door.port)
    under_way = asyncio.ensure_future(door.post())
    await begun.wait()
    assert door.server is not None
    door.server.stop_accepting()
    assert not await door.server.intake.until_idle(0.01)
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await idle.read() == b""
    idle_writer.close()
    with pytest.raises(ConnectionRefusedError):
        await door.post()
    release.set()
    assert (await under_way)[0] == 200
    assert await door.server.intake.until_idle(DEADLINE_SECONDS)


@pytest.mark.parametrize("door", [{"maxConnections": 3}], indirect=True)
async def test_surplus_connections_are_closed(door: Door) -> None:
    held = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(3)]
    assert await door.raw(b"") == b""
    for _, writer in held:
        writer.close()


async def test_everything_is_counted(door: Door) -> None:
    await door.post()
    await door.ask("POST /v1/alerts/unknown HTTP/1.1\r\n")
    count = door.registry.get_sample_value
    assert count("eventsink_router_intake_requests_total", {"source": "alertmanager", "code": "200"}) == 1
    assert count("eventsink_router_intake_requests_total", {"source": "", "code": "401"}) == 1
    assert count("eventsink_router_alerts_accepted_total", {"source": "alertmanager"}) == 1
