"""The project's own transport passes the contract on both event loops, and manages its pool."""

from __future__ import annotations

import asyncio

import pytest

from eventsink.sinks.egress import EgressGuard, EgressSettings
from eventsink.sinks.http1 import Http1Transport, TransportSettings
from eventsink.sinks.transport import Endpoint, Transport
from tests.unit.sinks.transport_contract import OK, Reader, TransportContract, Writer, at, fails, post, serving


def opened(**settings: object) -> Http1Transport:
    guard = EgressGuard(EgressSettings(allow=("127.0.0.0/8",)))
    return Http1Transport(TransportSettings.model_validate({"maxConnectionsPerHost": 4, **settings}), guard)


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


async def test_a_freed_connection_lets_a_request_to_another_host_proceed() -> None:
    transport = opened(maxConnections=1)
    async with serving(OK) as one, serving(OK) as two:
        responses = await asyncio.gather(*(post(transport, at(server)) for _ in range(10) for server in (one, two)))
        assert {response.status for response in responses} == {200}
    await transport.close()


async def test_a_host_with_all_its_connections_busy_delays_no_other_host() -> None:
    transport = opened(maxConnections=3, maxConnectionsPerHost=2)
    release = asyncio.Event()

    async def hang(reader: Reader, _: Writer) -> None:
        await slow.read_request(reader)
        await reader.read()

    async def respond_when_released(reader: Reader, writer: Writer) -> None:
        await good.read_request(reader)
        await release.wait()
        writer.write(OK)
        await reader.read()

    async with serving(hang) as slow, serving(respond_when_released) as good, serving(OK) as third:
        hanging = [asyncio.ensure_future(post(transport, at(slow))) for _ in range(3)]
        under_way = asyncio.ensure_future(post(transport, at(good)))
        async with asyncio.timeout(30):
            while len(slow.requests) + len(good.requests) < 3:
                await asyncio.sleep(0.01)
            waiting = asyncio.ensure_future(post(transport, at(third)))
            await asyncio.sleep(0)
            release.set()
            assert (await under_way).status == 200
            assert (await waiting).status == 200
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
    await transport.close()


async def test_no_state_is_kept_of_an_unreachable_host() -> None:
    transport = opened(maxConnections=1)

    async def hang(reader: Reader, _: Writer) -> None:
        await one.read_request(reader)
        await reader.read()

    async with serving(hang) as one, serving(OK) as other:
        hanging = asyncio.ensure_future(post(transport, at(one)))
        async with asyncio.timeout(30):
            while not one.requests:
                await asyncio.sleep(0.01)
        await fails(transport, at(other), timeout=0.1)
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
        async with asyncio.timeout(30):
            while transport.connections:
                await asyncio.sleep(0.01)
        assert not transport.destinations
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
