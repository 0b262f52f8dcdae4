"""The stand-in for Slack responds to Slack's own client as Slack's documentation says, so that tests can rely on it."""

from __future__ import annotations

import json
import stat
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackTokenRotationError
from slack_sdk.oauth.installation_store import Bot
from slack_sdk.oauth.token_rotation import TokenRotator
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook import WebhookClient

from tests.support import slack as slack_module
from tests.support import slack_limits
from tests.support.processes import RunningProcess
from tests.support.slack import WEBHOOK, Slack, SlackClock
from tests.support.slack_rate_limits import MessageRateLimit

FORM = "application/x-www-form-urlencoded"
WHOLE_CHECK = slack_limits.problems
ALL_SCOPES = ("chat:write", "channels:read", "groups:read", "channels:join")


@pytest.fixture
def slack() -> Iterator[Slack]:
    with Slack(clock=SlackClock(stopped=True)) as started:
        started.add_workspace("T1", "Acme")
        started.add_channel("T1", "alerts")
        yield started


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of message bodies checks a single thing, so that this test has its text."""

    def problems(body: dict[str, Any], *, webhook: bool = False, may_mention: bool = False) -> list[str]:
        return [f"the text is bad in a {'webhook' if webhook else 'message'}"] if body.get("text") == "bad" else []

    monkeypatch.setattr(slack_limits, "problems", problems)


def client(slack: Slack, token: str | None = None, **issue: Any) -> WebClient:
    return WebClient(token or slack.issue_token("T1", **{"scopes": ALL_SCOPES, **issue}), base_url=slack.api_url, timeout=30)


def hook(slack: Slack, channel: str = "alerts") -> WebhookClient:
    return WebhookClient(slack.issue_webhook(channel), timeout=30)


def raw(url: str, body: bytes, kind: str = "application/json") -> tuple[int, str]:
    """Status and text of the response to a body that Slack's clients would not send."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": kind}), timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def rejected(call: Any, **arguments: Any) -> tuple[str, int, str | None]:
    """Error, HTTP status and Retry-After of a call that Slack's client raises."""
    with pytest.raises(SlackApiError) as raised:
        call(**arguments)
    response = raised.value.response
    assert response["ok"] is False
    return response["error"], response.status_code, response.headers.get("Retry-After")


def test_posted_messages_are_recorded_with_increasing_timestamps(slack: Slack) -> None:
    assert slack.messages() == []
    channel = slack.add_channel("T1", "payments")
    web = client(slack)
    first = web.chat_postMessage(channel=channel, text="one", blocks=[{"type": "divider"}])
    second = web.chat_postMessage(channel="#alerts", text="two")
    kept, other = slack.wait_for(2)
    assert (kept.team_id, kept.channel, kept.channel_name, kept.via, kept.text) == ("T1", channel, "payments", "token", "one")
    assert kept.body == {"text": "one", "blocks": [{"type": "divider"}]}
    assert (kept.ts, kept.channel) == (first["ts"], first["channel"])
    assert float(first["ts"]) < float(second["ts"])
    assert [one.text for one in slack.messages("alerts")] == ["two"]
    assert other.channel == second["channel"]


async def test_the_asynchronous_client_gets_the_same_responses(slack: Slack) -> None:
    web = AsyncWebClient(slack.issue_token("T1"), base_url=slack.api_url, timeout=30)
    assert (await web.auth_test())["team_id"] == "T1"
    assert (await web.conversations_list())["channels"][0]["name"] == "alerts"
    await web.chat_postMessage(channel="alerts", text="one")
    with pytest.raises(SlackApiError) as raised:
        await web.chat_postMessage(channel="nowhere", text="one")
    assert raised.value.response["error"] == "channel_not_found"
    assert len(slack.messages()) == 1


