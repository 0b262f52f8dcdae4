"""The `eventsink` command with an operator that compiles sinks as version 0.1 did: `python -m tests.support.operator_v0_1 operator`."""

from __future__ import annotations

from eventsink.cli import main
from eventsink.controller import reconcile
from eventsink.sinks.sink import Sink
from tests.support import sink_v0_1

NEW = Sink.to_json


def to_json(sink: Sink) -> str:
    """The document of that version: nothing is in it that it did not write."""
    document = sink_v0_1.Sink.model_validate_json(NEW(sink))
    return document.model_dump_json(by_alias=True, exclude_none=True)


if __name__ == "__main__":
    vars(reconcile)["COMPILER_VERSION"] = 0  # it recorded none, which reads as this
    Sink.to_json = to_json  # type: ignore[assignment]
    main()
