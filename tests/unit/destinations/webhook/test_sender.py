"""A webhook gets CloudEvents or Alertmanager's own format, signed, and each of its responses has a failure class."""

from __future__ import annotations

import base64
import json
from typing import NoReturn, cast

import cloudevents.core.formats.json as cloudevents_json
import pytest
import standardwebhooks
import structlog.testing
from aiohttp import ClientSession

from eventsink.destinations.senders import UnsupportedSink, open_sender
from eventsink.destinations.slack.sender import SlackSender
from eventsink.destinations.slack.target import SlackTarget
from eventsink.destinations.webhook import sender as webhook
from eventsink.destinations.webhook.sender import WebhookSender
from eventsink.destinations.webhook.target import Header, WebhookTarget
from eventsink.sinks.sender import Delivered, Failed, FailureClass, Message, Sender, SenderContext
from eventsink.sinks.signatures import InvalidSigningSecret, signature, signing_key
from eventsink.sinks.sink import CompiledFrom, Sink
from eventsink.sinks.target import Target, destination_of
from eventsink.sinks.transport import Response
from tests.unit.destinations.sender_contract import ALERT, CANARY, MESSAGE, ScriptedTransport, responded
from tests.unit.destinations.webhook.contract import WebhookContract

NOW = 1_800_000_000.0
OLD = "whsec_" + base64.b64encode(b"canary-old-secret-0123456").decode()
NEW = "whsec_" + base64.b64encode(b"canary-new-secret-0123456").decode()
TARGET = WebhookTarget(
    url=f"https://hooks.example.com/{CANARY}?token={CANARY}",
    headers=(Header(name="X-Team", value="acme"), Header(name="Authorization", value=f"Bearer {CANARY}")),
    signing_secrets=(OLD, NEW),
)


def sender(transport: ScriptedTransport, target: WebhookTarget = TARGET) -> WebhookSender:
    return WebhookSender(target, transport, "acme", now=lambda: NOW)


async def posted(message: Message = MESSAGE, target: WebhookTarget = TARGET) -> tuple[dict[str, str], bytes]:
    """Headers (lower case) and body of what is sent."""
    transport = ScriptedTransport(responded(200))
    assert isinstance(await sender(transport, target).send(message), Delivered)
    _, headers, body = transport.posted[0]
    lines = headers.decode().removesuffix("\r\n").split("\r\n")
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


class TestCloudEventsSender(WebhookContract):
    def target(self, url: str, timeout: float) -> Target:
        return TARGET.model_copy(update={"url": f"{url}{CANARY}?token={CANARY}", "timeout": timeout})


class TestAlertmanagerSender(TestCloudEventsSender):
    message = Message(id="m1", group=b'{"version":"4","alerts":[]}')

    def target(self, url: str, timeout: float) -> Target:
        return super().target(url, timeout).model_copy(update={"format": "alertmanager"})


async def test_one_alert_is_one_cloudevent_with_the_alert_as_its_data() -> None:
    headers, body = await posted()
    assert headers["content-type"] == "application/cloudevents+json"
    event = cloudevents_json.JSONFormat().read(None, body)
    assert event.get_id() == "a1"
    assert event.get_type() == "dev.eventsink.alert.firing.v1"
    assert event.get_source() == "/eventsink/alertmanager"
    assert event.get_subject() == "f1"
    assert event.get_extension("tenant") == "acme"
    assert event.get_data() == json.loads(ALERT)
    assert ALERT in body


async def test_several_alerts_or_one_of_a_batching_sink_are_a_batch() -> None:
    for alerts in ([ALERT, ALERT], [ALERT]):
        headers, body = await posted(Message(id="m1", alerts=alerts, batched=True))
        assert headers["content-type"] == "application/cloudevents-batch+json"
        assert [one["id"] for one in json.loads(body)] == ["a1"] * len(alerts)


async def test_a_group_is_passed_on_byte_for_byte() -> None:
    group = b'{"version": "4",  "alerts": []}'
    headers, body = await posted(Message(id="m1", group=group))
    assert (headers["content-type"], body) == ("application/json", group)


@pytest.mark.parametrize("secret", [OLD, NEW, NEW.rstrip("=")])
async def test_a_receiver_that_knows_either_secret_verifies_the_signature(secret: str) -> None:
    transport = ScriptedTransport(responded(200))
    await WebhookSender(TARGET, transport, "acme").send(MESSAGE)
    _, lines, body = transport.posted[0]
    headers = dict(line.split(": ", 1) for line in lines.decode().split("\r\n") if line)
    assert headers["webhook-id"] == "m1"
    verifier = standardwebhooks.Webhook(secret)
    verifier.verify(body, headers)
    with pytest.raises(standardwebhooks.webhooks.WebhookVerificationError):
        verifier.verify(body + b" ", headers)


async def test_each_attempt_has_a_new_signature() -> None:
    transport = ScriptedTransport(responded(503))
    now = NOW
    again = WebhookSender(TARGET, transport, "acme", now=lambda: now)
    await again.send(MESSAGE)
    now += 60
    await again.send(MESSAGE)
    first, second = (headers for _, headers, _ in transport.posted)
    assert b"webhook-timestamp: %d" % NOW in first
    assert b"webhook-timestamp: %d" % (NOW + 60) in second
    assert first.split(b"webhook-signature")[1] != second.split(b"webhook-signature")[1]


async def test_configured_headers_are_sent_and_without_secrets_there_is_no_signature() -> None:
    headers, _ = await posted(target=WebhookTarget(url="http://u:p@x/", headers=(Header(name="User-Agent", value="Mine"),)))
    assert headers["user-agent"] == "Mine"
    assert headers["authorization"] == "Basic " + base64.b64encode(b"u:p").decode()
    assert "webhook-signature" not in headers
    assert headers["webhook-id"] == "m1"
    headers, _ = await posted()
    assert headers["user-agent"] == webhook.USER_AGENT
    assert (headers["x-team"], headers["authorization"]) == ("acme", f"Bearer {CANARY}")


