"""The transport of our own keeps the contract, on both event loops, and looks after its pool."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from eventsink.sinks.egress import EgressGuard, EgressSettings
from eventsink.sinks.http1 import Http1Transport, TransportSettings
from eventsink.sinks.transport import Endpoint, Transport
from tests.unit.sinks.transport_contract import OK, TransportContract, at, post, serving


def opened(**settings: object) -> Http1Transport:
    guard = EgressGuard(EgressSettings(allow=("127.0.0.0/8",)))
    return Http1Transport(TransportSettings.model_validate({"maxConnectionsPerHost": 4, **settings}), guard)


class TestHttp1Transport(TransportContract):
    def open_transport(self) -> Transport:
        return opened()


def test_it_works_under_uvloop_too() -> None:
    async def exchange() -> None:
        transport = opened()
        async with serving(OK) as server:
            answers = await asyncio.gather(*(post(transport, at(server)) for _ in range(50)))
            assert {answer.status for answer in answers} == {200}
        await transport.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(exchange())


async def test_unused_connections_are_ended() -> None:
    transport = opened(idleTimeout="50ms")
    async with serving(OK) as server:
        await post(transport, at(server))
        assert transport.connections == 1
        async with asyncio.timeout(30):
            while transport.connections:
                await asyncio.sleep(0.01)
    await transport.close()


async def test_an_unused_connection_makes_room_for_another_host() -> None:
    transport = opened(maxConnections=1)
    async with serving(OK) as one, serving(OK) as two:
        for server in (one, two, one):
            assert (await post(transport, at(server))).status == 200
        assert (one.connections, two.connections) == (2, 1)
    await transport.close()


async def test_whoever_waits_at_another_host_gets_the_place_that_becomes_free() -> None:
    transport = opened(maxConnections=1)
    async with serving(OK) as one, serving(OK) as two:
        answers = await asyncio.gather(*(post(transport, at(server)) for _ in range(10) for server in (one, two)))
        assert {answer.status for answer in answers} == {200}
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
def test_a_url_is_taken_apart_and_only_its_origin_shown(url: str, origin: str, target: str) -> None:
    endpoint = Endpoint.parse(url)
    assert (endpoint.origin, endpoint.target, repr(endpoint)) == (origin, target, f"Endpoint({origin})")


@pytest.mark.parametrize(
    "url", ["", "example.com", "ftp://x/", "http://", "http://x:99999/", "http://x/a b", "http://x/ü", "http://x\r\nEvil: 1/"]
)
def test_what_is_no_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL") as error:
        Endpoint.parse(url)
    assert len(url) < 9 or url not in str(error.value)
