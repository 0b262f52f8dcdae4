"""The data folder: what programs and the operator write survives a restart, and a change that could not be written is not made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest

from eventsink.destinations.slack.tokens import SecretTokenStore, TokenRecord
from eventsink.kube.api import (
    EVENTS,
    NAMESPACES,
    SECRETS,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Object,
    Unavailable,
    delete_if_same,
    key_of,
)
from eventsink.kube.local import LocalApi
from eventsink.kube.secrets import secret_data, write_secret
from eventsink.resources.names import EVENTSINKS
from eventsink.runtime.files import write_private
from eventsink.sinks.sink import SINK_SECRET_TYPE
from eventsink.standalone.storage import Storage

RESOURCES = (EVENTSINKS, SECRETS, NAMESPACES, EVENTS)
COMPILED = ("_sinks", "sink-1")
KEY = ("acme", "a")
SPEC = {"tenant": "acme", "name": "A", "webhook": {"url": "https://example.com/"}}


def opened(data: Path) -> LocalApi:
    """An API over a data folder, as a start opens it."""
    storage = Storage(data)
    api = LocalApi(RESOURCES, commit=storage.commit)
    storage.load(api)
    return api


def files(data: Path) -> list[Path]:
    return [file for file in data.rglob("*") if file.is_file()]


async def write(api: LocalApi, value: str) -> Object:
    before = next((one for one in api.objects(SECRETS) if key_of(one) == COMPILED), None)
    return await write_secret(
        api,
        *COMPILED,
        kind="eventsink.dev/sink",
        data={"a": value},
        labels={},
        annotations={},
        manager="m",
        resource_version=before["metadata"]["resourceVersion"] if before is not None else "",
    )


def body(name: str = "a", **spec: object) -> Object:
    return {
        "apiVersion": "eventsink.dev/v1alpha1",
        "kind": "EventSink",
        "metadata": {"name": name, "namespace": "acme", "labels": {"l": "1"}, "annotations": {"n": "1"}},
        "spec": {**SPEC, **spec},
    }


async def make(api: LocalApi, name: str = "a") -> Object:
    return await api.create(EVENTSINKS, body(name), manager="m")


def owned(name: str, owner: Object) -> Object:
    references = [{"uid": owner["metadata"]["uid"]}]
    return {"metadata": {"name": name, "namespace": "acme", "ownerReferences": references}, "type": "eventsink.dev/rest"}


# ---- Secrets


async def test_a_secret_survives_a_restart_in_a_file_only_its_owner_can_read(tmp_path: Path) -> None:
    written = await write(opened(tmp_path), "x")
    [file] = files(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert {folder.stat().st_mode & 0o777 for folder in file.parents if tmp_path in folder.parents} == {0o700}
    again = await opened(tmp_path).get(SECRETS, COMPILED)
    assert secret_data(again) == {"a": b"x"}
    assert again["metadata"]["resourceVersion"] == written["metadata"]["resourceVersion"], (
        "what was compiled from it is still valid"
    )


async def test_a_deleted_secret_stays_deleted_after_a_restart(tmp_path: Path) -> None:
    api = opened(tmp_path)
    await write(api, "x")
    assert not await delete_if_same(api, SECRETS, COMPILED, resource_version="another")
    assert await delete_if_same(api, SECRETS, COMPILED)
    assert not await delete_if_same(api, SECRETS, COMPILED)
    with pytest.raises(NotFound):
        await opened(tmp_path).get(SECRETS, COMPILED)


async def test_a_token_is_created_once_and_replaced_only_if_unchanged(tmp_path: Path) -> None:
    store = SecretTokenStore(opened(tmp_path), "_tokens")
    record = TokenRecord(namespace_uid="u", tenant="acme", claimed_at=0.0)
    made = await asyncio.gather(*(store.create("slack-1", record) for _ in range(5)))
    [first] = [one for one in made if one is not None]
    second = await store.replace(first, record.model_copy(update={"token": "t"}))
    with pytest.raises(Conflict):
        await store.replace(first, record)
    assert [one.version for one in await SecretTokenStore(opened(tmp_path), "_tokens").list()] == [second.version]
    await store.delete(first)
    assert await store.read("slack-1") is not None
    await store.delete(second)
    assert await store.read("slack-1") is None


async def test_an_object_of_a_document_is_changed_only_in_its_file(tmp_path: Path) -> None:
    api = opened(tmp_path)
    metadata = {"name": "a", "namespace": "acme", "annotations": {"eventsink.dev/file": "team/a.yaml"}}
    sink = api.put(EVENTSINKS, {**body(), "metadata": {**metadata, "uid": "u"}})
    secret = api.put(SECRETS, {"metadata": metadata, "data": {}})
    for resource, obj in ((EVENTSINKS, sink), (SECRETS, secret)):
        assert await api.get(resource, KEY) == obj
        for call in (
            api.replace(resource, {**obj, "spec": SPEC, "data": {"k": "eA=="}}),
            api.apply(resource, {**obj, "spec": SPEC, "data": {"k": "eA=="}}, manager="m"),
            api.delete(resource, KEY),
        ):
            with pytest.raises(Forbidden, match="is defined in the file team/a"):
                await call
        with pytest.raises(Conflict):
            await api.create(resource, obj)
    with pytest.raises(Forbidden, match="only documents"):
        await api.create(NAMESPACES, {"metadata": {"name": "n"}})
    assert files(tmp_path) == []


async def test_a_change_that_cannot_be_written_to_disk_is_not_made(tmp_path: Path) -> None:
    api = opened(tmp_path)
    (tmp_path / "objects" / "_sinks").write_text("a file where the folder should be")
    with pytest.raises(Unavailable):
        await write(api, "x")
    assert list(api.objects(SECRETS)) == []


def test_an_unreadable_secret_counts_as_missing(tmp_path: Path) -> None:
    for name, content in (
        ("sink-1", "{"),
        ("sink-2", "[]"),
        ("sink-3", '{"metadata": {"name": "other", "namespace": "_sinks"}}'),
    ):
        write_private(tmp_path / "objects" / "_sinks" / f"{name}.json", content)
    assert list(opened(tmp_path).objects(SECRETS)) == []


# ---- EventSinks that programs create


async def test_a_created_sink_survives_a_restart_without_its_status(tmp_path: Path) -> None:
    api = opened(tmp_path)
    made = await make(api)
    status = {"metadata": {"name": "a", "namespace": "acme"}, "status": {"observedGeneration": 1}}
    await api.apply(EVENTSINKS, status, manager="m", subresource="status")
    known = await api.get(EVENTSINKS, KEY)
    await api.replace(EVENTSINKS, {**known, "spec": {**SPEC, "name": "B"}}, manager="n")
    [file] = files(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    again = await opened(tmp_path).get(EVENTSINKS, KEY)
    assert (again["spec"]["name"], again["metadata"]["generation"]) == ("B", 2)
    for name in ("uid", "creationTimestamp", "labels", "annotations"):
        assert again["metadata"][name] == made["metadata"][name]
    assert [one["manager"] for one in again["metadata"]["managedFields"]] == ["m", "n"]
    assert "status" not in again


@pytest.mark.parametrize("spec", [{"tenant": "globex"}, {"webhook": {"url": "ftp://x"}}, {"unknown": 1}])
async def test_a_spec_that_a_server_would_reject_changes_nothing(tmp_path: Path, spec: dict[str, object]) -> None:
    api = opened(tmp_path)
    made = await make(api)
    with pytest.raises(Invalid):
        await api.replace(EVENTSINKS, {**made, "spec": {**made["spec"], **spec}})
    assert await api.get(EVENTSINKS, KEY) == made


@pytest.mark.parametrize("name", ["../a", ".", "A", "", "a" * 300])
async def test_an_invalid_name_creates_no_file(tmp_path: Path, name: str) -> None:
    api = opened(tmp_path)
    with pytest.raises(Invalid):
        await make(api, name) if name else await api.create(EVENTSINKS, {**body(), "metadata": {"name": "a", "namespace": ""}})
    assert files(tmp_path) == []


async def test_the_secrets_of_a_deleted_sink_are_deleted_from_disk(tmp_path: Path) -> None:
    api = opened(tmp_path)
    mine, other = await make(api), await make(api, "b")
    await api.create(SECRETS, owned("mine", mine))
    await api.create(SECRETS, owned("others", other))
    await api.delete(EVENTSINKS, KEY, uid=mine["metadata"]["uid"])
    again = opened(tmp_path)
    for resource, key in ((EVENTSINKS, KEY), (SECRETS, ("acme", "mine"))):
        with pytest.raises(NotFound):
            await again.get(resource, key)
    assert await again.get(SECRETS, ("acme", "others"))
    # As after an end between the two deletions.
    (tmp_path / "made" / "acme" / "b.json").unlink()
    assert list(opened(tmp_path).objects(SECRETS)) == []
    assert files(tmp_path) == []


async def test_a_failed_write_changes_nothing_and_a_partial_file_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = opened(tmp_path)
    made = await make(api)

    def full(file: Path, text: str, *, sync: bool = True) -> None:
        file.with_name(f".{file.name}.new").write_text(text[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("eventsink.standalone.storage.write_private", full)
        with pytest.raises(Unavailable, match="No space left"):
            await api.replace(EVENTSINKS, {**made, "spec": {**made["spec"], "name": "B"}})
        with pytest.raises(Unavailable):
            await make(api, "b")
    assert list(api.objects(EVENTSINKS)) == [made]
    [again] = opened(tmp_path).objects(EVENTSINKS)
    assert (again["metadata"]["name"], again["spec"]["name"]) == ("a", "A")


async def test_of_compiled_sinks_written_together_only_those_fail_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = opened(tmp_path)

    def one_fails(file: Path, text: str, *, sync: bool) -> None:
        if file.name == "sink-3.json":
            raise OSError(28, "No space left on device")
        write_private(file, text, sync=sync)

    def put(number: int) -> Awaitable[Object]:
        return write_secret(
            api,
            "_sinks",
            f"sink-{number}",
            kind=SINK_SECRET_TYPE,
            data={"a": "x"},
            labels={},
            annotations={},
            manager="m",
            resource_version="",
        )

    monkeypatch.setattr("eventsink.standalone.storage.write_private", one_fails)
    results = await asyncio.gather(*(put(number) for number in range(8)), return_exceptions=True)
    assert [number for number, one in enumerate(results) if isinstance(one, Unavailable)] == [3]
    expected = {f"sink-{number}" for number in range(8) if number != 3}
    assert {one["metadata"]["name"] for one in api.objects(SECRETS)} == expected
    assert {one["metadata"]["name"] for one in opened(tmp_path).objects(SECRETS)} == expected


OTHER_NAME = '{"metadata": {"namespace": "acme", "name": "b", "uid": "u", "generation": 1}, "spec": {}}'


@pytest.mark.parametrize("content", ["{", "[]", "{}", "[" * 100_000, OTHER_NAME])
async def test_a_sink_file_broken_by_hand_stops_the_start_and_deletes_nothing(tmp_path: Path, content: str) -> None:
    api = opened(tmp_path)
    await api.create(SECRETS, owned("mine", await make(api)))
    file = tmp_path / "made" / "acme" / "a.json"
    good = file.read_text()
    write_private(file, content)
    with pytest.raises(ValueError, match="cannot be read; restore it"):
        opened(tmp_path)
    file.write_text(good)
    assert await opened(tmp_path).get(SECRETS, ("acme", "mine"))


async def test_a_partial_file_left_by_a_kill_is_removed(tmp_path: Path) -> None:
    for name in ("objects", "made"):
        (tmp_path / name / "acme").mkdir(parents=True)
        (tmp_path / name / "acme" / ".a.json.new").write_text('{"data": "canary')
    opened(tmp_path)
    assert files(tmp_path) == []


async def test_only_what_cannot_be_made_again_is_synced_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = opened(tmp_path)
    await write(api, "1")  # makes the folder, which is synced
    await api.create(EVENTSINKS, body("first"), manager="m")
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    await write(api, "2")
    assert synced == []
    await api.create(EVENTSINKS, body(), manager="m")
    assert len(synced) == 2, "the file and its folder"