def test_a_form_may_have_blocks_as_json_and_the_token_as_a_field(slack: Slack) -> None:
    token = slack.issue_token("T1")
    web = WebClient(base_url=slack.api_url, timeout=30)
    form = {"token": token, "channel": "alerts", "text": "one", "blocks": json.dumps([{"type": "divider"}])}
    web.api_call("chat.postMessage", data=form)
    [kept] = slack.messages()
    assert kept.body == {"text": "one", "blocks": [{"type": "divider"}]}
    assert raw(f"{slack.api_url}chat.postMessage", json.dumps(form).encode())[1] == '{"ok": false, "error": "not_authed"}'
    assert raw(f"{slack.api_url}auth.test?token={token}", b"")[1] == '{"ok": false, "error": "not_authed"}'
    assert rejected(web.api_call, api_method="chat.postMessage", data=form | {"blocks": "["})[0] == "invalid_blocks_format"
    assert rejected(web.api_call, api_method="auth.test", params={"token": ""})[0] == "not_authed"


def unusable_token(slack: Slack, error: str) -> str:
    """A token that is rejected with this error."""
    token = slack.issue_token("T1", expires_in=60)
    match error:
        case "not_authed":
            return ""
        case "invalid_auth":
            return f"{token}x"
        case "token_revoked":
            slack.revoke(token)
        case "token_expired":
            slack.expire(token)
        case "account_inactive":
            slack.uninstall("T1")
    return token


@pytest.mark.parametrize("error", ["not_authed", "invalid_auth", "token_revoked", "token_expired", "account_inactive"])
@pytest.mark.parametrize("method", ["auth.test", "chat.postMessage", "conversations.list", "conversations.info", "auth.revoke"])
def test_every_method_rejects_an_invalid_token(slack: Slack, method: str, error: str) -> None:
    web = WebClient(unusable_token(slack, error) or None, base_url=slack.api_url, timeout=30)
    form = {"channel": "alerts", "text": "one"}
    assert rejected(web.api_call, api_method=method, data=form) == (error, 200, None)
    assert slack.messages() == []


def test_a_rotated_token_expires_by_the_clock(slack: Slack) -> None:
    web = client(slack, expires_in=60)
    slack.clock.advance(59)
    web.auth_test()
    slack.clock.advance(1)
    assert rejected(web.auth_test)[0] == "token_expired"


CHANNELS: dict[str, tuple[dict[str, bool], tuple[str, ...], str | None]] = {
    "a member": ({}, ("chat:write",), None),
    "a private channel with the bot": ({"private": True}, ("chat:write",), None),
    "not a member": ({"member": False}, ("chat:write",), "not_in_channel"),
    "not a member, with the scope": ({"member": False}, ("chat:write", "chat:write.public"), None),
    "a private channel without the bot": ({"private": True, "member": False}, ("chat:write",), "channel_not_found"),
    "archived": ({"archived": True}, ("chat:write",), "is_archived"),
    "restricted": ({"restricted": True}, ("chat:write",), "restricted_action"),
    "without the scope": ({}, ("channels:read",), "missing_scope"),
}


@pytest.mark.parametrize("case", CHANNELS)
def test_posting_to_a_channel_needs_membership_and_scopes(slack: Slack, case: str) -> None:
    channel, scopes, error = CHANNELS[case]
    identifier = slack.add_channel("T1", "other", **channel)
    web = client(slack, scopes=scopes)
    if error is None:
        web.chat_postMessage(channel=identifier, text="one")
    else:
        assert rejected(web.chat_postMessage, channel=identifier, text="one") == (error, 200, None)
    assert len(slack.messages(identifier)) == (error is None)


def test_another_teams_channel_is_not_found(slack: Slack) -> None:
    slack.add_workspace("T2")
    foreign = slack.add_channel("T2", "foreign")
    assert rejected(client(slack).chat_postMessage, channel=foreign, text="one")[0] == "channel_not_found"
    assert rejected(client(slack).conversations_info, channel=foreign)[0] == "channel_not_found"


