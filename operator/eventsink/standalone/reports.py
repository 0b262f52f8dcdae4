"""Logs what a person at a terminal wants to know of sinks: ready or not, with file and line, and how delivery goes."""

from __future__ import annotations

from eventsink.kube.api import Key, Object
from eventsink.resources.eventsink import InvalidSpec, read_spec
from eventsink.resources.status import DELIVERING
from eventsink.runtime.logs import get_logger
from eventsink.standalone.apply import DocumentApplier
from eventsink.standalone.documents import Document


class SinkLog:
    """Logs the operator's Events (`event`), and of EventSinks (`upsert`, `delete`) each change of `Delivering`."""

    def __init__(self, documents: DocumentApplier) -> None:
        self._documents = documents
        self._delivering: dict[Key, tuple[str, str]] = {}

    def upsert(self, key: Key, obj: Object) -> None:
        """An EventSink changed."""
        conditions = (obj.get("status") or {}).get("conditions") or ()
        found = next((one for one in conditions if one["type"] == DELIVERING), None)
        if found is None:
            return
        before, self._delivering[key] = self._delivering.get(key), (found["status"], found["reason"])
        if before != self._delivering[key] and found["reason"] != "NothingSent":
            get_logger().info(
                "delivery to a sink",
                sink="/".join(key),
                delivering=found["status"],
                reason=found["reason"],
                message=found["message"],
            )

    def delete(self, key: Key) -> None:
        """An EventSink is gone."""
        self._delivering.pop(key, None)

    def event(self, event: Object) -> None:
        """The operator created an Event."""
        involved = event["involvedObject"]
        key = (involved["namespace"], involved["name"])
        facts = {"sink": "/".join(key), "reason": event["reason"], "message": event["message"]}
        if event["type"] == "Normal":
            get_logger().info("a sink is ready", **facts)
            return
        document = self._documents.document(key)
        if document is None:
            get_logger().warning("a sink is not ready", **facts)
            return
        path = involved.get("fieldPath", "")
        get_logger().warning("a sink is not ready", **facts, file=document.file, line=document.line_of(path), field=path)
        for path, line, message in spec_errors(document)[1:]:
            get_logger().warning(
                "a sink is not ready", **{**facts, "message": message}, file=document.file, line=line, field=path
            )


def spec_errors(document: Document) -> list[tuple[str, int, str]]:
    """What is wrong with the spec of an EventSink by itself: path, line, sentence."""
    try:
        read_spec(document.object.get("spec"))
    except InvalidSpec as invalid:
        return [(error.path, document.line_of(error.path), error.message) for error in invalid.errors]
    return []
