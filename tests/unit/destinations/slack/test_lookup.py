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
from eventsink.destinations.slack.tokens import TokenRecord
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
        granted: TokenRecord | None = None,
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


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("conversations.info", {"ok": True}),
        ("conversations.info", {"ok": True, "channel": []}),
        ("conversations.info", {"ok": True, "channel": {"id": 1, "is_member": True}}),
        ("conversations.list", {"ok": True}),
        ("conversations.list", {"ok": True, "channels": {"canary": 1}}),
        ("conversations.list", {"ok": True, "channels": ["canary"]}),
        ("conversations.list", ["canary"]),
    ],
)
async def test_what_is_no_response_of_slack_is_asked_for_again(tmp_path: Path, method: str, response: Any) -> None:
    workspace = LookupUnderTest(tmp_path)
    workspace.slack.script[method] = [response]
    problem = await workspace.problem(channel="C00000002" if method.endswith("info") else "#security", **BY_TOKEN)
    assert (problem.reason, problem.may_pass) == ("SlackUnavailable", True)
    workspace.slack.script[method] = [{"ok": True, "channel": channel("C00000002", "security"), "channels": []}]
    workspace.now += 60
    assert (await workspace.target(channel="C00000002", **BY_TOKEN)).channel_id == "C00000002"


class Compressed(ScriptedResponse):
    """What the client takes for a file, whatever was asked for."""

    content_type = "application/gzip"

    async def read(self) -> bytes:
        return b"canary"


@pytest.mark.parametrize("method", ["auth.test", "conversations.info"])
async def test_a_file_is_no_response_of_slack(tmp_path: Path, method: str) -> None:
    workspace = LookupUnderTest(tmp_path)
    workspace.slack.script[method] = [Compressed(200, {}, None)]
    problem = await workspace.problem(channel="C00000002", **BY_TOKEN)
    assert (problem.reason, problem.may_pass) == ("SlackUnavailable", True)
    assert "canary" not in problem.message


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
    assert (await workspace.target(granted=record(), **spec)).token == "xoxb-granted"


def record(**members: Any) -> TokenRecord:
    """What a code was exchanged for."""
    known = {"namespace_uid": "n", "tenant": "acme", "claimed_at": 0.0, "token": "xoxb-granted", "team_id": "T1"}
    return TokenRecord.model_validate(known | members)


GIVEN_HOOK = {"webhook_url": HOOK, "webhook_channel": "security", "webhook_channel_id": "C00000002", "team_name": "Acme"}
HOOK_ONLY = record(scopes=("incoming-webhook",), **GIVEN_HOOK)
BOTH = record(scopes=("chat:write", "channels:read", "incoming-webhook"), **GIVEN_HOOK)
BY_CODE: dict[str, Any] = {"oauthCodeSecretRef": {"name": "slack", "key": "token"}}


@pytest.mark.parametrize(
    ("granted", "asked", "by_webhook"),
    [
        (HOOK_ONLY, None, True),
        (HOOK_ONLY, "#security", True),
        (HOOK_ONLY, "security", True),
        (HOOK_ONLY, "C00000002", True),
        (BOTH, None, True),
        (BOTH, "#security", False),
        (BOTH, "#general", False),
        (record(), "#general", False),
    ],
)
async def test_the_incoming_webhook_of_a_code_is_used_where_the_token_may_not_post_or_no_channel_is_named(
    tmp_path: Path, granted: TokenRecord, asked: str | None, by_webhook: bool
) -> None:
    workspace = LookupUnderTest(tmp_path)
    spec = BY_CODE if asked is None else {"channel": asked, **BY_CODE}
    target = await workspace.target(granted=granted, **spec)
    assert (target.webhook_url, target.token) == ((HOOK, None) if by_webhook else (None, "xoxb-granted"))
    if by_webhook:
        assert (target.team_id, target.team_name, target.channel_id, target.channel_name) == (
            "T1",
            "Acme",
            "C00000002",
            "security",
        )
        assert workspace.slack.requests == []


@pytest.mark.parametrize(
    ("granted", "asked", "reason", "words"),
    [
        (HOOK_ONLY, "#general", "SlackScopeMissing", "remove channel, or add the scope chat:write"),
        (record(scopes=("incoming-webhook",)), "#general", "SlackScopeMissing", "may not post; add the scope chat:write"),
        (record(scopes=("chat:write",)), None, "ChannelNotFound", "name a channel"),
        (record(), None, "ChannelNotFound", "name a channel"),
        (record(webhook_url="https://example.com/canary"), None, "SlackRefused", "slack.hookUrls"),
    ],
)
async def test_a_code_that_cannot_post_where_the_spec_says_is_reported_with_what_to_do(
    tmp_path: Path, granted: TokenRecord, asked: str | None, reason: str, words: str
) -> None:
    spec = BY_CODE if asked is None else {"channel": asked, **BY_CODE}
    problem = await LookupUnderTest(tmp_path).problem(granted=granted, **spec)
    assert problem.reason == reason
    assert words in problem.message


