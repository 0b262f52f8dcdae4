"""Outgoing connections through a proxy that does CONNECT: what it is told, what is judged here, and what each of its failures means."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from eventsink.runtime.settings import ConfigurationError
from eventsink.sinks.egress import EgressGuard, EgressSettings
from eventsink.sinks.guarded import failure_kind, guarded_session
from eventsink.sinks.http1 import Http1Transport, TransportSettings
from eventsink.sinks.proxy import Proxy, parse_proxy
from eventsink.sinks.resolver import Resolver
from eventsink.sinks.transport import Endpoint, Transport, TransportErrorKind
from tests.support.proxy import ConnectProxy
from tests.unit.sinks.transport_contract import OK, TransportContract, at, fails, post, serving

NAME = "hooks.example.com"
LOGIN = "router:canary-password"
LOOPBACK = ("127.0.0.0/8",)


def guard_for(connect: ConnectProxy, **settings: Any) -> EgressGuard:
    """Loopback is not allowed: only the proxy is there, which nobody judges. It alone knows names."""
    return EgressGuard(EgressSettings.model_validate({"proxy": {"url": connect.url, "judgeNames": False}, **settings}))


def open_through(connect: ConnectProxy, **settings: Any) -> Http1Transport:
    return Http1Transport(TransportSettings(connect_timeout=10.0), guard_for(connect, **settings), Resolver())


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    with ConnectProxy({NAME: "127.0.0.1"}) as running:
        yield running


async def end(transport: Transport, proxy: ConnectProxy) -> None:
    """Close the transport, and wait until the receivers have noticed."""
    await transport.close()
    async with asyncio.timeout(30):
        while proxy.tunnels:
            await asyncio.sleep(0.002)
    await asyncio.sleep(0.002)


@pytest.fixture
async def transport(proxy: ConnectProxy) -> AsyncIterator[Transport]:
    opened = open_through(proxy)
    yield opened
    await end(opened, proxy)


class TestThroughAProxy(TransportContract):
    """All that a direct connection promises, but for what the proxy says in its own words."""

    @pytest.fixture
    async def transport(self) -> AsyncIterator[Transport]:
        with ConnectProxy() as proxy:
            self.proxy = proxy
            settings = TransportSettings.model_validate({"maxConnectionsPerHost": 8})
            opened = Http1Transport(settings, guard_for(proxy, allow=LOOPBACK), Resolver())
            yield opened
            await end(opened, proxy)

    # What arrives unasked is noticed once it is there; how soon that is, is up to the proxy here.
    test_bytes_that_no_request_asked_for_end_the_connection = None  # type: ignore[assignment]
    test_no_rejected_message_counts_as_delivered_where_each_first_message_is_responded_to_twice = None  # type: ignore[assignment]

    async def test_a_port_without_a_listener_is_connection_refused(self, transport: Transport) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            error = await fails(transport, Endpoint.parse(f"http://127.0.0.1:{unused.getsockname()[1]}/"))
        assert (error.kind, error.sent) == (TransportErrorKind.PROXY_FAILED, False)

    async def test_a_name_without_an_address_is_not_resolved(self, transport: Transport) -> None:
        error = await fails(transport, Endpoint.parse("http://no-such-name.invalid/"))
        assert error.kind is TransportErrorKind.PROXY_FAILED

    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_a_tunnel_that_ends_at_once_is_a_lost_connection(self, transport: Transport, scheme: str) -> None:
        self.proxy.response = b"HTTP/1.1 200 OK\r\n\r\n"
        error = await fails(transport, Endpoint.parse(f"{scheme}://{NAME}/"))
        assert (error.kind, error.sent) == (TransportErrorKind.RESET, scheme == "http")


async def test_the_proxy_is_told_host_and_port_and_sees_no_part_of_the_message(transport: Transport, proxy: ConnectProxy) -> None:
    async with serving(OK) as server:
        for _ in range(3):
            assert (await post(transport, at(server, NAME))).status == 200
        assert (len(server.requests), server.connections) == (3, 1)
        target = f"{NAME}:{server.port}".encode()
        assert proxy.heads == [b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target)]


async def test_the_receivers_certificate_is_checked_through_the_tunnel(transport: Transport, proxy: ConnectProxy) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    proxy.hosts["other.example.com"] = "127.0.0.1"
    pem = authority.cert_pem.bytes().decode()
    async with serving(OK, context) as server:
        assert (await post(transport, at(server, NAME, "https"), ca=pem)).status == 200
        for host, ca in ((NAME, None), ("other.example.com", pem)):
            assert (await fails(transport, at(server, host, "https"), ca=ca)).kind is TransportErrorKind.TLS
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("response", "kind", "detail"),
    [
        (b"HTTP/1.1 407 No\r\n\r\n", TransportErrorKind.PROXY_AUTHENTICATION, "407"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\ncanary", TransportErrorKind.PROXY_REFUSED, "403"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://login.example.com/canary\r\n\r\n", TransportErrorKind.PROXY_REFUSED, "302"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", TransportErrorKind.PROXY_FAILED, "502"),
        (b"HTTP/1.1 429 Slow\r\n\r\n", TransportErrorKind.PROXY_FAILED, "429"),
        (b"HTTP/1.1 200 OK\r\n\r\ncanary", TransportErrorKind.PROXY_FAILED, "no valid response"),
        (b"HTTP/1.1 xyz\r\n\r\n", TransportErrorKind.PROXY_FAILED, "no valid response"),
        (b"SSH-2.0-canary\r\n\r\n", TransportErrorKind.PROXY_FAILED, "no valid response"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"canary" * 5000, TransportErrorKind.PROXY_FAILED, "too large"),
    ],
)
async def test_what_the_proxy_responds_instead_has_a_reason_of_its_own(
    transport: Transport, proxy: ConnectProxy, response: bytes, kind: TransportErrorKind, detail: str
) -> None:
    proxy.response = response
    for scheme in ("http", "https"):
        error = await fails(transport, Endpoint.parse(f"{scheme}://{NAME}/canary-path?canary=query"))
        assert (error.kind, error.sent) == (kind, False)
        assert detail in error.detail


async def test_a_proxy_that_is_not_there_or_hangs_up_is_unreachable() -> None:
    with ConnectProxy() as gone:
        pass
    transport = open_through(gone)
    error = await fails(transport, Endpoint.parse(f"https://{NAME}/"))
    assert error.kind is TransportErrorKind.PROXY_UNREACHABLE
    await transport.close()
    async with serving(_hang_up) as server:
        transport = Http1Transport(
            TransportSettings(),
            EgressGuard(EgressSettings.model_validate({"proxy": {"url": f"http://localhost:{server.port}"}})),
            Resolver(),
        )
        error = await fails(transport, Endpoint.parse(f"https://{NAME}/"))
        assert error.kind is TransportErrorKind.PROXY_UNREACHABLE
        await transport.close()


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.close()


async def test_a_proxy_whose_name_has_no_address_is_unreachable() -> None:
    settings = EgressSettings.model_validate({"proxy": {"url": "http://no-such-proxy.invalid:3128"}})
    transport = Http1Transport(TransportSettings(), EgressGuard(settings), Resolver())
    error = await fails(transport, Endpoint.parse(f"https://{NAME}/"))
    assert error.kind is TransportErrorKind.PROXY_UNREACHABLE
    await transport.close()


METADATA = ("169.254.169.254", "[fd00:ec2::254]", "[fd20:ce::254]", "100.100.100.200", "224.0.0.1", "0.0.0.0")


@pytest.mark.parametrize("address", [*METADATA, "127.0.0.1", "localhost"])
async def test_no_proxy_is_asked_at_a_metadata_service_or_where_the_platform_denies_connections(
    proxy: ConnectProxy, address: str
) -> None:
    deny = () if address in METADATA else ("127.0.0.0/8", "::1/128")
    guard = EgressGuard(
        EgressSettings.model_validate({"deny": deny, "proxy": {"url": f"http://{address}:{proxy.port}", "judgeNames": False}})
    )
    transport = Http1Transport(TransportSettings(), guard, Resolver())
    error = await fails(transport, Endpoint.parse(f"https://{NAME}/"))
    await transport.close()
    why_not = "is in egress.deny" if deny else "is not public"
    assert error.kind is TransportErrorKind.PROXY_UNREACHABLE
    assert why_not in error.detail
    kind, detail = await why(guard, f"https://{NAME}/")
    assert kind is TransportErrorKind.PROXY_UNREACHABLE
    assert why_not in detail
    assert proxy.targets == []


async def test_a_proxy_that_does_not_respond_is_a_connect_timeout_and_its_connection_ends(proxy: ConnectProxy) -> None:
    proxy.hang.set()
    transport = Http1Transport(TransportSettings(connect_timeout=0.1), guard_for(proxy), Resolver())
    error = await fails(transport, Endpoint.parse(f"https://{NAME}/"))
    assert (error.kind, "the proxy did not connect" in error.detail) == (TransportErrorKind.CONNECT_TIMEOUT, True)
    assert transport.connections == 0
    await transport.close()


async def test_connections_count_to_the_receiver_and_not_to_the_proxy(proxy: ConnectProxy) -> None:
    proxy.hosts["other.example.com"] = "127.0.0.1"
    transport = Http1Transport(TransportSettings(max_connections_per_host=1), guard_for(proxy), Resolver())
    async with serving(OK) as server:
        for host in (NAME, "other.example.com"):
            assert (await post(transport, at(server, host))).status == 200
        assert (transport.connections, transport.hosts) == (2, 2)
    await end(transport, proxy)


async def test_hosts_that_need_no_proxy_are_reached_directly_and_judged_as_ever(proxy: ConnectProxy) -> None:
    transport = open_through(proxy, proxy={"url": proxy.url, "noProxy": ["localhost", "127.0.0.0/8"]}, allow=LOOPBACK)
    async with serving(OK) as server:
        for host in ("localhost", "127.0.0.1"):
            assert (await post(transport, at(server, host))).status == 200
        assert proxy.heads == []
        assert (await post(transport, at(server, NAME))).status == 200
        assert proxy.targets == [f"{NAME}:{server.port}"]
    await end(transport, proxy)


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("receiver.shop.svc.cluster.local", False),
        ("RECEIVER.shop.SVC.cluster.local.", False),
        ("svc.cluster.local", True),
        ("internal", False),
        ("internal.example.com", True),
        ("10.1.2.3", False),
        ("11.1.2.3", True),
        ("fd00::1", False),
        ("192.0.2.7", False),
        ("hooks.example.com", True),
    ],
)
def test_hosts_are_reached_without_the_proxy_by_name_or_network(host: str, covered: bool) -> None:
    entries = ("*.svc.cluster.local", "Internal", "10.0.0.0/8", "fd00::/8", "192.0.2.7")
    assert Proxy(lambda: parse_proxy("http://p:1"), entries).covers(host) is covered


async def test_credentials_come_from_a_file_and_are_read_again_when_it_changes(tmp_path: Path) -> None:
    with ConnectProxy({NAME: "127.0.0.1"}, login=LOGIN) as proxy:
        file = tmp_path / "proxy"
        file.write_text(f"http://router:canary-wrong@127.0.0.1:{proxy.port}\n")
        transport = open_through(proxy, proxy={"urlFile": str(file)})
        async with serving(OK) as server:
            error = await fails(transport, at(server, NAME))
            assert error.kind is TransportErrorKind.PROXY_AUTHENTICATION
            assert "canary" not in str(error)
            file.write_text(f"http://router:canary%2Dpassword@127.0.0.1:{proxy.port}\n")
            assert (await post(transport, at(server, NAME))).status == 200
            file.write_text("canary nonsense")
            assert (await post(transport, at(server, NAME), tenant="other")).status == 200, "the last usable one stays"
        await end(transport, proxy)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"url": "https://proxy.example.com:3128"}, "must begin with http://"),
        ({"url": "http://proxy.example.com"}, "names a host and a port"),
        ({"url": "http://proxy.example.com:3128/path"}, "names a host and a port"),
        ({"url": "http://u:canary@proxy.example.com:3128"}, "name it in urlFile"),
        ({"url": "http://proxy.example.com:99999"}, "cannot be read"),
        ({"url": "http://proxy.example.com:3128", "urlFile": "/x"}, "not both"),
    ],
)
def test_a_wrong_proxy_is_rejected_in_words_without_its_password(settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        EgressSettings.model_validate({"proxy": settings})
    assert "canary" not in str(caught.value)


def test_a_file_with_no_proxy_in_it_stops_the_start_with_the_name_of_the_setting(tmp_path: Path) -> None:
    file = tmp_path / "proxy"
    for content, sentence in ((None, "cannot be read"), ("ftp://canary:canary@x:1", "must begin with http://"), ("", "is empty")):
        if content is not None:
            file.write_text(content)
        with pytest.raises(ConfigurationError, match=rf"^egress\.proxy\.urlFile: .*{sentence}") as caught:
            EgressGuard(EgressSettings.model_validate({"proxy": {"urlFile": str(file)}}))
        assert "canary" not in str(caught.value).replace(str(file), "")


# ---- sessions of libraries


async def ask(guard: EgressGuard, url: str) -> int:
    """The status of a request; raises what the session raises."""
    resolver = Resolver()
    try:
        async with guarded_session(guard, resolver, timeout=30) as session, session.post(url) as response:
            return response.status
    finally:
        await resolver.close()


async def why(guard: EgressGuard, url: str) -> tuple[TransportErrorKind, str]:
    """Why a request fails."""
    with pytest.raises((aiohttp.ClientError, OSError)) as caught:
        await ask(guard, url)
    return failure_kind(caught.value)


async def test_a_session_goes_through_the_proxy_with_its_credentials(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    with ConnectProxy({NAME: "127.0.0.1"}, login=LOGIN) as proxy:
        (tmp_path / "proxy").write_text(f"http://{LOGIN}@localhost:{proxy.port}")
        settings: dict[str, Any] = {"proxy": {"urlFile": str(tmp_path / "proxy")}, "caFile": str(tmp_path / "ca.crt")}
        async with serving(OK, context) as server:
            url = f"https://{NAME}:{server.port}/canary"
            assert await ask(guard_for(proxy, **settings), url) == 200
            assert proxy.targets == [f"{NAME}:{server.port}"]
            kind, _ = await why(guard_for(proxy), url)
            assert kind is TransportErrorKind.PROXY_AUTHENTICATION
            proxy.response = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
            assert await why(guard_for(proxy), url) == (TransportErrorKind.PROXY_REFUSED, "it responded with 403")
        kind, detail = await why(guard_for(proxy), "https://127.1:9/")
        assert (kind, "127.1" not in detail, "leading zeros" in detail) == (TransportErrorKind.EGRESS, True, True)


async def test_a_session_whose_proxy_is_not_there_says_so() -> None:
    with ConnectProxy() as gone:
        pass
    assert (await why(guard_for(gone), f"https://{NAME}/"))[0] is TransportErrorKind.PROXY_UNREACHABLE
    nowhere = EgressGuard(EgressSettings.model_validate({"proxy": {"url": "http://no-such-proxy.invalid:3128"}}))
    assert (await why(nowhere, f"https://{NAME}/"))[0] is TransportErrorKind.PROXY_UNREACHABLE


async def test_a_session_sends_nothing_that_is_not_permitted_when_it_is_connected() -> None:
    permitted = iter((True, False, True))

    def permit() -> None:
        if not next(permitted):
            raise LookupError

    resolver = Resolver()
    guard = EgressGuard(EgressSettings(allow=LOOPBACK))
    async with serving(OK) as server, guarded_session(guard, resolver, timeout=30, permit=permit) as session:
        url = f"http://127.0.0.1:{server.port}/"
        async with session.post(url) as response:
            assert response.status == 200
        with pytest.raises(LookupError):
            await session.post(url)
        assert len(server.requests) == 1, "also over a connection that is open"
        async with session.post(url) as response:
            assert response.status == 200
    await resolver.close()


# ---- authorities


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.mark.parametrize("proxied", [False, True])
async def test_authorities_of_a_file_are_trusted_beside_the_systems_and_read_again_when_it_changes(
    tmp_path: Path, proxy: ConnectProxy, proxied: bool
) -> None:
    first, second = trustme.CA(), trustme.CA()
    file = tmp_path / "ca.crt"
    file.write_bytes("# Überschrift\n".encode() + first.cert_pem.bytes())
    settings: dict[str, Any] = {"proxy": {"url": proxy.url}} if proxied else {}
    proxy.hosts["localhost"] = "127.0.0.1"
    guard = EgressGuard(EgressSettings.model_validate({"caFile": str(file), "allow": (*LOOPBACK, "::1/128"), **settings}))
    transport, resolver = Http1Transport(TransportSettings(), guard, Resolver()), Resolver()
    async with (
        serving(OK, server_context(first)) as one,
        serving(OK, server_context(second)) as two,
        guarded_session(guard, resolver, timeout=30) as session,
    ):

        async def trusted_by_session() -> list[bool]:
            """Of the two receivers."""
            found = []
            for server in (one, two):
                try:
                    async with session.post(f"https://localhost:{server.port}/") as response:
                        found.append(response.status == 200)
                except aiohttp.ClientConnectorCertificateError:
                    found.append(False)
            return found

        for _ in range(2):
            assert (await post(transport, at(one, "localhost", "https"))).status == 200
            assert (await fails(transport, at(two, "localhost", "https"))).kind is TransportErrorKind.TLS
            assert await trusted_by_session() == [True, False]
        assert one.connections == 2, "each of them uses its connection again"
        # A sink that names its own authority trusts no other.
        pem = second.cert_pem.bytes().decode()
        assert (await fails(transport, at(one, "localhost", "https"), ca=pem)).kind is TransportErrorKind.TLS
        file.write_bytes(first.cert_pem.bytes() + second.cert_pem.bytes())
        assert (await post(transport, at(two, "localhost", "https"))).status == 200
        assert await trusted_by_session() == [True, True]
        file.write_bytes(second.cert_pem.bytes())
        assert (await fails(transport, at(one, "localhost", "https"))).kind is TransportErrorKind.TLS, "not by an open connection"
        assert await trusted_by_session() == [False, True]
        file.write_text("nonsense")
        assert (await post(transport, at(two, "localhost", "https"), tenant="other")).status == 200, "the last usable one stays"
        assert await trusted_by_session() == [False, True]
    await transport.close()
    await resolver.close()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: no such file"),
        (b"", "holds no certificate in PEM form"),
        (b"canary", "holds no certificate in PEM form"),
        (b"-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n", "holds no certificate in PEM form"),
        (b"x" * ((1 << 20) + 1), "has more than 1048576 bytes"),
    ],
)
def test_a_missing_or_broken_file_of_authorities_stops_the_start(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    file = tmp_path / "ca.crt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"(?i)^egress\.caFile: .*{sentence}") as caught:
        EgressGuard(EgressSettings.model_validate({"caFile": str(file)}))
    assert "canary" not in str(caught.value)