LONG: list[dict[str, Any]] = [{"type": "section", "text": {"type": "plain_text", "text": "x" * 2_900}}] * 4
BODIES: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    "a text": ({"text": "one"}, None, "ok"),
    "blocks alone": ({"blocks": [{"type": "divider"}]}, None, "ok"),
    "nothing": ({"unfurl_links": False}, "no_text", "no_text"),
    "empty": ({"text": "", "blocks": []}, "no_text", "no_text"),
    "bad by the limits": ({"text": "bad"}, "invalid_blocks", "invalid_payload"),
    "long blocks": ({"blocks": LONG}, "msg_blocks_too_long", "invalid_payload"),
    "long blocks in an attachment": ({"attachments": [{"blocks": LONG}]}, "msg_blocks_too_long", "invalid_payload"),
    "blocks that are no list": ({"blocks": {"type": "divider"}}, "invalid_blocks_format", "invalid_payload"),
    "blocks of words": ({"attachments": [{"blocks": ["divider"]}]}, "invalid_blocks_format", "invalid_payload"),
    "attachments of words": ({"attachments": ["one"]}, "invalid_attachments", "invalid_payload"),
    "long markdown": ({"markdown_text": "x" * 12_001}, "msg_too_long", None),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_message_beyond_the_limits_is_rejected(slack: Slack, case: str) -> None:
    body, error, _ = BODIES[case]
    web = client(slack)
    call: dict[str, Any] = {"api_method": "chat.postMessage", "json": {"channel": "alerts", **body}}
    if error is None:
        web.api_call(**call)
    else:
        assert rejected(web.api_call, **call)[0] == error
    assert len(slack.messages()) == (error is None)


@pytest.mark.parametrize("case", [name for name, (_, _, word) in BODIES.items() if word])
def test_a_webhook_applies_the_same_limits_and_returns_one_word(slack: Slack, case: str) -> None:
    body, _, word = BODIES[case]
    response = hook(slack).send_dict(body)
    assert (response.status_code, response.body) == (200 if word == "ok" else 400, word)
    assert len(slack.messages()) == (word == "ok")


def test_mistakes_in_a_body_are_reported_in_slacks_form(slack: Slack) -> None:
    with pytest.raises(SlackApiError) as raised:
        client(slack).chat_postMessage(channel="alerts", text="bad")
    assert raised.value.response["response_metadata"] == {"messages": ["[ERROR] the text is bad in a message"]}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "https:///x",
        "http://:80/",
        "/x",
        "ftp://x.example.com",
        " https://x.example.com",
        "https://x.example.com/a b",
        "http://<host>/",
        "https://x.example.com/" + "a" * 3000,
    ],
)
def test_a_button_needs_an_absolute_url_with_a_host(url: str) -> None:
    def body(url: str) -> dict[str, Any]:
        button = {"type": "button", "action_id": "a", "text": {"type": "plain_text", "text": "Source"}, "url": url}
        return {"text": "one", "blocks": [{"type": "actions", "elements": [button]}]}

    assert WHOLE_CHECK(body(url)) != []
    assert WHOLE_CHECK(body("HTTPS://x.example.com:8443/a?b#c")) == []


def test_all_limits_are_checked(slack: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack_limits, "problems", WHOLE_CHECK)
    web, webhook = client(slack), hook(slack)
    for most, error, word in ((3_000, None, "ok"), (3_001, "invalid_blocks", "invalid_payload")):
        body = {"text": "one", "blocks": [{"type": "section", "text": {"type": "plain_text", "text": "x" * most}}]}
        call: dict[str, Any] = {"api_method": "chat.postMessage", "json": {"channel": "alerts", **body}}
        assert web.api_call(**call)["ok"] if error is None else rejected(web.api_call, **call)[0] == error
        slack.clock.advance(1)
        assert webhook.send_dict(body).body == word
        slack.clock.advance(1)
    assert len(slack.messages()) == 2


def test_a_long_text_is_cut_where_slack_cuts_it(slack: Slack) -> None:
    client(slack).chat_postMessage(channel="alerts", text="x" * 40_001)
    assert len(slack.messages()[0].text) == 40_000


def test_a_channel_accepts_one_message_a_second(slack: Slack) -> None:
    slack.add_channel("T1", "other")
    web, webhook = client(slack), hook(slack)
    web.chat_postMessage(channel="alerts", text="one")
    assert rejected(web.chat_postMessage, channel="alerts", text="two") == ("ratelimited", 429, "1")
    web.chat_postMessage(channel="other", text="a channel of its own")
    limited = webhook.send(text="two")
    assert (limited.status_code, limited.body, limited.headers["Retry-After"]) == (429, "rate_limited", "1")
    slack.clock.advance(1)
    assert webhook.send(text="two").body == "ok"
    assert [one.text for one in slack.messages("alerts")] == ["one", "two"]


