"""Messages go to a Slack channel by token or by incoming webhook, and each of Slack's responses has a failure class."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import aiohttp
import pytest
from structlog.testing import capture_logs

from eventsink.destinations.slack.api import ERRORS, camel, check_hook_url, retry_after
from eventsink.destinations.slack.config import SlackSettings
from eventsink.destinations.slack.form import SlackForm
from eventsink.destinations.slack.objections import MAX_OBJECTIONS, objections
from eventsink.destinations.slack.sender import SlackSender
from eventsink.destinations.slack.target import SlackTarget
from eventsink.runtime.settings import Settings
from eventsink.sinks.guarded import MAX_RESPONSE_BYTES
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, Outcome
from eventsink.sinks.shares import Bound, Limit, Share
from eventsink.sinks.target import Target
from tests.support.slack_limits import mentioned
from tests.unit.destinations.sender_contract import (
    CANARY,
    MESSAGE,
    SenderContract,
    response,
    sink_of,
    url_of,
)
from tests.unit.destinations.slack.slack_session import Request, ScriptedResponse, ScriptedSession, slack_error
from tests.unit.sinks.transport_contract import Reader, Writer, serving

TOKEN = SlackTarget(token=f"xoxb-{CANARY}", team_id="T1", channel_id="C1")
HOOK_URL = f"https://hooks.slack.com/services/T1/B1/{CANARY}"
HOOK = SlackTarget(webhook_url=HOOK_URL)
TRANSIENT, SINK, OF_MESSAGE = FailureClass.TRANSIENT, FailureClass.SINK, FailureClass.MESSAGE


def share_of(tenant: str, limit: Limit) -> Share:
    return Share(tenant, (limit,), limit.most)


async def sent(step: Any, target: SlackTarget = TOKEN, message: Message = MESSAGE) -> tuple[Outcome, ScriptedSession]:
    """The outcome of a message, and the requests to Slack."""
    slack = ScriptedSession({"chat.postMessage": [step], HOOK_URL: [step]})
    with capture_logs() as logs:
        outcome = await SlackSender(sink_of(target), target, SlackSettings(), slack.session, share_of("acme", Limit(1))).send(
            message
        )
    assert CANARY not in repr(outcome) + json.dumps(logs)
    return outcome, slack


async def failure(step: Any, target: SlackTarget = TOKEN) -> Failed:
    outcome, _ = await sent(step, target)
    assert isinstance(outcome, Failed)
    return outcome


class SlackContract(SenderContract):
    delivered_by_malformed_head = False

    def settings(self, url: str, timeout: float) -> tuple[Settings, ...]:
        return (SlackSettings(api_url=url, hook_urls=(url,), timeout=timeout),)

    def expected(self, status: int) -> FailureClass | None:
        if 300 <= status < 400 or status in (401, 403, 404, 410):
            return SINK
        return OF_MESSAGE if status in (400, 413) else TRANSIENT


class TestTokenSender(SlackContract):
    success = response(200, b'{"ok": true, "ts": "1700000000.000100"}', "Content-Type: application/json")
    delivered_by_head = False

    def target(self, url: str, timeout: float) -> Target:
        return TOKEN

    @pytest.mark.parametrize(
        ("status", "kind", "body", "reason"),
        [
            (200, "text/html", b"<html>canary</html>", "InvalidResponse"),
            (200, "text/plain", b"canary", "InvalidResponse"),
            (200, "application/json", b"", "InvalidResponse"),
            (200, "application/json", b'{"ok": true, "ts": "1700', "InvalidResponse"),
            (200, "application/json", b'["canary"]', "InvalidResponse"),
            (200, "application/json", b'"canary"', "InvalidResponse"),
            (200, "application/json", b"null", "InvalidResponse"),
            (200, "application/json", b"{}", "InvalidResponse"),
            (200, "application/json", b'{"canary": true}', "UnknownError"),
            (200, "application/json", b'{"ok": false, "error": "an_error_of_tomorrow"}', "UnknownError"),
            (200, "application/json", b'{"ok": false, "error": {"canary": 1}}', "UnknownError"),
            (200, "application/json", b'{"ok": false, "error": "ratelimited"}', "RateLimited"),
            (200, "application/json", b"[" * 100_000, "InvalidResponse"),
            (200, "application/json", b'{"ok": ' + b"9" * 10_000 + b"}", "InvalidResponse"),
            (200, "application/json", b'{"ok": "\xff"}', "InvalidResponse"),
            (200, "application/json", b'{"ok": true, "canary": "' + b"x" * MAX_RESPONSE_BYTES + b'"}', "InvalidResponse"),
            (503, "text/html", b"<html>canary</html>", "HTTP503"),
            (503, "application/json", b'{"ok": true, "ts": "17', "HTTP503"),
            (503, "application/json", b'{"ok": true, "ts": "1700000000.000100"}', "HTTP503"),
            (302, "text/html", b"<html>canary</html>", "HTTP302"),
            (404, "text/html", b"<html>canary</html>", "HTTP404"),
        ],
    )
    async def test_whatever_is_no_response_of_slack_has_a_documented_reason(
        self, status: int, kind: str, body: bytes, reason: str
    ) -> None:
        async with serving(response(status, body, f"Content-Type: {kind}")) as server:
            failed = await self.failed(url_of(server))
        assert failed.reason == reason
        assert failed.failure is (SINK if status in (302, 404) else TRANSIENT)

    async def test_a_body_without_end_is_not_read_to_its_end(self) -> None:
        written = 0

        async def respond(reader: Reader, writer: Writer) -> None:
            nonlocal written
            await server.read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            while not writer.is_closing() and written < 20 * MAX_RESPONSE_BYTES:
                writer.write(b" " * 1024 * 1024)
                written += 1024 * 1024
                await writer.drain()

        async with serving(respond) as server:
            failed = await self.failed(url_of(server))
        assert (failed.failure, failed.reason) == (TRANSIENT, "InvalidResponse")
        assert written < 3 * MAX_RESPONSE_BYTES

    @pytest.mark.parametrize(
        "ts", ["", ', "ts": 17', ', "ts": "canary"', ', "ts": {"canary": 1}', ', "ts": "' + "1" * 5000 + '.1"']
    )
    async def test_a_message_that_was_posted_under_no_name_is_delivered(self, ts: str) -> None:
        body = f'{{"ok": true{ts}}}'.encode()
        async with serving(response(200, body, "Content-Type: application/json")) as server:
            outcome = await self.sent(url_of(server))
        assert isinstance(outcome, Delivered)
        assert (outcome.reference, outcome.post) == ("C1/", None)


class TestIncomingWebhookSender(SlackContract):
    success = response(200, b"ok")

    def target(self, url: str, timeout: float) -> Target:
        return SlackTarget(webhook_url=f"{url}services/{CANARY}")

    def expected(self, status: int) -> FailureClass | None:
        return None if 200 <= status < 300 else super().expected(status)


async def test_a_message_is_posted_by_channel_id_and_its_reference_is_the_timestamp() -> None:
    outcome, slack = await sent({"ok": True, "channel": "C1", "ts": "1700000000.000100"})
    assert isinstance(outcome, Delivered)
    assert (outcome.status_code, outcome.reference) == (200, "C1/1700000000.000100")
    [request] = slack.requests
    assert request.method == "chat.postMessage"
    assert request.form["channel"] == "C1"
    assert request.form["text"]
    assert request.headers["Authorization"] == f"Bearer xoxb-{CANARY}"


async def test_an_incoming_webhook_gets_the_message_and_names_no_channel() -> None:
    outcome, slack = await sent(ScriptedResponse(200, {}, "ok"), HOOK)
    assert outcome == Delivered(200)
    [request] = slack.requests
    assert request.method == HOOK_URL
    assert request.form["text"]
    assert "channel" not in request.form


@pytest.mark.parametrize("target", [TOKEN, HOOK])
async def test_a_message_whose_blocks_are_rejected_is_sent_once_more_as_text_alone(target: SlackTarget) -> None:
    rejected = slack_error("invalid_blocks") if target is TOKEN else ScriptedResponse(400, {}, "invalid_payload")
    accepted = {"ok": True, "ts": "1.1"} if target is TOKEN else ScriptedResponse(200, {}, "ok")
    slack = ScriptedSession({"chat.postMessage": [rejected, accepted], HOOK_URL: [rejected, accepted]})
    sender = SlackSender(sink_of(target), target, SlackSettings(), slack.session, share_of("acme", Limit(1)))
    assert isinstance(await sender.send(MESSAGE), Delivered)
    first, second = slack.requests
    assert first.form["blocks"]
    assert not {"blocks", "attachments"} & set(second.form)
    assert second.form["text"].startswith(first.form["text"])


@pytest.mark.parametrize("target", [TOKEN, HOOK])
async def test_a_message_mentions_whom_the_sink_names_as_text_too(target: SlackTarget) -> None:
    target = target.model_copy(update={"form": SlackForm.model_validate({"mentions": [{"users": ["U012"]}]})})
    rejected = slack_error("invalid_blocks") if target.token else ScriptedResponse(400, {}, "invalid_payload")
    accepted = {"ok": True, "ts": "1.1"} if target.token else ScriptedResponse(200, {}, "ok")
    slack = ScriptedSession({"chat.postMessage": [rejected, accepted], HOOK_URL: [rejected, accepted]})
    sender = SlackSender(sink_of(target), target, SlackSettings(), slack.session, share_of("acme", Limit(1)))
    assert isinstance(await sender.send(MESSAGE), Delivered)
    for request in slack.requests:
        blocks = request.form.get("blocks", [])
        body = {"text": request.form["text"], "blocks": json.loads(blocks) if isinstance(blocks, str) else blocks}
        assert mentioned(body) == ["<@U012>"]


async def test_what_was_rejected_stays_text_when_slack_asks_to_wait_in_between() -> None:
    steps = [slack_error("invalid_blocks"), slack_error("ratelimited", 429, Retry_After="1"), {"ok": True, "ts": "1.1"}]
    slack = ScriptedSession({"chat.postMessage": steps})
    sender = SlackSender(sink_of(TOKEN), TOKEN, SlackSettings(), slack.session, share_of("acme", Limit(1)))
    waiting = await sender.send(MESSAGE)
    assert isinstance(waiting, Failed)
    assert waiting.failure is TRANSIENT
    assert isinstance(await sender.send(MESSAGE), Delivered)
    assert ["blocks" in one.form for one in slack.requests] == [True, False, False]


@pytest.mark.parametrize("error", sorted(ERRORS))
async def test_each_documented_error_has_its_class_and_says_what_to_do(error: str) -> None:
    expected, hint = ERRORS[error]
    failed = await failure(slack_error(error))
    assert (failed.failure, failed.reason) == (expected, camel(error))
    assert error in failed.message
    assert hint in failed.message
    assert hint


@pytest.mark.parametrize(
    ("step", "expected", "reason", "wait"),
    [
        (slack_error("ratelimited", 429, retry_after="30"), TRANSIENT, "RateLimited", 30.0),
        (ScriptedResponse(429, {"Retry-After": "999999"}, ""), TRANSIENT, "RateLimited", 3600.0),
        (slack_error("internal_error", 500), TRANSIENT, "InternalError", None),
        (ScriptedResponse(503, {}, f"<html>{CANARY}"), TRANSIENT, "HTTP503", None),
        (ScriptedResponse(302, {}, ""), SINK, "HTTP302", None),
        (ScriptedResponse(404, {}, f"<html>{CANARY}"), SINK, "HTTP404", None),
        (slack_error(f"Error of {CANARY}"), TRANSIENT, "UnknownError", None),
        (slack_error(f"{CANARY}\n"), TRANSIENT, "UnknownError", None),
        (slack_error(""), TRANSIENT, "UnknownError", None),
        ({"ok": False}, TRANSIENT, "UnknownError", None),
        (TimeoutError(), TRANSIENT, "Timeout", None),
        (aiohttp.ServerDisconnectedError(CANARY), TRANSIENT, "ConnectionLost", None),
        (RuntimeError(CANARY), TRANSIENT, "InternalError", None),
    ],
)
async def test_an_undocumented_error_is_classified_by_its_status_or_kind(
    step: Any, expected: FailureClass, reason: str, wait: float | None
) -> None:
    failed = await failure(step)
    assert (failed.failure, failed.reason, failed.retry_after) == (expected, reason, wait)


async def test_the_name_of_an_unknown_error_is_shown() -> None:
    for status, reason in ((200, "UnknownError"), (404, "HTTP404"), (503, "HTTP503")):
        failed = await failure(slack_error("a_later_error_2", status))
        assert failed.reason == reason
        assert "a_later_error_2" in failed.message
    assert "a_later_error_2" in (await failure(ScriptedResponse(410, {}, "a_later_error_2"), HOOK)).message
    for text in ("x" * 81, "Not a name", "<b>no</b>", "sh\u00e4dlich", "_", "1_2"):
        assert text not in (await failure(slack_error(text))).message
        assert text not in (await failure(ScriptedResponse(410, {}, text), HOOK)).message


async def test_a_rejected_form_is_counted_and_logged_with_what_slack_objects_to_and_nothing_of_the_alert() -> None:
    event = json.loads(MESSAGE.alerts[0])
    words = {"name": "secretname", "summary": "confidential summary", "description": "private"}
    message = Message(id="m", alerts=[json.dumps(event | words).encode()])
    said = [
        "[ERROR] must be less than 3001 characters [json-pointer:/blocks/0/text/text]",
        "[ERROR] invalid value: secretname confidential private [json-pointer:/attachments/0/confidential/private]",
        "[WARN] secretname",
        {"secretname": "private"},
    ]
    rejected = {"ok": False, "error": "invalid_blocks", "response_metadata": {"messages": said}, "confidential": "private"}
    slack = ScriptedSession({"chat.postMessage": [rejected, slack_error("msg_too_long")]})
    plain: list[str] = []
    sender = SlackSender(sink_of(TOKEN), TOKEN, SlackSettings(), slack.session, share_of("acme", Limit(1)), on_plain=plain.append)
    with capture_logs() as logs:
        outcome = await sender.send(message)
    assert plain == ["InvalidBlocks"]
    assert [(one["error"], one["text_alone"]) for one in logs] == [("invalid_blocks", False), ("msg_too_long", True)]
    assert logs[0]["objections"] == [
        "must be less than 3001 characters at blocks/0/text/text",
        "invalid … … … … at attachments/0/…",
    ]
    assert isinstance(outcome, Failed)
    assert (outcome.failure, outcome.reason) == (OF_MESSAGE, "MsgTooLong")
    assert outcome.message == "Slack responded with msg_too_long: its text is too long"
    shown = json.dumps(logs) + repr(outcome)
    assert not [word for word in ("secretname", "confidential", "private", CANARY) if word in shown]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, []),
        ({"response_metadata": []}, []),
        ({"response_metadata": {"messages": "[ERROR] text"}}, []),
        ({"response_metadata": {"messages": ["[ERROR] invalid_keys"]}}, ["invalid_keys"]),
        ({"response_metadata": {"messages": ["[ERROR] no text"] * 100}}, ["no text"] * MAX_OBJECTIONS),
        ({"response_metadata": {"messages": ["[ERROR] " + "text " * 100_000]}}, []),
        ({"response_metadata": {"messages": ["[ERROR] text [json-pointer:/blocks/7/text]"]}}, ["text at blocks/…"]),
        ({"response_metadata": {"messages": ["[ERROR] text [json-pointer:/blocks/0/url]"]}}, ["text at blocks/0/url"]),
        ({"response_metadata": {"messages": ["[ERROR] 1234567 12"]}}, ["… 12"]),
    ],
)
def test_objections_are_bounded_and_consist_of_known_words(data: object, expected: list[str]) -> None:
    assert objections(data, {"blocks": [{"text": {"text": "hello"}}]}) == expected


@pytest.mark.parametrize(
    ("status", "text", "expected", "reason"),
    [
        (400, "invalid_payload", OF_MESSAGE, "InvalidPayload"),
        (403, "action_prohibited", SINK, "ActionProhibited"),
        (404, "channel_not_found", SINK, "ChannelNotFound"),
        (404, "no_service", SINK, "NoService"),
        (410, "channel_is_archived", SINK, "ChannelIsArchived"),
        (429, "", TRANSIENT, "RateLimited"),
        (500, "rollup_error", TRANSIENT, "RollupError"),
        (302, "", SINK, "HTTP302"),
        (413, CANARY, OF_MESSAGE, "HTTP413"),
        (200, "ok", None, ""),
    ],
)
async def test_each_response_to_an_incoming_webhook_has_its_class(
    status: int, text: str, expected: FailureClass | None, reason: str
) -> None:
    outcome, _ = await sent(ScriptedResponse(status, {}, text), HOOK)
    assert (outcome.failure, outcome.reason) == (expected, reason) if isinstance(outcome, Failed) else expected is None


async def test_an_unreadable_alert_or_a_group_is_a_failure_of_the_message() -> None:
    for message in (Message(id="m", alerts=[b"{}"]), Message(id="m", group=b"{}")):
        outcome, slack = await sent({"ok": True}, message=message)
        assert isinstance(outcome, Failed)
        assert (outcome.failure, outcome.reason) == (OF_MESSAGE, "InvalidMessage")
        assert not slack.requests


@pytest.mark.parametrize("target", [SlackTarget(), SlackTarget(token="x", webhook_url=HOOK_URL)])
def test_a_target_needs_exactly_one_credential(target: SlackTarget) -> None:
    with pytest.raises(ValueError, match="neither"):
        SlackSender(sink_of(target), target, SlackSettings(), cast(aiohttp.ClientSession, None), share_of("acme", Limit(1)))


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        (HOOK_URL, True),
        ("https://hooks.slack-gov.com/services/T/B/x", True),
        ("http://hooks.slack.com/services/T/B/x", False),
        (f"https://hooks.slack.com.example.com/{CANARY}", False),
        (f"https://example.com/https://hooks.slack.com/{CANARY}", False),
        (f"https://hooks.slack.com@example.com/{CANARY}", False),
        (CANARY, False),
    ],
)
def test_only_urls_of_slack_are_incoming_webhooks(url: str, fine: bool) -> None:
    if fine:
        check_hook_url(url, SlackSettings())
        return
    with pytest.raises(ValueError) as raised:
        check_hook_url(url, SlackSettings())
    assert CANARY not in str(raised.value)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [({}, None), (None, None), ({"retry-after": " 12 "}, 12.0), ({"Retry-After": ["3"]}, 3.0), ({"Retry-After": "soon"}, None)],
)
def test_retry_after_is_read_in_whole_seconds(headers: Any, wait: float | None) -> None:
    assert retry_after(headers) == wait


async def test_many_slow_calls_of_a_tenant_leave_connections_to_another_and_its_own_sinks_say_so() -> None:
    hanging = asyncio.Event()

    async def respond(request: Request) -> dict[str, object]:
        if request.form["channel"] == "slow":
            await hanging.wait()
        return {"ok": True, "channel": "C1", "ts": "1"}

    slack = ScriptedSession({"chat.postMessage": [respond]})
    limit, waits = Limit(8), list[Bound]()

    def sender(tenant: str, channel: str, timeout: float) -> SlackSender:
        target = SlackTarget(token="xoxb", team_id="T1", channel_id=channel)
        settings = SlackSettings(timeout=timeout)
        return SlackSender(sink_of(target), target, settings, slack.session, share_of(tenant, limit), waits.append)

    calls = [asyncio.ensure_future(sender("acme", "slow", 30.0).send(MESSAGE)) for _ in range(20)]
    await asyncio.sleep(0)
    assert limit.used == 4, "one tenant alone gets half"
    assert isinstance(await sender("globex", "C1", 10.0).send(MESSAGE), Delivered)
    ours = await sender("acme", "C1", 0.05).send(MESSAGE)
    assert isinstance(ours, Failed)
    assert (ours.failure, ours.reason) == (TRANSIENT, "TenantConnections")
    assert ours.message == "Slack: no connection came free in time: the tenant's share of connections is in use"
    assert waits == [Bound.TENANT] * 17
    hanging.set()
    assert all(isinstance(one, Delivered) for one in await asyncio.gather(*calls))
    assert limit.used == 0
