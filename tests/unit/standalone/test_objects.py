"""The objects of one process answer as an API server would."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eventsink.destinations.slack.tokens import SecretTokenStore, TokenRecord
from eventsink.kube.api import (
    SECRETS,
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    Key,
    NotFound,
    Object,
    Resource,
    Unavailable,
    delete_if_same,
)
from eventsink.kube.secrets import apply_secret, secret_data
from eventsink.resources.names import EVENTSINKS
from eventsink.runtime.files import write_private
from eventsink.standalone.made import MadeSinks
from eventsink.standalone.objects import LocalObjects


class Told:
    """What the listeners heard."""

    def __init__(self) -> None:
        self.secrets: list[tuple[Key, bool]] = []
        self.sinks: list[Object] = []
        self.made: list[tuple[Key, bool]] = []

    def objects(self, folder: Path) -> LocalObjects:
        one = LocalObjects(
            folder,
            MadeSinks(folder.with_name(f"{folder.name}-made")),
            secret_changed=lambda key, obj: self.secrets.append((key, obj is not None)),
            sink_changed=self.sinks.append,
            sink_made=lambda key, obj: self.made.append((key, obj is not None)),
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
    assert secret_data(await again.get(SECRETS, ("_sinks", "sink-1"))) == {"a": b"x"}
    assert told.secrets == [(("_sinks", "sink-1"), True)] * 2


async def test_a_deleted_secret_is_gone_for_good(tmp_path: Path) -> None:
    told = Told()
    objects = told.objects(tmp_path)
    await write(objects, "x")
    key = ("_sinks", "sink-1")
    assert not await delete_if_same(objects, SECRETS, key, resource_version="another")
    assert await delete_if_same(objects, SECRETS, key)
    assert not await delete_if_same(objects, SECRETS, key)
    with pytest.raises(NotFound):
        await told.objects(tmp_path).get(SECRETS, ("_sinks", "sink-1"))
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
    assert await objects.get(SECRETS, ("_sinks", "sink-1"))
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

    async def apply(manager: str, condition: str, version: str | None = None) -> Object:
        metadata = {"namespace": "acme", "name": "a", **({"resourceVersion": version} if version else {})}
        body = {"metadata": metadata, "status": {"conditions": [{"type": condition}]}}
        return await objects.apply(EVENTSINKS, body, manager=manager, subresource="status")

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
        await Told().objects(tmp_path).get(Resource("", "v1", "pods", "Pod"), ("a", "b"))


def test_a_broken_object_counts_as_none(tmp_path: Path) -> None:
    write_private(tmp_path / "_sinks" / "sink-1.json", "{")
    told = Told()
    told.objects(tmp_path)
    assert told.secrets == []


# ---- EventSinks that programs make

ONE = ("acme", "a")
SPEC = {"tenant": "acme", "name": "A", "webhook": {"url": "https://example.com/"}}


def body(name: str = "a", **spec: object) -> Object:
    return {
        "apiVersion": "eventsink.dev/v1alpha1",
        "kind": "EventSink",
        "metadata": {"name": name, "namespace": "acme", "labels": {"l": "1"}, "annotations": {"n": "1"}},
        "spec": {**SPEC, **spec},
    }


async def apply(objects: LocalObjects, conditions: list[Object]) -> Object:
    body = {"metadata": {"namespace": "acme", "name": "a"}, "status": {"conditions": conditions}}
    return await objects.apply(EVENTSINKS, body, manager="m", subresource="status")


async def make(objects: LocalObjects, name: str = "a") -> Object:
    return await objects.create(EVENTSINKS, body(name), manager="m")


async def test_a_made_sink_has_what_a_server_gives_it_and_outlives_the_process(tmp_path: Path) -> None:
    told = Told()
    objects = told.objects(tmp_path / "o")
    made = await make(objects)
    metadata = made["metadata"]
    assert (metadata["generation"], metadata["labels"], metadata["annotations"]) == (1, {"l": "1"}, {"n": "1"})
    assert metadata["managedFields"] == [{"manager": "m", "operation": "Update", "time": metadata["creationTimestamp"]}]
    assert told.made == [(("acme", "a"), True)]
    [file] = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert file.stat().st_mode & 0o777 == 0o600
    again = await Told().objects(tmp_path / "o").get(EVENTSINKS, ONE)
    kept = ("uid", "generation", "creationTimestamp", "managedFields", "labels", "annotations")
    assert {name: again["metadata"][name] for name in kept} == {name: metadata[name] for name in kept}
    assert again["spec"] == made["spec"]
    with pytest.raises(Conflict):
        await make(objects)


async def test_a_change_of_a_spec_counts_and_what_changes_nothing_does_not(tmp_path: Path) -> None:
    told = Told()
    objects = told.objects(tmp_path / "o")
    made = await make(objects)
    same = await objects.replace(EVENTSINKS, made)
    assert same == made
    await apply(objects, [])
    with pytest.raises(Conflict):
        await objects.replace(EVENTSINKS, {**made, "spec": {**made["spec"], "name": "B"}})
    known = await objects.get(EVENTSINKS, ONE)
    changed = await objects.replace(EVENTSINKS, {**known, "spec": {**made["spec"], "name": "B"}}, manager="n")
    assert (changed["metadata"]["generation"], changed["metadata"]["uid"]) == (2, made["metadata"]["uid"])
    assert changed["metadata"]["managedFields"][0]["manager"] == "n"
    again = await Told().objects(tmp_path / "o").get(EVENTSINKS, ONE)
    assert (again["spec"]["name"], again["metadata"]["generation"]) == ("B", 2)


@pytest.mark.parametrize("spec", [{"tenant": "globex"}, {"webhook": {"url": "ftp://x"}}, {"unheard": 1}])
async def test_what_no_server_would_take_changes_nothing(tmp_path: Path, spec: dict[str, object]) -> None:
    objects = Told().objects(tmp_path / "o")
    made = await make(objects)
    with pytest.raises(Invalid):
        await objects.replace(EVENTSINKS, {**made, "spec": {**made["spec"], **spec}})
    assert await objects.get(EVENTSINKS, ONE) == made


@pytest.mark.parametrize("name", ["../a", ".", "A", "", "a" * 300])
async def test_a_name_that_is_none_makes_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid):
        await make(Told().objects(tmp_path / "o"), name)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


async def test_a_deleted_sink_takes_the_secrets_with_it_that_it_owns(tmp_path: Path) -> None:
    told = Told()
    objects = told.objects(tmp_path / "o")
    made, other = await make(objects), await make(objects, "b")
    for name, uid in (("mine", made["metadata"]["uid"]), ("others", other["metadata"]["uid"])):
        owner = {"metadata": {"name": name, "namespace": "acme", "ownerReferences": [{"uid": uid}]}, "type": "eventsink.dev/rest"}
        await objects.create(SECRETS, owner)
    with pytest.raises(Conflict):
        await objects.delete(EVENTSINKS, ONE, uid="another")
    await objects.delete(EVENTSINKS, ONE, uid=made["metadata"]["uid"])
    assert told.made[-1] == (("acme", "a"), False)
    assert told.secrets[-1] == (("acme", "mine"), False)
    for resource, key in ((EVENTSINKS, ONE), (SECRETS, ("acme", "mine"))):
        with pytest.raises(NotFound):
            await objects.get(resource, key)
    assert await objects.get(SECRETS, ("acme", "others"))
    # As after an end between the two deletions.
    (tmp_path / "o-made" / "acme" / "b.json").unlink()
    again = Told()
    with pytest.raises(NotFound):
        await again.objects(tmp_path / "o").get(SECRETS, ("acme", "others"))
    assert again.secrets == []


async def test_a_sink_that_is_made_anew_has_nothing_of_the_one_before(tmp_path: Path) -> None:
    objects = Told().objects(tmp_path / "o")
    first = await make(objects)
    await apply(objects, [{"type": "Ready"}])
    await objects.delete(EVENTSINKS, ONE)
    second = await make(objects)
    assert second["status"] == {"conditions": []}
    assert second["metadata"]["uid"] != first["metadata"]["uid"]


async def test_a_sink_of_a_document_is_read_here_and_changed_in_its_file(tmp_path: Path) -> None:
    objects = Told().objects(tmp_path / "o")
    document = body()
    document["metadata"] |= {"uid": "u", "annotations": {"eventsink.dev/file": "team/a.yaml"}}
    objects.put_sink(("acme", "a"), document)
    known = await objects.get(EVENTSINKS, ONE)
    for call in (objects.replace(EVENTSINKS, known), objects.delete(EVENTSINKS, ONE)):
        with pytest.raises(Forbidden, match="stands in the file team/a"):
            await call
    with pytest.raises(Conflict):
        await make(objects)


async def test_who_listens_hears_of_every_sink_and_every_change_each_newer_than_the_one_before(tmp_path: Path) -> None:
    objects = Told().objects(tmp_path / "o")
    await make(objects)
    heard: list[tuple[Key, Object | None]] = []
    objects.watch_sinks(lambda key, obj: heard.append((key, obj)))
    await apply(objects, [])
    objects.put_sink(("acme", "b"), body("b"))
    objects.drop_sink(("acme", "b"))
    await objects.delete(EVENTSINKS, ONE)
    assert [(key[1], obj is not None) for key, obj in heard] == [
        ("a", True),
        ("a", True),
        ("b", True),
        ("b", False),
        ("a", False),
    ]
    versions = [int(obj["metadata"]["resourceVersion"]) for _, obj in heard if obj is not None]
    assert versions == sorted(set(versions))


async def test_a_write_that_fails_changes_nothing_and_half_a_file_counts_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    objects = told.objects(tmp_path / "o")
    made = await make(objects)

    def full(file: Path, text: str) -> None:
        file.with_name(f".{file.name}.new").write_text(text[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("eventsink.standalone.made.write_private", full)
        with pytest.raises(Unavailable, match="No space left"):
            await objects.replace(EVENTSINKS, {**made, "spec": {**made["spec"], "name": "B"}})
        with pytest.raises(Unavailable):
            await make(objects, "b")
    assert await objects.get(EVENTSINKS, ONE) == made
    assert [one for one, _ in told.made] == [("acme", "a")]
    again = Told().objects(tmp_path / "o")
    assert list(again.sinks) == [("acme", "a")]
    assert again.sinks["acme", "a"]["spec"]["name"] == "A"


OTHER_NAME = '{"metadata": {"namespace": "acme", "name": "b", "uid": "u", "generation": 1}, "spec": {}}'


@pytest.mark.parametrize("content", ["{", "[]", "{}", OTHER_NAME])
async def test_a_made_sink_whose_file_was_changed_by_hand_stops_the_start_and_loses_nothing(tmp_path: Path, content: str) -> None:
    objects = Told().objects(tmp_path / "o")
    made = await make(objects)
    owner = {"metadata": {"name": "mine", "namespace": "acme", "ownerReferences": [{"uid": made["metadata"]["uid"]}]}}
    await objects.create(SECRETS, {**owner, "type": "eventsink.dev/rest"})
    file = tmp_path / "o-made" / "acme" / "a.json"
    good = file.read_text()
    write_private(file, content)
    with pytest.raises(ValueError, match="cannot be read; restore it"):
        Told().objects(tmp_path / "o")
    file.write_text(good)
    assert await Told().objects(tmp_path / "o").get(SECRETS, ("acme", "mine"))


async def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    for name in ("o", "o-made"):
        (tmp_path / name / "acme").mkdir(parents=True)
        (tmp_path / name / "acme" / ".a.json.new").write_text('{"data": "canary')
    Told().objects(tmp_path / "o")
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