@pytest.mark.parametrize(
    ("limit", "times", "waits"),
    [
        (MessageRateLimit(1), [0, 0.5, 0.9, 1, 1.5, 2.5], [0, 1, 1, 0, 1, 0]),
        (MessageRateLimit(1, burst=3), [0, 0, 0, 0, 1, 1, 4], [0, 0, 0, 1, 0, 1, 0]),
        (MessageRateLimit(1, burst=2), [0, 60, 60, 60], [0, 0, 0, 1]),
        (MessageRateLimit(2.5), [0, 0, 2], [0, 3, 1]),
        (MessageRateLimit(0), [0, 0, 0], [0, 0, 0]),
    ],
)
def test_a_burst_is_accepted_and_delays_later_messages(limit: MessageRateLimit, times: list[float], waits: list[int]) -> None:
    assert [limit.take("C1", 1_800_000_000 + time) for time in times] == waits


def test_a_message_is_changed_by_its_app_and_keeps_what_the_change_leaves_out(slack: Slack) -> None:
    acme = client(slack)
    channel = slack.add_channel("T1", "more")
    posted = acme.chat_postMessage(channel=channel, text="fires", mrkdwn=False)
    changed = acme.chat_update(channel=channel, ts=posted["ts"], text="has ended")
    assert (changed["ts"], changed["text"]) == (posted["ts"], "has ended")
    [shown] = slack.shown("more")
    assert (shown.text, shown.body["mrkdwn"]) == ("has ended", False)
    assert [one.text for one in slack.messages("more")] == ["fires"]
    slack.clock.advance(1)
    acme.chat_postMessage(channel=channel, text="a reply", thread_ts=posted["ts"])
    assert [one.text for one in slack.replies(shown)] == ["a reply"]
    assert [one.text for one in slack.shown("more")] == ["has ended"]


def test_what_cannot_be_changed_or_replied_to_is_rejected(slack: Slack) -> None:
    acme = client(slack)
    channel = slack.add_channel("T1", "more")
    ts = acme.chat_postMessage(channel=channel, text="x")["ts"]
    assert rejected(acme.chat_update, channel=channel, ts="1.000001", text="y")[0] == "message_not_found"
    slack.clock.advance(1)
    assert rejected(acme.chat_postMessage, channel=channel, text="y", thread_ts="1.000001")[0] == "thread_not_found"
    hook(slack, "more").send(text="by webhook")
    of_webhook = slack.messages("more")[-1].ts
    assert rejected(acme.chat_update, channel=channel, ts=of_webhook, text="y")[0] == "cant_update_message"
    slack.delete_message(slack.shown("more")[0])
    assert rejected(acme.chat_update, channel=channel, ts=ts, text="y")[0] == "message_not_found"
    slack.archive("more")
    assert rejected(acme.chat_update, channel=channel, ts=of_webhook, text="y")[0] == "is_inactive"


def test_messages_may_be_changed_fifty_times_a_minute(slack: Slack) -> None:
    acme = client(slack)
    channel = slack.add_channel("T1", "more")
    ts = acme.chat_postMessage(channel=channel, text="x")["ts"]
    for number in range(50):
        acme.chat_update(channel=channel, ts=ts, text=str(number))
    assert rejected(acme.chat_update, channel=channel, ts=ts, text="50") == ("ratelimited", 429, "60")
    slack.clock.advance(60)
    acme.chat_update(channel=channel, ts=ts, text="50")


def test_channels_may_be_listed_twenty_times_a_minute(slack: Slack) -> None:
    web = client(slack)
    for _ in range(20):
        web.conversations_list()
    slack.clock.advance(20)
    assert rejected(web.conversations_list) == ("ratelimited", 429, "40")
    slack.add_workspace("T2")
    WebClient(slack.issue_token("T2"), base_url=slack.api_url).conversations_list()
    slack.clock.advance(40)
    web.conversations_list()
    assert slack.calls("conversations.list") == 23


