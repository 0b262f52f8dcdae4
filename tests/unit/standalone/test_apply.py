"""Documents on the local API get what a cluster would give them: uids, generations, namespaces."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from eventsink.kube.api import NAMESPACES, SECRETS, Object
from eventsink.kube.local import LocalApi
from eventsink.resources.names import EVENTSINKS
from eventsink.standalone.apply import DocumentApplier, Generation, eventsink_of, next_generations, uid_of
from eventsink.standalone.config import TOKENS_NAMESPACE, StandaloneSettings
from eventsink.standalone.documents import Document


def documents(**specs: Any) -> dict[tuple[str, str, str], Document]:
    made = [Document("f", 1, "EventSink", "acme", name, {"spec": spec}) for name, spec in specs.items()]
    return {one.key: one for one in made}


EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


def test_a_change_of_a_spec_increments_the_generation_and_moves_its_time() -> None:
    first = next_generations({}, documents(a={"x": 1}, b={"x": 1}), EARLY)
    second = next_generations(first, documents(a={"x": 2}, b={"x": 1}), LATE)
    assert {sink: one.number for sink, one in second.items()} == {"acme/a": 2, "acme/b": 1}
    assert (second["acme/a"].created, second["acme/a"].changed) == ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    assert second["acme/b"] == first["acme/b"]
    assert next_generations(second, documents(b={"x": 1}), LATE) == {"acme/b": second["acme/b"]}


def test_a_sink_of_a_document_names_its_file() -> None:
    document = Document("team/a.yaml", 1, "EventSink", "acme", "a", {"metadata": {"name": "a"}, "spec": {}})
    obj = eventsink_of(document, Generation(3, "", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"))
    assert obj["metadata"]["annotations"] == {"eventsink.dev/file": "team/a.yaml"}
    assert (obj["metadata"]["generation"], obj["metadata"]["creationTimestamp"]) == (3, "2026-01-01T00:00:00Z")
    assert obj["metadata"]["managedFields"][0]["time"] == "2026-01-02T00:00:00Z"


def test_a_uid_is_derived_from_kind_namespace_and_name() -> None:
    assert uid_of("EventSink", "acme", "alerts") == "5d58915b-5a69-501b-9bff-5f05a9eb6d4d"
    assert len({uid_of("EventSink", "a", "b"), uid_of("EventSink", "b", "a"), uid_of("Secret", "a", "b")}) == 3


def test_no_document_can_be_in_the_namespaces_of_credentials() -> None:
    operator = StandaloneSettings().operator()
    assert operator.sinks_namespace.startswith("_")
    assert TOKENS_NAMESPACE.startswith("_")
    assert operator.tenancy.allow_unowned


API_RESOURCES = (EVENTSINKS, SECRETS, NAMESPACES)


def document(kind: str, name: str, *, file: str = "f.yaml", namespace: str = "acme", **content: Any) -> Document:
    metadata: Object = {"name": name} | ({"namespace": namespace} if namespace else {})
    metadata |= content.pop("metadata", {})
    return Document(file, 1, kind, namespace, name, {"kind": kind, "metadata": metadata, **content})


def sink_document(name: str = "a", *, file: str = "f.yaml", **spec: Any) -> Document:
    return document("EventSink", name, file=file, spec={"tenant": "acme", "name": name, **spec})


def secret_document(value: str) -> Document:
    return document("Secret", "s", data={"k": value})


class AppliedDocuments:
    """A local API to which documents are applied."""

    def __init__(self) -> None:
        self.api = LocalApi(API_RESOURCES)
        self.applier = DocumentApplier(self.api)
        self._generations: dict[str, Generation] = {}

    def apply(self, *given: Document) -> None:
        known = {one.key: one for one in given}
        self._generations = next_generations(self._generations, known, EARLY)
        self.applier.apply(known, self._generations)

    def names(self, resource: Any) -> list[str]:
        return sorted(one["metadata"]["name"] for one in self.api.objects(resource))


async def test_the_api_has_exactly_the_objects_of_the_documents() -> None:
    one = AppliedDocuments()
    one.apply(sink_document("a"), sink_document("b"), secret_document("eA=="))
    first = await one.api.get(EVENTSINKS, ("acme", "a"))
    one.apply(sink_document("a"), sink_document("b", description="new"), secret_document("eQ=="))
    assert await one.api.get(EVENTSINKS, ("acme", "a")) is first, "an unchanged object is not written"
    changed = await one.api.get(EVENTSINKS, ("acme", "b"))
    assert (changed["spec"]["description"], changed["metadata"]["generation"]) == ("new", 2)
    one.apply(sink_document("b", description="new"))
    assert (one.names(EVENTSINKS), one.names(SECRETS)) == (["b"], [])


async def test_a_sink_moved_to_another_file_keeps_its_uid_and_generation() -> None:
    one = AppliedDocuments()
    one.apply(sink_document(file="a.yaml"))
    before = await one.api.get(EVENTSINKS, ("acme", "a"))
    one.apply(sink_document(file="b.yaml"))
    after = await one.api.get(EVENTSINKS, ("acme", "a"))
    for name in ("uid", "generation"):
        assert after["metadata"][name] == before["metadata"][name]
    assert after["metadata"]["annotations"]["eventsink.dev/file"] == "b.yaml"


async def test_the_version_of_a_documents_secret_depends_only_on_its_data() -> None:
    versions = []
    for value in ("eA==", "eQ==", "eA=="):
        one = AppliedDocuments()
        one.apply(secret_document(value))
        versions.append((await one.api.get(SECRETS, ("acme", "s")))["metadata"]["resourceVersion"])
    assert versions[0] == versions[2] != versions[1]


async def test_a_namespace_exists_if_a_document_defines_or_uses_it() -> None:
    one = AppliedDocuments()
    labelled = document("Namespace", "owner", namespace="", metadata={"labels": {"eventsink.dev/tenant": "acme"}})
    one.apply(labelled, sink_document())
    one.applier.use_namespace("made")
    assert one.names(NAMESPACES) == ["acme", "made", "owner"]
    owner = await one.api.get(NAMESPACES, ("", "owner"))
    assert owner["metadata"]["labels"] == {"eventsink.dev/tenant": "acme"}
    one.apply(labelled, sink_document())
    assert await one.api.get(NAMESPACES, ("", "owner")) is owner
    one.apply(document("Namespace", "owner", namespace="", metadata={"labels": {}}))
    assert (await one.api.get(NAMESPACES, ("", "owner")))["metadata"]["labels"] == {}
    assert one.names(NAMESPACES) == ["owner"]


async def test_a_document_takes_effect_once_the_created_sink_of_its_name_is_deleted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = AppliedDocuments()
    made = {"metadata": {"name": "a", "namespace": "acme"}, "spec": {"tenant": "acme", "name": "made"}}
    await one.api.create(EVENTSINKS, made)
    one.apply(sink_document("a"), sink_document("b"))
    assert (await one.api.get(EVENTSINKS, ("acme", "a")))["spec"]["name"] == "made"
    assert one.applier.document(("acme", "a")) is None
    await one.api.delete(EVENTSINKS, ("acme", "a"))
    one.applier.sink_deleted(("acme", "a"))
    assert (await one.api.get(EVENTSINKS, ("acme", "a")))["spec"]["name"] == "a"
    assert one.applier.document(("acme", "a")) is not None
