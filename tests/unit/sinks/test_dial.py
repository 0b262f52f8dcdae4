"""A name is looked up for whoever asks for it, judged, and only an allowed address is dialled."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable

import pytest

from eventsink.sinks.connection import Connection
from eventsink.sinks.dial import Dialler
from eventsink.sinks.egress import EgressGuard, EgressSettings
from eventsink.sinks.resolver import MAX_LOOKUPS, Addresses, CAres, NameNotResolved, Resolver
from eventsink.sinks.transport import DEFAULT_TLS, Endpoint, TransportError, TransportErrorKind
from eventsink.sinks.unread import Unread
from tests.support.clock import ManualClock
from tests.unit.sinks.transport_contract import OK, ScriptedServer, serving

NAME = "hooks.example.com"
TTL = 5.0
MAX_TTL = 60.0
DEADLINE_SECONDS = 30.0


class ScriptedLookUp:
    """Finds the addresses that a test sets, and counts how often it is asked; names that begin with `hanging` get no response."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.ttl = TTL
        self.asked: list[str] = []
        self.hanging = 0
        self.release = asyncio.Event()
        self.release.set()

    async def __call__(self, host: str) -> Addresses:
        self.asked.append(host)
        if host.startswith("hanging"):
            self.hanging += 1
            await asyncio.Event().wait()
        await self.release.wait()
        if not self.addresses:
            raise NameNotResolved("the name of the host has no address")
        return Addresses(self.addresses, self.ttl)

    async def close(self) -> None:
        pass


@pytest.fixture
def names() -> ScriptedLookUp:
    return ScriptedLookUp()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def resolver(names: ScriptedLookUp, clock: Callable[[], float]) -> AsyncIterator[Resolver]:
    opened = Resolver(timeout=DEADLINE_SECONDS, max_ttl=MAX_TTL, clock=clock, look_up=names)
    yield opened
    await opened.close()


@pytest.fixture
def dialler(resolver: Resolver) -> Dialler:
    return Dialler(EgressGuard(EgressSettings(allow=("127.0.0.0/8",))), resolver, connect_timeout=10.0)


async def connect(dialler: Dialler, port: int, host: str = NAME, tenant: str = "acme") -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        connection = await dialler.dial(
            Endpoint.parse(f"http://{host}:{port}/"), DEFAULT_TLS, tenant, lambda: Connection(Unread(1))
        )
    assert connection.usable
    connection.abort()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


async def reached(server: ScriptedServer, times: int) -> None:
    await until(lambda: server.connections >= times)


async def test_of_several_addresses_those_that_egress_denies_are_skipped(dialler: Dialler, names: ScriptedLookUp) -> None:
    names.addresses = ["169.254.169.254", "10.0.0.1", "::1", "127.0.0.1"]
    async with serving(OK) as server:
        await connect(dialler, server.port)
        await reached(server, 1)


async def test_a_name_with_denied_addresses_only_is_not_dialled_and_the_setting_is_named(
    dialler: Dialler, names: ScriptedLookUp
) -> None:
    names.addresses = ["169.254.169.254", "10.0.0.1"]
    with pytest.raises(TransportError, match=r"10\.0\.0\.1 is not public \(private\)") as error:
        await connect(dialler, 9)
    assert error.value.kind is TransportErrorKind.EGRESS


async def test_after_an_address_without_a_listener_the_next_is_tried(dialler: Dialler, names: ScriptedLookUp) -> None:
    names.addresses = ["127.0.0.2", "127.0.0.1"]
    async with serving(OK) as server:
        await connect(dialler, server.port)
        await reached(server, 1)


@pytest.mark.parametrize(("ttl", "remembered"), [(TTL, TTL), (0.0, 1.0), (86400.0, MAX_TTL)])
async def test_a_name_is_remembered_as_long_as_it_is_valid_and_judged_again_when_it_changes(
    dialler: Dialler, names: ScriptedLookUp, clock: ManualClock, ttl: float, remembered: float
) -> None:
    names.addresses, names.ttl = ["127.0.0.1"], ttl
    async with serving(OK) as server:
        await connect(dialler, server.port)
        clock.now += remembered - 0.1
        await connect(dialler, server.port)
        assert len(names.asked) == 1
        clock.now += 0.2
        names.addresses = ["10.0.0.1"]
        with pytest.raises(TransportError, match="the router may not connect there"):
            await connect(dialler, server.port)
        assert len(names.asked) == 2


async def test_concurrent_lookups_of_a_name_by_one_tenant_are_one_lookup(dialler: Dialler, names: ScriptedLookUp) -> None:
    names.addresses = ["127.0.0.1"]
    names.release.clear()
    async with serving(OK) as server:
        dials = [asyncio.ensure_future(connect(dialler, server.port)) for _ in range(20)]
        await until(lambda: bool(names.asked))
        names.release.set()
        await asyncio.gather(*dials)
        assert len(names.asked) == 1


