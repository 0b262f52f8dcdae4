"""The intake over real sockets: what is accepted, what the responses are, and what a badly behaved client gets."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import socket
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import ValidationError
from structlog.testing import capture_logs

from eventsink.alerts.alert import OversizedPayload, Rejection, UnusablePayload
from eventsink.router.intake.compressed import MAX_MEMBERS, SMALL_BYTES, expand_small
from eventsink.router.intake.metrics import IntakeMetrics
from eventsink.router.intake.requests import Accept, Intake, Posting
from eventsink.router.intake.settings import IntakeSettings
from eventsink.router.planning.accept import Accepted, NothingAccepted, NotLoaded
from eventsink.router.queue.protocol import QueueFull, QueueUnavailable
from eventsink.router.sources import TOKEN_REREAD_SECONDS, PostingSource, Source
from eventsink.router.tenants import NoTenantReason
from eventsink.runtime.listener.framing import MAX_HEAD_BYTES
from eventsink.runtime.listener.listener import Listener
from eventsink.runtime.listener.messages import RequestHead, Response
from eventsink.runtime.listener.metrics import ListenerMetrics
from eventsink.runtime.pending import Pending
from tests.unit.router.sinks import TOKEN, source, source_settings

AUTH = f"Authorization: Bearer {TOKEN}\r\n"
DEADLINE_SECONDS = 10.0
MAX_EXPANDED_BYTES = 150_000
Behaviour = Callable[[bytes], Awaitable[Accepted]]


@dataclass
class IntakeUnderTest:
    """A server whose acceptor does what the test says."""

    port: int = 0
    bodies: list[bytes] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)
    behaviour: Behaviour | None = None
    accepts: Accept = field(init=False)
    """`accept`, which is a coroutine, or what a test has instead."""
    intake: Intake = field(init=False)
    server: Listener[Posting] = field(init=False)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    async def accept(self, _: Source, body: bytes, sender: str) -> Accepted:
        self.bodies.append(body)
        self.senders.append(sender)
        if self.behaviour is not None:
            return await self.behaviour(body)
        return Accepted(1, [], 1)

    async def raw(self, data: bytes, *, end: bool = False) -> bytes:
        """Send bytes and read until the server ends the connection or is silent after a response."""
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


def parsed(response: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
    head, _, body = response.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, json.loads(body[: int(headers["content-length"])])


@pytest.fixture
async def intake(request: pytest.FixtureRequest) -> AsyncIterator[IntakeUnderTest]:
    settings: dict[str, Any] = dict(getattr(request, "param", {}))
    made = IntakeUnderTest()
    sources = {
        "alertmanager": source(),
        "falco": source(name="falco", pathToken=True),
        "prom": source(name="prom", format="prometheus"),
        "events": source(name="events", format="cloudevents"),
    }
    max_under_way = settings.pop("maxUnderWay", 100)
    chosen = IntakeSettings.model_validate({"address": "127.0.0.1:0", "maxBodyBytes": 2000, **settings})
    made.accepts = made.accept
    made.intake = Intake(
        sources,
        lambda *request: made.accepts(*request),
        IntakeMetrics(made.registry),
        max_under_way=max_under_way,
        max_body_bytes=MAX_EXPANDED_BYTES,
        sender_header=chosen.sender_header,
    )
    made.server = listener(chosen, made.intake, made.registry)
    made.port = await made.server.start()
    yield made
    made.server.stop_accepting()
    await made.server.close()
    await eventually(lambda: not made.server.connections.tasks)
    await eventually(lambda: not made.server.connections.shares.peers)
    assert made.server.connections.shares.held_bytes == 0
    assert made.server.connections.shares.connections == 0


def listener(settings: IntakeSettings, intake: Intake, registry: CollectorRegistry) -> Listener[Posting]:
    return Listener(
        "intake",
        settings.address,
        settings.limits(settings.max_connections),
        intake,
        ListenerMetrics(registry, "router"),
        process="router",
        certificate=settings.certificate(),
    )


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until something that no event signals has happened."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def reset(writer: asyncio.StreamWriter) -> None:
    """Reset the connection: an end alone leaves open whether the client still reads."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Held:
    """An acceptor that hangs until it is released."""

    def __init__(self, intake: IntakeUnderTest) -> None:
        self.begun = asyncio.Semaphore(0)
        self.release = asyncio.Event()
        intake.behaviour = self.hang

    async def hang(self, _: bytes) -> Accepted:
        self.begun.release()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.release.wait()
        return Accepted(1, [], 1)


