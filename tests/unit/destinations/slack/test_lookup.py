"""A Slack sink is resolved once: whose token it is, and which id its channel has; what cannot be used is reported with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventsink.destinations.problem import Effect, Problem
from eventsink.destinations.slack import lookup as slack
from eventsink.destinations.slack.channels import is_channel_id
from eventsink.destinations.slack.config import SlackPlatform
from eventsink.destinations.slack.form import SlackForm
from eventsink.destinations.slack.lookup import CHANNELS_KEPT_SECONDS, LIST_AGAIN_SECONDS, SlackLookup
from eventsink.destinations.slack.target import SlackTarget
from eventsink.resources.eventsink import EventSink, read_eventsink
from tests.support.sinks import event_sink
from tests.unit.destinations.slack.slack_session import Request, ScriptedResponse, ScriptedSession, slack_error

TOKEN = "xoxb-canary"
BY_TOKEN: dict[str, Any] = {"botTokenSecretRef": {"name": "slack", "key": "token"}}
HOOK = "https://hooks.slack.com/services/T1/B1/canary"
SCOPES = {"x-oauth-scopes": "chat:write, channels:read"}
SECONDS_OF_AN_HOUR = 3600.0


def channel(identifier: str, name: str, **members: Any) -> dict[str, Any]:
    return {"id": identifier, "name": name, "is_member": True, "is_archived": False, "is_private": False, **members}


class LookupUnderTest:
    """The lookup over a scripted workspace."""

    def __init__(self, folder: Path, *channels: dict[str, Any], scopes: dict[str, str] = SCOPES, **platform: Any) -> None:
        self.channels = list(channels) or [channel("C00000001", "general"), channel("C00000002", "security")]
        identity = {"ok": True, "team_id": "T1", "team": "Acme", "user": "eventsink"}
        self.slack = ScriptedSession(
            {
                "auth.test": [ScriptedResponse(200, scopes, identity)],
                "conversations.list": [self.list_channels],
                "conversations.info": [self._info],
            }
        )
        self.now = 0.0
        (folder / "token").write_text("xoxb-canary-platform\n")
        settings = SlackPlatform.model_validate(platform)
        self.lookup = SlackLookup(settings, self.slack.session, clock=lambda: self.now)

    def list_channels(self, request: Request) -> dict[str, Any]:
        start, size = int(request.form.get("cursor") or 0), 2
        more = str(start + size) if start + size < len(self.channels) else ""
        return {"ok": True, "channels": self.channels[start : start + size], "response_metadata": {"next_cursor": more}}

    def _info(self, request: Request) -> Any:
        found = [one for one in self.channels if one["id"] == request.form["channel"]]
        return {"ok": True, "channel": found[0]} if found else slack_error("channel_not_found")

    async def target(
        self,
        *,
        before: SlackTarget | None = None,
        secret: str = TOKEN,
        granted: str | None = None,
        tenant: str = "acme",
        **spec: Any,
    ) -> SlackTarget:
        sink = made(tenant, **(spec or {"channel": "#security", **BY_TOKEN}))
        return await self.lookup.target(sink, {"slack": {"token": secret.encode()}}, before, granted)

    async def problem(self, **how: Any) -> Problem:
        with pytest.raises(Problem) as raised:
            await self.target(**how)
        assert "canary" not in raised.value.message
        return raised.value


def made(tenant: str = "acme", **spec: Any) -> EventSink:
    raw = event_sink("acme", tenant=tenant, slack=spec)
    raw["metadata"] |= {"uid": "u", "generation": 1, "resourceVersion": "1"}
    return read_eventsink(raw)


async def test_a_channel_name_is_looked_up_on_all_pages_once(tmp_path: Path) -> None:
    workspace = LookupUnderTest(tmp_path, *(channel(f"C0000000{n}", f"c{n}") for n in range(5)))
    target = await workspace.target(channel="#c4", **BY_TOKEN)
    assert (target.token, target.team_id, target.team_name) == (TOKEN, "T1", "Acme")
    assert (target.channel_id, target.channel_name, target.channel_asked) == ("C00000004", "c4", "#c4")
    assert [one.form.get("cursor") for one in workspace.slack.calls("conversations.list")] == [None, "2", "4"]
    await workspace.target(channel="c0", **BY_TOKEN)
    assert len(workspace.slack.calls("conversations.list")) == 3
    assert len(workspace.slack.calls("auth.test")) == 1


async def test_a_rate_limited_listing_continues_where_it_stopped(tmp_path: Path) -> None:
    workspace = LookupUnderTest(tmp_path, *(channel(f"C0000000{n}", f"c{n}") for n in range(7)))
    workspace.slack.script["conversations.list"] = [
        workspace.list_channels,
        workspace.list_channels,
        slack_error("ratelimited", 429),
        workspace.list_channels,
    ]
    assert (await workspace.problem(channel="c6", **BY_TOKEN)).reason == "SlackUnavailable"
    workspace.now += 60
    assert (await workspace.target(channel="c6", **BY_TOKEN)).channel_id == "C00000006"
    assert (await workspace.target(channel="c0", **BY_TOKEN)).channel_id == "C00000000"
    assert [one.form.get("cursor") for one in workspace.slack.calls("conversations.list")] == [None, "2", "4", "4", "6"]


async def test_an_invalid_cursor_restarts_the_listing(tmp_path: Path) -> None:
    workspace = LookupUnderTest(tmp_path, *(channel(f"C0000000{n}", f"c{n}") for n in range(4)))
    workspace.slack.script["conversations.list"] = [
        workspace.list_channels,
        slack_error("invalid_cursor"),
        workspace.list_channels,
    ]
    await workspace.problem(channel="c3", **BY_TOKEN)
    workspace.now += 60
    assert (await workspace.target(channel="c3", **BY_TOKEN)).channel_id == "C00000003"


async def test_what_messages_show_travels_in_the_target(tmp_path: Path) -> None:
    workspace = LookupUnderTest(tmp_path)
    form: dict[str, Any] = {"fields": [{"label": "team"}], "mentions": [{"users": ["U012"]}], "links": "text"}
    by_token = await workspace.target(channel="#security", **BY_TOKEN, **form)
    by_hook = await workspace.target(secret=HOOK, incomingWebhookSecretRef={"name": "slack", "key": "token"}, **form)
    assert by_token.form == by_hook.form == SlackForm.model_validate(form)
    assert SlackTarget.model_validate_json(by_token.to_json()) == by_token
    older = {name: value for name, value in json.loads(by_token.to_json()).items() if name != "form"}
    assert SlackTarget.model_validate(older).form == SlackForm()
    newer = {**json.loads(by_token.to_json()), "form": {"links": "text", "tone": "calm"}}
    assert SlackTarget.model_validate(newer).form == SlackForm(links="text")


async def test_a_channel_id_is_looked_up_directly(tmp_path: Path) -> None:
    workspace = LookupUnderTest(tmp_path)
    assert (await workspace.target(channel="C00000001", **BY_TOKEN)).channel_name == "general"
    assert not workspace.slack.calls("conversations.list")
    assert (await workspace.problem(channel="C00000009", **BY_TOKEN)).reason == "ChannelNotFound"


async def test_a_renamed_channel_is_found_by_its_id_while_the_spec_is_unchanged(tmp_path: Path) -> None:
    workspace = LookupUnderTest(tmp_path)
    before = await workspace.target()
    workspace.channels[1]["name"] = "secops"
    after = await workspace.target(before=before)
    assert (after.channel_id, after.channel_name, after.channel_asked) == ("C00000002", "secops", "#security")
    workspace.channels.append(channel("C00000003", "security"))
    assert (await workspace.target(before=after)).channel_id == "C00000002"
    workspace.now += CHANNELS_KEPT_SECONDS
    elsewhere = after.model_copy(update={"team_id": "T2"})
    assert (await workspace.target(before=elsewhere)).channel_id == "C00000003"
    workspace.channels.pop(1)
    assert (await workspace.target(before=after)).channel_id == "C00000003"


@pytest.mark.parametrize(
    ("members", "scopes", "reason", "says"),
    [
        ({"name": "other"}, "", "ChannelNotFound", "/invite @eventsink"),
        ({"is_archived": True}, "", "ChannelArchived", "unarchive it"),
        ({"is_member": False}, "", "NotInChannel", "/invite @eventsink"),
        ({"is_member": False}, "chat:write.public", "", ""),
        ({"is_member": False, "is_private": True}, "chat:write.public", "NotInChannel", "/invite @eventsink"),
    ],
)
async def test_each_problem_of_a_channel_has_its_reason_and_remedy(
    tmp_path: Path, members: dict[str, Any], scopes: str, reason: str, says: str
) -> None:
    workspace = LookupUnderTest(
        tmp_path, channel("C00000002", **{"name": "security", **members}), scopes={"X-OAuth-Scopes": f"chat:write,{scopes}"}
    )
    if not reason:
        assert (await workspace.target()).channel_id == "C00000002"
        return
    problem = await workspace.problem()
    assert (problem.reason, problem.may_pass, problem.effect) == (reason, False, Effect.KEEP)
    assert problem.again_after is not None
    assert says in problem.message


async def test_an_active_channel_is_preferred_to_an_archived_one_of_the_same_name(tmp_path: Path) -> None:
    for order in (1, -1):
        both = [channel("C00000001", "security", is_archived=True), channel("C00000002", "security")][::order]
        assert (await LookupUnderTest(tmp_path, *both).target()).channel_id == "C00000002"


async def test_an_invitation_is_noticed_without_listing_all_channels_each_time(tmp_path: Path) -> None:
    workspace = LookupUnderTest(tmp_path, channel("C00000002", "security", is_member=False))
    await workspace.problem()
    workspace.channels[0]["is_member"] = True
    await workspace.problem()
    assert len(workspace.slack.calls("conversations.list")) == 1
    workspace.now += LIST_AGAIN_SECONDS
    assert (await workspace.target()).channel_id == "C00000002"


async def test_an_app_without_access_to_private_channels_lists_public_ones(tmp_path: Path) -> None:
    workspace = LookupUnderTest(tmp_path)
    listed = workspace.list_channels
    workspace.slack.script["conversations.list"] = [
        lambda request: slack_error("missing_scope") if "private" in request.form["types"] else listed(request)
    ]
    assert (await workspace.target()).channel_id == "C00000002"


@pytest.mark.parametrize(
    ("step", "reason", "may_pass", "wait"),
    [
        (slack_error("invalid_auth"), "SlackTokenInvalid", False, 300.0),
        (slack_error("token_revoked"), "SlackTokenInvalid", False, 300.0),
        (slack_error("account_inactive"), "SlackTokenInvalid", False, 300.0),
        (
            ScriptedResponse(200, {}, {"ok": False, "error": "missing_scope", "needed": "channels:read"}),
            "SlackScopeMissing",
            False,
            300.0,
        ),
        (slack_error("access_denied"), "SlackRefused", False, 60.0),
        (slack_error("ratelimited", 429, retry_after="17"), "SlackUnavailable", True, 17.0),
        (slack_error("service_unavailable", 503), "SlackUnavailable", True, 30.0),
        (ScriptedResponse(200, {}, "<html>canary"), "SlackUnavailable", True, 30.0),
        (TimeoutError(), "SlackUnavailable", True, 30.0),
    ],
)
@pytest.mark.parametrize("method", ["auth.test", "conversations.list"])
async def test_each_error_of_slack_has_its_reason_and_retry(
    tmp_path: Path, method: str, step: Any, reason: str, may_pass: bool, wait: float
) -> None:
    workspace = LookupUnderTest(tmp_path)
    workspace.slack.script[method] = [step]
    problem = await workspace.problem()
    assert (problem.reason, problem.may_pass, problem.again_after) == (reason, may_pass, wait)


async def test_while_slack_is_unavailable_sinks_of_one_token_share_one_timeout(tmp_path: Path) -> None:
    workspace = LookupUnderTest(tmp_path)
    steps = workspace.slack.script["auth.test"]
    workspace.slack.script["auth.test"] = [TimeoutError()]
    await workspace.problem()
    await workspace.problem()
    assert len(workspace.slack.calls("auth.test")) == 1
    workspace.now += 30
    workspace.slack.script["auth.test"] = steps
    assert (await workspace.target()).team_id == "T1"


async def test_an_incoming_webhook_is_checked_by_its_url_without_a_request(tmp_path: Path) -> None:
    workspace = LookupUnderTest(tmp_path)
    spec: dict[str, Any] = {"incomingWebhookSecretRef": {"name": "slack", "key": "token"}}
    assert (await workspace.target(secret=f"{HOOK}\n", **spec)).webhook_url == HOOK
    assert not workspace.slack.requests
    problem = await workspace.problem(secret="https://example.com/canary", **spec)
    assert problem.reason == "InvalidSecretValue"
    assert "https://hooks.slack.com/" in problem.message


@pytest.mark.parametrize("secret", ["canary", "xoxp-canary", "xoxb-canary\nx: y", "xoxb-canary two", "xoxb-cänary"])
async def test_a_value_that_is_not_a_bot_token_is_never_sent(tmp_path: Path, secret: str) -> None:
    workspace = LookupUnderTest(tmp_path)
    assert (await workspace.problem(secret=secret)).reason == "InvalidSecretValue"
    assert not workspace.slack.requests


async def test_the_token_of_a_code_is_used_like_any_other(tmp_path: Path) -> None:
    workspace = LookupUnderTest(tmp_path)
    spec: dict[str, Any] = {"channel": "#security", "oauthCodeSecretRef": {"name": "slack", "key": "token"}}
    assert (await workspace.target(granted="xoxb-granted", **spec)).token == "xoxb-granted"


async def test_a_sink_without_a_credential_uses_the_platforms_workspace(tmp_path: Path) -> None:
    assert (await LookupUnderTest(tmp_path).problem(channel="#security")).reason == "SlackNotConfigured"
    workspace = LookupUnderTest(tmp_path, tokenFile=tmp_path / "token")
    assert (await workspace.target(channel="#security")).token == "xoxb-canary-platform"
    (tmp_path / "token").unlink()
    assert (await workspace.problem(channel="#security")).reason == "SlackNotConfigured"


@pytest.mark.parametrize(
    ("channels", "fine"),
    [
        ({}, True),
        ({"acme": ["#security"]}, True),
        ({"acme": ["security"]}, True),
        ({"acme": ["C00000002"]}, True),
        ({"acme": ["#general"]}, False),
        ({"acme": []}, False),
        ({"other": ["#security"]}, False),
    ],
)
async def test_a_tenant_may_use_only_the_channels_that_the_platform_allows(
    tmp_path: Path, channels: dict[str, list[str]], fine: bool
) -> None:
    workspace = LookupUnderTest(tmp_path, tokenFile=tmp_path / "token", channels=channels)
    if fine:
        assert (await workspace.target(channel="#security")).channel_id == "C00000002"
        return
    problem = await workspace.problem(channel="#security")
    assert (problem.reason, problem.effect) == ("ChannelNotAllowed", Effect.WITHDRAW)
    assert (
        await workspace.target(channel="#security", **BY_TOKEN)
    ).channel_id == "C00000002"  # the restriction is for the platform's token only


def test_the_policy_digest_changes_with_the_settings_and_the_platforms_token(tmp_path: Path) -> None:
    one = LookupUnderTest(tmp_path, tokenFile=tmp_path / "token")
    digests = {one.lookup.policy_digest(), LookupUnderTest(tmp_path).lookup.policy_digest()}
    assert one.lookup.policy_digest() in digests
    (tmp_path / "token").write_text("xoxb-other")
    digests.add(one.lookup.policy_digest())
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("text", "is_id"),
    [("C024BE91L", True), ("G024BE91L", True), ("#C024BE91L", False), ("c024be91l", False), ("C024be91l", False), ("C02", False)],
)
def test_channel_ids_are_distinguished_from_names(text: str, is_id: bool) -> None:
    assert is_channel_id(text) is is_id


async def test_the_cache_of_workspaces_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack, "MAX_WORKSPACES", 3)
    workspace = LookupUnderTest(tmp_path)
    for number in range(5):
        await workspace.target(secret=f"xoxb-{number}")
    await workspace.target(secret="xoxb-4")
    assert len(workspace.slack.calls("auth.test")) == 5
    await workspace.target(secret="xoxb-1")
    assert len(workspace.slack.calls("auth.test")) == 6