def test_the_clients_own_iteration_reads_all_pages(slack: Slack) -> None:
    names = {"alerts", *(f"channel-{number}" for number in range(24))}
    for name in names - {"alerts"}:
        slack.add_channel("T1", name)
    pages = [[one["name"] for one in page["channels"]] for page in client(slack).conversations_list(limit=10)]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert {name for page in pages for name in page} == names


def test_a_list_has_the_requested_channels_that_the_token_may_see(slack: Slack) -> None:
    slack.add_channel("T1", "old", archived=True)
    slack.add_channel("T1", "secret", private=True)
    slack.add_channel("T1", "hidden", private=True, member=False)
    slack.add_channel("T1", "open", member=False)

    def listed(**arguments: Any) -> list[str]:
        return [one["name"] for one in client(slack).conversations_list(**arguments)["channels"]]

    assert listed() == ["alerts", "old", "open"]
    assert listed(exclude_archived=True) == ["alerts", "open"]
    assert listed(types="public_channel,private_channel") == ["alerts", "old", "secret", "open"]
    assert listed(types=["private_channel"]) == ["secret"]
    for arguments, error in (
        ({"types": "all"}, "invalid_types"),
        ({"types": "im"}, "missing_scope"),
        ({"limit": 1000}, "invalid_limit"),
        ({"limit": 0}, "invalid_limit"),
        ({"cursor": "canary"}, "invalid_cursor"),
    ):
        assert rejected(client(slack).conversations_list, **arguments)[0] == error
    lacking = client(slack, scopes=["channels:read"])
    with pytest.raises(SlackApiError) as raised:
        lacking.conversations_list(types="public_channel,private_channel")
    assert (raised.value.response["needed"], raised.value.response["provided"]) == ("groups:read", "channels:read")


def test_a_channel_can_be_read_renamed_archived_and_joined(slack: Slack) -> None:
    web = client(slack)
    identifier = slack.add_channel("T1", "open", member=False)
    private = slack.add_channel("T1", "private", private=True)
    slack.rename("open", "opened")
    for channel, scope in ((identifier, "channels:read"), (private, "groups:read")):
        lacking = client(slack, scopes=[one for one in ALL_SCOPES if one != scope])
        assert rejected(lacking.conversations_info, channel=channel)[0] == "missing_scope"
    assert web.conversations_info(channel=identifier)["channel"]["name"] == "opened"
    assert rejected(web.conversations_info, channel="opened")[0] == "channel_not_found"
    assert web.conversations_info(channel=identifier)["channel"]["is_member"] is False
    web.conversations_join(channel=identifier)
    web.chat_postMessage(channel=identifier, text="one")
    assert rejected(web.conversations_join, channel=private)[0] == "method_not_supported_for_channel_type"
    slack.archive("opened")
    assert web.conversations_info(channel=identifier)["channel"]["is_archived"] is True
    assert rejected(web.conversations_join, channel=identifier)[0] == "is_archived"
    slack.archive("opened", False)
    slack.invite("opened", False)
    slack.clock.advance(1)
    assert rejected(web.chat_postMessage, channel=identifier, text="two")[0] == "not_in_channel"
    slack.delete("opened")
    assert rejected(web.conversations_info, channel=identifier)[0] == "channel_not_found"


def test_a_token_is_identified_and_can_be_revoked(slack: Slack) -> None:
    web = client(slack, scopes=["chat:write", "channels:read"])
    who = web.auth_test()
    assert (who["team_id"], who["team"], who["user_id"]) == ("T1", "Acme", "UT1BOT")
    assert who.headers["x-oauth-scopes"] == "channels:read,chat:write"
    assert web.auth_revoke(test=True)["revoked"] is False
    assert web.auth_revoke()["revoked"] is True
    assert rejected(web.auth_test)[0] == "token_revoked"


def exchanged(slack: Slack, **arguments: Any) -> Any:
    form = {"client_id": slack.client_id, "client_secret": slack.client_secret, **arguments}
    return WebClient(base_url=slack.api_url, timeout=30, retry_handlers=[]).oauth_v2_access(**form)