def request_head(length: int, *, path: str = "/v1/alerts/alertmanager", version: str = "1.1", extra: str = "") -> bytes:
    return f"POST {path} HTTP/{version}\r\nHost: x\r\n{AUTH}Content-Length: {length}\r\n{extra}\r\n".encode()


async def test_an_alert_is_accepted_and_the_response_says_how_many(intake: IntakeUnderTest) -> None:
    async def some(_: bytes) -> Accepted:
        return Accepted(2, [Rejection(1, "an alert needs labels")], 3)

    intake.behaviour = some
    status, headers, body = await intake.post(b'{"x":1}')
    assert (status, body) == (200, {"accepted": 2, "rejected": [{"index": 1, "reason": "an alert needs labels"}]})
    assert headers["content-type"] == "application/json"
    assert intake.bodies == [b'{"x":1}']


@pytest.mark.parametrize(
    ("head", "status", "sentence"),
    [
        (f"POST / HTTP/1.1\r\n{AUTH}", 404, "/v1/alerts/<source>"),
        (f"POST /v2/alerts/alertmanager HTTP/1.1\r\n{AUTH}", 404, "nothing is served here"),
        (f"GET /v1/alerts/alertmanager HTTP/1.1\r\n{AUTH}", 405, "use POST"),
        (f"PUT /v1/alerts/alertmanager HTTP/1.1\r\n{AUTH}", 405, "use POST"),
        ("POST /v1/alerts/alertmanager HTTP/1.1\r\n", 401, "unknown source or invalid token"),
        ("POST /v1/alerts/alertmanager HTTP/1.1\r\nAuthorization: Bearer wrong\r\n", 401, "unknown source or invalid token"),
        (f"POST /v1/alerts/alertmanager HTTP/1.1\r\nAuthorization: Basic {TOKEN}\r\n", 401, "unknown source or invalid token"),
        (f"POST /v1/alerts/unknown HTTP/1.1\r\n{AUTH}", 401, "unknown source or invalid token"),
        (f"POST /v1/alerts/alertmanager/{TOKEN} HTTP/1.1\r\n", 401, "unknown source or invalid token"),
        ("POST /v1/alerts/falco/wrong HTTP/1.1\r\n", 401, "unknown source or invalid token"),
        (f"POST /v1/alerts/alertmanager HTTP/1.1\r\n{AUTH}Content-Encoding: br\r\n", 415, "Content-Encoding is gzip"),
        (f"POST /v1/alerts/alertmanager HTTP/1.1\r\n{AUTH}Content-Encoding: gzip, gzip\r\n", 415, "Content-Encoding is gzip"),
    ],
)
async def test_an_unacceptable_request_is_rejected_with_an_explanation_and_not_passed_on(
    intake: IntakeUnderTest, head: str, status: int, sentence: str
) -> None:
    received, headers, body = await intake.ask(head)
    assert received == status
    assert sentence in body["error"]
    assert TOKEN not in str(body)
    assert ("allow" in headers) is (status == 405)
    assert intake.bodies == []


async def test_a_token_may_be_in_the_path_where_the_source_allows_it(intake: IntakeUnderTest) -> None:
    assert (await intake.ask(f"POST /v1/alerts/falco/{TOKEN}?x=y HTTP/1.1\r\n"))[0] == 200
    assert (await intake.ask(f"POST /v1/alerts/falco HTTP/1.1\r\n{AUTH}"))[0] == 200


