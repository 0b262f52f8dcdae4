"""client.py imports nothing of the package: it is compared with the OpenAPI document, call by call and field by field."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_type_hints
from urllib.parse import parse_qsl, urlsplit

import pytest

from eventsink import client as module
from eventsink.client import (
    UNSET,
    Client,
    Delivering,
    Delivery,
    DeliveryTest,
    EventSink,
    Match,
    Mute,
    Slack,
    UnexpectedResponse,
    Webhook,
)
from eventsink.rest.http.openapi import document
from tests.unit.test_client import ID, KEY, ONE, ScriptedRestServer, Step

DOCUMENT = document()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
DESTINATIONS = {"Slack": Slack, "Webhook": Webhook}
CREDENTIALS = ("slack_oauth_code", "bot_token", "incoming_webhook_url")
NEXT_PAGE = {"event_sinks": [], "pagination": {"next_page_token": "t"}}


def filled(kind: type[Any], **values: Any) -> Any:
    """An instance with every field set."""
    samples = {"bool": True, "int": 1, "tuple[str, ...]": ("a",), "Mapping[str, str]": {"a": "b"}}
    samples["tuple[Mapping[str, Any], ...]"] = ({"a": "b"},)
    source = get_type_hints(kind)
    given = {one.name: samples.get(str(one.type).split(" | ")[0], "a") for one in fields(kind) if one.name in source}
    if "slack_template" in given:
        given["slack_template"] = {"title": "a", "body": "b"}
    if "auth" in given:
        oauth2 = {
            "token_url": "a",
            "client_id": "b",
            "client_secret": "c",
            "scopes": ["d"],
            "endpoint_params": [{"name": "e", "value": "f"}],
        }
        given["auth"] = {"basic": {"username": "a", "password": "b"}, "bearer": {"token": "a"}, "oauth2": oauth2}
    if "success_when" in given:
        given["success_when"] = {"statuses": [200], "pointer": "/ok", "equals": "true"}
    return kind(**{**given, **values})


@pytest.fixture
def server() -> Iterator[ScriptedRestServer]:
    one = ScriptedRestServer()
    yield one
    one.close()


@pytest.fixture
def asked(server: ScriptedRestServer) -> list[tuple[str, str, dict[str, str], Any]]:
    """The requests of all calls, with every argument given."""
    common = {"description": "d", "match": filled(Match), "delivery": filled(Delivery), "suspend": True, "mutes": [filled(Mute)]}
    link = {"url": "https://example.com/", "expires_at": "2026-01-01T00:00:00Z"}
    outcome = {"delivered": True, "status": "2xx", "reason": "", "message": "", "seconds": 0.1, "delivery_id": "d"}
    with Client(server.url, KEY) as client:
        server.script = [Step(body=ONE)]
        for destination in DESTINATIONS.values():
            client.create("acme", "n", filled(destination), idempotency_key="k", **common)
        for change in (filled(Slack, **dict.fromkeys(CREDENTIALS, UNSET)), filled(Webhook)):  # a Slack sink's credential stays
            client.update(ID, name="n", destination=change, if_match='"e"', **common)
        client.mute(ID, filled(Mute), if_match='"e"')
        client.unmute(ID, 1, if_match='"e"')
        client.get(ID)
        server.script = [Step(body=NEXT_PAGE), Step(body={**NEXT_PAGE, "pagination": None})]
        list(client.list("acme", page_size=1))
        server.script = [Step(body={"id": ID, "tenant_id": "acme"})]
        client.delete(ID)
        server.script = [Step(body=outcome)]
        client.test(ID)
        server.script = [Step(body=link)]
        client.install_slack(tenant_id="acme", name="n", channel="#c", description="d", id=ID)
    return server.asked


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """The object schema that a property refers to, itself or beside null."""
    for one in (schema, *schema.get("anyOf", ())):
        if "$ref" in one:
            found: dict[str, Any] = SCHEMAS[one["$ref"].rpartition("/")[2]]
            return found
    return {}


def compared(body: Any, schema: dict[str, Any], path: str, seen: dict[str, set[str]]) -> None:
    """Check that the schema knows every field of the body; note those that were sent."""
    properties = schema["properties"]
    assert set(body) <= set(properties), path
    seen.setdefault(path, set()).update(body)
    for name, value in body.items():
        if isinstance(value, dict) and (inner := resolved(properties[name])):
            compared(value, inner, f"{path}.{name}", seen)


def expected(schema: dict[str, Any], path: str) -> Iterator[tuple[str, set[str]]]:
    yield path, set(schema.get("properties", ()))
    for name, one in schema.get("properties", {}).items():
        if inner := resolved(one):
            yield from expected(inner, f"{path}.{name}")


def test_each_call_sends_every_documented_parameter_and_field(asked: list[tuple[str, str, dict[str, str], Any]]) -> None:
    seen: dict[str, set[str]] = {}
    wanted: dict[str, set[str]] = {}
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            form = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))
            calls = [one for one in asked if one[0] == method.upper() and re.fullmatch(form, urlsplit(one[1]).path)]
            assert calls, operation["operationId"]
            parameters = operation.get("parameters", ())
            for location in ("query", "header"):
                names = {one["name"].lower() for one in parameters if one["in"] == location}
                sent = [
                    {name for name, _ in parse_qsl(urlsplit(one[1]).query)} if location == "query" else set(one[2])
                    for one in calls
                ]
                assert names <= set().union(*sent), operation["operationId"]
            if "requestBody" in operation:
                schema = resolved(operation["requestBody"]["content"]["application/json"]["schema"])
                wanted.update(expected(schema, operation["operationId"]))
                for one in calls:
                    compared(one[3], schema, operation["operationId"], seen)
    assert seen == wanted


def test_every_field_of_a_response_is_read() -> None:
    renamed = {"type": "event_sink_type"}
    own = {"etag", "signing_secret", "raw"}
    shown = {renamed.get(one.name, one.name) for one in fields(EventSink)} - own
    assert shown == set(SCHEMAS["EventSinkResponse"]["properties"])
    for kind, name in ((DeliveryTest, "DeliveryTest"), (Delivering, "Delivering")):
        assert {one.name for one in fields(kind)} == set(SCHEMAS[name]["properties"])
    assert set(DESTINATIONS) == set(SCHEMAS["EventSinkArgs"]["properties"])


def test_every_documented_status_has_an_exception(server: ScriptedRestServer) -> None:
    statuses = {status for path in DOCUMENT["paths"].values() for one in path.values() for status in one["responses"]} - {"200"}
    for status in statuses:
        server.script = [Step(int(status), {"error": "a sentence"})]
        with Client(server.url, KEY, retries=0) as client, pytest.raises(module.EventSinkError, match="a sentence") as caught:
            client.get(ID)
        assert type(caught.value) not in (UnexpectedResponse, module.EventSinkError), status


def test_the_values_of_every_enumeration_are_documented_in_the_client() -> None:
    documented = dict(field_docs())
    for kind, schema in ((Match, "MatchArgs"), (Webhook, "WebhookArgs"), (Slack, "SlackArgs"), (Delivery, "DeliveryArgs")):
        for name, one in SCHEMAS[schema]["properties"].items():
            for choice in (value for inner in (one, *one.get("anyOf", ())) for value in inner.get("enum", ())):
                assert str(choice) in documented[kind.__name__, name]


def field_docs() -> Iterator[tuple[tuple[str, str], str]]:
    """Class and field of the client -> the text below the field."""
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef):
            for one, following in zip(node.body, node.body[1:], strict=False):
                if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                    text = following.value if isinstance(following, ast.Expr) else None
                    yield (node.name, one.target.id), str(text.value) if isinstance(text, ast.Constant) else ""


def test_unset_fields_are_not_sent() -> None:
    assert all(kind().to_json() == {} for kind in (Match, Delivery, Slack, Webhook))
    assert not UNSET
