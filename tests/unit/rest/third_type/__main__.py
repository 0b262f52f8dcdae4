"""Runs the REST API's functions and the command line with the type registered, and prints what they do as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from eventsink.destinations import registry

registry.register("pager", "tests.support.throwaway_destination")

from click.testing import CliRunner  # noqa: E402

from eventsink.cli import main  # noqa: E402
from eventsink.rest.body import read  # noqa: E402
from eventsink.rest.calls.messages import rest_sentence  # noqa: E402
from eventsink.rest.calls.responses import response_of  # noqa: E402
from eventsink.rest.calls.specs import changed_spec, new_spec  # noqa: E402
from eventsink.rest.errors import InvalidRequest  # noqa: E402
from eventsink.rest.http.openapi import document  # noqa: E402
from eventsink.rest.models import CreateRequest, UpdateRequest  # noqa: E402
from tests.unit.test_client import ID, SINK, ScriptedRestServer, Step  # noqa: E402

PAGER = {"service": "https://pager.example/", "key": "key-canary", "team": "ops"}
BODY = {"tenant_id": "acme", "name": "Night", "event_sink_args": {"Pager": PAGER}}


def rejected(**args: object) -> str:
    """The sentence about invalid arguments."""
    try:
        new_spec(read(CreateRequest, json.dumps({**BODY, "event_sink_args": {"Pager": args}}).encode()), "own", "")
    except InvalidRequest as error:
        return error.sentence
    return ""


def command(folder: Path) -> dict[str, object]:
    """What `eventsink sinks create` sends and prints."""
    server = ScriptedRestServer()
    (folder / "key").write_text("key-canary\n")
    shown = {**SINK, "event_sink_type": "Pager", "configuration": {"Pager": {"service": "https://pager.example/", "team": "ops"}}}
    server.script = [Step(body={"event_sink": shown})]
    where = [f"--server={server.url}", f"--key-file={folder / 'key'}"]
    made = ["--tenant=acme", "--name=Night", "--pager-service=https://pager.example/", f"--pager-key-file={folder / 'key'}"]
    try:
        done = CliRunner().invoke(main, ["sinks", "create", *made, *where])
    finally:
        server.close()
    return {"sent": server.asked[0][3], "table": done.stdout, "status": done.exit_code}


created = new_spec(read(CreateRequest, json.dumps(BODY).encode()), "own", "")
update = UpdateRequest.model_validate({"id": ID, "event_sink_args": {"Pager": {"team": "night"}}})
metadata = {"uid": ID, "name": "night", "namespace": "acme", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
obj = {"metadata": metadata, "spec": created.spec, "status": {"pager": {"team": "ops"}}}
print(
    json.dumps(
        {
            "schemas": document()["components"]["schemas"],
            "spec": created.spec,
            "values": created.values,
            "changed": changed_spec(created.spec, update, "other", "").spec,
            "response": json.loads(response_of(obj).model_dump_json(by_alias=True, exclude_none=True)),
            "sentence": rest_sentence("spec.pager.keySecretRef: not found"),
            "rejected": [
                rejected(service="https://pager.example/"),
                rejected(team="A", key="key-a", service="x"),
                rejected(colour="red"),
            ],
            "command": command(Path(sys.argv[1])),
        }
    )
)