STATUSES = {
    None: [200, 201, 202, 204, 299],
    FailureClass.MESSAGE: [400, 405, 406, 411, 413, 414, 415, 418, 422, 431],
    FailureClass.SINK: [300, 301, 302, 303, 304, 307, 308, 401, 402, 403, 404, 407, 410, 421, 451],
    FailureClass.TRANSIENT: [408, 423, 424, 425, 429, 500, 501, 502, 503, 504, 507, 520, 529, 599],
}


@pytest.mark.parametrize(("failure", "status"), [(kind, status) for kind, statuses in STATUSES.items() for status in statuses])
async def test_each_status_is_of_one_class(failure: FailureClass | None, status: int) -> None:
    outcome = await sender(ScriptedTransport(responded(status))).send(MESSAGE)
    assert outcome.status_code == status
    if failure is None:
        assert isinstance(outcome, Delivered)
    else:
        assert isinstance(outcome, Failed)
        assert (outcome.failure, outcome.reason) == (failure, f"HTTP{status}")
        assert outcome.message.startswith(f"https://hooks.example.com responded with {status}")


async def test_retry_after_applies_to_transient_failures_only() -> None:
    for status, expected in ((503, 30.0), (429, 30.0), (400, None), (401, None)):
        outcome = await sender(ScriptedTransport(responded(status, "30"))).send(MESSAGE)
        assert isinstance(outcome, Failed)
        assert outcome.retry_after == expected


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head>", "WrongProtocol"),
        (b"Client sent an HTTP request to an HTTPS server.\n", "WrongProtocol"),
        (b"<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />", "WrongProtocol"),
        (b"<html><head><title>400 No required SSL certificate was sent</title></head>", "ClientCertificateRequired"),
    ],
)
async def test_a_400_that_is_about_tls_holds_the_sink_and_dead_letters_nothing(body: bytes, reason: str) -> None:
    outcome = await sender(ScriptedTransport(Response(400, None, body))).send(MESSAGE)
    assert isinstance(outcome, Failed)
    assert (outcome.failure, outcome.reason) == (FailureClass.SINK, reason)
    other = await sender(ScriptedTransport(Response(400, None, b"x" * 2000 + body))).send(MESSAGE)
    assert isinstance(other, Failed)
    assert (other.failure, other.reason) == (FailureClass.MESSAGE, "HTTP400")


@pytest.mark.parametrize("secret", ["whsec_!!!", "whsec_", "short", "whsec_YWJj", "x" * 300])
def test_an_unusable_signing_secret_is_rejected_without_showing_it(secret: str) -> None:
    with pytest.raises(InvalidSigningSecret) as error:
        signing_key(secret)
    assert secret.removeprefix("whsec_") == "" or secret not in str(error.value)


async def test_an_unexpected_error_is_transient_and_shows_no_credential() -> None:
    class Broken(ScriptedTransport):
        async def post(self, *_: object, **__: object) -> NoReturn:
            raise RuntimeError(f"{CANARY} in an error of a library")

    with structlog.testing.capture_logs() as lines:
        outcome = await sender(Broken()).send(MESSAGE)
    assert isinstance(outcome, Failed)
    assert (outcome.failure, outcome.reason) == (FailureClass.TRANSIENT, "InternalError")
    assert [line["error"] for line in lines] == ["RuntimeError"]
    assert CANARY not in f"{outcome}{lines}"


def test_a_signing_secret_without_the_prefix_is_used_as_it_is() -> None:
    assert signing_key("a-plain-text-secret") == b"a-plain-text-secret"
    assert signature([b"k"], "i", 1, b"{}").startswith("v1,")


def compiled(**targets: object) -> Sink:
    return Sink.model_validate(
        {
            "uid": "u",
            "namespace": "acme",
            "name": "n",
            "display_name": "N",
            "tenant": "acme",
            "compiled_from": CompiledFrom(generation=1),
            "destination": destination_of("webhook", "x"),
            **targets,
        }
    )


async def test_sinks_are_opened_by_type_and_those_of_unknown_types_are_unsupported() -> None:
    def opened(sink: Sink) -> Sender:
        return open_sender(sink, SenderContext(ScriptedTransport(), cast(ClientSession, None)))

    assert isinstance(opened(compiled(webhook=TARGET)), WebhookSender)
    assert isinstance(opened(compiled(slack=SlackTarget(token=CANARY, channel_id="C1"))), SlackSender)
    for unusable in (
        compiled(),
        compiled(type="pager"),
        compiled(slack=SlackTarget()),
        compiled(slack=SlackTarget(token=CANARY, webhook_url=CANARY)),
        compiled(slack=SlackTarget(webhook_url=f"https://hooks.slack.com.example.com/{CANARY}")),
        compiled(webhook=WebhookTarget(url=f"{CANARY}:")),
        compiled(webhook=WebhookTarget(url="http://x/", headers=(Header(name="A", value=f"{CANARY}\r\nB: c"),))),
    ):
        with pytest.raises(UnsupportedSink) as error:
            opened(unusable)
        assert CANARY not in str(error.value)


def test_no_representation_of_a_compiled_sink_shows_a_credential_and_its_json_is_read_back() -> None:
    sink = compiled(webhook=TARGET)
    assert CANARY not in repr(sink)
    assert OLD not in repr(sink)
    assert CANARY in sink.to_json()
    assert Sink.model_validate_json(sink.to_json()) == sink