def test_a_code_is_exchanged_for_one_token(slack: Slack) -> None:
    code = slack.issue_code("T1")
    granted = exchanged(slack, code=code)
    assert (granted["token_type"], granted["team"]) == ("bot", {"id": "T1", "name": "Acme"})
    assert granted["scope"] == "chat:write,channels:read,groups:read"
    assert "refresh_token" not in granted.data
    client(slack, granted["access_token"]).chat_postMessage(channel="alerts", text="one")
    assert rejected(exchanged, slack=slack, code=code)[0] == "code_already_used"
    assert slack.calls("oauth.v2.access") == 2


def test_a_code_can_be_exchanged_with_the_client_in_a_header_or_in_the_form(slack: Slack) -> None:
    web = WebClient(base_url=slack.api_url, timeout=30)
    for secret, good in ((slack.client_secret, True), ("canary", False)):
        credentials = {"client_id": slack.client_id, "client_secret": secret}
        calls: list[dict[str, Any]] = [
            {"auth": credentials, "data": {"code": slack.issue_code("T1")}},
            {"data": {"code": slack.issue_code("T1"), **credentials}},
        ]
        for call in calls:
            if good:
                assert web.api_call("oauth.v2.access", **call)["access_token"]
            else:
                assert rejected(web.api_call, api_method="oauth.v2.access", **call)[0] == "bad_client_secret"


REDIRECT = "https://eventsink.example.com/installed"


@pytest.mark.parametrize(
    ("arguments", "aged", "error"),
    [
        ({}, 599, None),
        ({}, 600, "invalid_code"),
        ({"code": "canary"}, 0, "invalid_code"),
        ({"client_id": "0.0"}, 0, "invalid_client_id"),
        ({"client_secret": "canary"}, 0, "bad_client_secret"),
        ({"redirect_uri": f"{REDIRECT}/"}, 0, "bad_redirect_uri"),
        ({"redirect_uri": ""}, 0, "bad_redirect_uri"),
        ({"grant_type": "password"}, 0, "invalid_grant_type"),
    ],
)
def test_an_exchange_with_other_arguments_than_those_of_the_code_is_rejected(
    slack: Slack, arguments: dict[str, str], aged: float, error: str | None
) -> None:
    form = {"code": slack.issue_code("T1", redirect_uri=REDIRECT), "redirect_uri": REDIRECT}
    slack.clock.advance(aged)
    if error is not None:
        assert rejected(exchanged, slack=slack, **{**form, **arguments})[0] == error
    if not aged or error is None:
        assert exchanged(slack, **form)["ok"]  # a rejected exchange has not used up the code


def test_a_code_may_include_an_incoming_webhook(slack: Slack) -> None:
    given = exchanged(slack, code=slack.issue_code("T1", webhook_channel="alerts"))["incoming_webhook"]
    assert given["channel"] == "#alerts"
    assert WebhookClient(given["url"], timeout=30).send(text="one").body == "ok"
    [kept] = slack.messages("alerts")
    assert (kept.via, kept.channel) == ("webhook", given["channel_id"])


def test_tokens_are_rotated_by_slacks_own_rotator(slack: Slack) -> None:
    granted = exchanged(slack, code=slack.issue_code("T1", rotation=True))
    assert granted["expires_in"] == 43_200
    old = Bot(
        team_id="T1",
        bot_token=granted["access_token"],
        bot_id="B1",
        bot_user_id=granted["bot_user_id"],
        bot_refresh_token=granted["refresh_token"],
        bot_token_expires_at=1,
        installed_at=1.0,
    )
    rotator = TokenRotator(
        client_id=slack.client_id, client_secret=slack.client_secret, client=WebClient(base_url=slack.api_url, timeout=30)
    )
    new = rotator.perform_bot_token_rotation(bot=old)
    assert new is not None
    assert new.bot_token != old.bot_token
    assert new.bot_refresh_token != old.bot_refresh_token
    client(slack, new.bot_token).auth_test()
    client(slack, old.bot_token).auth_test()  # until its end
    with pytest.raises(SlackTokenRotationError, match="invalid_refresh_token"):
        rotator.perform_bot_token_rotation(bot=old)
    slack.clock.advance(43_200)
    assert rejected(client(slack, new.bot_token).auth_test)[0] == "token_expired"
    again = rotator.perform_bot_token_rotation(bot=new, minutes_before_expiration=24 * 60)
    assert again is not None
    client(slack, again.bot_token).auth_test()