@pytest.mark.parametrize(
    ("raised", "status", "retry", "sentence"),
    [
        (UnusablePayload("the body is not JSON"), 400, None, "the body is not JSON"),
        (
            NothingAccepted("no alert was accepted", [Rejection(0, "x")], [NoTenantReason.NO_OWNER]),
            403,
            None,
            "no alert was accepted",
        ),
        (NotLoaded(), 503, "5", "not loaded all sinks"),
        (QueueFull("the queue is full"), 503, "30", "the queue is full"),
        (QueueUnavailable("disk I/O error at /var"), 503, "5", "could not be stored"),
        (KeyError("a defect"), 500, None, "the router failed"),
    ],
)
async def test_each_failure_has_its_status_and_a_temporary_one_its_retry_after(
    intake: IntakeUnderTest, raised: Exception, status: int, retry: str | None, sentence: str
) -> None:
    async def fail(_: bytes) -> Accepted:
        raise raised

    def fail_at_once(*_: object) -> Pending[Accepted]:
        raise raised

    def fail_at_the_commit(*_: object) -> Pending[Accepted]:
        commit = asyncio.get_running_loop().create_future()
        commit.get_loop().call_soon(commit.set_exception, raised)
        return Pending(commit, commit.result)

    intake.behaviour = fail
    for accept in (intake.accept, fail_at_once, fail_at_the_commit):
        intake.accepts = accept
        received, headers, body = await intake.post()
        assert (received, headers.get("retry-after")) == (status, retry)
        assert sentence in body["error"]
        assert "/var" not in body["error"]
    assert intake.registry.get_sample_value("eventsink_router_intake_under_way") == 0
    code = {"source": "alertmanager", "code": str(status)}
    assert intake.registry.get_sample_value("eventsink_router_intake_requests_total", code) == 3


async def test_a_body_over_the_limit_is_rejected_before_it_is_read_completely(intake: IntakeUnderTest) -> None:
    status, _, body = await intake.post(b"x" * 2001)
    assert status == 413
    assert "at most 2000 bytes" in body["error"]
    chunked = f"POST /v1/alerts/alertmanager HTTP/1.1\r\nHost: x\r\n{AUTH}Transfer-Encoding: chunked\r\n\r\n".encode()
    status, _, _ = parsed(await intake.raw(chunked + b"7d1\r\n" + b"x" * 2001 + b"\r\n" + b"7d1\r\n" + b"x" * 2001))
    assert status == 413
    assert intake.bodies == []


