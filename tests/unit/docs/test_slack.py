"""docs/slack.md shows a sink that is accepted, and what each of Slack's errors means."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
import yaml
from click.testing import CliRunner

from eventsink.cli import main
from eventsink.destinations.slack.api import ERRORS, check_hook_url, web_client
from eventsink.destinations.slack.codes import RENEW_AHEAD_SECONDS
from eventsink.destinations.slack.config import SlackAppSettings, SlackSettings
from eventsink.destinations.slack.spec import SlackSpec
from eventsink.resources.eventsink import read_eventsink
from eventsink.rest.config import SlackInstallSettings
from tests.unit.docs.pages import between, blocks, marked, names, page, rows

SLACK = page("slack.md")


def test_the_examples_are_accepted() -> None:
    text, *more = blocks(SLACK, "yaml")
    manifest = yaml.safe_load(text)
    manifest["metadata"] |= {"uid": "u", "generation": 1, "resourceVersion": "1"}
    for one in more:
        manifest["spec"]["slack"] |= yaml.safe_load(one)["slack"]
    assert read_eventsink(manifest).spec.type == "slack"


def test_each_credential_is_named() -> None:
    fields = {field.alias for name, field in SlackSpec.model_fields.items() if name.endswith("_secret_ref")}
    shown = {name for row in rows(between(SLACK, "## Which credential", "```")) for name in names(row[1])}
    assert shown == fields | {"channel"}


def test_each_documented_error_is_in_the_table_with_its_class_and_what_to_do() -> None:
    listed = rows(SLACK.split("## When Slack rejects a message", 1)[1])
    assert [names(row[0])[0] for row in listed] == [names(f"`{name}`")[0] for name in sorted(ERRORS, key=_order)]
    for name, failure, action in listed:
        expected, hint = ERRORS[names(name)[0]]
        assert failure.removeprefix("of the ") == expected.value
        assert action.replace("\\<", "<").lower() == (f"{hint}.".lower() if hint else "–")


def _order(name: str) -> tuple[int, str]:
    return ["sink", "message", "transient"].index(ERRORS[name][0].value), name


def test_the_times_are_those_of_the_program() -> None:
    assert RENEW_AHEAD_SECONDS == 2 * 3600
    assert "two hours before they expire" in SLACK
    assert SlackAppSettings().token_retention == 30 * 86400


def test_the_commands_of_the_preview_show_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("alerts.json").write_text(json.dumps([{"labels": {"alertname": "KubePodCrashLooping", "severity": "high"}}]))
    Path("sink.yaml").write_text(blocks(SLACK, "yaml")[0])
    [commands] = marked(SLACK, "test: preview")
    for command in commands.strip().split("\n"):
        ended = CliRunner().invoke(main, shlex.split(command)[1:])
        assert (ended.exit_code, ended.stderr, "KubePodCrashLooping" in ended.stdout) == (0, "", True), command


async def test_the_settings_for_govslack_are_those_of_the_program() -> None:
    gov = between(SLACK, "## GovSlack", "## ")
    given = dict(re.findall(r"`(slack[A-Za-z]*\.[A-Za-z]+): ([^`]+)`", gov))
    settings = SlackSettings.model_validate({"apiUrl": given["slack.apiUrl"]})
    check_hook_url("https://hooks.slack-gov.com/services/T1/B1/x", settings)
    asked: list[str] = []

    def request(_: str, url: str, **_others: Any) -> None:
        asked.append(url)
        raise TimeoutError

    session = cast(aiohttp.ClientSession, SimpleNamespace(request=request, closed=False))
    with pytest.raises(TimeoutError):
        await web_client(settings, session, "xoxb-x").auth_test()
    assert asked == ["https://slack-gov.com/api/auth.test"]
    authorize = SlackInstallSettings.model_validate({"authorizeUrl": given["slackInstall.authorizeUrl"]}).authorize_url
    assert authorize == SlackInstallSettings().authorize_url.replace("slack.com", "slack-gov.com")
