"""Tokens are made where they are missing, and never changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from eventsink.controller.config import TokenSettings
from eventsink.controller.tokens import TokenGenerator, missing_keys
from eventsink.kube.api import SECRETS, Conflict, Object, Resource, Unavailable
from eventsink.kube.local import LocalApi
from eventsink.kube.secrets import encoded, secret_data

NAMESPACE = "eventsink-system"
KEY = (NAMESPACE, "tokens")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


class Generator:
    """A generator of the tokens a and b, named after the order in which they are made."""

    def __init__(self, api: LocalApi | None = None, interval: float = 0.01) -> None:
        self.api = api or LocalApi((SECRETS,))
        self.made = 0
        settings = TokenSettings(generate={"tokens": ("a", "b")})
        self.generator = TokenGenerator(settings, self.api, interval=interval, make=self._make)

    def _make(self) -> str:
        self.made += 1
        return f"token-{self.made}"

    async def values(self) -> Mapping[str, bytes]:
        return secret_data(await self.api.get(SECRETS, KEY))

    async def give(self, **values: str) -> None:
        metadata = {"name": "tokens", "namespace": NAMESPACE, "labels": {"team": "platform"}}
        await self.api.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded(values)})


@pytest.mark.parametrize(
    ("secret", "missing"),
    [
        (None, ["a", "b"]),
        ({}, ["a", "b"]),
        ({"data": None}, ["a", "b"]),
        ({"data": {"a": "eA==", "b": ""}}, ["b"]),
        ({"data": {"a": "eA==", "b": "eA=="}}, []),
    ],
)
def test_a_key_without_a_value_is_missing(secret: Object | None, missing: list[str]) -> None:
    assert missing_keys(secret, ["a", "b"]) == missing


async def test_an_absent_secret_is_made_and_stays_as_it_is() -> None:
    one = Generator()
    for _ in range(2):
        await one.generator.complete("tokens", ["a", "b"])
        assert await one.values() == {"a": b"token-1", "b": b"token-2"}


async def test_a_secret_of_somebody_else_is_completed_and_keeps_everything_else() -> None:
    one = Generator()
    await one.give(a="mine", other="too")
    await one.generator.complete("tokens", ["a", "b"])
    assert await one.values() == {"a": b"mine", "other": b"too", "b": b"token-1"}
    assert (await one.api.get(SECRETS, KEY))["metadata"]["labels"] == {"team": "platform"}


async def test_what_somebody_writes_at_the_same_time_is_not_lost() -> None:
    class Raced(LocalApi):
        async def get(self, resource: Resource, key: Any) -> Object:
            found = await super().get(resource, key)
            await self.replace(resource, {**found, "data": {**found["data"], **encoded({"b": "theirs"})}})
            return found

    api = Raced((SECRETS,))
    one = Generator(api)
    await one.give(a="mine")
    with pytest.raises(Conflict):
        await one.generator.complete("tokens", ["a", "b"])
    assert secret_data(await super(Raced, api).get(SECRETS, KEY)) == {"a": b"mine", "b": b"theirs"}


async def test_a_deleted_secret_is_made_again() -> None:
    one = Generator()
    running = asyncio.create_task(one.generator.run())
    try:
        await until(lambda: one.made == 2)
        await one.api.delete(SECRETS, KEY)
        await until(lambda: one.made == 4)
        assert await one.values() == {"a": b"token-3", "b": b"token-4"}
    finally:
        running.cancel()


async def test_an_outage_is_waited_for() -> None:
    class Down(LocalApi):
        failures = 2

        async def create(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
            if self.failures:
                self.failures -= 1
                raise Unavailable(0, "Unavailable", "no response")
            return await super().create(resource, obj, manager=manager)

    api = Down((SECRETS,))
    one = Generator(api)
    running = asyncio.create_task(one.generator.run())
    try:
        await until(lambda: api.failures == 0 and one.made >= 6)
        assert set(await one.values()) == {"a", "b"}
    finally:
        running.cancel()


def test_tokens_are_long_and_differ() -> None:
    settings = TokenSettings(generate={"tokens": ("a", "b")})
    api = LocalApi((SECRETS,))
    asyncio.run(TokenGenerator(settings, api, interval=1).complete("tokens", ["a", "b"]))
    values = list(secret_data(asyncio.run(api.get(SECRETS, KEY))).values())
    assert len(set(values)) == 2
    assert min(map(len, values)) >= 32