HOOKS: dict[str, tuple[str, int, str]] = {
    "archive": ("alerts", 410, "channel_is_archived"),
    "restrict": ("alerts", 403, "action_prohibited"),
    "delete": ("alerts", 404, "channel_not_found"),
    "uninstall": ("T1", 404, "no_service"),
}


@pytest.mark.parametrize("change", HOOKS)
def test_a_webhooks_error_depends_on_the_state_of_its_channel(slack: Slack, change: str) -> None:
    webhook = hook(slack)
    argument, status, word = HOOKS[change]
    getattr(slack, change)(argument)
    response = webhook.send(text="one")
    assert (response.status_code, response.body) == (status, word)


def test_a_webhook_must_be_known_and_its_body_must_be_an_object(slack: Slack) -> None:
    url = slack.issue_webhook("alerts")

    assert raw(url, b"{") == (400, "invalid_payload")
    assert raw(url, b'"one"') == (400, "invalid_payload")
    assert raw(url[:-1], b'{"text": "one"}') == (404, "no_service")
    assert raw(url, b"payload=%7B%22text%22%3A%22one%22%7D", FORM) == (200, "ok")
    slack.remove_webhook(url)
    assert raw(url, b'{"text": "one"}') == (404, "no_service")
    assert slack.calls(WEBHOOK) == 5
    assert [one.text for one in slack.messages()] == ["one"]


FAILURES = ["ratelimited", "service_unavailable", "fatal_error", "request_timeout", "internal_error", "restricted_action"]


@pytest.mark.parametrize("error", FAILURES)
def test_failures_occur_as_often_as_configured_and_only_a_fatal_error_has_posted(slack: Slack, error: str) -> None:
    web = client(slack)
    slack.fail("chat.postMessage", error, times=2)
    for _ in range(2):
        status, wait = (429, "1") if error == "ratelimited" else (200, None)
        assert rejected(web.chat_postMessage, channel="alerts", text="one") == (error, status, wait)
        slack.clock.advance(1)
    assert len(slack.messages()) == (2 if error == "fatal_error" else 0)
    web.chat_postMessage(channel="alerts", text="two")
    assert slack.calls("chat.postMessage") == 3


def test_a_failure_has_its_configured_status_and_retry_after(slack: Slack) -> None:
    web = client(slack)
    slack.fail("auth.test", "ratelimited", retry_after=30)
    slack.fail("auth.test", "service_unavailable", status=503, times=None)
    assert rejected(web.auth_test) == ("ratelimited", 429, "30")
    for _ in range(3):
        assert rejected(web.auth_test)[:2] == ("service_unavailable", 503)
    slack.clear_failures("auth.test")
    web.auth_test()


def test_a_failure_can_be_limited_to_one_channel(slack: Slack) -> None:
    slack.add_channel("T1", "other")
    slack.fail("chat.postMessage", "is_archived", channel="alerts", times=None)
    slack.fail(WEBHOOK, "rollup_error", channel="alerts", times=None)
    web = client(slack)
    web.chat_postMessage(channel="other", text="one")
    assert rejected(web.chat_postMessage, channel="alerts", text="one")[0] == "is_archived"
    failed = hook(slack).send(text="one")
    assert (failed.status_code, failed.body) == (500, "rollup_error")
    slack.clock.advance(1)
    assert hook(slack, "other").send(text="two").body == "ok"
    with pytest.raises(ValueError, match="no status is known"):
        slack.fail(WEBHOOK, "is_archived")


