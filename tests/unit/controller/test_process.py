"""The operator's start, over an API server that responds as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from eventsink.controller import process as service
from eventsink.controller.process import check_crd
from eventsink.kube.api import Api, ApiError, Forbidden, NotFound, Unavailable
from eventsink.runtime.process import ExitStatus, Stop

FORBIDDEN = Forbidden(403, "Forbidden", "eventsinks.eventsink.dev is forbidden")
UNAVAILABLE = Unavailable(0, "Unavailable", "https://127.0.0.1:6443 did not respond")
ABSENT = NotFound(404, "NotFound", "the server could not find the requested resource")
PATIENCE = {FORBIDDEN: "FORBIDDEN_FOR_SECONDS", UNAVAILABLE: "START_ATTEMPTS_SECONDS"}


class FailingApi:
    """An API server that fails some times, and then responds."""

    def __init__(self, error: ApiError, times: int) -> None:
        self.left = times
        self.error = error

    async def list(self, *_: Any, **__: Any) -> dict[str, Any]:
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return {}


async def check(error: ApiError, times: int) -> None:
    async with asyncio.timeout(30):
        await check_crd(cast(Api, FailingApi(error, times)), asyncio.Event())


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    sleep = asyncio.sleep
    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "sleep", lambda _: sleep(0.001))
        yield


@pytest.mark.parametrize("error", [FORBIDDEN, UNAVAILABLE], ids=["forbidden", "unavailable"])
async def test_the_start_is_retried_while_the_api_server_is_not_ready(error: ApiError) -> None:
    await check(error, 3)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (FORBIDDEN, "the operator lacks a right: eventsinks.eventsink.dev is forbidden; apply its roles"),
        (UNAVAILABLE, "https://127.0.0.1:6443 did not respond"),
    ],
    ids=["forbidden", "unavailable"],
)
async def test_the_start_gives_up_with_an_explanation(error: ApiError, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, PATIENCE[error], 0.02)
    with pytest.raises(Stop, match=sentence) as raised:
        await check(error, 10**9)
    assert raised.value.status is ExitStatus.FAILED


async def test_an_absent_crd_stops_the_start_at_once() -> None:
    with pytest.raises(Stop, match="apply the CRD first") as raised:
        await check(ABSENT, 1)
    assert raised.value.status is ExitStatus.CRD_ABSENT


async def test_with_listed_namespaces_a_denied_one_does_not_stop_the_start_and_an_absent_crd_does() -> None:
    async with asyncio.timeout(30):
        await check_crd(cast(Api, FailingApi(FORBIDDEN, 2)), asyncio.Event(), ["absent", "too"])
        await check_crd(cast(Api, FailingApi(FORBIDDEN, 1)), asyncio.Event(), ["absent", "acme"])
        with pytest.raises(Stop) as raised:
            await check_crd(cast(Api, FailingApi(ABSENT, 1)), asyncio.Event(), ["acme"])
    assert raised.value.status is ExitStatus.CRD_ABSENT
