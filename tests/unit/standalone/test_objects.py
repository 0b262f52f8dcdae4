"""The objects of one process answer as an API server would."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eventsink.controller.slack_tokens import SecretTokenStore, TokenRecord
from eventsink.kube.client import ApiError, Conflict, Invalid, NotFound, Object, Unavailable
from eventsink.kube.objects import apply_secret, apply_status, custom_path, delete_object, get_secret, secret_data, secrets_path
from eventsink.kube.reflector import Key
from eventsink.resources.spec import GROUP, PLURAL, VERSION
from eventsink.runtime.files import write_private
from eventsink.standalone.objects import LocalObjects


class Told:
    """What the listeners heard."""

    def __init__(self) -> None:
        self.secrets: list[tuple[Key, bool]] = []
        self.sinks: list[Object] = []

    def objects(self, folder: Path) -> LocalObjects:
        one = LocalObjects(
            folder,
            secret_changed=lambda key, obj: self.secrets.append((key, obj is not None)),
            sink_changed=self.sinks.append,
            told=lambda event: None,
        )
        one.load()
        return one


async def write(objects: LocalObjects, value: str) -> Object:
    return await apply_secret(
        objects, "_sinks", "sink-1", kind="eventsink.dev/sink", data={"a": value}, labels={}, annotations={}, manager="m"
    )


async def test_a_secret_outlives_the_process_in_a_file_for_its_owner_only(tmp_path: Path) -> None:
    told = Told()
    await write(told.objects(tmp_path / "objects"), "x")
    [file] = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert file.stat().st_mode & 0o777 == 0o600
    assert {folder.stat().st_mode & 0o777 for folder in file.parents if folder.is_relative_to(tmp_path / "objects")} == {0o700}
    again = told.objects(tmp_path / "objects")
    assert secret_data(await get_secret(again, "_sinks", "sink-1")) == {"a": b"x"}
    assert told.secrets == [(("_sinks", "sink-1"), True)] * 2


async def test_a_deleted_secret_is_gone_for_good(tmp_path: Path) -> None:
    told = Told()
    objects = told.objects(tmp_path)
    await write(objects, "x")
    path = secrets_path("_sinks", "sink-1")
    assert not await delete_object(objects, path, resource_version="another")
    assert await delete_object(objects, path)
    assert not await delete_object(objects, path)
    with pytest.raises(NotFound):
        await get_secret(told.objects(tmp_path), "_sinks", "sink-1")
    assert told.secrets[-1] == (("_sinks", "sink-1"), False)


async def test_tokens_are_made_once_and_replaced_only_as_they_were_read(tmp_path: Path) -> None:
    store = SecretTokenStore(Told().objects(tmp_path), "_tokens")
    record = TokenRecord(namespace_uid="u", tenant="acme", claimed_at=0.0)
    made = await asyncio.gather(*(store.create("slack-1", record) for _ in range(5)))
    [first] = [one for one in made if one is not None]
    second = await store.replace(first, record)
    with pytest.raises(Conflict):
        await store.replace(first, record)
    assert [one.version for one in await store.list()] == [second.version]
    await store.delete(first)
    assert await store.read("slack-1") is not None
    await store.delete(second)
    assert await store.read("slack-1") is None


async def test_a_secret_of_a_document_can_be_read_and_not_written(tmp_path: Path) -> None:
    objects = Told().objects(tmp_path)
    objects.given[("_sinks", "sink-1")] = {"metadata": {"name": "sink-1"}, "data": {}}
    assert await get_secret(objects, "_sinks", "sink-1")
    with pytest.raises(Invalid):
        await write(objects, "x")


async def test_a_folder_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    told = Told()
    objects = told.objects(tmp_path)
    (tmp_path / "_sinks").write_text("a file where the folder should be")
    with pytest.raises(Unavailable):
        await write(objects, "x")
    assert told.secrets == []


async def test_each_side_writes_its_own_part_of_a_status(tmp_path: Path) -> None:
    told = Told()
    objects = told.objects(tmp_path)
    objects.put_sink(("acme", "a"), {"metadata": {"name": "a", "namespace": "acme", "uid": "u"}, "spec": {}})
    path = custom_path(GROUP, VERSION, PLURAL, "acme", "a")

    async def apply(manager: str, condition: str, version: str | None = None) -> Object:
        metadata = {"name": "a", **({"resourceVersion": version} if version else {})}
        return await apply_status(
            objects, path, {"metadata": metadata, "status": {"conditions": [{"type": condition}]}}, manager=manager
        )

    before = objects.sinks[("acme", "a")]["metadata"]["resourceVersion"]
    await apply("operator", "Ready", before)
    with pytest.raises(Conflict):
        await apply("operator", "Ready", before)
    await apply("router", "Delivering")
    answer = await apply("operator", "Stalled")
    assert [one["type"] for one in answer["status"]["conditions"]] == ["Stalled", "Delivering"]
    assert told.sinks[-1] == answer
    objects.drop_sink(("acme", "a"))
    with pytest.raises(NotFound):
        await apply("operator", "Ready")


async def test_what_is_not_there_without_a_cluster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ApiError):
        await Told().objects(tmp_path).request("GET", "/api/v1/pods")


def test_a_broken_object_counts_as_none(tmp_path: Path) -> None:
    write_private(tmp_path / "_sinks" / "sink-1.json", "{")
    told = Told()
    told.objects(tmp_path)
    assert told.secrets == []
