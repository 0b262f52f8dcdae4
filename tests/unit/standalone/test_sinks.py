"""What documents get that a cluster would give them: uids and generations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from eventsink.standalone.config import TOKENS_NAMESPACE, StandaloneSettings
from eventsink.standalone.documents import Document
from eventsink.standalone.sinks import Generation, eventsink_of, next_generations, uid_of


def documents(**specs: Any) -> dict[tuple[str, str, str], Document]:
    made = [Document("f", 1, "EventSink", "acme", name, {"spec": spec}) for name, spec in specs.items()]
    return {one.key: one for one in made}


EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


def test_a_generation_grows_and_its_time_moves_with_each_change_of_a_spec() -> None:
    first = next_generations({}, documents(a={"x": 1}, b={"x": 1}), EARLY)
    second = next_generations(first, documents(a={"x": 2}, b={"x": 1}), LATE)
    assert {sink: one.number for sink, one in second.items()} == {"acme/a": 2, "acme/b": 1}
    assert (second["acme/a"].created, second["acme/a"].changed) == ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    assert second["acme/b"] == first["acme/b"]
    assert next_generations(second, documents(b={"x": 1}), LATE) == {"acme/b": second["acme/b"]}


def test_a_sink_of_a_document_says_in_which_file_it_stands() -> None:
    document = Document("team/a.yaml", 1, "EventSink", "acme", "a", {"metadata": {"name": "a"}, "spec": {}})
    obj = eventsink_of(document, Generation(3, "", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"))
    assert obj["metadata"]["annotations"] == {"eventsink.dev/file": "team/a.yaml"}
    assert (obj["metadata"]["generation"], obj["metadata"]["creationTimestamp"]) == (3, "2026-01-01T00:00:00Z")
    assert obj["metadata"]["managedFields"][0]["time"] == "2026-01-02T00:00:00Z"


def test_a_uid_is_made_of_kind_namespace_and_name_and_stays() -> None:
    assert uid_of("EventSink", "acme", "alerts") == "5d58915b-5a69-501b-9bff-5f05a9eb6d4d"
    assert len({uid_of("EventSink", "a", "b"), uid_of("EventSink", "b", "a"), uid_of("Secret", "a", "b")}) == 3


def test_nothing_that_a_document_can_name_lies_where_credentials_are_kept() -> None:
    operator = StandaloneSettings().operator()
    assert operator.sinks_namespace.startswith("_")
    assert TOKENS_NAMESPACE.startswith("_")
    assert operator.tenancy.allow_unowned
