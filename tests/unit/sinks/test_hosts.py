"""Notations of addresses that programs read differently, and names that lead to this machine: over both ways out, nothing reaches what the
guard has not judged, and a host is sent in one form only.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
import trustme

from eventsink.sinks.egress import EgressGuard, EgressSettings
from eventsink.sinks.guarded import EgressRefused, HostRefused, guarded_session
from eventsink.sinks.hosts import canonical_host
from eventsink.sinks.http1 import Http1Transport, TransportSettings
from eventsink.sinks.resolver import Addresses, NameNotResolved, Resolver
from eventsink.sinks.transport import Endpoint, TransportErrorKind
from tests.support.proxy import ConnectProxy
from tests.unit.sinks.transport_contract import OK, fails, post, serving

OTHER_NOTATIONS = [
    *("010.0.0.1", "0127.0.0.1", "0177.0.0.1", "127.0.0.01", "127.000.000.001", "00.0.0.0", "192.168.01.1", "169.254.169.0254"),
    *("2130706433", "0", "017700000001", "3232235521", "2852039166", "127.1", "127.0.1", "10.1", "169.254.43518", "0.0", "1"),
    *("0x7f000001", "0x7f.1", "0x7f.0.0.1", "127.0.0.0x1", "0X7F.0x0.0x0.0x1", "0xA9FEA9FE", "0x", "0x.0x.0x.0x", "10.0x1"),
    *("256.0.0.1", "127.0.0.256", "1.2.3.4.5", "4294967296", "99999999999999999999", "127.0.0.08", "127.0.0.1.", "1.2.3.4.."),
    *("a.0x7f", "example.1", "example.com.0", "10.0.0.1.nip.09", "x.0x", "-.1", "1.1.1.1.0x0", "127.0..1", ".127.0.0.1"),
    *("0o177.0.0.1", "%31%32%37.0.0.1", "127%2e0.0.1", "127.0.0.1%00", "127,0,0,1", "127.0.0.1;x", "127.0.0.1&"),
    *("127。1", "0x7f。1", "①", "１２７.1", "localhost\u00ad.1", "a..b", ".a", "a.b..", "a b", "a\tb", "*", "a*"),
    *(
        "[::1%25eth0]",
        "[fe80::1%25lo]",
        "[::1%lo]",
        "[fe80::1%]",
        "[::ffff:127.0.0.1%25x]",
        "[127.0.0.1]",
        "[v1.x]",
        "[]",
        "[::1",
    ),
    *("[::1]x", "x[::1]", "[::1][::1]", "[::1]]", "[[::1]]", "[:::1]", "[::127.1]", "[::ffff:127.0.0.01]", "[::ffff:0x7f.0.0.1]"),
    *(
        "[1::2::3]",
        "[12345::]",
        "127.0.0.1\\@8.8.8.8",
        "8.8.8.8\\.example.com",
        "x" * 64 + ".example.com",
        "x." * 127 + "example",
    ),
]
"""Refused wherever a URL is read: they lead to different places, or to none."""

NAMES_TO_A_LIBRARY = ("a\tb", "[v1.x]")
"""Of those, what aiohttp takes for a name without a number at its end: harmless."""

PRIVATE = {
    "127.0.0.1": "127.0.0.1",
    "127.255.255.254": "127.255.255.254",
    "10.0.0.1": "10.0.0.1",
    "0.0.0.0": "0.0.0.0",
    "169.254.169.254": "169.254.169.254",
    "255.255.255.255": "255.255.255.255",
    "１２７.０.０.１": "127.0.0.1",
    "127。0。0。1": "127.0.0.1",
    "①②⑦.0.0.1": "127.0.0.1",
    "[::1]": "::1",
    "[::]": "::",
    "[0:0:0:0:0:0:0:1]": "::1",
    "[0000:0000:0000:0000:0000:0000:0000:0001]": "::1",
    "[::127.0.0.1]": "::7f00:1",
    "[::FFFF:127.0.0.1]": "127.0.0.1",
    "[::ffff:7f00:1]": "127.0.0.1",
    "[0:0:0:0:0:ffff:a9fe:a9fe]": "169.254.169.254",
    "[64:ff9b::127.0.0.1]": "64:ff9b::7f00:1",
    "[64:ff9b:1::a00:1]": "64:ff9b:1::a00:1",
    "[2002:7f00:1::]": "2002:7f00:1::",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "[FE80::1]": "fe80::1",
    "[fd00:EC2::254]": "fd00:ec2::254",
    "[::ffff:0:127.0.0.1]": "::ffff:0:7f00:1",
}
"""Host of a URL -> the form in which it is judged, and would be sent."""

THIS_MACHINE = [
    *("localhost", "LOCALHOST", "localhost.", "ｌocalhost", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "metadata.localhost", "a.b.localhost.", "localhost6"),
    *(
        "localhost4",
        "ip6-localhost",
        "IP6-Loopback",
        "localhost.localdomain",
        "localhost6.localdomain6",
        "localhost4.localdomain4",
    ),
    *("x.localdomain", "loopback"),
]

PUBLIC = {
    "8.8.8.8": "8.8.8.8",
    "[::ffff:8.8.8.8]": "8.8.8.8",
    "[::FFFF:808:808]": "8.8.8.8",
    "[2606:4700:0:0:0:0:0:1111]": "2606:4700::1111",
    "Hooks.Example.COM": "hooks.example.com",
    "hooks.example.com.": "hooks.example.com.",
    "bücher.example": "xn--bcher-kva.example",
    "_dmarc.example.com": "_dmarc.example.com",
    "127.0.0.1e0": "127.0.0.1e0",
    "١٢٧.٠.٠.١": "xn--9hbcp.xn--8hb.xn--8hb.xn--9hb",
    "0x7f.example": "0x7f.example",
    "127.0.0.1.nip.io": "127.0.0.1.nip.io",
    "x--1": "x--1",
}


class Nowhere:
    """No name has an address, unless a test gives it some."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}

    async def __call__(self, host: str) -> Addresses:
        if host not in self.found:
            raise NameNotResolved("the name of the host has no address")
        return Addresses(self.found[host], 60.0)

    async def close(self) -> None:
        pass


