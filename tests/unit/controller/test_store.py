"""Compiled sinks are known by uid and by EventSink, through writes, watches and deletions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eventsink.controller.store import CompiledStore
from eventsink.kube.api import SECRETS, Collection, Conflict, Key, NotFound, Object, Resource
from eventsink.kube.local import LocalApi
from eventsink.sinks.sink import CompiledFrom, Sink, Tenancy, Withdrawn

NAMESPACE = "sinks"


def sink(uid: str, name: str = "a") -> Sink:
    withdrawn = Withdrawn(reason="SecretNotFound", since="2026-01-01T00:00:00Z")
    made_from = CompiledFrom(generation=1)
    return Sink.model_validate(
        {
            "uid": uid,
            "namespace": "acme",
            "name": name,
            "display_name": name,
            "tenant": "acme",
            "compiled_from": made_from,
            "destination": "d",
            "delivery": {"max_age": 60.0},
            "withdrawn": withdrawn,
        }
    )


class StoreUnderTest:
    def __init__(self) -> None:
        self.api = LocalApi((SECRETS,))
        self.enqueued: list[Key] = []
        self.store = CompiledStore(self.api, NAMESPACE, self.enqueued.append)

    def uids(self, name: str) -> list[str]:
        return [one.uid for one in self.store.of(("acme", name))]

    async def watch(self) -> None:
        """Give the store the events that a watch would give it."""
        page = await self.api.list(Collection(SECRETS, NAMESPACE))
        for obj in page.items:
            self.store.upsert((NAMESPACE, obj["metadata"]["name"]), obj)


async def test_a_written_sink_is_known_at_once_and_its_watch_event_changes_nothing() -> None:
    one = StoreUnderTest()
    await one.store.write(sink("u1"), None)
    await one.store.write(sink("u2"), None)
    await one.store.write(sink("u3", "b"), None)
    await one.watch()
    assert (one.uids("a"), one.uids("b"), one.uids("c")) == (["u1", "u2"], ["u3"], [])
    assert {uid: compiled.withdrawn for uid, compiled in one.store.compiled.items()} == dict.fromkeys(
        ("u1", "u2", "u3"), "SecretNotFound"
    )
    assert one.enqueued == []


async def test_a_removed_sink_is_forgotten_and_not_enqueued() -> None:
    one = StoreUnderTest()
    await one.store.write(sink("u1"), None)
    await one.store.remove(one.store.compiled["u1"])
    one.store.delete((NAMESPACE, "sink-u1"))
    assert (one.uids("a"), dict(one.store.compiled), one.enqueued) == ([], {}, [])
    assert list(one.api.objects(SECRETS)) == []


async def test_a_foreign_change_or_deletion_of_a_compiled_sink_enqueues_it() -> None:
    one = StoreUnderTest()
    await one.store.write(sink("u1"), None)
    [stored] = one.api.objects(SECRETS)
    await one.api.replace(SECRETS, {**stored, "data": {}})
    await one.watch()
    assert one.enqueued == [("acme", "a")]
    one.store.delete((NAMESPACE, "sink-u1"))
    assert (one.enqueued, one.uids("a")) == ([("acme", "a")] * 2, [])


async def test_what_another_operator_wrote_since_is_neither_overwritten_nor_deleted() -> None:
    paused, leading = StoreUnderTest(), StoreUnderTest()
    leading.store = CompiledStore(paused.api, NAMESPACE, leading.enqueued.append)
    await paused.store.write(sink("u1"), None)
    known = paused.store.compiled["u1"]
    with pytest.raises(Conflict):
        await leading.store.write(sink("u1"), None)  # it exists
    leading.store.upsert((NAMESPACE, "sink-u1"), next(paused.api.objects(SECRETS)))
    await leading.store.write(sink("u1", "b"), leading.store.compiled["u1"])
    with pytest.raises(Conflict):
        await paused.store.write(sink("u1"), known)
    with pytest.raises(Conflict):
        await paused.store.remove(known)
    await leading.store.remove(leading.store.compiled["u1"])
    with pytest.raises(NotFound):
        await paused.store.write(sink("u1"), known)
    await paused.store.remove(known)
    assert (list(paused.api.objects(SECRETS)), dict(paused.store.compiled)) == ([], {})


async def test_a_tenancy_that_another_operator_wrote_since_is_read_before_it_is_written_again() -> None:
    paused, leading = StoreUnderTest(), StoreUnderTest()
    leading.store = CompiledStore(paused.api, NAMESPACE, leading.enqueued.append)
    assert await paused.store.write_tenancy(Tenancy(owners={"a": "acme"}))
    assert not await leading.store.write_tenancy(Tenancy(owners={"a": "acme"}))
    assert await leading.store.write_tenancy(Tenancy(owners={"a": "acme", "b": "acme"}))
    with pytest.raises(Conflict):
        await paused.store.write_tenancy(Tenancy(owners={}))
    assert not await paused.store.write_tenancy(Tenancy(owners={"a": "acme", "b": "acme"}))


async def test_a_late_watch_event_of_an_earlier_write_is_ignored() -> None:
    one = StoreUnderTest()
    await one.store.write(sink("u1"), None)
    [earlier] = one.api.objects(SECRETS)
    await one.store.write(sink("u1", "b"), one.store.compiled["u1"])
    one.store.upsert((NAMESPACE, "sink-u1"), earlier)
    assert (one.uids("a"), one.uids("b"), one.enqueued) == ([], ["u1"], [])


async def test_a_write_that_the_watch_shows_before_the_response_enqueues_nothing_unless_somebody_else_wrote_too() -> None:
    one = StoreUnderTest()
    one.api = watched = WatchFirst()
    one.store = CompiledStore(watched, NAMESPACE, one.enqueued.append)
    watched.show = lambda obj: one.store.upsert((NAMESPACE, obj["metadata"]["name"]), obj)
    await one.store.write(sink("u1"), None)
    await one.store.write(sink("u1", "b"), one.store.compiled["u1"])
    assert one.enqueued == []
    watched.others = {"data": {}}
    await one.store.write(sink("u1", "b"), one.store.compiled["u1"])
    [stored] = one.api.objects(SECRETS)
    assert one.enqueued == [("acme", "b")]
    assert one.store.compiled["u1"].resource_version == stored["metadata"]["resourceVersion"]


class WatchFirst(LocalApi):
    """The watch shows what was written, and what somebody else wrote then, before the writer gets its response."""

    def __init__(self) -> None:
        super().__init__((SECRETS,))
        self.show: Callable[[Object], None] = lambda _: None
        self.others: Object = {}

    async def replace(self, resource: Resource, obj: Object, *, manager: str = "") -> Object:
        written = await super().replace(resource, obj, manager=manager)
        self.show(written)
        if self.others:
            self.show(await super().replace(resource, {**written, **self.others}))
        return written
