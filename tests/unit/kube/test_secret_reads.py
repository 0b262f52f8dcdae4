"""One state of a Secret is read once for all that need it at about the same time, and not kept for long."""

from __future__ import annotations

import asyncio
import base64

import pytest

from eventsink.kube.api import SECRETS, ApiError, Key, Object, Resource, Unavailable
from eventsink.kube.local import LocalApi
from eventsink.kube.secret_reads import KEPT_BYTES, KEPT_SECRETS, SecretReads

KEY = ("n", "a")


class CountingApi(LocalApi):
    """Counts what is read; each read takes a while."""

    def __init__(self) -> None:
        super().__init__((SECRETS,))
        self.reads: list[Key] = []
        self.error: ApiError | None = None

    async def get(self, resource: Resource, key: Key) -> Object:
        self.reads.append(key)
        await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        return await super().get(resource, key)

    def write(self, value: bytes, key: Key = KEY) -> str:
        """Have a Secret with one value; returns its version."""
        data = {"k": base64.b64encode(value).decode()}
        stored = self.put(SECRETS, {"metadata": {"namespace": key[0], "name": key[1]}, "data": data})
        return str(stored["metadata"]["resourceVersion"])


async def test_many_that_need_the_same_state_cause_one_read() -> None:
    api = CountingApi()
    reads, version = SecretReads(api), api.write(b"x")
    found = [await asyncio.gather(*(reads.read(KEY, version) for _ in range(50))) for _ in range(2)]
    assert found == [[({"k": b"x"}, version)] * 50] * 2
    assert api.reads == [KEY]


async def test_another_state_is_read_again() -> None:
    api = CountingApi()
    reads, first = SecretReads(api), api.write(b"x")
    early = asyncio.ensure_future(reads.read(KEY, first))
    await asyncio.sleep(0)
    second = api.write(b"y")
    assert await reads.read(KEY, second) == ({"k": b"y"}, second)
    await early
    assert await reads.read(KEY, second) == ({"k": b"y"}, second)
    assert len(api.reads) <= 2


async def test_values_are_not_kept_for_long_and_not_many_of_them() -> None:
    api = CountingApi()
    reads, version = SecretReads(api, kept_seconds=0.02), api.write(b"x")
    await reads.read(KEY, version)
    await asyncio.sleep(0.2)
    await reads.read(KEY, version)
    assert len(api.reads) == 2

    reads = SecretReads(api)
    versions = {("n", f"s{number}"): api.write(b"x", ("n", f"s{number}")) for number in range(KEPT_SECRETS + 1)}
    for key, one in versions.items():
        await reads.read(key, one)
    large = api.write(b"x" * (KEPT_BYTES + 1))
    await reads.read(KEY, large)
    api.reads.clear()
    for key in (("n", "s0"), ("n", f"s{KEPT_SECRETS}"), KEY):
        await reads.read(key, {**versions, KEY: large}[key])
    assert api.reads == [("n", "s0"), KEY], "the oldest, and what is too large, was not kept"


async def test_a_secret_that_is_missing_or_cannot_be_read_is_asked_for_again() -> None:
    api = CountingApi()
    reads = SecretReads(api)
    assert await reads.read(KEY, "1") is None
    api.error = Unavailable(0, "Unavailable", "no response")
    for result in await asyncio.gather(*(reads.read(KEY, "1") for _ in range(3)), return_exceptions=True):
        assert isinstance(result, Unavailable)
    api.error = None
    version = api.write(b"x")
    assert await reads.read(KEY, version) == ({"k": b"x"}, version)


async def test_who_stops_waiting_disturbs_nobody_else() -> None:
    api = CountingApi()
    reads, version = SecretReads(api), api.write(b"x")
    first, second = (asyncio.ensure_future(reads.read(KEY, version)) for _ in "ab")
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == ({"k": b"x"}, version)
    assert api.reads == [KEY]
