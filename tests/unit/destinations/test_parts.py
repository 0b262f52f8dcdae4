"""A process imports the parts of destination types that it needs, and no others: the router has nothing that reads credentials."""

from __future__ import annotations

import subprocess
import sys

import pytest

from eventsink.destinations import registry

ROUTER = """
import asyncio, json, sys
from types import SimpleNamespace
import eventsink.router.process
from eventsink.destinations.senders import open_sender
from eventsink.sinks.sender import Delivered, Message, SenderContext
from eventsink.sinks.sink import Sink
from eventsink.sinks.transport import Response

async def post(*_, **__):
    return Response(200, None, b"ok")

sink = {"uid": "u", "namespace": "n", "name": "s", "displayName": "S", "tenant": "acme", "compiledFrom": {"generation": 1},
        "destination": "d", "type": "webhook", "webhook": {"url": "https://example.com/"}}
alert = {"id": "a", "fingerprint": "f", "source": "am", "tenant": "acme", "status": "firing", "severity": "high", "name": "Disk",
         "startsAt": "2026-01-01T00:00:00Z"}

async def main():
    context = SenderContext(transport=SimpleNamespace(client=lambda *_, **__: SimpleNamespace(post=post)), session=None)
    sender = open_sender(Sink.model_validate(sink), context)
    assert isinstance(await sender.send(Message(id="m", alerts=[json.dumps(alert).encode()])), Delivered)
    slack = {**sink, "type": "slack", "slack": {"token": "xoxb-1", "teamId": "T", "channelId": "C"}}
    del slack["webhook"]
    open_sender(Sink.model_validate(slack), context)

asyncio.run(main())
print(*sys.modules)
"""

OPERATOR = """
import asyncio, sys
import eventsink.controller.process
from eventsink.controller.compile import compile_sink
from eventsink.controller.config import OperatorSettings
from eventsink.controller.resolvers import Resolvers
from eventsink.resources.eventsink import read_eventsink
from eventsink.sinks.sink import CompiledFrom

async def main():
    resolvers = Resolvers(OperatorSettings(), None, lambda namespace: ())
    sink = read_eventsink({"metadata": {"name": "s", "namespace": "n", "uid": "u"}, "spec": {
        "tenant": "acme", "name": "S", "webhook": {"url": "https://example.com/"}}})
    resolved = await resolvers["webhook"].resolve(sink, {}, namespace_uid="", before=None)
    assert compile_sink(sink, resolved.target, CompiledFrom(generation=1)).type == "webhook"
    await resolvers.close(0)

asyncio.run(main())
print(*sys.modules)
"""


def modules(program: str) -> set[str]:
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())


@pytest.mark.parametrize(
    ("program", "needed", "foreign"), [(ROUTER, "sender", "resolve"), (OPERATOR, "resolve", "sender")], ids=["router", "operator"]
)
def test_the_router_never_loads_resolvers_and_the_operator_never_loads_senders(program: str, needed: str, foreign: str) -> None:
    loaded = modules(program)
    for name in registry.names():
        assert f"eventsink.destinations.{name}.{needed}" in loaded
        assert f"eventsink.destinations.{name}.{foreign}" not in loaded


def test_without_a_cluster_its_client_is_not_loaded() -> None:
    loaded = modules("import eventsink.standalone.process, sys; print(*sys.modules)")
    assert "eventsink.router.process" in loaded
    assert not [name for name in loaded if name.partition(".")[0] == "kubernetes"]
