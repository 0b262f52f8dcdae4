"""What every `Api` must pass: subclass `ApiContract`, with fixtures `api` and `namespace` (an empty one that EventSinks can be in)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eventsink.kube.api import (
    EVENTS,
    SECRETS,
    Api,
    Collection,
    Conflict,
    Key,
    NotFound,
    Object,
    Resource,
    WatchEvent,
    delete_if_same,
    list_all,
)
from eventsink.kube.reflector import Reflector
from eventsink.kube.secrets import secret_data, write_secret
from eventsink.resources.names import API_VERSION, EVENTSINKS, KIND
from eventsink.resources.status import NOT_SEEN

DEADLINE_SECONDS = 60.0
WATCH_SECONDS = 300
SPEC = {"tenant": "acme", "name": "A", "webhook": {"url": "https://example.com/"}}


def event_sink(namespace: str, name: str = "a", **spec: Any) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace, "labels": {"l": "1"}, "annotations": {"n": "1"}},
        "spec": {**SPEC, **spec},
    }


def secret(namespace: str, name: str, kind: str = "example.com/a", **metadata: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "type": kind,
        "data": {"k": base64.b64encode(b"canary").decode()},
    }


def condition(kind: str, status: str = "True") -> Object:
    moment = "2026-01-01T00:00:00Z"
    return {"type": kind, "status": status, "reason": "Because", "message": "", "lastTransitionTime": moment}


UNSEEN: tuple[dict[str, int], ...] = ({}, {"observedGeneration": NOT_SEEN})
"""The status of an EventSink that nobody has written, without and with the default of the CRD."""


async def apply_status(api: Api, key: Key, manager: str, *, version: str = "", **status: Any) -> Object:
    metadata = {"namespace": key[0], "name": key[1]} | ({"resourceVersion": version} if version else {})
    body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": status}
    return await api.apply(EVENTSINKS, body, manager=manager, subresource="status")


async def until_gone(api: Api, resource: Resource, key: Key) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                await api.get(resource, key)
            except NotFound:
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def watching(api: Api, collection: Collection, version: str) -> AsyncIterator[AsyncIterator[WatchEvent]]:
    """A watch without its bookmarks, and a deadline for what is done in it."""

    async def changes(events: AsyncIterator[WatchEvent]) -> AsyncIterator[WatchEvent]:
        async for one in events:
            if one.type != "BOOKMARK":
                yield one

    async with asyncio.timeout(DEADLINE_SECONDS):
        async with api.watch(collection, resource_version=version, seconds=WATCH_SECONDS) as events:
            yield changes(events)


def seen(event: WatchEvent) -> tuple[str, str]:
    return event.type, event.object["metadata"]["name"]


class Recorder:
    """A reflector's handler."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.changed = asyncio.Event()

    def upsert(self, key: Key, obj: Object) -> None:
        self.objects[key] = obj
        self.changed.set()

    def delete(self, key: Key) -> None:
        del self.objects[key]
        self.changed.set()

    async def until(self, names: set[str]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while {name for _, name in self.objects} != names:
                self.changed.clear()
                await self.changed.wait()


class ApiContract:
    """The contract."""

    # ---- writing

    async def test_a_created_object_has_the_metadata_that_a_server_adds(self, api: Api, namespace: str) -> None:
        made = await api.create(EVENTSINKS, event_sink(namespace), manager="m")
        metadata = made["metadata"]
        assert made["spec"] == SPEC
        assert (metadata["generation"], metadata["labels"], metadata["annotations"]) == (1, {"l": "1"}, {"n": "1"})
        assert [(one["manager"], one["operation"]) for one in metadata["managedFields"]] == [("m", "Update")]
        assert metadata["managedFields"][0]["time"] == metadata["creationTimestamp"]
        assert metadata["uid"]
        assert metadata["resourceVersion"]
        assert await api.get(EVENTSINKS, (namespace, "a")) == made

    async def test_a_second_object_of_the_same_name_is_a_conflict(self, api: Api, namespace: str) -> None:
        made = await asyncio.gather(*(api.create(SECRETS, secret(namespace, "a")) for _ in range(4)), return_exceptions=True)
        assert [type(one) for one in made if isinstance(one, Exception)] == [Conflict] * 3

    async def test_a_name_is_generated_from_its_prefix(self, api: Api, namespace: str) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": "a.", "namespace": namespace},
            "involvedObject": {"kind": KIND, "namespace": namespace, "name": "a"},
        }
        names = {(await api.create(EVENTS, body))["metadata"]["name"] for _ in range(2)}
        assert len(names) == 2
        assert all(name.startswith("a.") and len(name) > 2 for name in names)

    async def test_the_generation_grows_with_a_change_of_the_spec_only(self, api: Api, namespace: str) -> None:
        await api.create(EVENTSINKS, event_sink(namespace), manager="m")
        made = await apply_status(api, (namespace, "a"), "m", conditions=[condition("Ready")])
        same = await api.replace(EVENTSINKS, made, manager="n")
        assert (same["metadata"]["resourceVersion"], same["metadata"]["generation"]) == (made["metadata"]["resourceVersion"], 1)
        changed = await api.replace(EVENTSINKS, {**made, "spec": {**SPEC, "name": "B"}}, manager="n")
        assert (changed["metadata"]["generation"], changed["spec"]["name"]) == (2, "B")
        assert changed["metadata"]["uid"] == made["metadata"]["uid"]
        assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
        assert "n" in [one["manager"] for one in changed["metadata"]["managedFields"]]

    async def test_a_change_of_labels_does_not_change_the_generation(self, api: Api, namespace: str) -> None:
        made = await api.create(EVENTSINKS, event_sink(namespace))
        metadata = {**made["metadata"], "labels": {"l": "2"}}
        changed = await api.replace(EVENTSINKS, {**made, "metadata": metadata})
        assert (changed["metadata"]["generation"], changed["metadata"]["labels"]) == (1, {"l": "2"})
        assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]

    async def test_a_replace_with_an_old_resource_version_is_a_conflict(self, api: Api, namespace: str) -> None:
        made = await api.create(SECRETS, secret(namespace, "a"))
        await api.replace(SECRETS, {**made, "data": {"k": "Yg=="}})
        with pytest.raises(Conflict):
            await api.replace(SECRETS, {**made, "data": {"k": "Yw=="}})
        assert secret_data(await api.get(SECRETS, (namespace, "a"))) == {"k": b"b"}

    async def test_a_replace_of_a_re_created_object_is_a_conflict(self, api: Api, namespace: str) -> None:
        made = await api.create(EVENTSINKS, event_sink(namespace))
        await api.delete(EVENTSINKS, (namespace, "a"))
        await until_gone(api, EVENTSINKS, (namespace, "a"))
        again = await api.create(EVENTSINKS, event_sink(namespace))
        assert again["metadata"]["uid"] != made["metadata"]["uid"]
        stale = {**made, "metadata": {**made["metadata"], "resourceVersion": again["metadata"]["resourceVersion"]}}
        with pytest.raises(Conflict):
            await api.replace(EVENTSINKS, stale)

    async def test_every_call_for_a_missing_object_is_not_found(self, api: Api, namespace: str) -> None:
        for call in (
            api.get(SECRETS, (namespace, "a")),
            api.delete(SECRETS, (namespace, "a")),
            api.get(Resource("example.com", "v1", "nothings", "Nothing"), (namespace, "a")),
            api.list(Collection(Resource("example.com", "v1", "nothings", "Nothing"))),
            apply_status(api, (namespace, "a"), "m", conditions=[condition("Ready")]),
        ):
            with pytest.raises(NotFound):
                await call

    async def test_a_secret_is_written_over_what_is_known_of_it_and_nothing_else(self, api: Api, namespace: str) -> None:
        async def write(value: str, version: str) -> Object:
            return await write_secret(
                api,
                namespace,
                "a",
                kind="example.com/a",
                data={"k": value},
                labels={"l": "1"},
                annotations={"n": value},
                manager="m",
                resource_version=version,
            )

        first = await write("x", "")
        version = first["metadata"]["resourceVersion"]
        second = await write("y", version)
        assert second["metadata"]["uid"] == first["metadata"]["uid"]
        for stale in ("", version):
            with pytest.raises(Conflict):
                await write("z", stale)
        found = await api.get(SECRETS, (namespace, "a"))
        assert (secret_data(found), found["type"]) == ({"k": b"y"}, "example.com/a")
        assert (found["metadata"]["labels"], found["metadata"]["annotations"]) == ({"l": "1"}, {"n": "y"})
        await api.delete(SECRETS, (namespace, "a"))
        with pytest.raises(NotFound):
            await write("z", second["metadata"]["resourceVersion"])

    # ---- statuses

    async def test_each_manager_writes_its_own_part_of_a_status(self, api: Api, namespace: str) -> None:
        key = (namespace, "a")
        made = await api.create(EVENTSINKS, event_sink(namespace))
        await apply_status(api, key, "operator", observedGeneration=1, type="webhook", conditions=[condition("Ready")])
        await apply_status(api, key, "router", conditions=[condition("Delivering")])
        status = (await apply_status(api, key, "operator", observedGeneration=1, conditions=[condition("Stalled")]))["status"]
        assert sorted(one["type"] for one in status["conditions"]) == ["Delivering", "Stalled"], "the one left out is removed"
        assert status["observedGeneration"] == 1
        assert "type" not in status
        found = await api.get(EVENTSINKS, key)
        assert (found["status"], found["spec"], found["metadata"]["generation"]) == (status, made["spec"], 1)

    async def test_an_unchanged_status_is_no_new_version(self, api: Api, namespace: str) -> None:
        key = (namespace, "a")
        await api.create(EVENTSINKS, event_sink(namespace))
        first = await apply_status(api, key, "m", conditions=[condition("Ready")])
        again = await apply_status(api, key, "m", conditions=[condition("Ready")])
        assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]

    async def test_applying_nothing_to_a_status_shows_it_and_changes_nothing(self, api: Api, namespace: str) -> None:
        nothing = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"namespace": namespace, "name": "a"}}
        with pytest.raises(NotFound):
            await api.apply(EVENTSINKS, nothing, manager="nobody", subresource="status")
        made = await api.create(EVENTSINKS, event_sink(namespace))
        found = await api.apply(EVENTSINKS, nothing, manager="nobody", subresource="status")
        assert found.get("status", {}) in UNSEEN
        assert found["metadata"]["managedFields"] == made["metadata"]["managedFields"]
        known = await apply_status(api, (namespace, "a"), "m", conditions=[condition("Ready")])
        assert await api.apply(EVENTSINKS, nothing, manager="nobody", subresource="status") == known
        assert await api.get(EVENTSINKS, (namespace, "a")) == known

    async def test_a_status_with_an_old_resource_version_is_a_conflict(self, api: Api, namespace: str) -> None:
        key = (namespace, "a")
        version = (await api.create(EVENTSINKS, event_sink(namespace)))["metadata"]["resourceVersion"]
        await apply_status(api, key, "m", version=version, conditions=[condition("Ready")])
        with pytest.raises(Conflict):
            await apply_status(api, key, "m", version=version, conditions=[condition("Ready", "False")])

    async def test_a_replace_does_not_change_the_status(self, api: Api, namespace: str) -> None:
        made = await api.create(EVENTSINKS, {**event_sink(namespace), "status": {"observedGeneration": 7}})
        assert made.get("status", {}) in UNSEEN
        known = await apply_status(api, (namespace, "a"), "m", conditions=[condition("Ready")])
        written = await api.replace(EVENTSINKS, {**known, "spec": {**SPEC, "name": "B"}, "status": {}})
        assert written["status"] == known["status"]

    async def test_a_re_created_object_has_no_status(self, api: Api, namespace: str) -> None:
        await api.create(EVENTSINKS, event_sink(namespace))
        await apply_status(api, (namespace, "a"), "m", conditions=[condition("Ready")])
        await api.delete(EVENTSINKS, (namespace, "a"))
        await until_gone(api, EVENTSINKS, (namespace, "a"))
        assert (await api.create(EVENTSINKS, event_sink(namespace))).get("status", {}) in UNSEEN

    # ---- deleting

    async def test_an_object_is_deleted_only_with_the_expected_uid_and_version(self, api: Api, namespace: str) -> None:
        key = (namespace, "a")
        metadata = (await api.create(SECRETS, secret(namespace, "a")))["metadata"]
        assert not await delete_if_same(api, SECRETS, key, uid="00000000-0000-0000-0000-000000000000")
        assert not await delete_if_same(api, SECRETS, key, resource_version="1")
        with pytest.raises(Conflict):
            await api.delete(SECRETS, key, uid="00000000-0000-0000-0000-000000000000")
        assert await delete_if_same(api, SECRETS, key, uid=metadata["uid"], resource_version=metadata["resourceVersion"])
        assert not await delete_if_same(api, SECRETS, key)

    async def test_the_dependents_of_a_deleted_object_are_deleted(self, api: Api, namespace: str) -> None:
        owners = [await api.create(EVENTSINKS, event_sink(namespace, name)) for name in ("a", "b")]
        for one in owners:
            metadata = one["metadata"]
            owner = {"apiVersion": API_VERSION, "kind": KIND, "name": metadata["name"], "uid": metadata["uid"]}
            await api.create(SECRETS, secret(namespace, f"of-{metadata['name']}", ownerReferences=[owner]))
        await api.delete(EVENTSINKS, (namespace, "a"))
        await until_gone(api, SECRETS, (namespace, "of-a"))
        assert await api.get(SECRETS, (namespace, "of-b"))

    # ---- lists and watches

    async def test_a_list_is_read_in_pages(self, api: Api, namespace: str) -> None:
        names = [f"s-{number}" for number in range(5)]
        for name in names:
            await api.create(SECRETS, secret(namespace, name))
        found, token, pages = [], "", 0
        while pages == 0 or token:
            page = await api.list(Collection(SECRETS, namespace), limit=2, continue_token=token)
            assert len(page.items) <= 2
            found += [one["metadata"]["name"] for one in page.items]
            token, pages = page.continue_token, pages + 1
        assert (sorted(found), pages) == (names, 3)
        assert len(await list_all(api, Collection(SECRETS, namespace))) == 5

    async def test_a_list_has_only_the_selected_objects(self, api: Api, namespace: str) -> None:
        await api.create(SECRETS, secret(namespace, "a", "example.com/a", labels={"l": "1"}))
        await api.create(SECRETS, secret(namespace, "b", "example.com/b"))

        async def names(**selectors: str) -> list[str]:
            return [one["metadata"]["name"] for one in (await api.list(Collection(SECRETS, namespace, **selectors))).items]  # type: ignore[arg-type]

        assert await names() == ["a", "b"]
        assert await names(field_selector="type=example.com/a") == ["a"]
        assert await names(field_selector="type!=example.com/a,type!=example.com/c") == ["b"]
        assert await names(field_selector="metadata.name=b") == ["b"]
        assert await names(label_selector="l=1") == ["a"]
        assert await names(label_selector="l!=1") == ["b"]
        everywhere = await api.list(Collection(SECRETS, field_selector="type=example.com/a"))
        assert (namespace, "a") in {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in everywhere.items}

    async def test_a_metadata_list_has_no_data(self, api: Api, namespace: str) -> None:
        collection = Collection(SECRETS, namespace, metadata_only=True)
        await api.create(SECRETS, secret(namespace, "a", annotations={"n": "1"}))
        page = await api.list(collection)
        [one] = page.items
        assert one["metadata"]["annotations"] == {"n": "1"}
        async with watching(api, collection, page.resource_version) as events:
            await api.create(SECRETS, secret(namespace, "b"))
            event = await anext(events)
        for found in (one, event.object):
            assert not {"data", "type"} & set(found)

    async def test_a_watch_continues_from_a_list(self, api: Api, namespace: str) -> None:
        await api.create(SECRETS, secret(namespace, "before"))
        version = (await api.list(Collection(SECRETS, namespace))).resource_version
        made = await api.create(SECRETS, secret(namespace, "a"))
        async with watching(api, Collection(SECRETS, namespace), version) as events:
            assert seen(await anext(events)) == ("ADDED", "a")
            await api.replace(SECRETS, {**made, "data": {}})
            changed = await anext(events)
            assert seen(changed) == ("MODIFIED", "a")
            await api.delete(SECRETS, (namespace, "a"))
            assert seen(await anext(events)) == ("DELETED", "a")
        async with watching(api, Collection(SECRETS, namespace), changed.object["metadata"]["resourceVersion"]) as events:
            assert seen(await anext(events)) == ("DELETED", "a"), "and from any change on"

    async def test_a_watch_shows_only_the_selected_objects(self, api: Api, namespace: str) -> None:
        version = (await api.list(Collection(SECRETS, namespace))).resource_version
        async with watching(api, Collection(SECRETS, namespace, label_selector="l=1"), version) as events:
            made = await api.create(SECRETS, secret(namespace, "a"))
            metadata = {**made["metadata"], "labels": {"l": "1"}}
            labelled = await api.replace(SECRETS, {**made, "metadata": metadata})
            assert seen(await anext(events)) == ("ADDED", "a"), "it came to be selected"
            await api.replace(SECRETS, {**labelled, "metadata": {**labelled["metadata"], "labels": {}}})
            assert seen(await anext(events)) == ("DELETED", "a"), "it is not selected any more"

    async def test_a_watch_shows_changes_of_the_status(self, api: Api, namespace: str) -> None:
        await api.create(EVENTSINKS, event_sink(namespace))
        version = (await api.list(Collection(EVENTSINKS, namespace))).resource_version
        async with watching(api, Collection(EVENTSINKS, namespace), version) as events:
            await apply_status(api, (namespace, "a"), "m", conditions=[condition("Ready")])
            event = await anext(events)
        assert (event.type, event.object["status"]["conditions"][0]["type"]) == ("MODIFIED", "Ready")

    async def test_a_watch_ends_after_its_time(self, api: Api, namespace: str) -> None:
        version = (await api.list(Collection(SECRETS, namespace))).resource_version
        async with asyncio.timeout(DEADLINE_SECONDS):
            async with api.watch(Collection(SECRETS, namespace), resource_version=version, seconds=1) as events:
                assert [one async for one in events if one.type != "BOOKMARK"] == []

    async def test_a_reflector_follows_every_change(self, api: Api, namespace: str) -> None:
        recorder = Recorder()
        await api.create(SECRETS, secret(namespace, "a"))
        task = asyncio.ensure_future(Reflector(api, "secrets", Collection(SECRETS, namespace), recorder).run())
        try:
            await recorder.until({"a"})
            await api.create(SECRETS, secret(namespace, "b"))
            await recorder.until({"a", "b"})
            await api.delete(SECRETS, (namespace, "a"))
            await recorder.until({"b"})
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
