"""The reflector reports every change once, including those made while it was disconnected, and never floods the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eventsink.kube import reflector as module
from eventsink.kube.api import (
    PAGE,
    SECRETS,
    Collection,
    Forbidden,
    Gone,
    Key,
    NotFound,
    Object,
    ObjectList,
    Unavailable,
    WatchEvent,
)
from eventsink.kube.reflector import Reflector
from eventsink.runtime.backoff import Backoff

DEADLINE_SECONDS = 30.0


def obj(name: str, version: int) -> Object:
    return {"metadata": {"name": name, "namespace": "n", "resourceVersion": str(version)}}


def event(kind: Any, name: str, version: int) -> WatchEvent:
    return WatchEvent(kind, obj(name, version))


class ScriptedApi:
    """Responds to lists and watches from scripts; when they are used up, a watch stays open."""

    def __init__(self) -> None:
        self.lists: list[Any] = []
        self.watches: list[Any] = []
        self.newest = 1_000
        """What a list of one object says, which asks for nothing but this."""
        self.asked: list[tuple[str, str]] = []
        """`list` and the token of the page, `watch` and the version that it starts from."""

    async def list(self, collection: Collection, *, limit: int = PAGE, continue_token: str = "") -> ObjectList:
        if limit == 1:
            return ObjectList([], str(self.newest), "")
        self.asked.append(("list", continue_token))
        response = self.lists.pop(0)
        if isinstance(response, Exception):
            raise response
        result: ObjectList = response
        return result

    @asynccontextmanager
    async def watch(
        self, collection: Collection, *, resource_version: str, seconds: int
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        self.asked.append(("watch", resource_version))
        script = self.watches.pop(0) if self.watches else []
        if isinstance(script, Exception):
            raise script

        async def events() -> AsyncIterator[WatchEvent]:
            for one in script:
                if isinstance(one, Exception):
                    raise one
                yield one
            await asyncio.Event().wait()

        yield events()


class EventRecorder:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def upsert(self, key: Key, obj: Object) -> None:
        self.seen.append((f"{key[1]}@{obj['metadata']['resourceVersion']}", "upsert"))

    def delete(self, key: Key) -> None:
        self.seen.append((key[1], "delete"))


def page(*objects: Object, version: int = 10, more: str = "") -> ObjectList:
    return ObjectList(list(objects), str(version), more)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> ScriptedApi:
    monkeypatch.setattr(module, "BACKOFF", Backoff(first=0.001, longest=0.01))
    return ScriptedApi()


async def follow(api: ScriptedApi, expected: int, **more: Any) -> tuple[EventRecorder, Reflector]:
    """Follow until so many requests were made and all was read of the last."""
    recorder = EventRecorder()
    reflector = Reflector(api, "things", Collection(SECRETS), recorder, **more)  # type: ignore[arg-type]
    task = asyncio.ensure_future(reflector.run())
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(api.asked) < expected:
            await asyncio.sleep(0.001)
        for _ in range(20):
            await asyncio.sleep(0)
    task.cancel()
    return recorder, reflector


async def test_a_list_is_read_in_pages_and_the_watch_continues_from_it(api: ScriptedApi) -> None:
    api.lists = [page(obj("a", 1), more="next"), page(obj("b", 2), version=10)]
    api.watches = [[event("MODIFIED", "a", 11), event("DELETED", "b", 12), event("ADDED", "c", 13)]]
    recorder, reflector = await follow(api, 3)
    assert recorder.seen == [("a@1", "upsert"), ("b@2", "upsert"), ("a@11", "upsert"), ("b", "delete"), ("c@13", "upsert")]
    assert reflector.synced.is_set()
    assert api.asked[1:] == [("list", "next"), ("watch", "10")]


async def test_an_empty_list_is_synced(api: ScriptedApi) -> None:
    api.lists = [page()]
    recorder, reflector = await follow(api, 2)
    assert (recorder.seen, reflector.synced.is_set()) == ([], True)


async def test_a_bookmark_moves_the_resource_version_and_reports_nothing(api: ScriptedApi) -> None:
    api.lists = [page(obj("a", 1))]
    api.watches = [[event("BOOKMARK", "", 50), Unavailable(0, "Unavailable", "cut")]]
    recorder, _ = await follow(api, 3)
    assert recorder.seen == [("a@1", "upsert")]
    assert api.asked[2] == ("watch", "50")


@pytest.mark.parametrize(
    "expiry",
    [
        Gone(410, "Expired", "too old"),
        [Gone(410, "Expired", "too old")],
    ],
)
async def test_after_an_expired_resource_version_only_changes_are_reported(api: ScriptedApi, expiry: Any) -> None:
    api.lists = [page(obj("same", 1), obj("changed", 2), obj("gone", 3)), page(obj("same", 1), obj("changed", 7), obj("new", 8))]
    api.watches = [expiry]
    recorder, _ = await follow(api, 4)
    assert recorder.seen[3:] == [("changed@7", "upsert"), ("new@8", "upsert"), ("gone", "delete")]


async def test_a_version_that_is_too_old_at_once_is_not_listed_again_without_a_pause(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 4:
            raise asyncio.CancelledError

    too_old = Gone(410, "Expired", "too old")
    api.lists = [page(obj("a", 1)), page(obj("a", 1)), too_old, page(obj("a", 1)), *[too_old] * 5]
    api.watches = [too_old, [too_old], too_old]
    monkeypatch.setattr(module, "BACKOFF", Backoff(first=0.5, longest=30.0, jitter=0.5))
    monkeypatch.setattr(asyncio, "sleep", sleep)
    reflector = Reflector(api, "things", Collection(SECRETS), EventRecorder(), chance=lambda: 1.0)  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await reflector.run()
    assert waits == [0.5, 1, 2, 4]


async def test_an_api_server_that_was_restored_from_an_older_state_is_listed_again(api: ScriptedApi) -> None:
    api.lists = [page(obj("same", 1), obj("changed", 7), obj("new", 9)), page(obj("same", 1), obj("changed", 7), version=8)]
    api.watches = [[event("BOOKMARK", "", 50), Unavailable(0, "Unavailable", "cut")]]
    api.newest = 8
    recorder, _ = await follow(api, 4)
    # The same version may be that of another state by now.
    assert recorder.seen[3:] == [("same@1", "upsert"), ("changed@7", "upsert"), ("new", "delete")]
    assert api.asked == [("list", ""), ("watch", "10"), ("list", ""), ("watch", "8")]


async def test_after_an_outage_nothing_is_reported_twice(api: ScriptedApi) -> None:
    api.lists = [Unavailable(0, "Unavailable", "unavailable"), Unavailable(503, "x", "unavailable"), page(obj("a", 1))]
    api.watches = [Unavailable(0, "Unavailable", "unavailable"), []]
    recorder, reflector = await follow(api, 5)
    assert recorder.seen == [("a@1", "upsert")]
    assert reflector.connected


async def test_a_forbidden_watch_lists_again(api: ScriptedApi) -> None:
    api.lists = [page(obj("a", 1)), page(obj("a", 1))]
    api.watches = [Forbidden(403, "Forbidden", "no right")]
    recorder, _ = await follow(api, 4)
    assert [kind for kind, _ in api.asked] == ["list", "watch", "list", "watch"]
    assert recorder.seen == [("a@1", "upsert")]


async def test_a_denied_list_is_known_until_the_next_one_succeeds(api: ScriptedApi) -> None:
    api.lists = [Forbidden(403, "Forbidden", "no right")]
    reflector = Reflector(api, "things", Collection(SECRETS), EventRecorder())  # type: ignore[arg-type]
    task = asyncio.ensure_future(reflector.run())
    async with asyncio.timeout(DEADLINE_SECONDS):
        await reflector.tried.wait()
        assert (reflector.denied, reflector.synced.is_set()) == (True, False)
        api.lists = [page(obj("a", 1))]
        await reflector.synced.wait()
    assert not reflector.denied
    task.cancel()


async def test_retry_waits_grow_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 10:
            raise asyncio.CancelledError

    api = ScriptedApi()
    api.lists = [Unavailable(0, "Unavailable", "unavailable")] * 10
    reflector = Reflector(api, "things", Collection(SECRETS), EventRecorder(), chance=lambda: 1.0)  # type: ignore[arg-type]
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await reflector.run()
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]


async def test_a_kind_that_may_be_absent_has_no_objects_until_the_api_server_has_it(
    api: ScriptedApi, capfd: pytest.CaptureFixture[str]
) -> None:
    absent = NotFound(404, "NotFound", "the server could not find the requested resource")
    api.lists = [absent, absent, page(obj("a", 1)), absent, page(obj("b", 5))]
    api.watches = [[NotFound(404, "NotFound", "gone")], [event("ADDED", "c", 6)]]
    recorder, reflector = await follow(api, 7, absent_seconds=0.001)
    assert recorder.seen == [("a@1", "upsert"), ("a", "delete"), ("b@5", "upsert"), ("c@6", "upsert")]
    assert (reflector.synced.is_set(), reflector.connected, reflector.denied) == (True, True, False)
    assert "watch failed" not in capfd.readouterr().err
