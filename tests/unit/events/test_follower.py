"""Every Event is read once, in order, through ends of watches, 410, outages and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eventsink.events import follower as module
from eventsink.events.config import FilterSettings, RateSettings
from eventsink.events.filters import Filter
from eventsink.events.follower import Follower
from eventsink.events.metrics import EventsMetrics
from eventsink.events.rate import RateLimit
from eventsink.events.window import Window
from eventsink.kube.api import Collection, Forbidden, Gone, Object, ObjectList, Unavailable, WatchEvent
from eventsink.runtime.backoff import Backoff
from tests.unit.events.events_made import event

DEADLINE_SECONDS = 30.0
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
GONE = Gone(410, "Expired", "too old")
DOWN = Unavailable(0, "Unavailable", "no response")


class ScriptedApi:
    """Responds to lists and watches from scripts; when they are used up, a watch stays open."""

    def __init__(self, newest: int) -> None:
        self.newest = newest
        self.lists: list[Any] = []
        self.watches: list[Any] = []
        self.asked: list[str] = []

    async def list(self, collection: Collection, *, limit: int, continue_token: str = "") -> ObjectList:
        if limit == 1:
            return ObjectList([], str(self.newest), "")
        self.asked.append(f"list {continue_token}".strip())
        response = self.lists.pop(0)
        if isinstance(response, Exception):
            raise response
        result: ObjectList = response
        return result

    @asynccontextmanager
    async def watch(
        self, collection: Collection, *, resource_version: str, seconds: int
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        self.asked.append(f"watch {resource_version}")
        nothing: list[Any] = []
        script = self.watches.pop(0) if self.watches else nothing
        if isinstance(script, Exception):
            raise script

        async def events() -> AsyncIterator[WatchEvent]:
            for one in script:
                if isinstance(one, Exception):
                    raise one
                yield one
            if script is nothing:
                await asyncio.Event().wait()

        yield events()


class Following:
    """A follower over a scripted API, and what it has read."""

    def __init__(self, api: ScriptedApi, version: str = "", **settings: Any) -> None:
        self.api = api
        self.window = Window()
        self.metrics = EventsMetrics(CollectorRegistry())
        self.paused: list[float] = []
        """Seconds, each time the follower has waited for the owner of a namespace."""
        self.follower = Follower(
            api,  # type: ignore[arg-type]
            "",
            version,
            self.window,
            Filter(FilterSettings.model_validate(settings)),
            RateLimit(RateSettings(burst=2)),
            self.metrics,
            first_start_age=300.0,
            wall_clock=lambda: NOON,
            pause=self.pause,
        )

    async def pause(self, seconds: float) -> None:
        self.paused.append(seconds)

    async def read(self, until: Callable[[], bool]) -> list[str]:
        """What was read when `until` holds: `name` of an Event, and `@version` where everything up to there was read."""
        found: list[str] = []
        task = asyncio.create_task(self.follower.run())
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not until():
                    await asyncio.sleep(0.001)
        finally:
            task.cancel()
            await asyncio.wait([task])
        while len(self.window):
            for one in await self.window.take(100, 2**20):
                name = one.event["metadata"]["name"] if one.event is not None else ""
                found.append(name + (f"@{one.version}" if one.version else ""))
        return found

    async def read_until_asked(self, *last: str) -> list[str]:
        return await self.read(lambda: self.api.asked[-len(last) :] == list(last))


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF", Backoff(first=0.001, longest=0.001))
    monkeypatch.setattr(module, "SHORT_WATCH_SECONDS", 0.0)


def page(*events: Object, version: int, more: str = "") -> ObjectList:
    return ObjectList(list(events), str(version), more)


def added(name: str, version: int, **members: Any) -> WatchEvent:
    return WatchEvent("ADDED", event(name, version=version, about=name, **members))


async def test_at_the_first_start_what_happened_long_ago_is_not_sent_and_what_comes_is() -> None:
    api = ScriptedApi(newest=100)
    api.lists = 2 * [
        page(event("old", version=3, about="a", at="2026-01-01T11:54:00Z"), event("new", version=7, about="b"), version=9, more="x"),
        page(event("grown", version=5, about="c", at="2026-01-01T10:00:00Z", series={"lastObservedTime": "2026-01-01T11:59:00Z"}), version=9),
    ]  # fmt: skip
    api.watches = [[added("e11", 11), WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "15"}})]]
    following = Following(api)
    # First from where a restart would go on before anything was sent, however much later.
    assert await following.read_until_asked("watch 15") == ["@4", "new", "grown@9", "e11@15"]
    assert api.asked == ["list", "list x", "list", "list x", "watch 9", "watch 15"]


async def test_at_a_first_start_with_nothing_new_a_restart_goes_on_after_the_list() -> None:
    api = ScriptedApi(newest=100)
    api.lists = 2 * [page(event("old", version=3, at="2026-01-01T11:54:00Z"), version=9)]
    assert await Following(api).read_until_asked("watch 9") == ["@9"]


async def test_a_restart_goes_on_after_the_checkpoint_without_a_list() -> None:
    api = ScriptedApi(newest=20)
    api.watches = [[added("e12", 12)]]
    assert await Following(api, "10").read_until_asked("watch 12") == ["e12@12"]
    assert api.asked == ["watch 10", "watch 12"]


@pytest.mark.parametrize("where", ["at once", "in the middle"])
async def test_where_a_watch_is_too_old_what_is_newer_than_what_was_read_is_in_the_list(where: str) -> None:
    api = ScriptedApi(newest=40)
    api.watches = [GONE if where == "at once" else [added("e12", 12), GONE]]
    # Long ago by its own times: what was not read yet is sent all the same.
    api.lists = [
        page(event("e9", version=9), event("e12", version=12), event("e31", version=31, at="2026-01-01T01:00:00Z"), version=39)
    ]
    following = Following(api, "12" if where == "at once" else "10")
    assert await following.read_until_asked("list", "watch 39") == (["e31@39"] if where == "at once" else ["e12@12", "e31@39"])


async def test_a_list_that_becomes_too_old_is_begun_again_from_the_same_place() -> None:
    api = ScriptedApi(newest=40)
    api.watches = [GONE]
    api.lists = [page(event("e31", version=31), version=39, more="x"), GONE, page(event("e31", version=31), version=41)]
    assert await Following(api, "12").read_until_asked("watch 41") == ["e31@41"]


@pytest.mark.parametrize("failure", [GONE, DOWN])
async def test_what_a_list_has_read_before_it_failed_counts_once_for_the_rate(failure: Exception) -> None:
    api = ScriptedApi(newest=50)
    api.watches = [GONE, [WatchEvent("MODIFIED", event(version=42))]]
    begun = [page(event(version=31), version=39, more="x"), failure]
    api.lists = [*begun, *begun, *begun, page(event(version=31), event("other", version=38, about="b"), version=41)]
    following = Following(api, "12")
    assert await following.read_until_asked("watch 42") == ["e1", "other@41", "e1@42"]
    counted = {name: getattr(following.metrics, name).collect()[0].samples[0].value for name in ("read", "suppressed")}
    assert counted == {"read": 3, "suppressed": 0}


async def test_the_first_event_of_a_namespace_is_not_sent_before_the_router_can_know_the_owner() -> None:
    api = ScriptedApi(newest=30)
    in_shop = [
        added(name, version, at=f"2026-01-01T11:59:{second}Z") for name, version, second in (("e11", 11, 58), ("e12", 12, 59))
    ]
    others = [
        added(namespace, version, namespace=namespace, at=at)
        for namespace, version, at in (
            ("old", 13, "2026-01-01T11:59:50Z"), ("new", 14, "2026-01-01T12:00:00Z"),
            ("later", 15, "2026-01-01T12:01:00Z"), ("unknown", 16, ""),
        )
    ]  # fmt: skip
    filtered = added("normal", 17, namespace="quiet", type="Normal")
    api.watches = [[*in_shop, *others, filtered]]
    following = Following(api, "10")
    assert await following.read_until_asked("watch 17") == ["e11@11", "e12@12", "old@13", "new@14", "later@15", "unknown@17"]
    assert following.paused == [1.0, 3.0]


async def test_an_outage_is_waited_for_and_the_watch_goes_on_where_it_was() -> None:
    api = ScriptedApi(newest=20)
    api.watches = [[added("e12", 12), DOWN], DOWN, [added("e13", 13)]]
    following = Following(api, "10")
    assert await following.read_until_asked("watch 12", "watch 12", "watch 13") == ["e12@12", "e13@13"]
    assert api.asked == ["watch 10", "watch 12", "watch 12", "watch 13"]


async def test_an_api_server_that_was_restored_from_an_older_state_is_followed_as_at_the_first_start() -> None:
    api = ScriptedApi(newest=500)
    api.lists = 2 * [page(event("new", version=400), event("old", version=300, at="2026-01-01T01:00:00Z"), version=500)]
    assert await Following(api, "9000").read_until_asked("list", "watch 500") == ["@399", "new@500"]


async def test_a_missing_right_is_named_and_goes_away_with_it() -> None:
    api = ScriptedApi(newest=20)
    api.lists = [Forbidden(403, "Forbidden", "no"), Forbidden(403, "Forbidden", "no"), page(version=20), page(version=20)]
    following = Following(api)
    await following.read(lambda: "may not list and watch events.events.k8s.io" in (following.follower.problem or ""))
    following.api.asked.clear()
    await following.read(lambda: following.follower.problem is None)


async def test_what_is_filtered_or_too_much_moves_the_position_on_and_is_counted() -> None:
    api = ScriptedApi(newest=20)
    api.watches = [[
        added("e11", 11), added("normal", 12, type="Normal"), *(WatchEvent("MODIFIED", event(version=number)) for number in range(13, 17)),
        WatchEvent("DELETED", event("e1", version=17)),
    ]]  # fmt: skip
    following = Following(api, "10")
    assert await following.read_until_asked("watch 17") == ["e11@12", "e1@13", "e1@17"]
    counted = {
        name: getattr(following.metrics, name).collect()[0].samples[0].value for name in ("read", "filtered", "suppressed")
    }
    assert counted == {"read": 6, "filtered": 1, "suppressed": 2}


async def test_reading_waits_while_too_much_is_not_sent_yet() -> None:
    api = ScriptedApi(newest=2000)
    api.watches = [[added(f"e{number}", number) for number in range(11, 1500)]]
    following = Following(api, "10")
    assert len(await following.read(lambda: len(following.window) == 1000)) == 1000
