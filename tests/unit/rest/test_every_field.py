"""Whoever uses the REST API, the command line or the Python client can set every field of a spec that an EventSink can have."""

from __future__ import annotations

from dataclasses import fields

import pytest
from click.testing import CliRunner

from eventsink import client
from eventsink.cli import main
from eventsink.destinations import registry
from eventsink.destinations.arguments import arguments
from eventsink.destinations.options import options
from eventsink.rest.calls.messages import snake
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


def argument_of(name: str, field: str) -> str:
    """The argument that a field of a destination is made of."""
    destination = arguments()[name]
    return {**destination.fields, **destination.renamed}.get(field) or snake(field)


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=[f"{name}.{field}" for name, field in FIELDS])
def test_a_field_has_an_argument_that_the_document_the_page_the_client_and_the_command_line_have(name: str, field: str) -> None:
    argument = argument_of(name, field)
    destination = arguments()[name]
    assert argument in destination.create.model_fields
    assert argument in document()["components"]["schemas"][destination.create.__name__]["properties"]
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
