"""The local API passes the contract; and what only it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from eventsink.kube.api import (
    EVENTS,
    NAMESPACES,
    SECRETS,
    ApiError,
    Collection,
    Forbidden,
    Gone,
    NotFound,
    Object,
    Unavailable,
    WatchEvent,
)
from eventsink.kube.local import Change, LocalApi
from eventsink.kube.local_watch import HISTORY
from eventsink.kube.reflector import Reflector
from eventsink.resources.names import EVENTSINKS
from tests.unit.kube.api_contract import ApiContract, Recorder, apply_status, condition, event_sink, secret

RESOURCES = (EVENTSINKS, SECRETS, NAMESPACES, EVENTS)
KEY = ("acme", "a")


def opened(error: ApiError | None = None) -> tuple[LocalApi, list[Change]]:
    """An API, and the changes that it committed; with an error, every commit fails."""
    changes: list[Change] = []

    async def commit(change: Change) -> None:
        if error is not None:
            raise error
        await asyncio.sleep(0)
        changes.append(change)

    return LocalApi(RESOURCES, passing=(EVENTS,), commit=commit), changes


class TestLocalApi(ApiContract):
    @pytest.fixture
    async def api(self) -> AsyncIterator[LocalApi]:
        api = LocalApi(RESOURCES)
        yield api
        await api.close()

    @pytest.fixture
    def namespace(self) -> str:
        return "acme"


async def test_a_change_is_committed_before_it_is_seen_and_without_a_status() -> None:
    api, changes = opened()
    made = await api.create(EVENTSINKS, event_sink(*KEY))
    known = await apply_status(api, KEY, "m", conditions=[condition("Ready")])
    changed = await api.replace(EVENTSINKS, {**known, "spec": {**known["spec"], "name": "B"}})
    await api.delete(EVENTSINKS, KEY)
    first, second, third = changes
    assert (first.before, first.after) == (None, made)
    assert second.before is not None
    assert second.after is not None
    assert (second.after["spec"], "status" in second.before, "status" in second.after) == (changed["spec"], False, False)
    assert (third.key, third.after) == (KEY, None)


async def test_a_change_whose_commit_fails_is_not_made() -> None:
    api, changes = opened(Unavailable(0, "Unavailable", "disk full"))
    document = api.put(EVENTSINKS, event_sink(*KEY))
    version = (await api.list(Collection(EVENTSINKS))).resource_version
    for call in (
        api.create(EVENTSINKS, event_sink("acme", "b")),
        api.replace(EVENTSINKS, {**document, "spec": {}}),
        api.apply(EVENTSINKS, event_sink(*KEY, description="d"), manager="m"),
        api.delete(EVENTSINKS, KEY),
    ):
        with pytest.raises(Unavailable, match="disk full"):
            await call
    assert list(api.objects(EVENTSINKS)) == [document]
    async with api.watch(Collection(EVENTSINKS), resource_version=version, seconds=0) as events:
        assert [one.type async for one in events] == ["BOOKMARK"]
    assert changes == []


async def test_changes_of_one_object_are_committed_one_at_a_time() -> None:
    under_way, most = 0, 0

    async def commit(change: Change) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    api = LocalApi(RESOURCES, commit=commit)
    body = {**secret("acme", "a"), "data": {}}
    await asyncio.gather(*(api.apply(SECRETS, {**body, "data": {"k": str(n)}}, manager="m") for n in range(5)))
    assert most == 1
    await asyncio.gather(*(api.apply(SECRETS, secret("acme", f"s-{n}"), manager="m") for n in range(5)))
    assert most == 5, "those of different objects are not held up by each other"


async def test_objects_that_are_only_passed_on_are_committed_and_not_stored() -> None:
    api, changes = opened()
    await api.create(EVENTS, {"metadata": {"generateName": "a.", "namespace": "acme"}, "message": "m"})
    [change] = changes
    assert change.after is not None
    assert change.after["message"] == "m"
    assert (await api.list(Collection(EVENTS))).items == []


async def test_an_object_that_is_stored_elsewhere_is_put_unchanged_and_keeps_its_status() -> None:
    api, changes = opened()
    document = event_sink(*KEY)
    document["metadata"] |= {"uid": "u", "generation": 5}
    api.put(EVENTSINKS, document)
    status = (await apply_status(api, KEY, "m", conditions=[condition("Ready")]))["status"]
    again = api.put(EVENTSINKS, {**document, "spec": {**document["spec"], "name": "B"}})
    assert (again["metadata"]["uid"], again["metadata"]["generation"], again["status"]) == ("u", 5, status)
    token = secret("acme", "t", resourceVersion="abc")
    assert api.put(SECRETS, token)["metadata"]["resourceVersion"] == "abc", "what was compiled from it stays valid"
    api.drop(EVENTSINKS, KEY)
    api.drop(EVENTSINKS, KEY)
    with pytest.raises(NotFound):
        await api.get(EVENTSINKS, KEY)
    assert changes == []


async def test_versions_are_higher_than_those_of_earlier_processes() -> None:
    api, _ = opened()
    old = str(10**18)
    api.put(SECRETS, secret("acme", "old", resourceVersion=old))
    versions = [(await api.create(SECRETS, secret("acme", f"s-{n}")))["metadata"]["resourceVersion"] for n in range(3)]
    assert sorted(versions, key=int) == versions
    assert int(versions[0]) > int(old)


async def test_a_continue_token_of_a_changed_list_is_gone() -> None:
    api, _ = opened()
    for name in "ab":
        await api.create(SECRETS, secret("acme", name))
    token = (await api.list(Collection(SECRETS), limit=1)).continue_token
    await api.create(SECRETS, secret("acme", "c"))
    with pytest.raises(Gone):
        await api.list(Collection(SECRETS), limit=1, continue_token=token)


async def test_a_watch_that_falls_behind_ends_and_its_reflector_lists_again() -> None:
    api, _ = opened()
    version = (await api.list(Collection(SECRETS))).resource_version
    recorder = Recorder()
    task = asyncio.ensure_future(Reflector(api, "secrets", Collection(SECRETS), recorder).run())
    async with api.watch(Collection(SECRETS), resource_version=version, seconds=60) as events:
        names = [f"s-{n}" for n in range(HISTORY + 1)]
        for name in names:
            api.put(SECRETS, secret("acme", name))
        with pytest.raises(Gone):
            [one async for one in events]
    await recorder.until(set(names))
    task.cancel()
    with pytest.raises(Gone):
        async with api.watch(Collection(SECRETS), resource_version=version, seconds=1):
            pass


@pytest.mark.parametrize("version", ["1", "abc", ""])
async def test_a_watch_from_an_old_or_invalid_version_is_gone(version: str) -> None:
    api, _ = opened()
    with pytest.raises(Gone):
        async with api.watch(Collection(SECRETS), resource_version=version, seconds=1):
            pass


async def test_a_watch_begun_during_a_commit_sees_the_change() -> None:
    go_on = asyncio.Event()

    async def commit(change: Change) -> None:
        await go_on.wait()

    api = LocalApi(RESOURCES, commit=commit)
    making = asyncio.ensure_future(api.create(SECRETS, secret(*KEY)))
    await asyncio.sleep(0)
    version = (await api.list(Collection(SECRETS))).resource_version
    go_on.set()
    made = await making
    async with api.watch(Collection(SECRETS), resource_version=version, seconds=60) as events:
        assert (await anext(events)).object == made


async def test_a_change_made_while_a_watch_ends_is_not_lost() -> None:
    api, _ = opened()
    version = (await api.list(Collection(SECRETS))).resource_version
    async with api.watch(Collection(SECRETS), resource_version=version, seconds=0) as events:
        reading = asyncio.ensure_future(_all(events))
        await asyncio.sleep(0)  # it waits now, and its time is over in the next round of the loop
        asyncio.get_running_loop().call_soon(api.put, SECRETS, secret(*KEY))
        first, *others = await reading
    assert (first.type, first.object["metadata"]["name"]) == ("ADDED", KEY[1])
    assert [one.type for one in others] == ["BOOKMARK"]


async def _all(events: AsyncIterator[WatchEvent]) -> list[WatchEvent]:
    return [one async for one in events]


async def test_caught_up_waits_until_every_watch_has_seen_all_changes() -> None:
    api, _ = opened()
    recorders = [Recorder() for _ in range(3)]
    reflectors = [Reflector(api, "secrets", Collection(SECRETS), one) for one in recorders]
    tasks = [asyncio.ensure_future(one.run()) for one in reflectors]
    for one in reflectors:
        await one.synced.wait()
    await api.caught_up()
    for number in range(100):
        api.put(SECRETS, secret("acme", f"s-{number}"))
    async with asyncio.timeout(30):
        await api.caught_up()
    assert [len(one.objects) for one in recorders] == [100] * 3
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await api.caught_up()


async def test_an_owner_is_deleted_although_its_dependent_cannot_be() -> None:
    async def commit(change: Change) -> None:
        if change.resource == SECRETS and change.after is None:
            raise Forbidden(403, "Forbidden", "no")

    api = LocalApi(RESOURCES, commit=commit)
    owner: Object = (await api.create(EVENTSINKS, event_sink(*KEY)))["metadata"]
    await api.create(SECRETS, secret("acme", "s", ownerReferences=[{"uid": owner["uid"]}]))
    await api.delete(EVENTSINKS, KEY)
    assert list(api.objects(EVENTSINKS)) == []
    assert await api.get(SECRETS, ("acme", "s"))