async def test_chunked_bodies_and_expect_continue_are_supported(intake: IntakeUnderTest) -> None:
    head = f"POST /v1/alerts/alertmanager HTTP/1.1\r\nHost: x\r\n{AUTH}Connection: close\r\n"
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".encode()
    assert parsed(await intake.raw(chunked))[0] == 200
    reader, writer = await asyncio.open_connection("127.0.0.1", intake.port)
    writer.write(f"{head}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n".encode())
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert parsed(await reader.read(-1))[0] == 200
    writer.close()
    rejected = await intake.raw(
        b"POST /v1/alerts/alertmanager HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    )
    assert parsed(rejected)[0] == 401
    assert intake.bodies == [b"abcde", b"{}"]


async def test_a_head_that_comes_again_is_authenticated_again_once_tokens_were_read_again(tmp_path: Path) -> None:
    now, file = 0.0, tmp_path / "token"
    file.write_text("one")
    rotating = PostingSource(source_settings(tokenHashes=[], tokenFiles=[str(file)]), clock=lambda: now)
    made = IntakeUnderTest()
    intake = Intake({"alertmanager": rotating}, made.accept, IntakeMetrics(made.registry), max_under_way=10, max_body_bytes=1000)
    head = RequestHead("POST", "/v1/alerts/alertmanager", "", {b"authorization": b"Bearer one"}, "10.0.0.1")
    first = intake.admit(head)
    assert isinstance(first, Posting)
    assert intake.admit(head) is first
    file.write_text("two")
    now += TOKEN_REREAD_SECONDS + 1
    turned_away = [intake.admit(head), intake.admit(head)]
    file.write_text("one")
    now += TOKEN_REREAD_SECONDS + 1
    assert isinstance(intake.admit(head), Posting)
    intake.stopping = True
    turned_away.append(intake.admit(head))
    assert [one.status for one in turned_away if isinstance(one, Response)] == [401, 401, 503]


async def test_responses_on_one_connection_are_in_the_order_of_the_requests(intake: IntakeUnderTest) -> None:
    async def slow_first(body: bytes) -> Accepted:
        if body == b"0":
            await asyncio.sleep(0.05)
        return Accepted(int(body), [], 0)

    intake.behaviour = slow_first
    one = "POST /v1/alerts/alertmanager HTTP/1.1\r\nHost: x\r\n{}Content-Length: 1\r\n{}\r\n{}"
    pipelined = "".join(one.format(AUTH, "Connection: close\r\n" if n == 4 else "", n) for n in range(5))
    responses = (await intake.raw(pipelined.encode())).split(b"HTTP/1.1 ")[1:]
    assert [json.loads(response.partition(b"\r\n\r\n")[2])["accepted"] for response in responses] == [0, 1, 2, 3, 4]


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
async def test_invalid_http_is_rejected_and_the_server_goes_on(intake: IntakeUnderTest, data: bytes) -> None:
    assert (await intake.raw(data, end=True))[9:12] in (b"400", b"404", b"505", b"")
    assert (await intake.post())[0] == 200


async def test_the_response_to_a_broken_request_follows_that_to_the_good_one_before_it(intake: IntakeUnderTest) -> None:
    held = Held(intake)
    reader, writer = await asyncio.open_connection("127.0.0.1", intake.port)
    writer.write(request_head(2) + b"{}" + b"nonsense\r\n\r\n")
    async with asyncio.timeout(DEADLINE_SECONDS):
        await held.begun.acquire()
        held.release.set()
        responses = (await reader.read(-1)).split(b"HTTP/1.1 ")[1:]
    writer.close()
    assert [response[:3] for response in responses] == [b"200", b"400"]


async def test_a_request_to_upgrade_the_protocol_is_ignored(intake: IntakeUnderTest) -> None:
    header = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    status, headers, _ = parsed(await intake.raw(request_head(2, extra=header) + b"{}"))
    assert (status, headers["connection"]) == (200, "close")


async def test_http_1_0_clients_get_their_response_and_the_connection_is_closed(intake: IntakeUnderTest) -> None:
    for header in ("", "Connection: keep-alive\r\n"):
        status, headers, _ = parsed(await intake.raw(request_head(2, version="1.0", extra=header) + b"{}"))
        assert (status, headers["connection"]) == (200, "close")


async def test_a_half_closed_connection_gets_its_response_and_is_closed(intake: IntakeUnderTest) -> None:
    assert parsed(await intake.raw(request_head(2) + b"{}", end=True))[0] == 200


async def test_a_response_to_head_has_no_body(intake: IntakeUnderTest) -> None:
    responses = await intake.raw(
        b"HEAD /v1/alerts/alertmanager HTTP/1.1\r\nHost: x\r\n\r\n"
        b"GET /v1/alerts/alertmanager HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    first, _, rest = responses.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 405")
    assert rest.startswith(b"HTTP/1.1 405")


async def test_endless_headers_are_cut_off(intake: IntakeUnderTest) -> None:
    for data in (b"GET /" + b"a" * MAX_HEAD_BYTES * 3, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES):
        assert (await intake.raw(data))[9:12] == b"431"


@pytest.mark.parametrize("intake", [{"readTimeout": "100ms", "idleTimeout": "100ms"}], indirect=True)
async def test_a_slow_request_and_an_idle_connection_time_out(intake: IntakeUnderTest) -> None:
    assert (await intake.raw(b"POST /v1/alerts/alertmanager HTTP/1.1\r\n"))[9:12] == b"408"
    assert await intake.raw(b"") == b""


async def test_a_client_that_hangs_up_does_not_cancel_its_request(intake: IntakeUnderTest) -> None:
    held, finished = Held(intake), asyncio.Event()

    async def until_the_end(body: bytes) -> Accepted:
        accepted = await held.hang(body)
        finished.set()
        return accepted

    intake.behaviour = until_the_end
    _, writer = await asyncio.open_connection("127.0.0.1", intake.port)
    writer.write(request_head(2) + b"{}")
    async with asyncio.timeout(DEADLINE_SECONDS):
        await held.begun.acquire()
        reset(writer)
        await eventually(lambda: not intake.server.connections.open)
        held.release.set()
        await finished.wait()


@pytest.mark.parametrize("intake", [{"maxUnderWay": 4}], indirect=True)
async def test_too_many_requests_under_way_get_503(intake: IntakeUnderTest) -> None:
    held = Held(intake)
    hanging = [asyncio.ensure_future(intake.post()) for _ in range(2)]
    for _ in hanging:
        await held.begun.acquire()
    status, headers, _ = await intake.post()
    assert (status, headers["retry-after"]) == (503, "5")
    held.release.set()
    assert [response[0] for response in await asyncio.gather(*hanging)] == [200, 200]


@pytest.mark.parametrize("intake", [{"maxUnderWay": 4}], indirect=True)
async def test_the_bound_holds_for_requests_that_were_all_started_before_any_was_complete(intake: IntakeUnderTest) -> None:
    held = Held(intake)
    clients = [await asyncio.open_connection("127.0.0.1", intake.port) for _ in range(3)]
    for reader, writer in clients:
        writer.write(request_head(2, extra="Connection: close\r\nExpect: 100-continue\r\n"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    for _, writer in clients[:2]:
        writer.write(b"{}")
        await held.begun.acquire()
    clients[2][1].write(b"{}")
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert parsed(await clients[2][0].read(-1))[0] == 503
        held.release.set()
        assert [parsed(await reader.read(-1))[0] for reader, _ in clients[:2]] == [200, 200]
    for _, writer in clients:
        writer.close()


async def test_a_request_of_which_too_much_would_be_made_gets_413_with_what_to_do(intake: IntakeUnderTest) -> None:
    async def refuse(_: bytes) -> Accepted:
        raise OversizedPayload("more than 64 MiB would be made of this request: let the source send smaller groups")

    intake.behaviour = refuse
    status, _, body = await intake.post()
    assert (status, body["error"].rpartition(": ")[2]) == (413, "let the source send smaller groups")
    assert intake.registry.get_sample_value(
        "eventsink_router_alerts_rejected_total", {"source": "alertmanager", "reason": "Unusable"}
    )


async def test_what_was_truncated_or_left_out_is_reported_and_counted(intake: IntakeUnderTest) -> None:
    async def accept(_: bytes) -> Accepted:
        return Accepted(5, [], 5, truncated=2, left_out=3)

    intake.behaviour = accept
    with capture_logs() as logs:
        for _ in range(2):
            assert (await intake.post())[2] == {"accepted": 5, "rejected": [], "truncated": 2, "leftOutBySource": 3}
    for name, count in (("truncated", 4), ("left_out_by_source", 6)):
        assert intake.registry.get_sample_value(f"eventsink_router_alerts_{name}_total", {"source": "alertmanager"}) == count
    assert [(one["source"], one["truncated"], one["left_out"]) for one in logs] == [("alertmanager", 2, 3)]


async def test_a_response_lists_some_of_many_rejected_alerts_and_counts_the_others(intake: IntakeUnderTest) -> None:
    async def accept(_: bytes) -> Accepted:
        return Accepted(1, [Rejection(index, "an alert needs labels") for index in range(250)], 1)

    intake.behaviour = accept
    _, _, body = await intake.post()
    assert (len(body["rejected"]), body["moreRejected"]) == (100, 150)


@pytest.mark.parametrize("intake", [{"maxHeldBytes": 4000}], indirect=True)
async def test_too_much_in_memory_gets_503(intake: IntakeUnderTest) -> None:
    held = Held(intake)
    first = asyncio.ensure_future(intake.post(b"x" * 1500))
    await held.begun.acquire()
    status, headers, body = await intake.post(b"x" * 1500)
    assert (status, headers["retry-after"]) == (503, "5")
    assert "intake.maxHeldBytes" in body["error"]
    held.release.set()
    assert (await first)[0] == 200
    assert (await intake.post(b"x" * 1500))[0] == 200


async def test_memory_held_for_a_disconnected_client_is_released(intake: IntakeUnderTest) -> None:
    held = Held(intake)
    _, writer = await asyncio.open_connection("127.0.0.1", intake.port)
    pipelined = (request_head(1000) + b"x" * 1000) * 3
    writer.write(request_head(1000) + b"x" * 1000)
    await held.begun.acquire()
    writer.write(pipelined)
    await eventually(lambda: intake.server.connections.shares.held_bytes == 1000 + len(pipelined))
    reset(writer)
    held.release.set()
    await eventually(lambda: intake.server.connections.shares.held_bytes == 0)


async def test_a_client_that_does_not_read_its_responses_is_not_read(intake: IntakeUnderTest) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", intake.port)
    await eventually(lambda: intake.server.connections.open)
    (connection,) = intake.server.connections.open
    sent = 0
    while connection.reading:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        sent += 1000
        assert sent < 3_000_000
        await asyncio.sleep(0)
    assert connection.unsent_bytes < 64 * 1024**2
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(DEADLINE_SECONDS):
        responses = await reader.read(-1)
    writer.close()
    assert responses.count(b"HTTP/1.1 404") == sent + 1


async def test_on_stop_accepted_requests_get_their_response_and_new_ones_are_rejected(intake: IntakeUnderTest) -> None:
    release, begun = asyncio.Event(), asyncio.Event()

    async def hang(_: bytes) -> Accepted:
        begun.set()
        await release.wait()
        return Accepted(1, [], 1)

    intake.behaviour = hang
    idle, idle_writer = await asyncio.open_connection("127.0.0.1", intake.port)
    under_way = asyncio.ensure_future(intake.post())
    await begun.wait()
    intake.server.stop_accepting()
    assert not await intake.intake.until_idle(0.01)
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await idle.read() == b""
    idle_writer.close()
    with pytest.raises(ConnectionRefusedError):
        await intake.post()
    release.set()
    assert (await under_way)[0] == 200
    assert await intake.intake.until_idle(DEADLINE_SECONDS)


@pytest.mark.parametrize("intake", [{"maxConnections": 6}], indirect=True)
async def test_surplus_connections_get_503(intake: IntakeUnderTest) -> None:
    held = [await asyncio.open_connection("127.0.0.1", intake.port) for _ in range(3)]
    await eventually(lambda: len(intake.server.connections.open) == 3)
    status, headers, _ = parsed(await intake.raw(b""))
    assert (status, headers["retry-after"]) == (503, "5")
    for _, writer in held:
        writer.close()


async def test_requests_and_alerts_are_counted(intake: IntakeUnderTest) -> None:
    async def some(body: bytes) -> Accepted:
        rejected = [Rejection(0, "an alert needs labels"), Rejection(1, "no owner"), Rejection(2, "no owner")]
        if body == b"none":
            raise NothingAccepted("no alert was accepted", rejected, [NoTenantReason.NO_OWNER] * 2)
        return Accepted(4, rejected, 7, [NoTenantReason.NO_OWNER] * 2)

    intake.behaviour = some
    await intake.post()
    await intake.post(b"none")
    await intake.post(b"x" * 3000)
    await intake.ask("POST /v1/alerts/unknown HTTP/1.1\r\n")
    await intake.raw(b"nonsense\r\n\r\n")
    count = intake.registry.get_sample_value
    for source_name, code in (
        ("alertmanager", "200"),
        ("alertmanager", "403"),
        ("alertmanager", "413"),
        ("", "401"),
        ("", "400"),
    ):
        assert count("eventsink_router_intake_requests_total", {"source": source_name, "code": code}) == 1, code
    of_the_source = {"source": "alertmanager"}
    assert count("eventsink_router_alerts_accepted_total", of_the_source) == 4
    assert count("eventsink_router_deliveries_queued_total", of_the_source) == 7
    assert count("eventsink_router_alerts_rejected_total", {**of_the_source, "reason": "NamespaceWithoutOwner"}) == 4
    assert count("eventsink_router_alerts_rejected_total", {**of_the_source, "reason": "Unusable"}) == 2
    assert count("eventsink_router_intake_under_way") == 0


async def test_rejections_are_logged_at_a_limited_rate_and_without_tokens(intake: IntakeUnderTest) -> None:
    async def reject(_: bytes) -> Accepted:
        return Accepted(1, [Rejection(3, "the alert has no label namespace")], 0, [NoTenantReason.NO_NAMESPACE])

    intake.behaviour = reject
    with capture_logs() as lines:
        for _ in range(3):
            await intake.post()
            await intake.ask("POST /v1/alerts/falco/canary-token HTTP/1.1\r\n")
            await intake.ask("POST /v1/alerts/canary-token HTTP/1.1\r\nAuthorization: Bearer canary-token\r\n")
    assert [(line["event"], line["source"]) for line in lines] == [
        ("alerts were rejected", "alertmanager"),
        ("a request had an unknown source or an invalid token", "falco"),
    ]
    assert lines[0]["reason"] == "alerts[3]: the alert has no label namespace"
    assert "canary" not in str(lines)


def write_certificate(folder: Path, authority: trustme.CA) -> None:
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))


async def test_https_works_and_a_renewed_certificate_takes_effect_without_a_restart(
    tmp_path: Path, intake: IntakeUnderTest
) -> None:
    authority = trustme.CA()
    write_certificate(tmp_path, authority)
    files = {"tlsCertificateFile": str(tmp_path / "cert.pem"), "tlsKeyFile": str(tmp_path / "key.pem")}
    server = listener(IntakeSettings.model_validate({"address": "127.0.0.1:0", **files}), intake.intake, CollectorRegistry())
    port = await server.start()
    client = ssl.create_default_context()
    authority.configure_trust(client)

    async def post() -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        writer.write(request_head(2, extra="Connection: close\r\n") + b"{}")
        async with asyncio.timeout(DEADLINE_SECONDS):
            status, _, _ = parsed(await reader.read(-1))
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return status, shown

    try:
        status, first = await post()
        assert status == 200
        (tmp_path / "key.pem").write_text("half written")
        server.reread_certificate()
        assert await post() == (200, first)
        write_certificate(tmp_path, authority)
        server.reread_certificate()
        status, second = await post()
        assert status == 200
        assert second != first
    finally:
        server.stop_accepting()
        await server.close()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"tlsKeyFile": "/k"}, "set both tlsCertificateFile and tlsKeyFile"),
        ({"maxBodyBytes": 4000, "maxHeldBytes": 7000}, "maxHeldBytes must be at least twice maxBodyBytes"),
        ({"maxConnections": 0}, "greater than or equal to 2"),
    ],
)
def test_settings_that_cannot_work_are_rejected(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        IntakeSettings.model_validate(settings)


async def test_a_sender_is_the_address_that_it_connects_from(intake: IntakeUnderTest) -> None:
    await intake.post(extra=f"{AUTH}X-Forwarded-For: 10.1.2.3\r\n")
    assert intake.senders == ["127.0.0.1"]


@pytest.mark.parametrize("intake", [{"senderHeader": "X-Forwarded-For"}], indirect=True)
async def test_a_sender_behind_a_proxy_is_what_the_configured_header_says(intake: IntakeUnderTest) -> None:
    await intake.post(extra=f"{AUTH}x-forwarded-for: 10.1.2.3\r\n")
    await intake.post(extra=f"{AUTH}X-Forwarded-For: {'x' * 1000}\r\n")
    await intake.post()
    assert intake.senders == ["10.1.2.3", "x" * 128, "127.0.0.1"]


# ---- clients of Alertmanager's API


async def test_a_basic_password_is_a_token_whoever_the_user_is(intake: IntakeUnderTest) -> None:
    for credentials, status in ((f"me:{TOKEN}", 200), (f":{TOKEN}", 200), (f"{TOKEN}:", 401), (TOKEN, 401), ("me:wrong", 401)):
        encoded = base64.b64encode(credentials.encode()).decode()
        assert (await intake.post(extra=f"Authorization: Basic {encoded}\r\n"))[0] == status, credentials
    for broken in ("", "%%%", "/w==", "bWU6"):
        assert (await intake.post(extra=f"Authorization: basic {broken}\r\n"))[0] == 401, broken


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (UnusablePayload("it is not read"), 400),
        (OversizedPayload("it is not read"), 413),
        (NothingAccepted("it is not read", [Rejection(0, "no tenant")]), 400),
        (QueueFull("it is not read"), 503),
    ],
)
async def test_an_error_is_the_sentence_alone_for_clients_of_alertmanagers_api(
    intake: IntakeUnderTest, failure: Exception, status: int
) -> None:
    async def behaviour(_: bytes) -> Accepted:
        raise failure

    intake.behaviour = behaviour
    response = await intake.ask(f"POST /v1/alerts/prom/api/v2/alerts HTTP/1.1\r\n{AUTH}")
    assert response[0] == status
    assert response[2].startswith("it is not read")  # type: ignore[attr-defined]
    assert ("retry-after" in response[1]) is (status == 503)