@pytest.mark.parametrize("done", [False, True])
def test_a_call_without_a_response_may_have_taken_effect(slack: Slack, done: bool) -> None:
    token, code = slack.issue_token("T1"), slack.issue_code("T1")
    slack.hang("chat.postMessage", done=done)
    slack.hang_up("oauth.v2.access", done=done)
    with pytest.raises(TimeoutError):
        WebClient(token, base_url=slack.api_url, timeout=1).chat_postMessage(channel="alerts", text="one")
    with pytest.raises(OSError):
        exchanged(slack, code=code)
    assert len(slack.messages()) == done
    if done:
        assert rejected(exchanged, slack=slack, code=code)[0] == "code_already_used"
    else:
        assert exchanged(slack, code=code)["ok"]


def test_a_method_that_is_not_simulated_is_unknown(slack: Slack) -> None:
    assert rejected(client(slack).api_call, api_method="chat.delete")[0] == "unknown_method"


def test_a_wait_ends_with_its_message_or_reports_what_was_posted(slack: Slack) -> None:
    web = client(slack)
    posting = threading.Timer(0.05, lambda: web.chat_postMessage(channel="alerts", text="one"))
    posting.start()
    assert [one.text for one in slack.wait_for(lambda seen: any(one.text == "one" for one in seen), channel="alerts")] == ["one"]
    posting.join()
    with pytest.raises(TimeoutError, match=r"(?s)no 2 messages in any channel .*posted: #alerts 1; calls: chat.postMessage 1"):
        slack.wait_for(2, deadline=0.1)


def test_no_representation_shows_a_credential(slack: Slack) -> None:
    token, code, url = slack.issue_token("T1"), slack.issue_code("T1", rotation=True), slack.issue_webhook("alerts")
    granted = exchanged(slack, code=code)
    WebClient(base_url=slack.api_url).api_call("chat.postMessage", data={"token": token, "channel": "alerts", "text": "one"})
    assert "canary" in token + code + url + granted["refresh_token"]
    slack.fail(WEBHOOK, "rollup_error")
    shown = [repr(slack), repr(slack.state), repr(slack.messages()), slack_module.line(slack.messages()[0])]
    shown += [repr(vars(slack)), repr(slack.state.tokens[token]), repr(next(iter(slack.state.grants.values())))]
    for call in (slack.revoke, slack.expire, slack.remove_webhook):
        with pytest.raises(KeyError) as error:
            call("xoxb-canary")
        shown.append(repr(error.value))
    with pytest.raises(TimeoutError) as late:
        slack.wait_for(9, deadline=0)
    assert not [text for text in [*shown, str(late.value)] if "canary" in text]


def test_a_defect_of_the_stand_in_fails_the_test_that_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("canary")

    def used() -> None:
        with Slack() as started:
            started.add_workspace("T1")
            monkeypatch.setattr(started.state, "page", broken)
            raw(f"{started.api_url}conversations.list", f"token={started.issue_token('T1')}".encode(), FORM)

    with pytest.raises(AssertionError, match="made a mistake: RuntimeError") as error:
        used()
    assert error.value.__context__ is None
    assert "canary" not in str(error.value).replace('RuntimeError("canary")', "")


def test_as_a_program_it_prints_a_line_for_each_message_and_no_credential(tmp_path: Path) -> None:
    credentials, log = tmp_path / "credentials.json", tmp_path / "log"
    command = [sys.executable, "-m", "tests.support.slack", "--channel", "payments", "--credentials", str(credentials)]
    with RunningProcess(command, log=log, name="slack") as process:
        port = process.port_of("slack")
        assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
        known = json.loads(credentials.read_text())
        assert known["api_url"] == f"http://127.0.0.1:{port}/api/"
        web = WebClient(base_url=known["api_url"], timeout=30)
        web.api_call("chat.postMessage", data={"token": known["token"], "channel": "payments", "text": "fünf"})
        rejected(web.api_call, api_method="chat.postMessage", data={"channel": "payments", "text": "two"})
        [taken] = [line for line in process.lines() if "message" in line]
        assert (taken["channel"], taken["message"], taken["via"]) == ("#payments", {"text": "fünf"}, "token")
        assert process.terminate() == 0
        text = log.read_text()
    assert not [word for word in ("canary", known["token"], known["code"], known["client_secret"]) if word in text]