@pytest.fixture
def names() -> Nowhere:
    return Nowhere()


@pytest.fixture
async def resolver(names: Nowhere) -> AsyncIterator[Resolver]:
    opened = Resolver(look_up=names)
    yield opened
    await opened.close()


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    with ConnectProxy() as running:
        running.response = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
        yield running


def guards(proxy: ConnectProxy) -> dict[str, EgressGuard]:
    """The two ways out."""
    return {
        "direct": EgressGuard(EgressSettings()),
        "through the proxy": EgressGuard(EgressSettings.model_validate({"proxy": {"url": proxy.url}})),
    }


def url_of(host: str) -> str:
    return f"http://{host}:9/"


def shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def test_there_are_a_hundred_tricks() -> None:
    assert len({*OTHER_NOTATIONS, *PRIVATE, *THIS_MACHINE}) >= 100


@pytest.mark.parametrize("host", OTHER_NOTATIONS)
def test_a_host_that_programs_read_differently_is_refused_without_showing_it(host: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        Endpoint.parse(url_of(host))
    assert len(host) < 6 or host not in str(caught.value)


@pytest.mark.parametrize(("host", "form"), [*PRIVATE.items(), *PUBLIC.items()])
def test_a_host_has_one_form_in_everything_that_is_sent(host: str, form: str) -> None:
    endpoint = Endpoint.parse(url_of(host))
    assert (endpoint.host, endpoint.authority) == (form, f"{shown(form)}:9")
    assert canonical_host(form) == form, "and that form is its own"


def test_the_name_of_a_certificate_has_no_dot_at_its_end() -> None:
    assert Endpoint.parse("https://hooks.example.com./").server_name == "hooks.example.com"


@pytest.mark.parametrize(
    ("host", "certified"), [("Hooks.Example.com.", "hooks.example.com"), ("[::FFFF:127.0.0.1]", "127.0.0.1")]
)
async def test_a_certificate_is_checked_for_the_form_that_is_dialled(
    resolver: Resolver, names: Nowhere, host: str, certified: str
) -> None:
    names.found = {"hooks.example.com.": ["127.0.0.1"]}
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(certified).configure_cert(context)
    transport = Http1Transport(TransportSettings(), EgressGuard(EgressSettings(allow=("127.0.0.0/8",))), resolver)
    async with serving(OK, context) as server:
        endpoint = Endpoint.parse(f"https://{host}:{server.port}/")
        assert (await post(transport, endpoint, ca=authority.cert_pem.bytes().decode())).status == 200
        assert len(server.requests) == 1
        await transport.close()


@pytest.mark.parametrize("sentence", ["leading zeros, such as 192.0.2.7", "remove the zone", "is not a valid name"])
def test_the_error_says_what_to_write(sentence: str) -> None:
    host = {"l": "010.0.0.1", "r": "[fe80::1%25eth0]", "i": "a..b"}[sentence[0]]
    with pytest.raises(ValueError, match=sentence):
        Endpoint.parse(url_of(host))


async def test_no_private_address_is_reached_or_asked_of_the_proxy(
    proxy: ConnectProxy, resolver: Resolver, names: Nowhere
) -> None:
    names.found = {Endpoint.parse(url_of(host)).host: ["127.0.0.1"] for host in THIS_MACHINE}
    for way, guard in guards(proxy).items():
        transport = Http1Transport(TransportSettings(), guard, resolver)
        for host in (*PRIVATE, *THIS_MACHINE):
            error = await fails(transport, Endpoint.parse(url_of(host)))
            assert (error.kind, error.sent) == (TransportErrorKind.EGRESS, False), (way, host)
        await transport.close()
    assert proxy.heads == []


async def test_the_proxy_is_asked_for_the_form_that_was_judged(proxy: ConnectProxy, resolver: Resolver) -> None:
    transport = Http1Transport(TransportSettings(), guards(proxy)["through the proxy"], resolver)
    for host, form in PUBLIC.items():
        error = await fails(transport, Endpoint.parse(url_of(host)))
        assert error.kind is TransportErrorKind.PROXY_REFUSED
        target = f"{shown(form)}:9".encode()
        assert proxy.heads[-1] == b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target)
    await transport.close()


