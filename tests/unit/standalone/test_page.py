"""docs/standalone.md holds what the program has."""

from __future__ import annotations

import re

from eventsink.controller.config import OperatorSettings
from eventsink.rest.config import FacadeSettings
from eventsink.router.config import RouterSettings
from eventsink.runtime.process import ExitStatus
from eventsink.standalone.config import StandaloneSettings
from tests.unit.docs.pages import PACKAGE, between, names, page, rows
from tests.unit.docs.test_settings import line_of, settings_rows

PAGE = page("standalone.md")


def test_each_setting_of_standalone_alone_is_documented() -> None:
    elsewhere = settings_rows(RouterSettings) + settings_rows(OperatorSettings) + settings_rows(FacadeSettings, "rest.")
    own = [row for row in settings_rows(StandaloneSettings) if row not in elsewhere]
    assert [line_of(row) for row in rows(between(PAGE, "## Settings", "\n## "))] == [line_of(row) for row in own]


def test_each_group_of_shared_settings_is_named() -> None:
    text = between(PAGE, "All others are", "`queue.path` is rejected")
    fields = {(field.alias or name).split(".")[0] for name, field in StandaloneSettings.model_fields.items()}
    assert set(names(text)) == (fields | {"slackApp", "sources[]"}) - {
        "folder",
        "tenancy",
        "credential_grace",
        "credentialGrace",
        "slack_app",
        "sources",
    }


def test_the_log_messages_are_those_of_the_program() -> None:
    source = "".join(file.read_text() for file in sorted(PACKAGE.rglob("*.py")))
    for words in re.findall(r"`((?:an?|sink|delivery|file|document) [a-z ;\n]+)`", PAGE):
        assert f'"{" ".join(words.split())}"' in source, words


def test_the_files_of_the_data_folder_are_those_of_the_program() -> None:
    source = "".join(file.read_text() for file in sorted((PACKAGE / "standalone").rglob("*.py")))
    listed = rows(between(PAGE, "## The data folder", "Copy it as a whole"))
    assert len(listed) == 9
    for row in listed:
        assert f'"{names(row[0])[0].rstrip("/")}"' in source


def test_the_exit_statuses_are_those_of_the_program() -> None:
    listed = {int(row[0]) for row in rows(PAGE.split("## Exit status", 1)[1])}
    assert listed == {ExitStatus.DONE, ExitStatus.FAILED, ExitStatus.USAGE}
