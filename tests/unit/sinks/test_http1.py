"""The project's own transport passes the contract on both event loops, and manages its pool."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest

from eventsink.sinks.egress import EgressGuard, EgressSettings
from eventsink.sinks.http1 import Http1Transport, TransportSettings
from eventsink.sinks.resolver import Resolver
from eventsink.sinks.shares import Bound
from eventsink.sinks.transport import Client, Endpoint, Response, Transport, TransportError, TransportErrorKind
from tests.unit.sinks.transport_contract import (
    OK,
    Reader,
    ScriptedServer,
    TransportContract,
    Writer,
    at,
    client,
    post,
    send,
    serving,
)


def opened(**settings: object) -> Http1Transport:
    guard = EgressGuard(EgressSettings(allow=("127.0.0.0/8",)))
    return Http1Transport(TransportSettings.model_validate({"maxConnectionsPerHost": 8, **settings}), guard, Resolver())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


class TestHttp1Transport(TransportContract):
    def open_transport(self) -> Transport:
        return opened()


async def test_idle_connections_are_closed() -> None:
    transport = opened(idleTimeout="50ms")
    async with serving(OK) as server:
        await post(transport, at(server))
        assert transport.connections == 1
        async with asyncio.timeout(30):
            while transport.connections:
                await asyncio.sleep(0.01)
    await transport.close()


async def test_an_idle_connection_is_closed_for_another_host() -> None:
    transport = opened(maxConnections=1)
    async with serving(OK) as one, serving(OK) as two:
        for server in (one, two, one):
            assert (await post(transport, at(server))).status == 200
        assert (one.connections, two.connections) == (2, 1)
    await transport.close()


async def test_an_idle_connection_is_closed_for_another_tenant_at_the_same_host() -> None:
    transport = opened(maxConnectionsPerHost=1)
    async with serving(OK) as server:
        for tenant in ("acme", "globex"):
            assert (await post(transport, at(server), tenant=tenant)).status == 200
        assert server.connections == 2
        await until(lambda: transport.connections == 1)
    await transport.close()


async def test_a_freed_connection_lets_a_request_to_another_host_proceed() -> None:
    transport = opened(maxConnections=1)
    async with serving(OK) as one, serving(OK) as two:
        responses = await asyncio.gather(*(post(transport, at(server)) for _ in range(10) for server in (one, two)))
        assert {response.status for response in responses} == {200}
    await transport.close()


async def test_no_state_is_kept_of_a_host_that_no_client_is_for() -> None:
    transport = opened(idleTimeout="50ms")
    async with serving(OK) as server:
        ours = client(transport, at(server))
        assert (await send(ours)).status == 200
        assert transport.hosts == 1
    await until(lambda: not transport.connections)
    del ours
    gc.collect()
    assert not transport.hosts
    await transport.close()


class Crowd:
    """Sinks that post to servers of a test, each with a client of its own."""

    def __init__(self, transport: Http1Transport) -> None:
        self.transport = transport
        self.hanging: list[asyncio.Task[Response]] = []

    async def proven(self, endpoint: Endpoint, tenant: str = "acme") -> Client:
        """A sink that had a response."""
        ours = client(self.transport, endpoint, tenant=tenant)
        assert (await send(ours)).status == 200
        return ours

    def hang(self, endpoint: Endpoint, sinks: int, messages: int, tenant: str = "acme") -> None:
        """Sinks with so many messages each, to a receiver that does not respond."""
        for _ in range(sinks):
            ours = client(self.transport, endpoint, tenant=tenant)
            self.hanging += [asyncio.ensure_future(send(ours)) for _ in range(messages)]

    def hang_on(self, ours: Client, messages: int) -> None:
        """More messages of a sink, to a receiver that does not respond any more."""
        self.hanging += [asyncio.ensure_future(send(ours)) for _ in range(messages)]

    async def end(self) -> None:
        for task in self.hanging:
            task.cancel()
        await asyncio.gather(*self.hanging, return_exceptions=True)
        await self.transport.close()


class Switched:
    """A handler that responds until it is told to hang."""

    def __init__(self) -> None:
        self.hangs = asyncio.Event()
        self.held = 0

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(7)
            if b"/hang" in head or self.hangs.is_set():
                self.held += 1
                await reader.read()
                return
            writer.write(OK)


def to(server: ScriptedServer, path: str = "/") -> Endpoint:
    return Endpoint.parse(f"http://127.0.0.1:{server.port}{path}")


async def test_30_hanging_sinks_leave_a_healthy_one_at_the_same_host_its_connections() -> None:
    crowd, handler = Crowd(opened(maxConnectionsPerHost=32)), Switched()
    async with serving(handler) as server:
        healthy = await crowd.proven(to(server))
        crowd.hang(to(server, "/hang"), 30, 8)
        await until(lambda: handler.held >= 12)
        for _ in range(200):
            assert (await send(healthy)).status == 200
        assert handler.held == 12, "new ones get three quarters of the connections, of which one tenant alone gets half"
        await crowd.end()


@pytest.mark.parametrize("tenants", [1, 4])
async def test_as_many_hanging_sinks_as_slow_ones_get_connections_leave_some_to_those_that_were_not_tried_yet(
    tenants: int,
) -> None:
    crowd, handler = Crowd(opened(maxConnectionsPerHost=32)), Switched()
    hanging = 8 if tenants == 1 else 16
    async with serving(handler) as server:
        for n in range(hanging):
            crowd.hang(to(server, "/hang"), 1, 2, f"t{n % tenants}")
        await until(lambda: handler.held == hanging)
        for _ in range(10):
            await asyncio.wait_for(crowd.proven(to(server), "t0"), 5)
        await crowd.end()


async def test_sinks_whose_receivers_did_not_respond_leave_connections_to_those_that_were_not_tried_yet() -> None:
    crowd, handler = Crowd(opened(maxConnectionsPerHost=32)), Switched()
    async with serving(handler) as server:
        tried = [client(crowd.transport, to(server, "/hang"), tenant="acme") for _ in range(10)]
        await asyncio.gather(*(send(one, timeout=0.3) for one in tried), return_exceptions=True)
        attempts = handler.held
        assert attempts == 10
        for one in tried:
            crowd.hang_on(one, 1)
        await until(lambda: handler.held >= attempts + 8)
        for _ in range(10):
            await asyncio.wait_for(crowd.proven(to(server), "acme"), 5)
        await crowd.end()


async def test_4_slow_sinks_leave_a_healthy_one_at_the_same_host_its_connections() -> None:
    crowd, handler = Crowd(opened(maxConnectionsPerHost=32)), Switched()
    async with serving(handler) as server:
        healthy = await crowd.proven(to(server))
        slow = [await crowd.proven(to(server)) for _ in range(4)]
        handler.hangs.set()  # they were prompt until now
        for one in slow:
            crowd.hang_on(one, 8)
        await until(lambda: handler.held >= 15)
        handler.hangs.clear()
        for _ in range(200):
            assert (await send(healthy)).status == 200
        assert handler.held <= 16, "a tenant alone gets half of the connections"
        await crowd.end()


async def test_130_slow_sinks_of_a_tenant_take_no_connection_from_another_tenant() -> None:
    crowd, handler = Crowd(opened(maxConnections=64, maxConnectionsPerHost=32)), Switched()
    async with serving(handler) as one, serving(handler) as two, serving(handler) as three, serving(OK) as others:
        slow = [await crowd.proven(to((one, two, three)[n % 3])) for n in range(130)]
        handler.hangs.set()
        for sink in slow:
            crowd.hang_on(sink, 4)
        await until(lambda: handler.held >= 32)
        theirs = await asyncio.gather(*(crowd.proven(at(others), "globex") for _ in range(10)))
        for _ in range(20):
            assert {response.status for response in await asyncio.gather(*(send(sink) for sink in theirs))} == {200}
        assert handler.held <= 32
        ours = client(crowd.transport, at(others))
        with pytest.raises(TransportError, match=r"no connection came free in time: the tenant's share of connections is in use"):
            await send(ours, timeout=0.05)
        await crowd.end()


async def test_a_sink_of_many_slow_messages_leaves_the_connections_to_others_and_says_so_itself() -> None:
    crowd, handler = Crowd(opened(maxConnectionsPerHost=32)), Switched()
    async with serving(handler) as server:
        other, slow = await crowd.proven(to(server)), await crowd.proven(to(server))
        handler.hangs.set()
        crowd.hang_on(slow, 30)
        await until(lambda: handler.held >= 8)
        handler.hangs.clear()
        with pytest.raises(TransportError, match="the sink's share of connections is in use"):
            await send(slow, timeout=0.05)
        assert (await send(other)).status == 200
        assert handler.held == 8
        await crowd.end()


async def test_a_sink_that_got_no_response_tries_one_message_at_a_time() -> None:
    crowd, handler = Crowd(opened()), Switched()
    async with serving(handler) as server:
        crowd.hang(to(server, "/hang"), 1, 8)
        await until(lambda: handler.held == 1)
        healthy = await crowd.proven(to(server))
        await asyncio.gather(*(send(healthy) for _ in range(20)))
        assert handler.held == 1
        await crowd.end()


async def test_what_a_message_waits_for_is_counted() -> None:
    waits: list[Bound] = []
    guard = EgressGuard(EgressSettings(allow=("127.0.0.0/8",)))
    crowd = Crowd(Http1Transport(TransportSettings(max_connections=4), guard, Resolver(), on_wait=waits.append))
    handler = Switched()
    async with serving(handler) as server:
        crowd.hang(to(server, "/hang"), 1, 2)
        await until(lambda: waits == [Bound.SHARE])
        crowd.hang(to(server, "/hang"), 2, 1)
        await until(lambda: waits == [Bound.SHARE, Bound.TENANT])
        crowd.hang(to(server, "/hang"), 2, 1, "globex")
        await until(lambda: waits == [Bound.SHARE, Bound.TENANT, Bound.FULL])
        await crowd.end()


async def test_closing_fails_all_messages_that_wait_for_a_connection() -> None:
    crowd, handler = Crowd(opened()), Switched()
    async with serving(handler) as server:
        crowd.hang(to(server, "/hang"), 1, 5)
        await until(lambda: handler.held == 1)
        crowd.hanging.pop().cancel()  # that one of them stops waiting must not hide the others
        await asyncio.sleep(0)
        await crowd.transport.close()
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*crowd.hanging, return_exceptions=True)
        assert {one.kind for one in outcomes if isinstance(one, TransportError)} == {TransportErrorKind.RESET}
        assert len(outcomes) == 4


async def test_a_server_that_says_why_it_ends_an_unused_connection_is_trusted_with_the_next() -> None:
    async def give_up_after_one(reader: Reader, writer: Writer) -> None:
        await server.read_request(reader)
        writer.write(OK)
        if server.connections == 1:
            await responded.wait()
            writer.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            return
        while True:
            await server.read_request(reader)
            writer.write(OK)

    transport, responded = opened(), asyncio.Event()
    async with serving(give_up_after_one) as server:
        ours = client(transport, at(server))
        assert (await send(ours)).status == 200
        responded.set()
        await until(lambda: not transport.connections)
        for _ in range(3):
            assert (await send(ours)).status == 200
        assert server.connections == 2
    await transport.close()


async def test_after_bytes_that_belong_to_no_request_connections_to_that_destination_are_not_kept() -> None:
    async def twice(reader: Reader, writer: Writer) -> None:
        await server.read_request(reader)
        writer.write(OK + (OK if server.connections == 1 else b""))
        await reader.read()

    transport = opened()
    async with serving(twice) as server:
        ours = client(transport, at(server))
        assert (await send(ours)).status == 200
        await until(lambda: not transport.connections)
        for expected in (2, 3, 4):
            assert (await send(ours)).status == 200
            assert server.connections == expected
    await transport.close()


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("http://example.com", "http://example.com", "/"),
        ("https://example.com:443/a?b=c", "https://example.com", "/a?b=c"),
        ("http://example.com:8080/a#part", "http://example.com:8080", "/a"),
        ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443", "/"),
        ("https://bücher.example/x", "https://xn--bcher-kva.example", "/x"),
        ("https://user:p%40ss@example.com/", "https://example.com", "/"),
    ],
)
def test_a_url_is_parsed_and_only_its_origin_shown(url: str, origin: str, target: str) -> None:
    endpoint = Endpoint.parse(url)
    assert (endpoint.origin, endpoint.target, repr(endpoint)) == (origin, target, f"Endpoint({origin})")


@pytest.mark.parametrize(
    "url", ["", "example.com", "ftp://x/", "http://", "http://x:99999/", "http://x/a b", "http://x/ü", "http://x\r\nEvil: 1/"]
)
def test_an_invalid_url_is_rejected_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL") as error:
        Endpoint.parse(url)
    assert len(url) < 9 or url not in str(error.value)
