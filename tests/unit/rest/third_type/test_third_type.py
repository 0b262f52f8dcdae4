"""A third destination type needs one module and one line, and no change of the package, to be managed by REST and at the terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process of its own does, since types are registered before the program is imported."""
    command = [sys.executable, "-m", "tests.unit.rest.third_type", str(tmp_path_factory.mktemp("pager"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_document_has_its_arguments_and_configuration(seen: dict[str, Any]) -> None:
    schemas = seen["schemas"]
    for name in ("EventSinkArgs", "EventSinkChanges", "Configuration"):
        assert set(schemas[name]["properties"]) == {"Slack", "Webhook", "Pager"}
    assert schemas["EventSinkResponse"]["properties"]["event_sink_type"]["enum"] == ["Slack", "Webhook", "Pager"]
    assert set(schemas["PagerArgs"]["properties"]) == {"service", "key", "team"}
    assert {"required": ["Pager"], "properties": {"Pager": {"type": "object"}}} in schemas["EventSinkArgs"]["oneOf"]


def test_its_arguments_become_a_spec_and_its_credentials_a_secret(seen: dict[str, Any]) -> None:
    pager = {"service": "https://pager.example/", "team": "ops", "keySecretRef": {"name": "own", "key": "key"}}
    assert seen["spec"] == {"tenant": "acme", "name": "Night", "pager": pager}
    assert seen["values"] == {"key": "key-canary"}
    assert seen["changed"]["pager"] == {**pager, "team": "night"}


def test_responses_show_its_configuration_without_credentials(seen: dict[str, Any]) -> None:
    assert seen["response"]["event_sink_type"] == "Pager"
    assert seen["response"]["configuration"] == {"Pager": {"service": "https://pager.example/", "team": "ops"}}


def test_errors_name_its_arguments(seen: dict[str, Any]) -> None:
    assert seen["sentence"] == "event_sink_args.Pager.key: not found"
    assert seen["rejected"] == [
        "event_sink_args.Pager.key: this field is required; add it",
        "event_sink_args.Pager.team: the name of a team consists of lower-case letters",
        "event_sink_args.Pager.colour: unknown field, remove it",
    ]


def test_the_command_line_has_its_options_and_shows_it_in_tables(seen: dict[str, Any]) -> None:
    assert seen["command"]["status"] == 0
    assert seen["command"]["sent"] == {
        "tenant_id": "acme",
        "name": "Night",
        "event_sink_args": {"Pager": {"service": "https://pager.example/", "key": "key-canary"}},
    }
    assert seen["command"]["table"].splitlines()[1].split()[1:4] == ["Alerts", "Pager", "ops"]
