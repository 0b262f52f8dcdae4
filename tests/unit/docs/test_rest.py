"""docs/rest.md: its commands parse, its statuses are those of the API, and it names every argument."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from eventsink import cli
from eventsink.destinations.arguments import RestModel, arguments
from eventsink.rest import errors
from eventsink.rest.http.operations import OPERATIONS
from eventsink.rest.models import DeliveryArgs, MatchArgs
from tests.unit.docs.pages import between, page, rows

REST = page("rest.md")
LINES = re.findall(r"^ *(eventsink (?:keys|sinks) [^|>\n]*)", REST + page("standalone.md"), re.MULTILINE)
LINES += re.findall(r"`(eventsink keys create [^`]+)`", page("standalone.md"))
COMMANDS = [shlex.split(line, comments=True) for line in LINES]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_commands_parse(command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "code").write_text("x")
    (tmp_path / "sink.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVENTSINK_REST_KEY_FILE", "key")
    group = cli.main.get_command(click.Context(cli.main), command[1])
    assert isinstance(group, click.Group)
    with group.commands[command[2]].make_context(command[2], command[3:]):
        pass


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) >= 12


def test_the_statuses_are_those_of_the_api() -> None:
    listed = {int(status) for row in rows(between(REST, "## Errors", "\n## ")) for status in row[0].split(", ")}
    assert listed == {kind.status for kind in errors.RestError.__subclasses__()}
    assert listed - {405} == {status for one in OPERATIONS for status in one.errors}


def test_every_argument_is_named() -> None:
    models: list[type[RestModel]] = [MatchArgs, DeliveryArgs, *(one.create for one in arguments().values())]
    for model in models:
        for name in model.model_fields:
            assert re.search(rf"[`\"]{name}[`\"]", REST), name