async def test_a_body_that_is_too_large_gets_its_sentence_alone_too(intake: IntakeUnderTest) -> None:
    status, _, body = await intake.ask(f"POST /v1/alerts/prom/api/v2/alerts HTTP/1.1\r\n{AUTH}", b"x" * 3000)
    assert (status, isinstance(body, str)) == (413, True)


# ---- compressed bodies

GZIP = f"{AUTH}Content-Encoding: gzip\r\n"


def incompressible(size: int) -> bytes:
    """JSON that gzip makes a few times smaller."""
    return json.dumps([f"{number * 7919 % 100_003:x}" for number in range(size // 9)]).encode()


@pytest.mark.parametrize("size", [0, 2, SMALL_BYTES, SMALL_BYTES + 1, MAX_EXPANDED_BYTES])
@pytest.mark.parametrize("intake", [{"maxBodyBytes": 100_000}], indirect=True)
async def test_a_compressed_body_is_accepted_as_what_it_expands_to(intake: IntakeUnderTest, size: int) -> None:
    body = (incompressible(size) + b" " * size)[:size]
    assert (await intake.post(gzip.compress(body), GZIP))[0] == 200
    assert intake.bodies == [body]
    assert f'expanded_bytes_total{{source="alertmanager"}} {float(size)}' in generate_latest(intake.registry).decode()


async def test_a_body_in_several_parts_is_one(intake: IntakeUnderTest) -> None:
    parts = gzip.compress(b"{") + gzip.compress(b"}")
    assert (await intake.post(parts, GZIP.replace("gzip", "X-GZIP")))[0] == 200
    assert intake.bodies == [b"{}"]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 400, "ends before"),
        (b"{}", 400, "is not gzip"),
        (gzip.compress(b"{}")[:-1], 400, "ends before"),
        (gzip.compress(b"{}") + b"more", 400, "is not gzip"),
        (gzip.compress(b"") * (MAX_MEMBERS + 1), 400, "parts"),
        (zlib.compress(b"{}"), 400, "is not gzip"),
        (gzip.compress(b"0" * (MAX_EXPANDED_BYTES - 1)), 413, "more than 100 times its size"),
        (gzip.compress(incompressible(MAX_EXPANDED_BYTES) * 2), 413, "(intake.maxBodyBytes)"),
    ],
    ids=["empty", "none", "cut off", "with more", "many parts", "zlib", "ratio", "size"],
)
@pytest.mark.parametrize("intake", [{"maxBodyBytes": 100_000}], indirect=True)
async def test_a_compressed_body_that_cannot_be_expanded_says_why(
    intake: IntakeUnderTest, body: bytes, status: int, sentence: str
) -> None:
    received, _, response = await intake.post(body, GZIP)
    assert (received, intake.bodies) == (status, [])
    assert sentence in response["error"]


