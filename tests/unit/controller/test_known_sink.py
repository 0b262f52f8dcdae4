"""What is kept of an EventSink."""

from __future__ import annotations

from typing import Any

import pytest

from eventsink.controller.known_sink import compact, known_sink

METADATA = {"namespace": "n", "name": "s", "uid": "u", "resourceVersion": "1", "generation": 3}


def eventsink(**more: Any) -> dict[str, Any]:
    return {"kind": "EventSink", "metadata": METADATA, **more}


def test_what_the_operator_reads_is_kept_and_nothing_else() -> None:
    labels = {"app.kubernetes.io/managed-by": "eventsink-rest", "team": "a"}
    given = METADATA | {"labels": labels, "managedFields": [{"manager": "m"}], "annotations": {"a": "b"}}
    spec, status = {"tenant": "acme", "name": "Alarme für alle"}, {"conditions": [{"type": "Ready", "status": "True"}]}
    obj = {"kind": "EventSink", "metadata": given, "spec": spec, "status": status}
    kept = compact(obj)
    known = known_sink(obj, kept)
    metadata = METADATA | {"labels": {"app.kubernetes.io/managed-by": "eventsink-rest"}}
    assert known.read() == {"metadata": metadata, "spec": spec, "status": status}
    assert (known.uid, known.resource_version, known.tenant, known.display_name) == ("u", "1", "acme", "Alarme für alle")


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({"conditions": [{"type": "Delivering", "status": "False"}, {"type": "Ready", "status": "True"}]}, "True"),
        ({"conditions": [{"type": "Ready", "status": "False"}]}, "False"),
        ({"conditions": [{"type": "Ready", "status": "Perhaps"}]}, "Unknown"),
        ({"conditions": [None, {"status": "True"}]}, "Unknown"),
        ({"conditions": "True"}, "Unknown"),
        (None, "Unknown"),
    ],
)
def test_the_condition_ready_is_read_of_any_status(status: Any, ready: str) -> None:
    assert known_sink(eventsink(status=status), b"").ready == ready


@pytest.mark.parametrize("spec", [None, "text", {}, {"tenant": ["acme"], "name": "a"}, {"tenant": "acme", "name": 1}])
def test_an_eventsink_without_a_name_that_can_be_read_has_none(spec: Any) -> None:
    assert known_sink(eventsink(spec=spec), b"").display_name is None
