"""Whoever uses the REST API, the command line or the Python client can set every field of a spec that an EventSink can have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_args

import pytest
from click.testing import CliRunner

from eventsink import client
from eventsink.cli import main
from eventsink.destinations import registry
from eventsink.destinations.arguments import arguments
from eventsink.destinations.options import options
from eventsink.resources.model import SecretKeyRef, SpecModel, TlsSecretRef
from eventsink.resources.spec import EventSinkSpec
from eventsink.rest.calls.messages import rest_path, snake
from eventsink.rest.http.openapi import document
from tests.unit.docs.pages import page

FIELDS = [
    (name, info.alias or field)
    for name in registry.names()
    for field, info in registry.load(name, "spec").SPEC.model_fields.items()
]
NOT_AT_THE_TERMINAL: dict[str, str] = {
    "slack_template": "two texts of several lines each: in a file (-f)",
    "success_when": "an object: in a file (-f)",
}
"""Argument -> why the command line has no option for it."""


def paths(annotation: Any, path: str) -> Iterator[str]:
    """The paths of all fields of a spec, at any depth; what a reference to a Secret consists of is no setting."""
    if not isinstance(annotation, type):
        for inner in get_args(annotation):
            yield from paths(inner, path)
    elif issubclass(annotation, SpecModel) and annotation not in (SecretKeyRef, TlsSecretRef):
        for name, info in annotation.model_fields.items():
            inner_path = f"{path}.{info.alias or name}"
            yield inner_path
            yield from paths(info.annotation, inner_path)


PATHS = list(paths(EventSinkSpec, "spec"))
SCHEMAS = document()["components"]["schemas"]


def has(schema: dict[str, Any], steps: list[str]) -> bool:
    """Whether a request of this schema can have a field, given by its path."""
    if (reference := schema.get("$ref")) is not None:
        return has(SCHEMAS[reference.rpartition("/")[2]], steps)
    if not steps:
        return True
    inner = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())]
    if any(has(one, steps) for one in inner):
        return True
    return steps[0] in schema.get("properties", {}) and has(schema["properties"][steps[0]], steps[1:])


@pytest.mark.parametrize("path", PATHS)
def test_a_field_at_any_depth_has_its_field_in_requests_and_on_the_page(path: str) -> None:
    steps = rest_path(path).split(".")
    assert has({"$ref": "CreateRequest"}, steps), steps
    assert f"`{steps[-1]}`" in page("rest.md") or f'"{steps[-1]}"' in page("rest.md"), steps


def test_the_fields_are_found_at_any_depth() -> None:
    assert {"spec.webhook.auth.oauth2.endpointParams.name", "spec.webhook.tls.serverName", "spec.slack.mentions.here"} < set(
        PATHS
    )
    assert not has({"$ref": "CreateRequest"}, ["event_sink_args", "Webhook", "auth", "digest"])


def argument_of(name: str, field: str) -> str:
    """The argument that a field of a destination is made of."""
    destination = arguments()[name]
    return {**destination.fields, **destination.renamed}.get(field) or snake(field)


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=[f"{name}.{field}" for name, field in FIELDS])
def test_a_field_has_an_argument_that_the_document_the_page_the_client_and_the_command_line_have(name: str, field: str) -> None:
    argument = argument_of(name, field)
    destination = arguments()[name]
    assert argument in destination.create.model_fields
    assert argument in SCHEMAS[destination.create.__name__]["properties"]
    assert f"`{argument}`" in page("rest.md") or f'"{argument}"' in page("rest.md")
    assert argument in {one.name for one in fields(getattr(client, destination.display_name))}
    if argument not in NOT_AT_THE_TERMINAL:
        found = {one.name: one.option for type_ in options().values() for one in (*type_.arguments, *type_.create_arguments)}
        shown = CliRunner().invoke(main, ["sinks", "create", "--help"]).output
        assert any(name in shown for name in found[argument].opts)


def test_what_is_no_credential_can_be_changed() -> None:
    for name, field in FIELDS:
        argument, destination = argument_of(name, field), arguments()[name]
        assert argument in destination.change.model_fields or field.endswith("SecretRef"), argument
