"""The `eventsink` command with a router that sees of compiled sinks what version 0.1 saw: `python -m tests.support.older_router router`."""

from __future__ import annotations

from eventsink.cli import main
from eventsink.kube.api import Object
from eventsink.kube.secrets import secret_data
from eventsink.router import watch
from eventsink.sinks.sink import SINK_SECRET_KEY, Sink
from tests.support import sink_v0_1


def read_sink(secret: Object) -> Sink:
    """The sink as that version read it, with nothing that it did not know."""
    seen = sink_v0_1.Sink.model_validate_json(secret_data(secret)[SINK_SECRET_KEY])
    return Sink.model_validate_json(seen.model_dump_json(by_alias=True, exclude_none=True))


if __name__ == "__main__":
    vars(watch)["read_sink"] = read_sink
    main()
