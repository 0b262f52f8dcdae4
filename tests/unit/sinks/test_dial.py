"""A name is resolved, each of its addresses judged, and only an allowed address is dialled."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from eventsink.sinks import dial
from eventsink.sinks.dial import Dialler
from eventsink.sinks.egress import EgressGuard, EgressSettings
from eventsink.sinks.http1 import Connection
from eventsink.sinks.transport import Endpoint, TransportError, TransportErrorKind
from tests.support.clock import ManualClock
from tests.unit.sinks.transport_contract import OK, ScriptedServer, serving

NAME = "hooks.example.com"
DNS_TTL = 5.0
DEADLINE_SECONDS = 30.0


class ScriptedResolver:
    """A resolver with the addresses that a test sets, which counts its lookups."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.asked = 0
        self.release = threading.Event()
        self.release.set()

    def __call__(self, _: str) -> list[str]:
        self.asked += 1
        assert self.release.wait(DEADLINE_SECONDS)
        if not self.addresses:
            raise OSError("no such name")
        return self.addresses


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> ScriptedResolver:
    found = ScriptedResolver()
    monkeypatch.setattr(dial, "_look_up", found)
    return found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def dialler(clock: Callable[[], float]) -> AsyncIterator[Dialler]:
    guard = EgressGuard(EgressSettings(allow=("127.0.0.0/8",)))
    opened = Dialler(guard, connect_timeout=10.0, dns_ttl=DNS_TTL, clock=clock)
    yield opened
    opened.close()


async def connect(dialler: Dialler, port: int, host: str = NAME) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        connection = await dialler.dial(Endpoint.parse(f"http://{host}:{port}/"), None, Connection)
    assert connection.usable
    connection.abort()


async def reached(server: ScriptedServer, times: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while server.connections < times:
            await asyncio.sleep(0.01)


async def test_of_several_addresses_those_that_egress_denies_are_skipped(dialler: Dialler, names: ScriptedResolver) -> None:
    names.addresses = ["169.254.169.254", "10.0.0.1", "::1", "127.0.0.1"]
    async with serving(OK) as server:
        await connect(dialler, server.port)
        await reached(server, 1)


async def test_a_name_with_denied_addresses_only_is_not_dialled_and_the_setting_is_named(
    dialler: Dialler, names: ScriptedResolver
) -> None:
    names.addresses = ["169.254.169.254", "10.0.0.1"]
    with pytest.raises(TransportError, match=r"10\.0\.0\.1 is not public \(private\)") as error:
        await connect(dialler, 9)
    assert error.value.kind is TransportErrorKind.EGRESS


async def test_after_an_address_without_a_listener_the_next_is_tried(dialler: Dialler, names: ScriptedResolver) -> None:
    names.addresses = ["127.0.0.2", "127.0.0.1"]
    async with serving(OK) as server:
        await connect(dialler, server.port)
        await reached(server, 1)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1"])
async def test_other_notations_of_an_address_are_judged_as_that_address(host: str) -> None:
    dialler = Dialler(EgressGuard(EgressSettings()), connect_timeout=10.0, dns_ttl=DNS_TTL, clock=ManualClock())
    async with serving(OK) as server:
        with pytest.raises(TransportError, match=r"127\.0\.0\.1 is not public \(loopback\)"):
            await connect(dialler, server.port, host)
        assert server.connections == 0
    dialler.close()


async def test_a_name_is_cached_for_a_while_and_judged_again_when_it_changes(
    dialler: Dialler, names: ScriptedResolver, clock: ManualClock
) -> None:
    names.addresses = ["127.0.0.1"]
    async with serving(OK) as server:
        await connect(dialler, server.port)
        await connect(dialler, server.port)
        assert names.asked == 1
        clock.now += DNS_TTL + 1
        names.addresses = ["10.0.0.1"]
        with pytest.raises(TransportError, match="EgressRefused"):
            await connect(dialler, server.port)
        assert names.asked == 2


async def test_concurrent_lookups_of_a_name_are_one_lookup(dialler: Dialler, names: ScriptedResolver) -> None:
    names.addresses = ["127.0.0.1"]
    names.release.clear()
    async with serving(OK) as server:
        dials = [asyncio.ensure_future(connect(dialler, server.port)) for _ in range(20)]
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not names.asked:
                await asyncio.sleep(0.01)
        names.release.set()
        await asyncio.gather(*dials)
        assert names.asked == 1


async def test_a_lookup_that_fails_after_all_callers_are_gone_is_not_logged(
    dialler: Dialler, names: ScriptedResolver, caplog: pytest.LogCaptureFixture
) -> None:
    names.release.clear()
    waiting = asyncio.ensure_future(connect(dialler, 9))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not names.asked:
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        names.release.set()
        while dialler.looking_up:
            await asyncio.sleep(0.01)
    del waiting  # it holds the look-up, which complains only when it is collected
    gc.collect()
    assert not caplog.records


async def test_a_failed_lookup_is_reported_and_not_cached(dialler: Dialler, names: ScriptedResolver) -> None:
    with pytest.raises(TransportError, match="has no address"):
        await connect(dialler, 9)
    names.addresses = ["127.0.0.1"]
    async with serving(OK) as server:
        await connect(dialler, server.port)


async def test_a_lookup_under_way_at_close_fails(dialler: Dialler, names: ScriptedResolver) -> None:
    names.release.clear()
    hosts = [f"{number}.example.com" for number in range(dial.RESOLVER_THREADS + 1)]
    dials = [asyncio.ensure_future(connect(dialler, 9, host)) for host in hosts]
    async with asyncio.timeout(DEADLINE_SECONDS):
        while names.asked < dial.RESOLVER_THREADS:
            await asyncio.sleep(0.01)
    dialler.close()
    names.release.set()
    outcomes = await asyncio.gather(*dials, return_exceptions=True)
    assert {one.kind for one in outcomes if isinstance(one, TransportError)} == {TransportErrorKind.DNS, TransportErrorKind.RESET}
    assert all(isinstance(one, TransportError) for one in outcomes)
