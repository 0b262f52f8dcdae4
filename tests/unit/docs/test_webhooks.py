"""docs/webhooks.md shows what is sent, how to verify it, and what a response means."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from eventsink.alerts.alert import Alert, Group, Links
from eventsink.alerts.formats import alertmanager
from eventsink.controller.config import OperatorSettings
from eventsink.destinations.webhook import cloudevents
from eventsink.destinations.webhook.sender import WebhookSender, classify
from eventsink.destinations.webhook.spec import DEFAULT_TIMEOUT
from eventsink.destinations.webhook.target import WebhookTarget
from eventsink.resources import defaults
from eventsink.router.dispatch.pace import FAILURES_UNTIL_SLOW
from eventsink.router.dispatch.retry import RetrySettings
from eventsink.router.dispatch.settings import DispatchSettings
from eventsink.runtime.retry_after import MAX_RETRY_AFTER_SECONDS
from eventsink.sinks.sender import Failed, Message
from eventsink.sinks.transport import Response
from tests.unit.destinations.sender_contract import ScriptedTransport, responded
from tests.unit.docs.pages import between, blocks, names, page, rows

WEBHOOKS = page("webhooks.md")
SECRET = "whsec_" + base64.b64encode(b"a secret of the tests alone").decode()


def test_the_example_event_is_what_is_sent() -> None:
    [shown] = [json.loads(block) for block in blocks(WEBHOOKS, "json")]
    alert, group = shown["data"], shown["data"]["group"]
    notification = {
        "version": "4",
        "groupKey": group["key"],
        "receiver": group["receiver"],
        "groupLabels": group["labels"],
        "commonLabels": group["commonLabels"],
        "externalURL": group["externalUrl"],
        "alerts": [
            {key: alert[key] for key in ("status", "labels", "annotations", "startsAt")}
            | {"generatorURL": alert["links"]["source"]}
        ],
    }
    [incoming] = alertmanager.parse(json.dumps(notification).encode()).alerts
    sent = cloudevents.event(msgspec.json.encode(incoming.identify(source="alertmanager", tenant="acme")))
    assert json.loads(sent) == shown


def test_every_member_of_an_event_is_explained() -> None:
    tables = between(WEBHOOKS, "## Body", "## Verify")
    attributes, members = (
        {name for row in rows(piece) for name in names(row[0])} for piece in tables.split("| member of `data` |", 1)
    )
    [shown] = [json.loads(block) for block in blocks(WEBHOOKS, "json")]
    assert attributes == shown.keys() - {"data", "specversion", "datacontenttype"} | {"cluster"}
    assert members == {field.encode_name for field in msgspec.structs.fields(Alert)}
    for nested in (Links, Group):
        for field in msgspec.structs.fields(nested):
            assert f"`{field.encode_name}`" in tables


async def sent(signing: tuple[str, ...]) -> tuple[dict[str, str], bytes]:
    """Headers (lower case) and body of a message as a sender posts it now."""
    transport = ScriptedTransport(responded(200))
    target = WebhookTarget(url="https://example.com/", signing_secrets=signing)
    await WebhookSender(target, transport, "acme").send(Message(id="store-1f", group=b'{"version": "4", "text": "\xc3\xa9"}'))
    _, headers, body = transport.posted[0]
    lines = headers.decode().removesuffix("\r\n").split("\r\n")
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


async def test_every_header_of_a_message_is_explained() -> None:
    headers, _ = await sent((SECRET,))
    listed = {name.lower() for row in rows(between(WEBHOOKS, "## Headers", "## Body")) for name in names(row[0])}
    assert listed == headers.keys() | {"spec.webhook.headers", "spec.webhook.auth"}


def verify_in_python() -> Callable[..., None]:
    [block] = blocks(WEBHOOKS, "python")
    module: dict[str, Callable[..., None]] = {}
    exec(block, module)
    return module["verify"]


async def test_the_python_example_verifies_only_what_is_sent() -> None:
    verify = verify_in_python()
    old = "whsec_" + base64.b64encode(b"the secret that was before").decode()
    headers, body = await sent((old, SECRET))
    verify(SECRET, headers, body)
    verify(old, headers, body)
    for changed in (
        {"secret": "whsec_" + base64.b64encode(b"another secret, never used").decode()},
        {"body": body + b" "},
        {"headers": headers | {"webhook-id": "store-20"}},
        {"headers": headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 301)}},
    ):
        with pytest.raises(ValueError):
            verify(**({"secret": SECRET, "headers": headers, "body": body} | changed))


@pytest.mark.parametrize("changed", [False, True])
async def test_the_shell_example_verifies_only_what_is_sent(changed: bool, tmp_path: Path) -> None:
    headers, body = await sent((SECRET,))
    (tmp_path / "body").write_bytes(body + b"\n" * changed)
    [script] = blocks(WEBHOOKS, "sh")
    variables = {"ID": "webhook-id", "TIMESTAMP": "webhook-timestamp", "SIGNATURE": "webhook-signature"}
    environment = {"PATH": os.environ["PATH"], "SECRET": SECRET} | {name: headers[value] for name, value in variables.items()}
    ended = subprocess.run(["sh", "-eu", "-c", script], cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout) == ((1, b"") if changed else (0, b"valid\n")), ended.stderr


@pytest.mark.parametrize("status", [*range(200, 600)])
def test_the_table_of_responses_is_that_of_the_program(status: int) -> None:
    listed = {code: row[1] for row in rows(between(WEBHOOKS, "## Responses", "Retries end at")) for code in names(row[0])}
    outcome = classify(Response(status, None, b""), "https://example.com", 0.0)
    expected = outcome.failure.value if isinstance(outcome, Failed) else "delivered"
    assert listed.get(str(status), listed[f"{status // 100}xx"]) == expected


def test_the_waits_on_the_pages_are_the_defaults() -> None:
    waits = RetrySettings()
    assert (waits.first, waits.longest, waits.probe_first, waits.probe_longest) == (1.0, 300.0, 30.0, 300.0)
    assert (FAILURES_UNTIL_SLOW, MAX_RETRY_AFTER_SECONDS) == (3, 3600.0)
    assert (defaults.MAX_AGE, DEFAULT_TIMEOUT) == ("72h", "10s")
    assert (DispatchSettings().concurrency, OperatorSettings().credential_grace) == (8, 600.0)
