"""Tokens of ServiceAccounts: whose they are and what they may do is the API server's word."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from eventsink.kube.api import Api, Object, Resource, Unavailable
from eventsink.rest.access.callers import MAX_REVIEWS_UNDER_WAY, Doorkeeper, KubernetesReviews
from eventsink.rest.config import FailureSettings, KubernetesTokenSettings
from eventsink.rest.errors import Away, TooMany, Unauthenticated

USER = {"username": "system:serviceaccount:ci:bot", "uid": "u-1", "groups": ["system:authenticated"], "extra": {"pod": ["p"]}}
KNOWN = {"authenticated": True, "user": USER, "audiences": ["eventsink-rest"]}


class ApiServer:
    """Responds to reviews."""

    def __init__(self, token_status: Mapping[str, Any] | None = None, allowed: bool = True) -> None:
        self.token_status = token_status
        self.allowed = allowed
        self.asked: list[Object] = []

    async def create(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        assert (resource.plural, resource.kind) == (f"{obj['kind'].lower()}s", obj["kind"])
        self.asked.append(obj)
        if self.token_status is None:
            raise Unavailable(0, "Unavailable", "no answer")
        return {"status": self.token_status if obj["kind"] == "TokenReview" else {"allowed": self.allowed}}


def reviews(server: ApiServer, **settings: Any) -> KubernetesReviews:
    return KubernetesReviews(cast(Api, server), KubernetesTokenSettings(enabled=True, **settings))


@pytest.mark.parametrize(
    ("status", "known"),
    [
        (KNOWN, True),
        ({**KNOWN, "audiences": ["another", "eventsink-rest"]}, True),
        ({**KNOWN, "authenticated": False}, False),
        ({**KNOWN, "audiences": ["https://kubernetes.default.svc"]}, False),
        ({"authenticated": True, "user": USER}, False),
        ({"error": "expired"}, False),
        ({}, False),
    ],
    ids=["known", "several", "not authenticated", "another audience", "no audience", "error", "empty"],
)
async def test_a_token_counts_if_it_is_authentic_and_meant_for_the_facade(status: dict[str, Any], known: bool) -> None:
    server = ApiServer(status)
    caller = await reviews(server).caller("canary-token")
    assert (caller is not None) is known
    assert server.asked[0]["spec"] == {"token": "canary-token", "audiences": ["eventsink-rest"]}
    assert "canary-token" not in repr(caller)


@pytest.mark.parametrize("allowed", [True, False])
async def test_what_it_may_do_is_asked_with_all_that_is_known_of_the_user(allowed: bool) -> None:
    server = ApiServer(KNOWN, allowed)
    caller = await reviews(server).caller("t")
    assert caller is not None
    assert caller.may_touch("any tenant")
    assert await caller.may("update", "acme", "alerts") is allowed
    assert server.asked[1]["spec"] == {
        "user": USER["username"],
        "uid": "u-1",
        "groups": USER["groups"],
        "extra": USER["extra"],
        "resourceAttributes": {
            "verb": "update",
            "namespace": "acme",
            "name": "alerts",
            "group": "eventsink.dev",
            "resource": "eventsinks",
        },
    }


async def test_a_verdict_counts_for_a_while_and_not_for_another_question() -> None:
    server, now = ApiServer(KNOWN), [0.0]
    asked = KubernetesReviews(cast(Api, server), KubernetesTokenSettings(enabled=True, cache=10.0), clock=lambda: now[0])
    caller = await asked.caller("t")
    assert caller is not None
    for _ in range(3):
        await asked.caller("t")
        await caller.may("get", "acme")
    assert len(server.asked) == 2
    await caller.may("get", "globex")
    await caller.may("delete", "acme")
    await asked.caller("another")
    assert len(server.asked) == 5
    now[0] = 10.0
    await asked.caller("t")
    assert len(server.asked) == 6


async def test_tokens_of_callers_that_nobody_knows_are_looked_at_a_few_at_a_time() -> None:
    server = ApiServer({})
    waiting, going_on = 0, asyncio.Event()
    real = server.create

    async def slow(resource: Resource, obj: Object, *, manager: str = "") -> Object:
        nonlocal waiting
        waiting += 1
        await going_on.wait()
        return await real(resource, obj)

    server.create = slow  # type: ignore[method-assign]
    keeper = Doorkeeper(FailureSettings(), dict, reviews(server))

    async def knock(number: int, address: str) -> str:
        try:
            await keeper.let_in(f"Bearer token-{number}", address)
        except (Unauthenticated, TooMany) as refused:
            return type(refused).__name__
        return "in"

    knocking = [asyncio.ensure_future(knock(n, f"203.0.113.{n % 10}")) for n in range(1000)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < waiting <= MAX_REVIEWS_UNDER_WAY
    one = [asyncio.ensure_future(knock(n, "198.51.100.1")) for n in range(3)]
    going_on.set()
    assert set(await asyncio.gather(*knocking, *one)) == {"Unauthenticated", "TooMany"}
    assert await knock(0, "198.51.100.2") == "Unauthenticated", "there is room again"


async def test_without_the_api_server_nobody_can_be_told_apart() -> None:
    with pytest.raises(Away):
        await reviews(ApiServer(None)).caller("t")