async def test_a_session_of_a_library_reaches_nothing_by_other_notations(proxy: ConnectProxy, resolver: Resolver) -> None:
    for guard in guards(proxy).values():
        async with guarded_session(guard, resolver, timeout=30) as session:
            for host in {*OTHER_NOTATIONS, *PRIVATE, *THIS_MACHINE}.difference(NAMES_TO_A_LIBRARY):
                for scheme in ("http", "https"):
                    with pytest.raises((aiohttp.ClientError, EgressRefused, HostRefused, OSError, ValueError)):
                        async with session.post(f"{scheme}://{host}:9/"):
                            pass
    assert proxy.heads == [], "whatever the library makes of them"


# ---- names that the proxy looks up


@pytest.mark.parametrize(
    ("addresses", "asked"),
    [
        (["8.8.8.8"], True),
        (["2606:4700::1111", "8.8.8.8"], True),
        ([], True),
        (["127.0.0.1"], False),
        (["10.0.0.1"], False),
        (["8.8.8.8", "169.254.169.254"], False),
        (["64:ff9b::a00:1"], False),
        (["::ffff:10.0.0.1"], False),
    ],
)
async def test_a_name_that_leads_to_a_private_address_here_is_not_asked_of_the_proxy(
    proxy: ConnectProxy, resolver: Resolver, names: Nowhere, addresses: list[str], asked: bool
) -> None:
    if addresses:
        names.found = {"rebound.example.com": addresses}
    guard = guards(proxy)["through the proxy"]
    transport = Http1Transport(TransportSettings(), guard, resolver)
    error = await fails(transport, Endpoint.parse(url_of("rebound.example.com")))
    assert error.kind is (TransportErrorKind.PROXY_REFUSED if asked else TransportErrorKind.EGRESS)
    assert asked or "the host of the URL leads to the address" in str(error)
    await transport.close()
    async with guarded_session(guard, resolver, timeout=30) as session:
        with pytest.raises(aiohttp.ClientHttpProxyError if asked else HostRefused):
            async with session.post("https://rebound.example.com:9/"):
                pass
    assert len(proxy.heads) == (2 if asked else 0)


async def test_a_name_that_nobody_answers_for_delays_the_proxy_by_a_second_at_most(proxy: ConnectProxy) -> None:
    class Hangs(Nowhere):
        async def __call__(self, host: str) -> Addresses:
            await asyncio.Event().wait()
            raise AssertionError

    resolver = Resolver(look_up=Hangs())
    transport = Http1Transport(TransportSettings(), guards(proxy)["through the proxy"], resolver)
    error = await fails(transport, Endpoint.parse(url_of("hooks.example.com")))
    assert error.kind is TransportErrorKind.PROXY_REFUSED
    await transport.close()
    await resolver.close()


async def test_names_are_left_to_the_proxy_where_the_setting_says_so(
    proxy: ConnectProxy, resolver: Resolver, names: Nowhere
) -> None:
    names.found = {"hooks.example.com": ["10.0.0.1"]}
    guard = EgressGuard(EgressSettings.model_validate({"proxy": {"url": proxy.url, "judgeNames": False}}))
    transport = Http1Transport(TransportSettings(), guard, resolver)
    error = await fails(transport, Endpoint.parse(url_of("hooks.example.com")))
    assert error.kind is TransportErrorKind.PROXY_REFUSED
    await transport.close()
