"""Tokens of ServiceAccounts: the API server authenticates and authorizes them."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from eventsink.kube.api import Api, ApiError, Forbidden, Object, Resource, Unavailable
from eventsink.rest.access.authenticator import MAX_REVIEWS_UNDER_WAY, Authenticator
from eventsink.rest.access.reviews import KubernetesReviews
from eventsink.rest.config import FailureSettings, KubernetesTokenSettings
from eventsink.rest.errors import ServiceUnavailable, TooManyRequests, Unauthorized

USER = {"username": "system:serviceaccount:ci:bot", "uid": "u-1", "groups": ["system:authenticated"], "extra": {"pod": ["p"]}}
KNOWN = {"authenticated": True, "user": USER, "audiences": ["eventsink-rest"]}


class ApiServer:
    """Responds to reviews."""

    def __init__(self, token_status: Any = None, allowed: bool = True) -> None:
        self.token_status = token_status
        self.access_status: Any = {"allowed": allowed}
        self.asked: list[Object] = []
        self.error: ApiError = Unavailable(0, "Unavailable", "no response")

    async def create(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        assert (resource.plural, resource.kind) == (f"{obj['kind'].lower()}s", obj["kind"])
        self.asked.append(obj)
        if self.token_status is None:
            raise self.error
        return {"status": self.token_status if obj["kind"] == "TokenReview" else self.access_status}


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
async def test_a_token_is_accepted_if_it_is_authentic_and_has_the_audience(status: dict[str, Any], known: bool) -> None:
    server = ApiServer(status)
    caller = await reviews(server).caller("canary-token")
    assert (caller is not None) is known
    assert server.asked[0]["spec"] == {"token": "canary-token", "audiences": ["eventsink-rest"]}
    assert "canary-token" not in repr(caller)


@pytest.mark.parametrize("allowed", [True, False])
async def test_an_access_review_carries_the_whole_user(allowed: bool) -> None:
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


async def test_a_result_is_cached_for_its_question_only_and_expires() -> None:
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


async def test_reviews_of_unknown_tokens_are_bounded_per_address_and_in_total() -> None:
    server = ApiServer({})
    waiting, going_on = 0, asyncio.Event()
    real = server.create

    async def slow(resource: Resource, obj: Object, *, manager: str = "") -> Object:
        nonlocal waiting
        waiting += 1
        await going_on.wait()
        return await real(resource, obj)

    server.create = slow  # type: ignore[method-assign]
    authenticator = Authenticator(FailureSettings(), dict, reviews(server))

    async def attempt(number: int, address: str) -> str:
        try:
            await authenticator.authenticate(f"Bearer token-{number}", address)
        except (Unauthorized, TooManyRequests) as error:
            return type(error).__name__
        return "in"

    attempts = [asyncio.ensure_future(attempt(n, f"203.0.113.{n % 10}")) for n in range(1000)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < waiting <= MAX_REVIEWS_UNDER_WAY
    one = [asyncio.ensure_future(attempt(n, "198.51.100.1")) for n in range(3)]
    going_on.set()
    assert set(await asyncio.gather(*attempts, *one)) == {"Unauthorized", "TooManyRequests"}
    assert await attempt(0, "198.51.100.2") == "Unauthorized", "there is room again"


async def test_without_the_api_server_no_token_can_be_checked() -> None:
    with pytest.raises(ServiceUnavailable):
        await reviews(ApiServer(None)).caller("t")


@pytest.mark.parametrize(
    "status",
    [
        "text",
        [1],
        True,
        {**KNOWN, "audiences": "eventsink-rest"},
        {**KNOWN, "audiences": [{}, "eventsink-rest"]},
        {**KNOWN, "audiences": 1},
        {**KNOWN, "authenticated": "true"},
        {**KNOWN, "user": None},
        {**KNOWN, "user": "bot"},
        {**KNOWN, "user": {}},
        {**KNOWN, "user": {"username": 1}},
        {**KNOWN, "user": {"username": "bot", "groups": [[]]}},
        {**KNOWN, "user": {"username": "bot", "extra": []}},
    ],
    ids=str,
)
async def test_a_review_of_a_token_that_cannot_be_read_is_none_of_the_api_server(status: object) -> None:
    server = ApiServer(status)
    checked = reviews(server)
    with pytest.raises(ServiceUnavailable):
        await checked.caller("t")
    server.token_status = KNOWN
    assert await checked.caller("t") is not None, "it was kept for nobody"


@pytest.mark.parametrize("status", ["text", [1], True, {"allowed": "true"}, {"allowed": {}}], ids=str)
async def test_an_access_review_that_cannot_be_read_is_none_of_the_api_server(status: object) -> None:
    server = ApiServer(KNOWN)
    caller = await reviews(server).caller("t")
    assert caller is not None
    server.access_status = status
    with pytest.raises(ServiceUnavailable):
        await caller.may("get", "acme")


async def test_a_missing_permission_to_review_is_logged_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    server = ApiServer(None)
    server.error = Forbidden(403, "Forbidden", 'tokenreviews is forbidden: User "eventsink-rest" cannot create it')
    checked = reviews(server)
    for token in ("canary-one", "canary-two"):
        with pytest.raises(ServiceUnavailable):
            await checked.caller(token)
    logged = capsys.readouterr().out
    assert logged.count("missing permission") == 1
    assert "tokenreviews is forbidden" in logged
    assert "canary" not in logged
