"""The controller as a whole over the local API: what a start, a takeover and a sweep may do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eventsink.controller.assembly import Controller
from eventsink.controller.config import OperatorSettings, TenancySettings
from eventsink.kube.api import EVENTS, NAMESPACES, PAGE, SECRETS, Collection, Key, Object, ObjectList, Resource
from eventsink.kube.local import LocalApi
from eventsink.resources.names import API_VERSION, EVENTSINKS, KIND

SETTINGS = OperatorSettings(tenancy=TenancySettings(allow_unowned=True), sweep_interval=3600.0)


class ScriptedApi(LocalApi):
    """Counts writes; a list of EventSinks waits for `listed`, and then runs `meanwhile` before it is returned."""

    def __init__(self) -> None:
        super().__init__((EVENTSINKS, SECRETS, NAMESPACES, EVENTS), passing=(EVENTS,))
        self.listed = asyncio.Event()
        self.listed.set()
        self.read: list[Key] = []
        self.whole_lists = 0

    async def list(self, collection: Collection, *, limit: int = PAGE, continue_token: str = "") -> ObjectList:
        page = await super().list(collection, limit=limit, continue_token=continue_token)
        if collection.resource == EVENTSINKS:
            self.whole_lists += not collection.metadata_only
            await self.listed.wait()
        return page

    async def get(self, resource: Resource, key: Key) -> Object:
        self.read.append(key)
        return await super().get(resource, key)

    async def sink(self, name: str) -> Object:
        self.put(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme", "uid": "u"}})
        spec = {"tenant": "acme", "name": name, "webhook": {"url": "https://example.com/"}}
        metadata = {"namespace": "acme", "name": name}
        return await self.create(EVENTSINKS, {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})

    def versions(self) -> dict[str, str]:
        """Compiled Secret -> resourceVersion."""
        found = {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in self.objects(SECRETS)}
        return {name: version for name, version in found.items() if name.startswith("sink-")}


@asynccontextmanager
async def running(
    api: ScriptedApi, *, leads: bool = True, registry: CollectorRegistry | None = None, **settings: Any
) -> AsyncIterator[Controller]:
    """A controller of which nobody shows EventSinks but the sweep."""
    controller = Controller(SETTINGS.model_copy(update=settings), api, registry or CollectorRegistry())
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(reflector.run()) for reflector in controller.reflectors]
        await controller.synced()
        tasks.append(group.create_task(controller.sweep()))
        if leads:
            tasks += [group.create_task(work) for _, work in controller.tasks()]
        try:
            async with asyncio.timeout(20):
                yield controller
        finally:
            for task in tasks:
                task.cancel()
    await controller.close()


async def test_a_start_deletes_nothing_before_it_has_listed_every_eventsink_and_writes_nothing_after() -> None:
    api = ScriptedApi()
    for name in ("a", "b"):
        await api.sink(name)
    async with running(api) as controller:
        await controller.settled.wait()
    before = api.versions()
    assert len(before) == 2
    api.listed.clear()
    async with running(api) as controller:
        await asyncio.sleep(0.05)  # a worker would have taken a key by now
        assert api.versions() == before
        api.listed.set()
        await controller.settled.wait()
    assert api.versions() == before


async def test_a_sink_beyond_the_quota_is_accepted_as_soon_as_another_is_deleted() -> None:
    api = ScriptedApi()
    for name in ("a", "b"):
        await api.sink(name)
    tenancy = TenancySettings(allow_unowned=True, max_sinks=1)
    async with running(api, tenancy=tenancy) as controller:
        await controller.settled.wait()
        assert len(api.versions()) == 1
        reasons = {one["metadata"]["name"]: one["status"]["conditions"] for one in api.objects(EVENTSINKS)}
        rejected = next(name for name, shown in reasons.items() if any(one["reason"] == "QuotaExceeded" for one in shown))
        accepted = ({"a", "b"} - {rejected}).pop()
        known = controller.state.eventsinks["acme", accepted]
        await api.delete(EVENTSINKS, ("acme", accepted))
        controller.settled.clear()
        controller.state.lose(("acme", accepted), known.uid)
        await controller.settled.wait()
        [left] = api.objects(EVENTSINKS)
        assert [one["status"] for one in left["status"]["conditions"] if one["type"] == "Ready"] == ["True"]
    assert len(api.versions()) == 1
    # A quota that is lowered withdraws nobody: nothing that pages today stops because of a number.
    await api.sink("c")
    async with running(api) as controller:
        await controller.settled.wait()
    assert len(api.versions()) == 2
    async with running(api, tenancy=tenancy) as controller:
        await controller.settled.wait()
    assert len(api.versions()) == 2


async def test_a_replica_that_waits_knows_everything_and_works_on_it_when_it_leads() -> None:
    api = ScriptedApi()
    await api.sink("a")
    async with running(api, leads=False) as controller:
        await controller.swept.wait()
        assert (set(controller.state.eventsinks), api.versions()) == ({("acme", "a")}, {})
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for _, work in controller.tasks()]
            await controller.settled.wait()
            for task in tasks:
                task.cancel()
    assert len(api.versions()) == 1


async def test_an_eventsink_deleted_while_a_sweep_reads_the_list_is_not_worked_on_again() -> None:
    api = ScriptedApi()
    made = await api.sink("a")
    async with running(api) as controller:
        await controller.settled.wait()
    api.listed.clear()
    async with running(api) as controller:
        while not api.whole_lists > 1:
            await asyncio.sleep(0.005)
        await api.delete(EVENTSINKS, ("acme", "a"))
        controller.state.lose(("acme", "a"), made["metadata"]["uid"])
        api.listed.set()
        await controller.settled.wait()
        assert controller.state.eventsinks == {}
    assert api.versions() == {}


async def test_later_sweeps_read_the_metadata_and_what_the_watch_has_not_shown() -> None:
    api = ScriptedApi()
    for name in ("a", "b"):
        await api.sink(name)
    async with running(api, sweep_interval=0.02) as controller:
        await controller.settled.wait()
        first = api.whole_lists
        api.read.clear()
        await api.sink("c")
        await api.delete(EVENTSINKS, ("acme", "b"))
        while set(controller.state.eventsinks) != {("acme", "a"), ("acme", "c")}:
            await asyncio.sleep(0.005)
        assert api.whole_lists == first
        assert {key for key in api.read if key[0] == "acme"} == {("acme", "b"), ("acme", "c")}


@pytest.mark.parametrize("ready", ["True", "False"])
async def test_the_gauge_counts_eventsinks_by_ready(ready: str) -> None:
    api = ScriptedApi()
    made = await api.sink("a")
    status = {"conditions": [{"type": "Ready", "status": ready}]}
    await api.apply(EVENTSINKS, {**made, "status": status}, manager="m", subresource="status")
    registry = CollectorRegistry()
    async with running(api, leads=False, registry=registry) as controller:
        await controller.swept.wait()
        await asyncio.sleep(0)
        assert registry.get_sample_value("eventsink_operator_eventsinks", {"ready": ready}) == 1