def test_nothing_of_a_large_compressed_body_is_expanded_in_the_event_loop() -> None:
    assert expand_small(gzip.compress(b"") + b"0" * SMALL_BYTES) is None


@pytest.mark.parametrize("intake", [{"maxBodyBytes": 100_000}], indirect=True)
async def test_large_compressed_bodies_are_expanded_one_at_a_time(intake: IntakeUnderTest) -> None:
    begun, release = 0, asyncio.Event()

    async def behaviour(body: bytes) -> Accepted:
        nonlocal begun
        begun += 1
        await release.wait()
        return Accepted(1, [], 1)

    intake.behaviour = behaviour
    large = gzip.compress(incompressible(SMALL_BYTES) + b" " * SMALL_BYTES)
    posts = [asyncio.create_task(intake.post(large, GZIP)) for _ in range(3)]
    await eventually(lambda: begun == 1 and intake.intake.under_way == 3)
    assert begun == 1
    release.set()
    assert [status for status, _, _ in await asyncio.gather(*posts)] == [200, 200, 200]


# ---- headers that are part of a notification


@pytest.mark.parametrize("size", [10, 2 * SMALL_BYTES])
@pytest.mark.parametrize("intake", [{"maxBodyBytes": 100_000}], indirect=True)
async def test_an_event_in_headers_and_body_is_accepted_as_one(intake: IntakeUnderTest, size: int) -> None:
    attributes = (
        "ce-specversion: 1.0\r\nce-id: 7\r\nCe-Source: /s\r\nce-type: a%20b\r\nce-other: x\r\nContent-Type: application/json\r\n"
    )
    body = incompressible(size)
    assert (await intake.ask(f"POST /v1/alerts/events HTTP/1.1\r\n{GZIP}{attributes}", gzip.compress(body)))[0] == 200
    [read] = [json.loads(one) for one in intake.bodies]
    assert read == {"specversion": "1.0", "id": "7", "source": "/s", "type": "a b", "other": "x", "data": json.loads(body)}


async def test_headers_of_an_event_that_cannot_be_read_get_400(intake: IntakeUnderTest) -> None:
    avro = f"POST /v1/alerts/events HTTP/1.1\r\n{AUTH}Content-Type: application/cloudevents+avro\r\n"
    status, _, response = await intake.ask(avro)
    assert (status, intake.bodies) == (400, [])
    assert "JSON" in response["error"]