async def test_a_channel_given_by_its_id_needs_no_scope_but_chat_write(tmp_path: Path) -> None:
    workspace = LookupUnderTest(tmp_path, scopes={"x-oauth-scopes": "chat:write"})
    workspace.slack.script["conversations.info"] = [slack_error("missing_scope")]
    workspace.slack.script["conversations.list"] = [slack_error("missing_scope")]
    target = await workspace.target(channel="C00000007", **BY_TOKEN)
    assert (target.channel_id, target.channel_name, target.team_id) == ("C00000007", "", "T1")
    assert (await workspace.problem(channel="#security", **BY_TOKEN)).reason == "SlackScopeMissing"


async def test_of_the_platforms_workspace_only_channels_that_are_listed_by_id_can_be_given_by_an_id_that_it_cannot_see(
    tmp_path: Path,
) -> None:
    workspace = LookupUnderTest(tmp_path, tokenFile=tmp_path / "token", channels={"acme": ["#security", "C00000007"]})
    workspace.slack.script["conversations.info"] = [slack_error("missing_scope")]
    assert (await workspace.target(channel="C00000007")).channel_id == "C00000007"
    assert (await workspace.problem(channel="C00000002")).reason == "ChannelNotAllowed"


def organisation(folder: Path, team_id: str = "E1", **platform: Any) -> LookupUnderTest:
    """An app that is installed in a whole organisation."""
    workspace = LookupUnderTest(folder, **platform)
    identity = {"ok": True, "team_id": team_id, "team": "Holding", "user": "eventsink", "is_enterprise_install": True}
    workspace.slack.script["auth.test"] = [ScriptedResponse(200, SCOPES, identity)]
    return workspace


async def test_the_workspace_goes_with_the_look_up_of_a_name_in_an_organisation(tmp_path: Path) -> None:
    workspace = organisation(tmp_path)
    by_name = await workspace.target(channel="#security", teamId="T2", **BY_TOKEN)
    assert (by_name.team_id, by_name.channel_id) == ("T2", "C00000002")
    await workspace.target(channel="#security", teamId="T3", **BY_TOKEN)  # another workspace has channels of its own
    assert {one.form.get("team_id") for one in workspace.slack.calls("conversations.list")} == {"T2", "T3"}
    by_code = await workspace.target(channel="#security", granted=record(team_id="T4"), **BY_CODE)
    assert by_code.team_id == "T4"
    by_id = await organisation(tmp_path).target(channel="C00000002", **BY_TOKEN)
    assert (by_id.team_id, by_id.channel_id) == ("", "C00000002")


async def test_the_platforms_token_may_be_one_of_an_organisation(tmp_path: Path) -> None:
    workspace = organisation(tmp_path, tokenFile=tmp_path / "token", teamId="T5")
    assert (await workspace.target(channel="#security")).team_id == "T5"
    assert workspace.slack.calls("conversations.list")[0].form["team_id"] == "T5"


async def test_in_an_organisation_a_channel_of_an_allowed_name_in_another_workspace_is_not_allowed(tmp_path: Path) -> None:
    platform: dict[str, Any] = {"tokenFile": tmp_path / "token", "teamId": "T5", "channels": {"acme": ["#security", "C00000001"]}}
    workspace = organisation(tmp_path, **platform)
    assert (await workspace.target(channel="#security")).channel_id == "C00000002"
    assert (await workspace.target(channel="C00000001")).channel_name == "general"
    assert (await workspace.problem(channel="C00000002")).reason == "ChannelNotAllowed"  # nothing says in which workspace it is


async def test_a_webhook_that_came_with_a_code_is_of_the_workspace_that_the_sink_names(tmp_path: Path) -> None:
    workspace, hook = LookupUnderTest(tmp_path), record(team_id="T4", webhook_url=HOOK)
    problem = await workspace.problem(granted=hook, teamId="T9", **BY_CODE)
    assert (problem.reason, problem.path) == ("SlackTeamInvalid", "spec.slack.teamId")
    assert (await workspace.target(granted=hook, teamId="T4", **BY_CODE)).webhook_url == HOOK


@pytest.mark.parametrize(
    ("of_organisation", "team", "listing", "words"),
    [
        (True, {}, None, "set teamId"),
        (True, {"teamId": "T9"}, "team_access_not_granted", "correct teamId, or have the organisation's admin add the app"),
        (True, {"teamId": "T9"}, "team_not_found", "correct teamId"),
        (False, {"teamId": "T9"}, None, "belongs to the workspace Acme (T1), and not to T9"),
    ],
)
async def test_a_workspace_that_cannot_be_used_is_reported_at_its_field(
    tmp_path: Path, of_organisation: bool, team: dict[str, str], listing: str | None, words: str
) -> None:
    workspace = organisation(tmp_path) if of_organisation else LookupUnderTest(tmp_path)
    if listing is not None:
        workspace.slack.script["conversations.list"] = [slack_error(listing)]
    problem = await workspace.problem(channel="#security", **team, **BY_TOKEN)
    assert (problem.reason, problem.path) == ("SlackTeamInvalid", "spec.slack.teamId")
    assert words in problem.message


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