async def test_names_that_hang_delay_no_other_tenant(dialler: Dialler, names: ScriptedLookUp) -> None:
    names.addresses = ["127.0.0.1"]
    hanging = [asyncio.ensure_future(connect(dialler, 9, f"hanging{n}.example.com")) for n in range(2 * MAX_LOOKUPS)]
    hanging.append(asyncio.ensure_future(connect(dialler, 9, NAME)))
    await until(lambda: names.hanging >= MAX_LOOKUPS // 2)
    async with serving(OK) as server:
        for n in range(10):
            await connect(dialler, server.port, f"{n}.example.com", "globex")
        await connect(dialler, server.port, NAME, "globex")  # although another tenant's lookup of it has to wait
    assert names.hanging == MAX_LOOKUPS // 2, "one tenant alone gets half"
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_lookup_takes_no_longer_than_its_timeout(names: ScriptedLookUp) -> None:
    resolver = Resolver(timeout=0.05, look_up=names)
    with pytest.raises(NameNotResolved, match=r"within 0\.05 s"):
        await resolver.addresses("hanging.example.com", "acme")
    assert resolver.under_way == 1, "what is under way counts until it ends"
    await resolver.close()
    await until(lambda: not resolver.under_way)


async def test_a_lookup_that_fails_after_all_callers_are_gone_is_not_logged(
    dialler: Dialler, resolver: Resolver, names: ScriptedLookUp, caplog: pytest.LogCaptureFixture
) -> None:
    names.release.clear()
    waiting = asyncio.ensure_future(connect(dialler, 9))
    await until(lambda: bool(names.asked))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    names.release.set()
    await until(lambda: not resolver.under_way)
    del waiting  # it holds the lookup, which complains only when it is collected
    gc.collect()
    assert not caplog.records


async def test_a_failed_lookup_is_reported_and_not_cached(dialler: Dialler, names: ScriptedLookUp) -> None:
    with pytest.raises(TransportError, match="has no address"):
        await connect(dialler, 9)
    names.addresses = ["127.0.0.1"]
    async with serving(OK) as server:
        await connect(dialler, server.port)


async def test_a_lookup_under_way_at_close_fails_and_none_begins_after_it(
    dialler: Dialler, resolver: Resolver, names: ScriptedLookUp
) -> None:
    dials = [asyncio.ensure_future(connect(dialler, 9, f"hanging{n}.example.com")) for n in range(MAX_LOOKUPS)]
    await until(lambda: names.hanging > 0)
    await resolver.close()
    dials.append(asyncio.ensure_future(connect(dialler, 9)))
    outcomes = await asyncio.gather(*dials, return_exceptions=True)
    assert {one.kind for one in outcomes if isinstance(one, TransportError)} == {TransportErrorKind.DNS}
    assert all(isinstance(one, TransportError) for one in outcomes)


class NameServer(asyncio.DatagramProtocol):
    """Knows one name, `receiver.monitoring.svc.cluster.local`, at 127.0.0.1 for 7 seconds."""

    QUESTION = b"\x08receiver\x0amonitoring\x03svc\x07cluster\x05local\x00"

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        end = data.index(b"\0", 12) + 1
        name, kind = data[12:end], data[end : end + 2]
        self.asked.append(name)
        known = name == self.QUESTION
        found = known and kind == b"\0\1"
        flags = b"\x81\x80" if known else b"\x81\x83"
        response = data[:2] + flags + b"\0\1" + (b"\0\1" if found else b"\0\0") + b"\0\0\0\0" + data[12 : end + 4]
        if found:
            response += b"\xc0\x0c\0\1\0\1\0\0\0\7\0\4\x7f\0\0\1"
        self._transport.sendto(response, address)  # type: ignore[attr-defined]


@pytest.mark.parametrize("host", ["receiver.monitoring", "receiver.monitoring.svc.cluster.local"])
async def test_search_domains_are_tried_and_addresses_are_valid_for_as_long_as_the_name_server_says(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(NameServer, ("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    monkeypatch.setenv("LOCALDOMAIN", "svc.cluster.local")  # as `search` in resolv.conf
    monkeypatch.setenv("RES_OPTIONS", "ndots:5")
    look_up = CAres([f"127.0.0.1:{port}"])
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            found = await look_up(host)
        assert (list(found.addresses), found.ttl) == (["127.0.0.1"], 7)
    finally:
        await look_up.close()
        transport.close()
        await asyncio.sleep(0)  # the loop closes it


async def test_names_of_the_hosts_file_are_found() -> None:
    resolver = Resolver()
    assert "127.0.0.1" in await resolver.addresses("localhost", "acme")
    await resolver.close()
